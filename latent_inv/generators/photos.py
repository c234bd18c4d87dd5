"""`photos`: an autoencoder of our own for pictures of any kind and size.

It makes no pictures by itself: latents that are drawn from its prior decode to texture. It is there to find latents of
any picture, to edit and to restore it. How it was trained is in `weights/photos.md`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from latent_inv.assets import ASSETS, fetch, load_checkpoint
from latent_inv.errors import AssetError
from latent_inv.spaces import LatentSpace, Normal, Part
from latent_inv.types import Latents

from .base import Generator, LoadProgress
from .half import HALVES
from .photos_network import CHANNELS, PATCH, PhotoNetwork


class Photos(Generator):
    """Space `spatial`: 16 numbers of about unit variance for each 8 × 8 patch."""

    network: PhotoNetwork
    name = "photos"
    title = "Photographs and any other pictures, any size (autoencoder)"
    spaces = {"spatial": LatentSpace({"spatial": Part((CHANNELS, -PATCH, -PATCH), Normal())})}
    default_space = "spatial"
    stride = PATCH
    has_encoder = True
    halves = tuple(HALVES)
    licence = ASSETS["photos"].licence
    source = ASSETS["photos"].origin
    weights_sha256 = ASSETS["photos"].sha256

    @classmethod
    def load(cls, device: torch.device, dtype: torch.dtype, progress: LoadProgress | None = None) -> Photos:
        weights = load_checkpoint(fetch("photos", progress=progress))
        network = PhotoNetwork()
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            raise AssetError(f"the weights of photos do not fit its network: {str(error)[:200]}") from error
        return cls(network.to(device=device, dtype=dtype))

    def picture_size(self, latents: Latents) -> tuple[int, int]:
        height, width = latents["spatial"].shape[-2:]
        return height * PATCH, width * PATCH

    def encode(self, images: Tensor) -> Latents:
        """Latents in one pass: [R, 3, H, W] in [-1, 1], sides multiples of 8 -> {"spatial": [R, 16, H/8, W/8]}."""
        return self._inside({"images": images}, lambda given: {"spatial": self.network.encode(given["images"])})

    def _decode(self, latents: Latents) -> Tensor:
        images: Tensor = self.network(latents["spatial"])
        return images
