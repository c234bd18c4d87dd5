"""`faces`: a DCGAN of 64 × 64 synthetic faces.

Source of the architecture: Radford, Metz and Chintala (2016), figure 1, with 64 base channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from latent_inv.assets import ASSETS, fetch, load_checkpoint
from latent_inv.constraints import Box
from latent_inv.spaces import LatentSpace, Normal, Part
from latent_inv.types import Latents

from .base import LoadProgress
from .dcgan import dcgan
from .half import HALVES
from .staged import PICTURE, Staged, layer_routes, layer_spaces

LATENT_DIMENSIONS = 100
#: of the hidden stages
CHANNELS = (512, 256, 128, 64)
_STAGES = ("layer:1", "layer:2", "layer:3", "layer:4")


class Faces(Staged):
    """Space `z`: 100 standard normal numbers; `layer:1` to `layer:4`: what its four hidden stages make, after ReLU."""

    name = "faces"
    title = "Synthetic faces, 64 × 64 (DCGAN)"
    spaces = {
        "z": LatentSpace({"z": Part((LATENT_DIMENSIONS,), Normal())}),
        **layer_spaces(
            {name: {name: (CHANNELS[index], 4 << index, 4 << index)} for index, name in enumerate(_STAGES)},
            Box(0, math.inf),  # no ReLU gives anything else
        ),
    }
    default_space = "z"
    stages = _STAGES
    routes = layer_routes(("z",), _STAGES)
    size = (64, 64)
    halves = tuple(HALVES)
    roundable = True
    licence = ASSETS["faces"].licence
    source = ASSETS["faces"].origin
    weights_sha256 = ASSETS["faces"].sha256

    @classmethod
    def load(cls, device: torch.device, dtype: torch.dtype, progress: LoadProgress | None = None) -> Faces:
        weights = load_checkpoint(fetch("faces", progress=progress))["netG_state_dict"]
        network = dcgan(LATENT_DIMENSIONS, CHANNELS, weights)
        return cls(network.to(device=device, dtype=dtype))

    def _segment(self, index: int, latents: Latents) -> dict[str, Tensor]:
        x = latents[self.stages[index - 1]] if index else latents["z"][:, :, None, None]
        # Convolution, normalisation, ReLU; the last one has convolution and tanh.
        for layer in list(self.network.children())[3 * index : 3 * index + 3]:
            x = layer(x)
        return {self.stages[index] if index < len(self.stages) else PICTURE: x}
