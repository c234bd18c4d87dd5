"""How far the latents are from what the generator was trained on."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from latent_inv import spec
from latent_inv.spaces import LatentSpace

from .base import Candidate, Loss, Target


class LatentPrior(Loss[spec.LatentPrior]):
    """Sum over searched parts of the negative log density per dimension."""

    def value(self, candidate: Candidate, target: Target, space: LatentSpace, rows: Mapping[str, Tensor]) -> Tensor:
        energies = [space.parts[name].prior.energy(candidate.latents[name]) for name in space.searched]
        return torch.stack(energies).sum(dim=0)

    def residual(
        self, candidate: Candidate, target: Target, space: LatentSpace, rows: Mapping[str, Tensor]
    ) -> list[Tensor] | None:
        blocks = [space.parts[name].prior.energy_residual(candidate.latents[name]) for name in space.searched]
        return None if any(block is None for block in blocks) else [block for block in blocks if block is not None]
