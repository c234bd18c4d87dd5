"""Gauss-Newton by conjugate gradients: products with JᵀJ alone, so latents of any number."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from latent_inv import spec
from latent_inv.types import Tree, by_row, dot, joined, parted

from .base import Evaluation, given
from .damped import Damped

#: CG stops where its residual is below this share of the slope
FORCING = 1e-3


class GaussNewton(Damped[spec.GaussNewton]):
    """Steps (JᵀJ + λ·c·1) s = −Jᵀr by a few conjugate gradients, with c the curvature along the slope.

    A refused step is shortened by the factor by which the damping rises, which costs one evaluation and no product;
    once it is shorter than a step along the slope would be, it goes along the slope, which is downhill on a border too.

    Source: Steihaug (1983) for the truncation; Powell (1970) for what a shorter step is.
    """

    needs = "curvature"

    def direction(self, evaluation: Evaluation, accepted: Tensor, state: Tree) -> dict[str, Tensor]:
        shortened = _shortened(state)
        if not bool(accepted.any()):
            return {"step": shortened}
        curvature, slope = given(evaluation.curvature), joined(evaluation.gradient) / 2

        def product(vectors: Tensor) -> Tensor:
            wanted = parted(vectors, evaluation.gradient)
            return joined(curvature(wanted)).double()

        limit = torch.where(accepted, state["inner"], 0)
        step, steepest = truncated(product, slope.double(), state["damping"].double(), limit)
        chosen = by_row(accepted, slope)
        return {
            "step": torch.where(chosen, step.to(slope.dtype), shortened),
            "slope": torch.where(chosen, slope, state["slope"]),
            "steepest": torch.where(accepted, steepest.to(slope.dtype), state["steepest"]),
        }


def truncated(
    product: Callable[[Tensor], Tensor], slope: Tensor, damping: Tensor, limit: Tensor
) -> tuple[Tensor, Tensor]:
    """Conjugate gradients from 0 for (A + damping·c·1) s = −slope, with c the curvature of A along the slope.

    Args:
        product: v -> A v, [R, d] each, for all rows at once; A is positive semidefinite.
        slope: [R, d]. damping: [R].
        limit: [R], most iterations of a row; rows that are done stand still.
    Returns:
        s [R, d], and the largest curvature of A that was met, [R].
    """
    step, residual = torch.zeros_like(slope), -slope
    along = residual
    size = dot(residual, residual)
    goal = FORCING**2 * size
    steepest, shift = torch.zeros_like(size), torch.zeros_like(size)
    going = (limit > 0) & (size > 0)
    for index in range(int(limit.max())):
        if not bool(going.any()):
            break
        sent = torch.where(by_row(going, along), along, 0)
        length = dot(along, along)
        # Sent at length 1, so that no product of a long or short direction over- or underflows.
        unit = sent * by_row(torch.where(going, length.rsqrt(), 0), sent)
        image = product(unit) * by_row(length.sqrt(), sent)
        bent = dot(along, image)
        curvature = bent / length
        going = going & (curvature > 0) & curvature.isfinite()
        steepest = torch.where(going, steepest.maximum(curvature), steepest)
        if index == 0:
            shift = torch.where(going, damping * curvature, shift)
        rate = size / (bent + shift * length)
        moved = residual - by_row(rate, along) * (image + by_row(shift, along) * along)
        fresh = dot(moved, moved)
        step = torch.where(by_row(going, step), step + by_row(rate, along) * along, step)
        turned = moved + by_row(fresh / size, along) * along
        residual = torch.where(by_row(going, residual), moved, residual)
        along = torch.where(by_row(going, along), turned, along)
        size = torch.where(going, fresh, size)
        going = going & (size > goal) & (limit > index + 1)
    return step, steepest


def _shortened(state: Tree) -> Tensor:
    """The next step after one that was refused."""
    shorter = state["step"] / by_row(state["increase"], state["step"])
    straight = -state["slope"] / by_row(state["steepest"], shorter)
    length, most = dot(shorter, shorter).sqrt(), dot(straight, straight).sqrt()
    along = straight * by_row(length / most, straight)
    return torch.where(by_row((length <= most) & along.isfinite().all(dim=1), along), along, shorter)
