"""What solvers with Levenberg's damping share: one evaluation a step, and a row that takes it, refuses it, or ends."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, TypeVar

import torch
from torch import Tensor

from latent_inv.settings import Settings, numbers
from latent_inv.types import Latents, Tree, by_row, joined, parted

from .base import Evaluate, Evaluation, Solver, Verdict, given

S = TypeVar("S", bound=Settings)

#: ‖r‖² below this many times eps² of a residual of size 1 is rounding
FLOOR = 1e3
#: accepted steps in a row with next to no decrease that end a row
SLOW_STEPS = 2


class Damped(Solver[S]):
    """Settings are damping, decrease, increase, largest_damping, tolerance and whatever a subclass adds.

    λ falls by more than it rises: the "delayed gratification" of Transtrum and Sethna (2012), section 3.1. The test
    of a minimum is that of Moré (1978), section 6: no column of J has a large cosine with the residual.
    """

    guarded = True

    @abstractmethod
    def direction(self, evaluation: Evaluation, accepted: Tensor, state: Tree) -> dict[str, Any]:
        """What changes in the state of a step: at least "step", and "slope" and "steepest" of accepted rows.

        Args:
            evaluation: where the rows stand; for those that are not accepted, it is to be forgotten.
            accepted: [R] of bool.
            state: `damping` is up to date.
        Returns:
            step: [R, d], from `base`. slope: [R, d], Jᵀr at `base`. steepest: [R], ‖J u‖² of the steepest direction u
            of length 1 that was looked at.
        """

    def init(self, latents: Latents, keys: Tensor) -> Tree:
        flat = joined(latents)
        rows = flat.new_zeros(flat.shape[0])
        return {
            **{name: torch.full_like(rows, value) for name, value in numbers(self.settings).items()},
            "base": flat,
            "proposal": flat.clone(),
            "step": torch.zeros_like(flat),
            "slope": torch.zeros_like(flat),
            "steepest": rows,
            # The first evaluation is below this and is accepted.
            "squares": torch.full_like(rows, torch.inf),
            "floor": torch.zeros_like(rows),
            "slow": torch.zeros_like(rows),
            "held": torch.zeros_like(flat),
        }

    def verdicts(self, state: Tree) -> Tensor:
        free = (state["slope"] * (1 - state["held"])).abs().amax(dim=1)
        cosine = free / (state["squares"] * state["steepest"]).sqrt()
        minimum = cosine <= torch.finfo(cosine.dtype).eps ** 0.5
        done = minimum | (state["squares"] <= state["floor"]) | (state["slow"] >= SLOW_STEPS)
        spent = state["damping"] > state["largest_damping"]
        verdicts = torch.full_like(done, Verdict.go_on, dtype=torch.int64)
        return verdicts.masked_fill(spent, Verdict.exhausted).masked_fill(done, Verdict.converged)

    def step(
        self, latents: Latents, evaluate: Evaluate, state: Tree, progress: Tensor
    ) -> tuple[dict[str, Tensor], Tree]:
        evaluation, point = evaluate(latents), joined(latents)
        accepted, judged = _judge(point, evaluation, state)
        # A row at the floor ends here, as do those that the engine has done with: nothing is modelled there any more.
        going_on = accepted & (judged["squares"] > judged["floor"])
        if evaluation.going is not None:
            going_on = going_on & evaluation.going
        changed = {**judged, **self.direction(evaluation, going_on, judged)}
        proposal = changed["base"] + changed["step"]
        return parted(proposal, latents), {**changed, "proposal": proposal}


def _judge(point: Tensor, evaluation: Evaluation, state: Tree) -> tuple[Tensor, dict[str, Any]]:
    """Which rows take the step to `point`, and the state with their new base and everybody's new damping."""
    squares = given(evaluation.squares)
    first = state["squares"].isinf()
    accepted = squares < state["squares"]  # never true of NaN
    eps = torch.finfo(point.dtype).eps
    # Below eps, damping has no effect beside the rounding of JᵀJ.
    eased = torch.where(first, state["damping"], (state["damping"] / state["decrease"]).clamp_min(eps))
    raised = (state["damping"] * state["increase"]).minimum(state["increase"] * state["largest_damping"])
    little = ~first & (state["squares"] - squares < state["tolerance"] * state["squares"])
    # Where the constraint put a proposal back, this coordinate is at its border and cannot fall further.
    held = (point == state["base"]) & (state["proposal"] != state["base"])
    return accepted, {
        **state,
        "base": torch.where(by_row(accepted, point), point, state["base"]),
        "squares": torch.where(accepted, squares, state["squares"]),
        "floor": FLOOR * eps**2 * given(evaluation.scale),
        "damping": torch.where(accepted, eased, raised),
        "slow": torch.where(accepted, torch.where(little, state["slow"] + 1, 0), state["slow"]),
        "held": held.to(point.dtype),
    }
