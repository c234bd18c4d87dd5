"""Difference of pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from latent_inv import spec
from latent_inv.spaces import LatentSpace
from latent_inv.types import by_row

from .base import Candidate, Loss, Target, weighted_mean


class Pixel(Loss[spec.Pixel]):
    """Mean of |d|, d², or Huber's function of d over the visible pixels, d on the [-1, 1] scale."""

    def value(self, candidate: Candidate, target: Target, space: LatentSpace, rows: Mapping[str, Tensor]) -> Tensor:
        if self.settings.kind == "l2":
            return candidate.squared_error
        distance = (candidate.observed - target.image).abs()
        if self.settings.kind == "l1":
            return weighted_mean(distance, target)
        # Huber (1964): d²/2 below delta, then linear with the same slope.
        delta = by_row(rows["delta"], distance)
        return weighted_mean((distance.square() / 2).where(distance <= delta, delta * (distance - delta / 2)), target)

    def residual(
        self, candidate: Candidate, target: Target, space: LatentSpace, rows: Mapping[str, Tensor]
    ) -> list[Tensor] | None:
        if self.settings.kind != "l2":
            return None
        difference = candidate.observed - target.image
        if target.pixel_weight is not None:
            difference = difference * target.pixel_weight.sqrt()
        return [difference.flatten(1) / math.sqrt(difference[0].numel())]
