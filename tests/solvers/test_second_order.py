"""Solvers of sums of squares on problems whose minimum is known, without an engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import jacrev, vmap

from latent_inv import spec
from latent_inv.errors import InternalError
from latent_inv.settings import Settings
from latent_inv.solvers import SOLVERS, Evaluation, LocalModel, Verdict
from latent_inv.solvers.base import given
from latent_inv.solvers.gauss_newton import truncated
from latent_inv.types import Latents

DOUBLE = torch.float64
KINDS: list[type[Settings]] = [spec.LevenbergMarquardt, spec.GaussNewton]


class Squares:
    """‖r(x)‖² of one part, by row: x [R, d] -> r [R, n]; all that a second-order solver may ask for."""

    def __init__(self, residual: Callable[[Tensor], Tensor]) -> None:
        self.residual = residual
        self.calls = self.jacobians = self.looks = 0

    def __call__(self, latents: Latents) -> Evaluation:
        self.calls += 1
        x = latents["x"]
        r = self.residual(x)
        jacobian = vmap(jacrev(lambda one: self.residual(one[None])[0]))(x)
        slope = (jacobian * r[:, :, None]).sum(1)

        def model(row: int) -> LocalModel:
            self.jacobians += 1
            j = jacobian[row]

            def look(points: Tensor) -> tuple[Tensor, Tensor]:
                self.looks += len(points)
                # A problem may differ from row to row, so each point is looked at in the place of its row.
                found = torch.stack(
                    [self.residual(torch.cat([x[:row], point[None], x[row + 1 :]]))[row] for point in points]
                )
                return found.square().sum(1), found @ j

            return LocalModel(j.T @ j, slope[row], look)

        def curvature(v: Latents) -> dict[str, Tensor]:
            return {"x": (jacobian.transpose(1, 2) @ (jacobian @ v["x"][:, :, None]))[:, :, 0]}

        loss = r.square().sum(1)
        return Evaluation(
            loss=loss,
            terms={"x": loss},
            squared_error=loss,
            perceptual=None,
            gradient={"x": 2 * slope},
            squares=loss,
            scale=torch.ones_like(loss),
            model=model,
            curvature=curvature,
        )


def walk(settings: Settings, problem: Squares, start: Tensor, steps: int) -> tuple[Tensor, list[int], Tensor]:
    """Run to a verdict of every row or to the end.

    Returns:
        (the best points, the verdicts, how many steps each row took to its verdict).
    """
    solver: Any = SOLVERS[type(settings)](settings)
    latents = {"x": start}
    state = solver.init(latents, torch.arange(len(start)))
    verdicts = torch.zeros(len(start), dtype=torch.int64)
    taken = torch.full((len(start),), steps)
    for step in range(steps):
        latents, state = solver.step(latents, problem, state, torch.zeros(len(start), dtype=start.dtype))
        fresh = (verdicts == Verdict.go_on) & (solver.verdicts(state) != Verdict.go_on)
        taken = taken.where(~fresh, step)
        verdicts = verdicts.where(~fresh, solver.verdicts(state))
        if (verdicts != Verdict.go_on).all():
            break
    return state["base"], verdicts.tolist(), taken


def rosenbrock(x: Tensor) -> Tensor:
    """Rosenbrock (1960) as residuals: 10 (x₂ − x₁²) and 1 − x₁, with the minimum 0 at (1, 1)."""
    return torch.stack([10 * (x[:, 1] - x[:, 0] ** 2), 1 - x[:, 0]], dim=1)


@pytest.mark.parametrize("kind", KINDS)
class TestEverySecondOrderSolver:
    def test_linear_residuals_take_few_steps(self, kind: type[Settings]) -> None:
        """More equations than unknowns: the minimum is that of numpy's least squares, with a loss above zero."""
        random = torch.Generator().manual_seed(0)
        matrix = torch.randn(30, 5, generator=random, dtype=DOUBLE)
        sides = torch.randn(3, 30, generator=random, dtype=DOUBLE)
        found, verdicts, taken = walk(
            kind(), Squares(lambda x: x @ matrix.T - sides), torch.zeros(3, 5, dtype=DOUBLE), 20
        )
        expected = torch.linalg.lstsq(matrix, sides.T).solution.T
        assert verdicts == [Verdict.converged] * 3
        assert taken.max() <= 8
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)

    @pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
    def test_rosenbrock(self, kind: type[Settings], dtype: torch.dtype) -> None:
        """From the classical start and two others, to the rounding floor."""
        start = torch.tensor([[-1.2, 1.0], [3.0, -4.0], [0.0, 0.0]], dtype=dtype)
        found, verdicts, taken = walk(kind(), Squares(rosenbrock), start, 80)
        assert verdicts == [Verdict.converged] * 3
        assert taken.max() <= 60
        torch.testing.assert_close(found, torch.ones_like(start), rtol=0, atol=1e-4)

    @pytest.mark.parametrize("wall", [torch.nan, torch.inf])
    def test_points_that_are_no_numbers_are_refused(self, kind: type[Settings], wall: float) -> None:
        """√x is no number below zero, and a full step from 4 to its root at 1/16 goes there."""

        def residual(x: Tensor) -> Tensor:
            return torch.where(x > 0, x.clamp_min(1e-30).sqrt() - 0.25, wall)

        start = torch.full((1, 1), 4.0, dtype=DOUBLE)
        found, verdicts, _ = walk(kind(), Squares(residual), start, 60)
        assert verdicts == [Verdict.converged]
        torch.testing.assert_close(found, torch.full_like(start, 1 / 16), rtol=1e-3, atol=0)

    def test_a_solution_is_left_alone(self, kind: type[Settings]) -> None:
        start = torch.ones(2, 2, dtype=DOUBLE)
        _, verdicts, taken = walk(kind(), Squares(rosenbrock), start, 5)
        assert verdicts == [Verdict.converged] * 2
        assert taken.tolist() == [0, 0]

    def test_a_wrong_slope_is_exhausted_and_not_converged(self, kind: type[Settings]) -> None:
        """Turned round: no step is downhill, and the slope says that this is no minimum."""

        def turned(model: Any, row: int) -> LocalModel:
            honest = model(row)
            return replace(honest, slope=-honest.slope)

        class Lies(Squares):
            def __call__(self, latents: Latents) -> Evaluation:
                honest = super().__call__(latents)
                gradient = {"x": -honest.gradient["x"]}
                return replace(honest, gradient=gradient, model=partial(turned, honest.model))

        _, verdicts, _ = walk(kind(), Lies(lambda x: 2 + x.abs()), torch.full((1, 1), 0.5, dtype=DOUBLE), 100)
        assert verdicts == [Verdict.exhausted]

    def test_rows_end_where_they_would_alone(self, kind: type[Settings]) -> None:
        """One row at its solution, one far out, one that is no number from the start."""
        starts = torch.tensor([[1.0, 1.0], [-1.2, 1.0], [torch.nan, 0.0]], dtype=DOUBLE)
        together, _, _ = walk(kind(), Squares(rosenbrock), starts, 30)
        alone, _, _ = walk(kind(), Squares(rosenbrock), starts[1:2].repeat(3, 1), 30)
        torch.testing.assert_close(together[1], alone[1], rtol=1e-9, atol=0)

    def test_an_evaluation_without_a_model_is_our_fault(self, kind: type[Settings]) -> None:
        solver: Any = SOLVERS[kind](kind())
        latents = {"x": torch.zeros(1, 2)}
        bare = Evaluation(torch.zeros(1), {}, torch.zeros(1), None)
        with pytest.raises(InternalError, match="lacks"):
            solver.step(latents, lambda at: bare, solver.init(latents, torch.zeros(1)), torch.zeros(1))


def test_a_jacobian_is_made_only_where_a_step_was_taken() -> None:
    problem = Squares(rosenbrock)
    solver = SOLVERS[spec.LevenbergMarquardt](spec.LevenbergMarquardt(damping=1e-6))
    latents = {"x": torch.tensor([[-1.2, 1.0], [3.0, -4.0]], dtype=DOUBLE)}
    state = solver.init(latents, torch.zeros(2))
    accepted = []
    for _ in range(30):
        before = state["squares"].clone()
        latents, state = solver.step(latents, problem, state, torch.zeros(2))
        # A row at the rounding floor ends there, and needs no model.
        accepted.append(int(((state["squares"] < before) & (state["squares"] > state["floor"])).sum()))
    assert problem.jacobians == sum(accepted)
    assert set(accepted) == {0, 1, 2}


def test_further_steps_with_a_jacobian_save_jacobians() -> None:
    """On a problem that is bent, to the same minimum; without them there is one step to a Jacobian and no look."""
    start = torch.tensor([[-1.2, 1.0], [3.0, -4.0]], dtype=DOUBLE)

    def bent(x: Tensor) -> Tensor:
        return torch.cat([x + 0.3 * x.flip(1).square() - 1, 0.1 * x.prod(1, keepdim=True)], dim=1)

    made = {}
    for chords in (0, 8):
        problem = Squares(bent)
        found, verdicts, _ = walk(spec.LevenbergMarquardt(chords=chords), problem, start, 60)
        assert verdicts == [Verdict.converged] * 2
        made[chords] = (problem.jacobians, problem.looks, found)
    assert made[0][1] == 0
    assert made[8][0] < made[0][0]
    torch.testing.assert_close(made[8][2], made[0][2], rtol=1e-3, atol=1e-3)


def test_a_rounded_jacobian_finds_the_minimum_of_the_exact_one() -> None:
    """Off by some percent, as in a format with few digits, with a loss above zero at the minimum."""
    noise = torch.Generator().manual_seed(3)
    blur = 1 + 0.04 * torch.randn(7, 3, generator=noise, dtype=DOUBLE)
    target = torch.randn(7, generator=noise, dtype=DOUBLE)
    mixing = torch.randn(3, 7, generator=noise, dtype=DOUBLE)

    class Rough(Squares):
        def __call__(self, latents: Latents) -> Evaluation:
            honest, x = super().__call__(latents), latents["x"]

            def model(row: int) -> LocalModel:
                j = vmap(jacrev(lambda one: self.residual(one[None])[0]))(x)[row] * blur

                def look(points: Tensor) -> tuple[Tensor, Tensor]:
                    found = self.residual(points)
                    return found.square().sum(1), found @ j

                return LocalModel(j.T @ j, look(x[row : row + 1])[1][0], look)

            return replace(honest, model=model)

    def residual(x: Tensor) -> Tensor:
        return torch.tanh(x @ mixing) - target

    start = torch.full((1, 3), 0.1, dtype=DOUBLE)
    settings = spec.LevenbergMarquardt(tolerance=1e-9)
    exact, _, _ = walk(settings, Squares(residual), start, 80)
    rough, verdicts, _ = walk(settings, Rough(residual), start, 80)
    assert residual(exact).square().sum() > 0.1
    torch.testing.assert_close(rough, exact, rtol=0, atol=1e-3)
    assert verdicts == [Verdict.converged]


def test_conjugate_gradients_are_exact_after_as_many_as_there_are_dimensions() -> None:
    """Rows with 1, 3 and 7 of 7 dimensions, one that is to stand still, and one without a slope."""
    random = torch.Generator().manual_seed(0)
    root = torch.randn(5, 7, 7, generator=random, dtype=DOUBLE)
    matrix = root @ root.transpose(1, 2) + torch.eye(7, dtype=DOUBLE)
    slope = torch.randn(5, 7, generator=random, dtype=DOUBLE)
    slope[4] = 0
    damping, limit = torch.full((5,), 0.3, dtype=DOUBLE), torch.tensor([1, 3, 7, 0, 7])
    step, steepest = truncated(lambda v: (matrix @ v[:, :, None])[:, :, 0], slope, damping, limit)
    curvature = (slope * (matrix @ slope[:, :, None])[:, :, 0]).sum(1) / slope.square().sum(1)
    damped = matrix + 0.3 * curvature[:, None, None] * torch.eye(7, dtype=DOUBLE)
    exact = -torch.linalg.solve(damped[:3], slope[:3])
    wrong = (step[:3] - exact).norm(dim=1) / exact.norm(dim=1)
    assert wrong[0] > wrong[1] > wrong[2]
    assert wrong[2] < 1e-3
    torch.testing.assert_close(step[0], -slope[0] / (1.3 * curvature[0]))
    assert not step[3:].any()
    assert (steepest[:3] <= 1.0001 * torch.linalg.eigvalsh(matrix[:3])[:, -1]).all()
    assert (steepest[:3] >= 0.9999 * curvature[:3]).all()


def test_products_are_made_only_where_a_step_was_taken() -> None:
    made = []

    class Counted(Squares):
        def __call__(self, latents: Latents) -> Evaluation:
            honest = super().__call__(latents)
            counted = given(honest.curvature)
            return replace(honest, curvature=lambda v: made.append(self.calls) or counted(v))

    problem = Counted(rosenbrock)
    solver = SOLVERS[spec.GaussNewton](spec.GaussNewton(inner=2))
    latents = {"x": torch.tensor([[-1.2, 1.0]], dtype=DOUBLE)}
    state, accepted = solver.init(latents, torch.zeros(1)), []
    for call in range(1, 31):
        before = state["squares"].clone()
        latents, state = solver.step(latents, problem, state, torch.zeros(1))
        accepted += [call] if state["squares"] < before else []
    assert sorted(set(made)) == accepted
    assert len(accepted) < 30


def test_a_border_that_holds_a_coordinate_is_no_failure() -> None:
    """r = (x₁ + 1, x₂ − 3) with x₁ kept at 0 or above, as the engine would: the minimum on the border is (0, 3)."""
    solver = SOLVERS[spec.LevenbergMarquardt](spec.LevenbergMarquardt(tolerance=0))
    problem = Squares(lambda x: x + torch.tensor([1.0, -3.0], dtype=DOUBLE))
    latents = {"x": torch.tensor([[2.0, 1.0]], dtype=DOUBLE)}
    state = solver.init(latents, torch.zeros(1))
    for _ in range(60):
        latents, state = solver.step(latents, problem, state, torch.zeros(1))
        latents = {"x": torch.stack([latents["x"][:, 0].clamp_min(0), latents["x"][:, 1]], dim=1)}
        verdict = int(solver.verdicts(state))
        if verdict != Verdict.go_on:
            break
    assert verdict == Verdict.converged
    torch.testing.assert_close(state["base"], torch.tensor([[0.0, 3.0]], dtype=DOUBLE), rtol=0, atol=1e-3)


@pytest.mark.parametrize("chords", [0, 8])
def test_at_a_border_the_other_coordinates_go_on_alone(chords: int) -> None:
    """Nearly parallel columns: with the held coordinate in the step, the other one runs the wrong way for ever."""
    matrix = torch.tensor([[1.0, 0.99], [0.99, 1.0], [0.1, 0.0]], dtype=DOUBLE)
    side = matrix @ torch.tensor([-2.0, 3.0], dtype=DOUBLE)
    free = matrix[:, 1] @ side / matrix[:, 1].square().sum()  # of the second alone, where the first is at 0
    solver: Any = SOLVERS[spec.LevenbergMarquardt](spec.LevenbergMarquardt(chords=chords))
    latents, problem = {"x": torch.tensor([[0.0, 3.0]], dtype=DOUBLE)}, Squares(lambda x: x @ matrix.T - side)
    state = solver.init(latents, torch.zeros(1, dtype=torch.int64))
    for _ in range(6):
        latents, state = solver.step(latents, problem, state, torch.zeros(1, dtype=DOUBLE))
        latents = {"x": torch.stack([latents["x"][:, 0].clamp_min(0), latents["x"][:, 1]], dim=1)}
    assert state["base"][0, 0] == 0
    assert float(state["base"][0, 1]) == pytest.approx(float(free), abs=1e-3)
