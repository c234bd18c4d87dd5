"""`eyes`: a class-conditional DCGAN of 128 × 128 painted eyes.

Source of the architecture: Radford, Metz and Chintala (2016), figure 1, with one more doubling and the class beside z,
as in Mirza and Osindero (2014).
"""

from __future__ import annotations

import torch
from torch import Tensor

from latent_inv.assets import ASSETS, fetch, load_checkpoint
from latent_inv.constraints import Simplex
from latent_inv.spaces import Categorical, LatentSpace, Normal, Part
from latent_inv.types import Latents

from .base import Generator, LoadProgress
from .dcgan import dcgan
from .half import HALVES

LATENT_DIMENSIONS = 100
#: of the hidden stages
CHANNELS = (1024, 512, 256, 128, 64)
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
    halves = tuple(HALVES)
    roundable = True
    licence = ASSETS["eyes"].licence
    source = ASSETS["eyes"].origin
    weights_sha256 = ASSETS["eyes"].sha256

    @classmethod
    def load(cls, device: torch.device, dtype: torch.dtype, progress: LoadProgress | None = None) -> Eyes:
        weights = load_checkpoint(fetch("eyes", progress=progress))
        network = dcgan(LATENT_DIMENSIONS + len(CLASSES), CHANNELS, weights, dropout=0.2)
        return cls(network.to(device=device, dtype=dtype))

    def _decode(self, latents: Latents) -> Tensor:
        return self.network(torch.cat([latents["z"], latents["class"]], dim=1)[:, :, None, None])
