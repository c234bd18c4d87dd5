"""Starts that look at nothing but the prior: draws, the mean, given latents."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from latent_inv import spec
from latent_inv.latents import fit_latents
from latent_inv.spaces import LatentSpace

from .base import Encode, Initialiser, Streams


class Seeds(Initialiser[spec.Seeds]):
    """Draws from the prior, all run to the end."""

    def starts(
        self, space: LatentSpace, size: tuple[int, int], streams: Streams, encode: Encode | None = None
    ) -> list[dict[str, Tensor]]:
        return [space.sample(size, streams(row)) for row in range(self.settings.count)]


class BestOf(Initialiser[spec.BestOf]):
    """Draws from the prior, scored together; the best one goes on."""

    @property
    def rungs(self) -> tuple[tuple[int, int], ...]:
        return ((0, 1),)

    def starts(
        self, space: LatentSpace, size: tuple[int, int], streams: Streams, encode: Encode | None = None
    ) -> list[dict[str, Tensor]]:
        return [space.sample(size, streams(row)) for row in range(self.settings.count)]


class PriorMean(Initialiser[spec.PriorMean]):
    """The mean of the prior; parts that are not searched are drawn."""

    def starts(
        self, space: LatentSpace, size: tuple[int, int], streams: Streams, encode: Encode | None = None
    ) -> list[dict[str, Tensor]]:
        mean, draw = space.mean(size), space.sample(size, streams(0))
        return [{name: mean[name] if name in space.searched else draw[name] for name in space.parts}]


class Given(Initialiser[spec.Given]):
    """Latents from outside, one row each. Parts that are left out and not searched are drawn."""

    def starts(
        self, space: LatentSpace, size: tuple[int, int], streams: Streams, encode: Encode | None = None
    ) -> list[dict[str, Tensor]]:
        given = self.settings.latents
        shapes = {name: shape for name, shape in space.shapes(size).items() if name in space.searched or name in given}
        # In double precision: whoever runs the job rounds once, to the format of the job.
        arrays = fit_latents(given, shapes, field="latents", dtype=np.float64)
        fitted = {name: torch.from_numpy(array) for name, array in arrays.items()}
        rows = next(iter(fitted.values())).shape[0]
        return [
            {
                **space.sample(size, streams(row)),
                **{name: tensor[row : row + 1].clone() for name, tensor in fitted.items()},
            }
            for row in range(rows)
        ]
