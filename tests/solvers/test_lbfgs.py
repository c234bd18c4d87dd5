"""L-BFGS against its dense formula, on known minima, and in what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from latent_inv import spec
from latent_inv.solvers import Evaluation, Verdict
from latent_inv.solvers.l_bfgs import _direction, _with_pair
from tests.solvers.functions import Run, ellipsoid, evaluated, rosenbrock, sphere


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("held", [1, 3, 5])
def test_the_two_loops_are_the_dense_formula(held: int) -> None:
    """H ← (I − ρ s yᵀ) H (I − ρ y sᵀ) + ρ s sᵀ from the oldest pair on; Nocedal and Wright, equation 7.16."""
    rows, d, memory = 3, 6, 5
    spread = draw(rows, d, d, seed=1)
    hessian = spread @ spread.mT + torch.eye(d, dtype=torch.float64)
    steps = draw(rows, memory, d, seed=2)
    changes = steps @ hessian
    gradient = draw(rows, d, seed=3)
    numbers = {name: torch.full((rows,), 1e4, dtype=torch.float64) for name in ("first_step", "longest_step")}
    state = {
        **numbers,
        "gradient": gradient,
        "steps": steps,
        "changes": changes,
        "held": torch.full((rows,), held),
        "length": torch.ones(rows, dtype=torch.float64),
    }
    found, kept = _direction(state)
    assert kept.tolist() == [held] * rows
    for row in range(rows):
        s, y = steps[row, 0], changes[row, 0]
        inverse = (s @ y) / (y @ y) * torch.eye(d, dtype=torch.float64)
        for s, y in zip(steps[row, :held].flip(0), changes[row, :held].flip(0), strict=True):
            rho = 1 / (s @ y)
            side = torch.eye(d, dtype=torch.float64) - rho * torch.outer(s, y)
            inverse = side @ inverse @ side.T + rho * torch.outer(s, s)
        torch.testing.assert_close(found[row], -inverse @ gradient[row])


@pytest.mark.parametrize(("function", "evaluations"), [(sphere, 3), (ellipsoid, 650), (rosenbrock, 120)])
def test_it_finds_known_minima(function: object, evaluations: int) -> None:
    """In ten dimensions, from three starts; the counts are about 1.5 times what it took (and SciPy's L-BFGS-B took)."""
    run = Run(spec.LBFGS(), function, 0.5 * draw(3, 10)).steps(evaluations)  # type: ignore[arg-type]
    assert (run.best < 1e-8).all(), run.best


def test_a_longer_memory_pays_on_a_long_valley() -> None:
    short, long = (Run(spec.LBFGS(memory=m), ellipsoid, draw(1, 10)).steps(100).best for m in (2, 20))
    assert (long < 0.1 * short).all()


def test_it_never_stands_at_a_point_that_is_worse_or_no_number() -> None:
    """A wall beyond which there is no number, right beside the minimum."""

    def walled(x: Tensor) -> Tensor:
        return torch.where(x[:, 0] > 0.05, torch.nan, rosenbrock(x[:, :4] + 1))

    run = Run(spec.LBFGS(first_step=2.0, longest_step=5.0), walled, -draw(1, 4).abs())
    stood = []
    for step in range(80):
        run.step(step / 80)
        stood.append(run.state["loss"].item())
    assert any(loss.isnan() for loss in run.losses), "the wall was never tried"
    assert stood == sorted(stood, reverse=True)
    assert stood[-1] < 1e-3 * stood[0]


def test_no_step_is_longer_than_the_longest() -> None:
    def slope(x: Tensor) -> Tensor:
        return (x.square() + 1).sqrt().sum(1)

    run = Run(spec.LBFGS(longest_step=0.7), slope, torch.full((1, 9), 300.0, dtype=torch.float64)).steps(40)
    moves = [(b - a).square().mean().sqrt() for a, b in zip(run.points, run.points[1:], strict=False)]
    assert max(moves) == pytest.approx(0.7, rel=1e-6)


def test_the_first_step_is_as_long_as_it_was_asked_to_be() -> None:
    run = Run(spec.LBFGS(first_step=0.3), ellipsoid, draw(2, 8)).steps(2)
    torch.testing.assert_close((run.points[1] - run.points[0]).square().mean(1).sqrt(), torch.full((2,), 0.3).double())


def test_it_says_when_it_has_converged() -> None:
    run = Run(spec.LBFGS(), rosenbrock, draw(2, 6))
    assert run.steps(3).verdicts == [Verdict.go_on] * 2
    for _ in range(150):
        run.step()
        if Verdict.go_on not in run.verdicts:
            break
    assert run.verdicts == [Verdict.converged] * 2
    assert (run.best < 1e-9).all()


@pytest.mark.parametrize("tolerance", [1e-2, 1e-5])
def test_its_tolerance_is_a_share_of_the_first_loss(tolerance: float) -> None:
    run = Run(spec.LBFGS(tolerance=tolerance), rosenbrock, draw(1, 6))
    slopes = []
    while not slopes or run.verdicts == [Verdict.go_on]:
        run.step()
        slopes.append(run.state["gradient"].abs().max() / run.losses[0])
    assert run.verdicts == [Verdict.converged]
    assert slopes[-1] <= tolerance < min(slopes[:-1])


def test_it_says_when_no_step_is_left() -> None:
    """The gradient points the wrong way, so nothing that it proposes is better."""

    def step_on(run: Run) -> None:
        def look(latents: dict[str, Tensor]) -> Evaluation:
            honest = evaluated(sphere, latents)
            return Evaluation(honest.loss, {}, honest.loss, None, {"z": -honest.gradient["z"]})

        run.latents, run.state = run.solver.step(run.latents, look, run.state, torch.zeros(1))  # type: ignore[arg-type]

    run = Run(spec.LBFGS(), sphere, torch.ones(1, 4))
    steps = 0
    while run.verdicts == [Verdict.go_on] and steps < 60:
        step_on(run)
        steps += 1
    assert run.verdicts == [Verdict.exhausted]
    assert 5 < steps < 60
    assert torch.equal(run.state["x"], torch.ones(1, 4))


def test_pairs_of_negative_curvature_are_left_out() -> None:
    run = Run(spec.LBFGS(memory=2), ellipsoid, draw(3, 4)).steps(3)
    point, gradient = run.state["x"] + 0.1, run.state["gradient"].clone()
    gradient[0] += 0.1
    gradient[1] -= 0.1
    kept = _with_pair(run.state, point, gradient, torch.tensor([True, True, False]))
    torch.testing.assert_close(kept["changes"][0, 0], torch.full((4,), 0.1).double())
    assert torch.equal(kept["steps"][0, 1], run.state["steps"][0, 0]), "the others move on"
    for row in (1, 2):
        assert torch.equal(kept["changes"][row], run.state["changes"][row])
    assert kept["held"].tolist() == [2, *run.state["held"][1:].tolist()]


def test_it_comes_over_a_hill() -> None:
    """Up to π/2 the curvature is negative."""
    run = Run(spec.LBFGS(), lambda x: torch.cos(x).sum(1), torch.full((1, 3), 0.2, dtype=torch.float64)).steps(20)
    assert run.best.item() == pytest.approx(-3, abs=1e-7)


def test_it_has_converged_where_the_loss_has_no_digit_left() -> None:
    """A large constant in float32: without a look at the digits it took twenty refused steps more."""
    start = draw(2, 6, seed=4).float()
    run = Run(spec.LBFGS(), lambda x: 100 + ((1 + torch.arange(6)) * x.square()).sum(1), start)
    ended = {}
    for step in range(60):
        run.step()
        ended |= {row: step for row, v in enumerate(run.verdicts) if v is Verdict.converged and row not in ended}
    assert max(ended.values()) < 15, ended
    assert len(ended) == 2
    torch.testing.assert_close(run.best, torch.full((2,), 100.0))
