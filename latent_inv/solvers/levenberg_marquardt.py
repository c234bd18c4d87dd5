"""Levenberg-Marquardt, a row at a time: one evaluation a step, and a Jacobian only where the last step was taken."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from latent_inv import spec
from latent_inv.settings import numbers
from latent_inv.types import Latents, Tree, by_row, joined, parted

from .base import Evaluate, Solver, Verdict, given

#: ‖r‖² below this many times eps² of a residual of size 1 is rounding
FLOOR = 1e3
#: accepted steps in a row with next to no decrease that end a row
SLOW_STEPS = 2


class LevenbergMarquardt(Solver[spec.LevenbergMarquardt]):
    """Steps (JᵀJ + λ·m·1) s = −Jᵀr, with m the mean of the diagonal of JᵀJ.

    Source: Levenberg (1944) and Marquardt (1963). λ falls by more than it rises: the "delayed gratification" of
    Transtrum and Sethna (2012), section 3.1. The test of a minimum is that of Moré (1978), section 6: no column of J
    has a large cosine with the residual.
    """

    needs = "normal_equations"
    guarded = True

    def modelled(self, losses: Sequence[str]) -> tuple[str, ...]:
        return tuple(losses) if self.settings.terms == "all" else (self.settings.terms,)

    def init(self, latents: Latents, keys: Tensor) -> Tree:
        flat = joined(latents)
        rows, dimensions = flat.shape
        return {
            **{name: flat.new_full((rows,), value) for name, value in numbers(self.settings).items()},
            "base": flat,
            "proposal": flat.clone(),
            "gram": flat.new_zeros(rows, dimensions, dimensions),
            "slope": torch.zeros_like(flat),
            # The first evaluation is below this and is accepted.
            "squares": flat.new_full((rows,), torch.inf),
            "floor": flat.new_zeros(rows),
            "slow": flat.new_zeros(rows),
            "held": torch.zeros_like(flat),
        }

    def verdicts(self, state: Tree) -> Tensor:
        steepest = state["gram"].diagonal(dim1=1, dim2=2).amax(dim=1)
        free = (state["slope"] * (1 - state["held"])).abs().amax(dim=1)
        cosine = free / (state["squares"] * steepest).sqrt()
        minimum = cosine <= torch.finfo(cosine.dtype).eps ** 0.5
        done = minimum | (state["squares"] <= state["floor"]) | (state["slow"] >= SLOW_STEPS)
        spent = state["damping"] > state["largest_damping"]
        verdicts = torch.full_like(done, Verdict.go_on, dtype=torch.int64)
        return verdicts.masked_fill(spent, Verdict.exhausted).masked_fill(done, Verdict.converged)

    def step(
        self, latents: Latents, evaluate: Evaluate, state: Tree, progress: Tensor
    ) -> tuple[dict[str, Tensor], Tree]:
        evaluation = evaluate(latents)
        squares = given(evaluation.squares)
        point, first = joined(latents), state["squares"].isinf()
        accepted = squares < state["squares"]  # never true of NaN
        decrease = state["squares"] - squares
        gram, slope = state["gram"], state["slope"]
        if bool(accepted.any()):
            normal = given(evaluation.normal)(accepted)
            gram = torch.where(by_row(accepted, gram), normal.gram, gram)
            slope = torch.where(by_row(accepted, slope), normal.slope, slope)
        eps = torch.finfo(point.dtype).eps
        # Below eps, damping has no effect beside the rounding of JᵀJ.
        eased = torch.where(first, state["damping"], (state["damping"] / state["decrease"]).clamp_min(eps))
        raised = (state["damping"] * state["increase"]).minimum(state["increase"] * state["largest_damping"])
        damping = torch.where(accepted, eased, raised)
        slow = torch.where(~first & (decrease < state["tolerance"] * state["squares"]), state["slow"] + 1, 0)
        # Where the constraint put a proposal back, this coordinate is at its border and cannot fall further.
        held = (point == state["base"]) & (state["proposal"] != state["base"])
        base = torch.where(by_row(accepted, point), point, state["base"])
        proposal = base + damped_steps(gram, slope, damping)
        return parted(proposal, latents), {
            **state,
            "base": base,
            "proposal": proposal,
            "gram": gram,
            "slope": slope,
            "squares": torch.where(accepted, squares, state["squares"]),
            "floor": FLOOR * eps**2 * given(evaluation.scale),
            "damping": damping,
            "slow": torch.where(accepted, slow, state["slow"]),
            "held": held.to(point.dtype),
        }


def damped_steps(gram: Tensor, slope: Tensor, damping: Tensor) -> Tensor:
    """−(JᵀJ + damping·m·1)⁻¹ Jᵀr of each row, in float64; zeros where the matrix is not positive to working accuracy.

    Args:
        gram: [R, d, d]. slope: [R, d]. damping: [R].
    Returns:
        [R, d], as `slope`.
    """
    steps = []
    # A row at a time, from memory of its own: batched factorisations may differ by place.
    for matrix, vector, share in zip(gram.double(), slope.double(), damping.double(), strict=True):
        diagonal = matrix.diagonal()
        damped = matrix + torch.diag_embed((share * diagonal.mean()).expand_as(diagonal))
        factor, failed = torch.linalg.cholesky_ex(damped)
        step = -torch.cholesky_solve(vector[:, None].clone(), factor)[:, 0]
        steps.append(torch.where((failed == 0) & step.isfinite().all(), step, torch.zeros_like(step)))
    return torch.stack(steps).to(slope.dtype)
