"""`faces`: a DCGAN of 64 × 64 synthetic faces.

Source of the architecture: Radford, Metz and Chintala (2016), figure 1, with 64 base channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from latent_inv.assets import ASSETS, fetch, load_checkpoint
from latent_inv.spaces import LatentSpace, Normal, Part
from latent_inv.types import Latents

from .base import Generator, LoadProgress

LATENT_DIMENSIONS = 100


class Faces(Generator):
    """Space `z`: 100 standard normal numbers."""

    name = "faces"
    title = "Synthetic faces, 64 × 64 (DCGAN)"
    spaces = {"z": LatentSpace({"z": Part((LATENT_DIMENSIONS,), Normal())})}
    default_space = "z"
    size = (64, 64)
    roundable = True
    licence = ASSETS["faces"].licence
    source = ASSETS["faces"].origin
    weights_sha256 = ASSETS["faces"].sha256

    @classmethod
    def load(cls, device: torch.device, dtype: torch.dtype, progress: LoadProgress | None = None) -> Faces:
        weights = load_checkpoint(fetch("faces", progress=progress))["netG_state_dict"]
        network = dcgan(LATENT_DIMENSIONS, base=64)
        network.load_state_dict({name.removeprefix("main."): value for name, value in weights.items()})
        return cls(network.to(device=device, dtype=dtype))

    def _decode(self, latents: Latents) -> Tensor:
        return self.network(latents["z"][:, :, None, None])


def dcgan(latent_dimensions: int, base: int) -> nn.Sequential:
    """The generator of a DCGAN: [R, latent_dimensions, 1, 1] -> [R, 3, 64, 64] in [-1, 1]."""
    layers: list[nn.Module] = []
    channels = latent_dimensions
    for index, factor in enumerate((8, 4, 2, 1)):
        stride, padding = (1, 0) if index == 0 else (2, 1)
        layers += [
            nn.ConvTranspose2d(channels, base * factor, 4, stride, padding, bias=False),
            nn.BatchNorm2d(base * factor),
            nn.ReLU(),
        ]
        channels = base * factor
    return nn.Sequential(*layers, nn.ConvTranspose2d(channels, 3, 4, 2, 1, bias=False), nn.Tanh())
