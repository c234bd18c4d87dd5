"""What every solver promises; a new one is tested by being in the table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor

from latent_inv import spec
from latent_inv.settings import Settings
from latent_inv.solvers import SOLVERS, Evaluation, LocalModel, Solver
from latent_inv.types import Latents, join_rows, take_row
from tests import contracts

D = 6
#: a step that suits the bowl below, for solvers whose default is made for latents of generators
SUITS: dict[type[Settings], dict[str, Any]] = {
    spec.Adam: {"learning_rate": 0.3, "warmup_steps": 0},
    # Small populations, so that the 20 to 40 steps of the laws of rows go over several generations.
    spec.CMAES: {"population": 8},
    spec.HybridCMA: {"population": 4, "inner_steps": 2},
}
#: steps to the minimum, and to half of the loss, where the solver needs more than a gradient method does: one candidate
#: a step, and the first generations go into learning the step size
STEPS: dict[type[Settings], tuple[int, int]] = {spec.CMAES: (2000, 400), spec.HybridCMA: (1500, 400)}
USUAL = (150, 30)


def forms() -> Iterator[Any]:
    """Every solver with every choice of its names."""
    for kind in SOLVERS:
        named = [(item.name, choice) for item in fields(kind) for choice in item.metadata.get("choices", ())]
        for name, choice in named or [("", "")]:
            chosen = {**SUITS.get(kind, {}), **({name: choice} if name else {})}
            yield pytest.param(kind(**chosen), id=f"{kind.__name__}{choice and '-' + choice}")


FORMS = list(forms())


class Bowl:
    """Convex quadratics, one a row: ½ (x − m)ᵀ A (x − m) over two parts, with condition number 10."""

    def __init__(self, rows: Sequence[int], dtype: torch.dtype = torch.float32) -> None:
        self.minimum = {name: torch.stack([_draw(row, name) for row in rows]).to(dtype) for name in ("a", "b")}
        self.keys = torch.tensor(list(rows))
        self.curvature = torch.linspace(0.1, 1, D, dtype=dtype)
        self.calls = 0

    def start(self) -> dict[str, Tensor]:
        return {name: torch.zeros_like(tensor) for name, tensor in self.minimum.items()}

    def __call__(self, latents: Latents) -> Evaluation:
        self.calls += 1
        away = {name: latents[name] - minimum for name, minimum in self.minimum.items()}
        loss = sum((self.curvature * d.square()).sum(1) for d in away.values()) / 2
        gradient = {name: self.curvature * d for name, d in away.items()}
        assert isinstance(loss, Tensor)
        # The same bowl as a sum of squares: r = √(A / 2) (x − m).
        half = torch.cat([self.curvature, self.curvature]) / 2
        slope = torch.cat(list(gradient.values()), dim=1) / 2

        def model(row: int) -> LocalModel:
            minimum = torch.cat([tensor[row] for tensor in self.minimum.values()])

            def look(points: Tensor) -> tuple[Tensor, Tensor]:
                far = points - minimum
                return (half * far.square()).sum(1), half * far

            return LocalModel(torch.diag(half), slope[row], look)

        return Evaluation(
            loss=loss,
            terms={"x": loss},
            squared_error=loss,
            perceptual=None,
            gradient=gradient,
            squares=loss,
            scale=torch.ones_like(loss),
            model=model,
            curvature=lambda v: {name: self.curvature / 2 * tensor for name, tensor in v.items()},
        )


def _draw(row: int, name: str) -> Tensor:
    return torch.randn(D, generator=torch.Generator().manual_seed(100 * row + ord(name)))


def solver_of(settings: Settings) -> Solver[Any]:
    return SOLVERS[type(settings)](settings)


def run(
    settings: Settings, bowl: Bowl, steps: int, tell: Callable[[int, Any], None] | None = None
) -> dict[str, Tensor]:
    solver, latents = solver_of(settings), bowl.start()
    state = solver.init(latents, bowl.keys)
    rows = len(next(iter(latents.values())))
    for step in range(steps):
        latents, state = solver.step(latents, bowl, state, torch.full((rows,), step / steps))
        if tell:
            tell(step, state)
    return latents


@pytest.mark.parametrize("settings", FORMS)
class TestEverySolver:
    def test_every_row_reaches_its_own_minimum(self, settings: Settings) -> None:
        bowl = Bowl(range(5))
        found = run(settings, bowl, STEPS.get(type(settings), USUAL)[0])
        for name, minimum in bowl.minimum.items():
            assert found[name].shape == minimum.shape
            # A constant step rattles around the minimum by a share of its size.
            torch.testing.assert_close(found[name], minimum, atol=2e-2, rtol=0)

    def test_each_step_is_downhill_from_the_start(self, settings: Settings) -> None:
        bowl = Bowl(range(3))
        first, last = bowl(bowl.start()).loss, bowl(run(settings, bowl, STEPS.get(type(settings), USUAL)[1])).loss
        assert (last < 0.5 * first).all()

    @pytest.mark.parametrize("width", [1, 4, 8])
    def test_a_row_does_not_depend_on_its_place_or_neighbours(self, settings: Settings, width: int) -> None:
        """Bit-equal at one width, in every place."""
        expected = run(settings, Bowl([7, *range(20, 19 + width)]), 40)
        for place in range(width):
            others = list(range(40, 39 + width))
            found = run(settings, Bowl([*others[:place], 7, *others[place:]]), 40)
            assert all(torch.equal(found[name][place], expected[name][0]) for name in found)

    def test_every_number_of_the_state_has_a_row(self, settings: Settings) -> None:
        bowl = Bowl(range(3))
        contracts.leading_rows(solver_of(settings).init(bowl.start(), bowl.keys), 3)
        run(settings, bowl, 3, lambda _, state: contracts.leading_rows(state, 3))

    def test_a_row_that_joins_later_goes_as_if_alone(self, settings: Settings) -> None:
        """Row 1 joins after 9 steps of row 0: bit-equal to starting alone in that lane."""
        solver, width = solver_of(settings), 2
        expected = {row: run(settings, Bowl([row] * width), 30) for row in (0, 1)}

        def state_of(row: int) -> tuple[dict[str, Tensor], Any]:
            bowl = Bowl([row])
            return bowl.start(), solver.init(bowl.start(), bowl.keys)

        progress = [0, 0]
        pair = [state_of(0), state_of(0)]
        ended: dict[int, dict[str, Tensor]] = {}
        rows = [0, 0]
        for step in range(39):
            if step == 9:
                pair[1], rows[1], progress[1] = state_of(1), 1, 0
            latents, state = (join_rows([side[part] for side in pair]) for part in (0, 1))
            latents, state = solver.step(latents, Bowl(rows), state, torch.tensor(progress) / 30)
            progress = [count + 1 for count in progress]
            pair = [(take_row(latents, place), take_row(state, place)) for place in (0, 1)]
            for place in (0, 1):
                if progress[place] == 30:
                    ended[rows[place]] = pair[place][0]
        for row in (0, 1):
            assert all(torch.equal(ended[row][name][0], expected[row][name][0]) for name in ("a", "b"))

    def test_a_bad_row_does_not_hurt_its_neighbour(self, settings: Settings) -> None:
        expected = run(settings, Bowl([3, 4]), 20)
        bowl = Bowl([3, 4])
        bowl.minimum["a"][1, 2] = float("nan")
        found = run(settings, bowl, 20)
        assert all(torch.equal(found[name][0], expected[name][0]) for name in found)

    def test_it_keeps_nothing_to_itself(self, settings: Settings) -> None:
        """One instance, two interleaved runs: as if each had its own."""
        solver = solver_of(settings)
        before = dict(vars(solver))
        expected = run(settings, Bowl([1]), 10)
        bowl, other = Bowl([1]), Bowl([2])
        latents, moved = bowl.start(), other.start()
        state, other_state = solver.init(latents, bowl.keys), solver.init(moved, other.keys)
        for step in range(10):
            latents, state = solver.step(latents, bowl, state, torch.tensor([step / 10]))
            moved, other_state = solver.step(moved, other, other_state, torch.tensor([step / 10]))
        assert all(torch.equal(latents[name], expected[name]) for name in expected)
        assert vars(solver) == before

    def test_inputs_are_left_alone(self, settings: Settings) -> None:
        solver, bowl = solver_of(settings), Bowl([1, 2])
        latents = bowl.start()
        state = solver.init(latents, bowl.keys)
        kept, kept_state = {n: t.clone() for n, t in latents.items()}, join_rows([take_row(state, r) for r in (0, 1)])
        solver.step(latents, bowl, state, torch.zeros(2))
        assert all(torch.equal(latents[name], kept[name]) for name in kept)
        contracts.map_pair(lambda a, b: _must(torch.equal(a, b), a), state, kept_state)

    def test_the_first_evaluation_is_where_it_stands(self, settings: Settings) -> None:
        solver, bowl = solver_of(settings), Bowl([1])
        latents, looked = bowl.start(), []

        def look(at: Latents) -> Evaluation:
            looked.append({name: tensor.clone() for name, tensor in at.items()})
            return bowl(at)

        solver.step(latents, look, solver.init(latents, bowl.keys), torch.zeros(1))
        assert all(torch.equal(looked[0][name], latents[name]) for name in latents)


def _must(good: bool, tensor: Tensor) -> Tensor:
    assert good, "the state was changed in place"
    return tensor
