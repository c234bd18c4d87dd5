"""The picture itself."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from latent_inv import spec

from .base import Observation


class Identity(Observation[spec.Identity]):
    """A(x) = x."""

    def __call__(self, images: Tensor, rows: Mapping[str, Tensor]) -> Tensor:
        return images
