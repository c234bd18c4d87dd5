"""Levenberg-Marquardt, a row at a time, with several steps to a Jacobian."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from latent_inv import spec
from latent_inv.types import Latents, Tree, joined

from .base import Evaluation, LocalModel, given
from .damped import SLOW_STEPS, Damped

#: dampings that are tried for a step with a Jacobian, beside the row's own
SPREAD = (5.0, 1.0, 0.2)
#: least decrease of ‖r‖² that is worth another step with the same Jacobian
WORTHWHILE = 0.05


class LevenbergMarquardt(Damped[spec.LevenbergMarquardt]):
    """Steps (JᵀJ + λ·m·1) s = −Jᵀr, with m the mean of the diagonal of JᵀJ.

    A Jacobian costs as much as some dozens of pictures. So after each one there are up to `chords` further steps with
    it, r taken anew and λ the best of three, as long as they pay; then the engine looks at the point where they end.

    A coordinate that a constraint has just put back has no part in the next step: at a border, what the others can do
    is found by them alone. The step after that is free again, since the border may be the right place no longer.

    Source: Levenberg (1944) and Marquardt (1963); Shamanskii (1967) for steps that share a Jacobian, and Fan (2013),
    "A Shamanskii-like Levenberg-Marquardt method for nonlinear equations", for these with damping.
    """

    needs = "model"

    @property
    def rounds(self) -> bool:
        return self.settings.jacobian == "auto"

    def modelled(self, losses: Sequence[str]) -> tuple[str, ...]:
        return tuple(losses) if self.settings.terms == "all" else (self.settings.terms,)

    def init(self, latents: Latents, keys: Tensor) -> Tree:
        flat = joined(latents)
        return {**super().init(latents, keys), "gram": flat.new_zeros(*flat.shape, flat.shape[1])}

    def direction(self, evaluation: Evaluation, accepted: Tensor, state: Tree) -> dict[str, Tensor]:
        gram, slope, damping, slow = (state[name].clone() for name in ("gram", "slope", "damping", "slow"))
        step = torch.zeros_like(slope)
        for row, fresh in enumerate(accepted.tolist()):
            if evaluation.members is not None and row >= evaluation.members:
                for rows in (step, gram, slope, damping, slow):
                    rows[row] = rows[0]
            elif fresh:
                model = given(evaluation.model)(row)
                gram[row], slope[row] = model.gram, joined(evaluation.gradient)[row] / 2
                free, squares, chords = 1 - state["held"][row], state["squares"][row], int(state["chords"][row])
                least = state["tolerance"][row] * squares
                if promised(gram[row], slope[row], damping[row] * SPREAD[-1], free) <= least:
                    slow[row] = SLOW_STEPS
                start = (state["base"][row], free, squares, slope[row])
                step[row], damping[row] = walk(model, *start, damping[row], chords)
            else:
                step[row] = damped_step(gram[row], slope[row], damping[row], 1 - state["held"][row])
        steepest = gram.diagonal(dim1=1, dim2=2).amax(dim=1)
        return {"gram": gram, "slope": slope, "damping": damping, "slow": slow, "steepest": steepest, "step": step}


def walk(
    model: LocalModel, base: Tensor, free: Tensor, squares: Tensor, slope: Tensor, damping: Tensor, chords: int
) -> tuple[Tensor, Tensor]:
    """Steps with one model, as long as they pay.

    Args:
        base: [d], where the model was made. free: [d], 1 for coordinates that may move, 0 for others.
        squares: [], ‖r‖² there. slope: [d], Jᵀr there, exactly.
        damping: [], the row's own.
        chords: most steps after the first.
    Returns:
        (the sum of the steps [d], the damping of the last one [])
    """
    if chords == 0:
        return damped_step(model.gram, slope, damping, free), damping
    total, here = torch.zeros_like(slope), slope
    for _ in range(chords + 1):
        dampings = torch.stack([damping * factor for factor in SPREAD])
        tried = torch.stack([total + damped_step(model.gram, here, some, free) for some in dampings])
        found, slopes = model.look(base + tried)
        found = torch.where(found.isfinite(), found, torch.inf)
        best = int(found.argmin())
        if not found[best] < squares:
            break
        pays = found[best] < (1 - WORTHWHILE) * squares
        # The model's own slope at the base may be rounded; what it is off by there, it is taken to be off by here.
        total, here = tried[best], slope + (slopes[best] - model.slope)
        squares, damping = found[best], dampings[best]
        if not pays:
            break
    if not total.any():
        # None is better: the most careful one is proposed, and refused, which raises the damping.
        return tried[0], dampings[0]
    return total, damping


def promised(gram: Tensor, slope: Tensor, damping: Tensor, free: Tensor) -> Tensor:
    """How much ‖r‖² falls by such a step if the model holds, []."""
    step = damped_step(gram, slope, damping, free)
    return -(2 * slope + gram @ step) @ step


def damped_step(gram: Tensor, slope: Tensor, damping: Tensor, free: Tensor) -> Tensor:
    """−(JᵀJ + damping·m·1)⁻¹ Jᵀr of one row, in float64; zeros where the matrix is not positive to working accuracy.

    Args:
        gram: [d, d]. slope: [d]. damping: []. free: [d], 1 for coordinates that move, 0 for those that stay.
    Returns:
        [d], as `slope`.
    """
    diagonal = gram.double().diagonal()
    # Without its row and column a coordinate has no part in the others' step, and its own is 0.
    matrix, vector = gram.double() * (free[:, None] * free).double(), (slope * free).double()
    damped = matrix + torch.diag_embed((damping.double() * diagonal.mean()).expand_as(diagonal))
    factor, failed = torch.linalg.cholesky_ex(damped)
    step = -torch.cholesky_solve(vector[:, None].clone(), factor)[:, 0]
    return torch.where((failed == 0) & step.isfinite().all(), step, torch.zeros_like(step)).to(slope.dtype)
