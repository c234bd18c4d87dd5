"""Distance of the job's perceptual metric."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from latent_inv import spec
from latent_inv.spaces import LatentSpace

from .base import Candidate, Loss, Target


class Perceptual(Loss[spec.Perceptual]):
    """LPIPS of what would be observed against what was; shares its features with the report."""

    needs_perceptual = True

    def value(self, candidate: Candidate, target: Target, space: LatentSpace, rows: Mapping[str, Tensor]) -> Tensor:
        return candidate.perceptual

    def residual(
        self, candidate: Candidate, target: Target, space: LatentSpace, rows: Mapping[str, Tensor]
    ) -> list[Tensor]:
        return candidate.perceptual_residual()
