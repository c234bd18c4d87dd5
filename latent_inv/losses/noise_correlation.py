"""Maps of noise must stay noise: whatever an optimiser writes into them is no part of what the latents say."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from latent_inv import spec
from latent_inv.errors import UnsupportedError
from latent_inv.spaces import LatentSpace, NoiseMap

from .base import Candidate, Loss, Target

#: maps of fewer pixels a side are too small to say anything
_LEAST_SIDE = 8


class NoiseCorrelation(Loss[spec.NoiseCorrelation]):
    """Sum over maps and scales of the squared mean products of horizontal, and of vertical neighbours.

    Source: Karras et al. (2020), "Analyzing and improving the image quality of StyleGAN", appendix D: each map of at
    least 8 × 8 is halved down to that, so that unit variance stays unit variance; its edges meet.
    """

    def check(self, space: LatentSpace) -> None:
        if not _maps(space):
            text = "noise_correlation needs a space whose maps of noise are searched, such as w+noise of StyleGAN2"
            raise UnsupportedError(text, field="losses")

    def value(self, candidate: Candidate, target: Target, space: LatentSpace, rows: Mapping[str, Tensor]) -> Tensor:
        return self._correlations(candidate, space).square().sum(dim=1)

    def residual(
        self, candidate: Candidate, target: Target, space: LatentSpace, rows: Mapping[str, Tensor]
    ) -> list[Tensor]:
        return [self._correlations(candidate, space)]

    def _correlations(self, candidate: Candidate, space: LatentSpace) -> Tensor:
        """[R, n]."""
        found = [candidate.images.new_zeros(candidate.images.shape[0])]
        for name in _maps(space):
            level = candidate.latents[name][:, None]
            while min(level.shape[-2:]) >= _LEAST_SIDE:
                found += [(level * level.roll(1, dims=axis)).mean(dim=(1, 2, 3)) for axis in (2, 3)]
                level = 2 * avg_pool2d(level, 2)
        return torch.stack(found, dim=1)


def _maps(space: LatentSpace) -> list[str]:
    return [name for name in space.searched if isinstance(space.parts[name].prior, NoiseMap)]
