"""Levenberg-Marquardt, a row at a time, with a Jacobian only where the last step was taken."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from latent_inv import spec
from latent_inv.types import Latents, Tree, by_row, joined

from .base import Evaluation, given
from .damped import Damped


class LevenbergMarquardt(Damped[spec.LevenbergMarquardt]):
    """Steps (JᵀJ + λ·m·1) s = −Jᵀr, with m the mean of the diagonal of JᵀJ.

    Source: Levenberg (1944) and Marquardt (1963).
    """

    needs = "normal_equations"

    def modelled(self, losses: Sequence[str]) -> tuple[str, ...]:
        return tuple(losses) if self.settings.terms == "all" else (self.settings.terms,)

    def init(self, latents: Latents, keys: Tensor) -> Tree:
        flat = joined(latents)
        return {**super().init(latents, keys), "gram": flat.new_zeros(*flat.shape, flat.shape[1])}

    def direction(self, evaluation: Evaluation, accepted: Tensor, state: Tree) -> dict[str, Tensor]:
        gram, slope = state["gram"], state["slope"]
        if bool(accepted.any()):
            normal = given(evaluation.normal)(accepted)
            gram = torch.where(by_row(accepted, gram), normal.gram, gram)
            slope = torch.where(by_row(accepted, slope), normal.slope, slope)
        return {
            "gram": gram,
            "slope": slope,
            "steepest": gram.diagonal(dim1=1, dim2=2).amax(dim=1),
            "step": damped_steps(gram, slope, state["damping"]),
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
