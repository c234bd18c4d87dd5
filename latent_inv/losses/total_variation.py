"""Roughness of the decoded picture."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from latent_inv import spec
from latent_inv.spaces import LatentSpace

from .base import Candidate, Loss, Target


class TotalVariation(Loss[spec.TotalVariation]):
    """Mean |difference| of vertical plus of horizontal neighbours (Rudin, Osher and Fatemi 1992, anisotropic)."""

    def value(self, candidate: Candidate, target: Target, space: LatentSpace, rows: Mapping[str, Tensor]) -> Tensor:
        images = candidate.images
        total = images.new_zeros(images.shape[0])
        for dimension in (2, 3):
            if images.shape[dimension] > 1:
                total = total + images.diff(dim=dimension).abs().mean(dim=(1, 2, 3))
        return total
