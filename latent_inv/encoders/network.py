"""The network of an amortised encoder: picture and current reconstruction in, a correction of the latents out.

Source: amortised inversion as in Zhu et al. (2016), "Generative visual manipulation on the natural image manifold",
section 3.1; residual passes as in Alaluf, Patashnik and Cohen-Or (2021), "ReStyle", section 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latent_inv.spaces import LatentSpace
from latent_inv.types import Latents

#: vectors are read off a map of so many pixels a side
_LAST_SIDE = 4


@dataclass(frozen=True)
class Shape:
    """All that decides the shapes of the weights.

    Attributes:
        widths: channels after each halving of the picture.
        vectors: part -> its numbers, for parts without a place in the picture.
        maps: part -> (channels, how many halvings of the picture its sides are).
    """

    widths: tuple[int, ...]
    vectors: Mapping[str, int]
    maps: Mapping[str, tuple[int, int]]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Shape:
        """The inverse of `to_json`.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        return cls(
            tuple(int(width) for width in value["widths"]),
            {str(name): int(count) for name, count in value["vectors"].items()},
            {str(name): (int(pair[0]), int(pair[1])) for name, pair in value["maps"].items()},
        )


def shape_for(space: LatentSpace, size: tuple[int, int], width: int = 48, most: int = 288) -> Shape:
    """The shape for a space and a picture size: halvings until the shorter side is 4, channels doubling to `most`."""
    vectors, maps, deepest = {}, {}, 1
    for name in space.searched:
        strides = [-entry for entry in space.parts[name].shape if entry < 0]
        if strides:
            halvings = round(math.log2(max(strides)))
            maps[name] = (math.prod(entry for entry in space.parts[name].shape if entry > 0), halvings)
            deepest = max(deepest, halvings)
        else:
            vectors[name] = math.prod(space.parts[name].shape)
    if vectors:
        deepest = max(deepest, round(math.log2(max(1.0, min(size) / _LAST_SIDE))))
    widths = tuple(min(most, width * 2**level) for level in range(deepest))
    return Shape(widths, vectors, maps)


class EncoderNetwork(nn.Module):
    """Halving convolutions, a residual block on the deepest map, a linear head a part.

    The last layers are zero at the start, so that an untrained network corrects nothing.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        channels = 6
        downs = []
        for width in shape.widths:
            downs.append(Down(channels, width))
            channels = width
        self.downs, self.block = nn.ModuleList(downs), Residual(channels)
        flat = channels * _LAST_SIDE**2
        self.vector_in = nn.ModuleDict({name: nn.Linear(count, channels) for name, count in shape.vectors.items()})
        self.vector_out = nn.ModuleDict({name: nn.Linear(flat, count) for name, count in shape.vectors.items()})
        depths = {name: shape.widths[halvings - 1] for name, (_, halvings) in shape.maps.items()}
        self.map_in = nn.ModuleDict({n: nn.Conv2d(count, depths[n], 1) for n, (count, _) in shape.maps.items()})
        self.map_out = nn.ModuleDict({n: nn.Conv2d(depths[n], count, 1) for n, (count, _) in shape.maps.items()})
        for parameter in (*self.vector_out.parameters(), *self.map_out.parameters()):
            nn.init.zeros_(parameter)

    def forward(self, images: Tensor, reconstructions: Tensor | None, latents: Latents) -> dict[str, Tensor]:
        """What to add to `latents` so that they decode to `images`.

        Args:
            images: [R, 3, H, W] in [-1, 1].
            reconstructions: of the same shape, what `latents` decode to; None in the first pass.
            latents: the parts that are encoded, each in units of its prior's deviation; 0 in the first pass.
        Returns:
            part -> the shape of that part, in the same units.
        """
        first = reconstructions is None
        difference = torch.zeros_like(images) if reconstructions is None else images - reconstructions
        x = torch.cat([images, difference], dim=1)
        found: dict[str, Tensor] = {}
        last = len(self.downs) - 1
        for level, down in enumerate(self.downs):
            x = down(x, first)
            if level == last:
                for name, layer in self.vector_in.items():
                    x = x + layer(latents[name].flatten(1))[:, :, None, None]
            here = [name for name, (_, halvings) in self.shape.maps.items() if halvings == level + 1]
            for name in here:
                x = x + self.map_in[name](_as_map(latents[name], x))
            if level == last:
                x = self.block(x, first)
            for name in here:
                found[name] = self.map_out[name](x).reshape(latents[name].shape)
        if self.vector_out:
            flat = F.adaptive_avg_pool2d(x, _LAST_SIDE).flatten(1)
            found |= {name: head(flat).reshape(latents[name].shape) for name, head in self.vector_out.items()}
        return found


class PassNorm(nn.Module):
    """Batch normalisation with statistics of its own for the first pass, in which there is no reconstruction yet."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.later = nn.BatchNorm2d(width), nn.BatchNorm2d(width)

    def forward(self, x: Tensor, first: bool) -> Tensor:
        return (self.first if first else self.later)(x)


class Down(nn.Module):
    """Halve the sides."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 4, 2, 1, bias=False)
        self.norm = PassNorm(width)

    def forward(self, x: Tensor, first: bool) -> Tensor:
        return F.leaky_relu(self.norm(self.conv(x), first), 0.2)


class Residual(nn.Module):
    """x + f(x)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm = PassNorm(width)

    def forward(self, x: Tensor, first: bool) -> Tensor:
        return x + F.leaky_relu(self.norm(self.conv(x), first), 0.2)


def _as_map(latents: Tensor, like: Tensor) -> Tensor:
    """Latents of a map as [R, channels, h, w] of the feature map they are added to."""
    tensor = latents.reshape(latents.shape[0], -1, *latents.shape[-2:])
    return tensor if tensor.shape[-2:] == like.shape[-2:] else F.interpolate(tensor, size=like.shape[-2:])
