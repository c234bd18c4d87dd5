"""`faces`: a DCGAN of 64 × 64 synthetic faces.

Source of the architecture: Radford, Metz and Chintala (2016), figure 1, with 64 base channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from latent_inv.assets import ASSETS, fetch, load_checkpoint
from latent_inv.constraints import Box
from latent_inv.spaces import LatentSpace, Normal, Part
from latent_inv.types import Latents

from .base import LoadProgress
from .staged import PICTURE, Staged, layer_routes, layer_spaces

LATENT_DIMENSIONS = 100
#: base channels, and these times 8, 4, 2, 1 in the hidden stages
BASE = 64
_STAGES = ("layer:1", "layer:2", "layer:3", "layer:4")


class Faces(Staged):
    """Space `z`: 100 standard normal numbers; `layer:1` to `layer:4`: what its four hidden stages make, after ReLU."""

    name = "faces"
    title = "Synthetic faces, 64 × 64 (DCGAN)"
    spaces = {
        "z": LatentSpace({"z": Part((LATENT_DIMENSIONS,), Normal())}),
        **layer_spaces(
            {name: {name: (BASE * 8 >> index, 4 << index, 4 << index)} for index, name in enumerate(_STAGES)},
            Box(0, math.inf),  # no ReLU gives anything else
        ),
    }
    default_space = "z"
    stages = _STAGES
    routes = layer_routes(("z",), _STAGES)
    size = (64, 64)
    roundable = True
    licence = ASSETS["faces"].licence
    source = ASSETS["faces"].origin
    weights_sha256 = ASSETS["faces"].sha256

    @classmethod
    def load(cls, device: torch.device, dtype: torch.dtype, progress: LoadProgress | None = None) -> Faces:
        weights = load_checkpoint(fetch("faces", progress=progress))["netG_state_dict"]
        network = dcgan(LATENT_DIMENSIONS, base=BASE)
        network.load_state_dict({name.removeprefix("main."): value for name, value in weights.items()})
        return cls(network.to(device=device, dtype=dtype))

    def _segment(self, index: int, latents: Latents) -> dict[str, Tensor]:
        x = latents[self.stages[index - 1]] if index else latents["z"][:, :, None, None]
        # Convolution, normalisation, ReLU; the last one has convolution and tanh.
        for layer in list(self.network.children())[3 * index : 3 * index + 3]:
            x = layer(x)
        return {self.stages[index] if index < len(self.stages) else PICTURE: x}


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
