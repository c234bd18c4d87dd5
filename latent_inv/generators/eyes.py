"""`eyes`: a class-conditional DCGAN of 128 × 128 painted eyes.

Source of the architecture: Radford, Metz and Chintala (2016), figure 1, with one more doubling and the class beside z,
as in Mirza and Osindero (2014).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from latent_inv.assets import ASSETS, fetch, load_checkpoint
from latent_inv.constraints import Simplex
from latent_inv.spaces import Categorical, LatentSpace, Normal, Part
from latent_inv.types import Latents

from .base import Generator, LoadProgress

LATENT_DIMENSIONS = 100
#: colours of the iris, in the order of the class vector
CLASSES = ("amber", "blue", "brown", "gray", "grayscale", "green", "hazel", "red")


def _class(role: str) -> Part:
    return Part((len(CLASSES),), Categorical(CLASSES), Simplex(), role=role)


class Eyes(Generator):
    """Space `z+class`: 100 standard normal numbers and one of 8 colours, relaxed to the simplex, are searched together.

    Space `z`: the colour is given or drawn, and stays.
    """

    name = "eyes"
    title = "Painted eyes of eight colours, 128 × 128 (conditional DCGAN)"
    spaces = {
        "z": LatentSpace({"z": Part((LATENT_DIMENSIONS,), Normal()), "class": _class("fixed")}),
        "z+class": LatentSpace({"z": Part((LATENT_DIMENSIONS,), Normal()), "class": _class("searched")}),
    }
    default_space = "z+class"
    size = (128, 128)
    roundable = True
    licence = ASSETS["eyes"].licence
    source = ASSETS["eyes"].origin
    weights_sha256 = ASSETS["eyes"].sha256

    @classmethod
    def load(cls, device: torch.device, dtype: torch.dtype, progress: LoadProgress | None = None) -> Eyes:
        weights = load_checkpoint(fetch("eyes", progress=progress))
        network = _network(LATENT_DIMENSIONS + len(CLASSES), base=64)
        network.load_state_dict({name.removeprefix("main."): value for name, value in weights.items()})
        return cls(network.to(device=device, dtype=dtype))

    def _decode(self, latents: Latents) -> Tensor:
        return self.network(torch.cat([latents["z"], latents["class"]], dim=1)[:, :, None, None])


def _network(inputs: int, base: int) -> nn.Sequential:
    """[R, inputs, 1, 1] -> [R, 3, 128, 128] in [-1, 1]. The dropout keeps the numbering of the published weights."""
    layers: list[nn.Module] = []
    channels = inputs
    for index, factor in enumerate((16, 8, 4, 2, 1)):
        stride, padding = (1, 0) if index == 0 else (2, 1)
        layers += [
            nn.ConvTranspose2d(channels, base * factor, 4, stride, padding, bias=False),
            nn.BatchNorm2d(base * factor),
            nn.ReLU(),
        ]
        layers += [nn.Dropout(0.2)] if index == 0 else []
        channels = base * factor
    return nn.Sequential(*layers, nn.ConvTranspose2d(channels, 3, 4, 2, 1, bias=False), nn.Tanh())
