"""Encoders: from a picture to latents in a few forward passes, a generator's own or one trained for it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from latent_inv.asset_table import ENCODERS
from latent_inv.assets import fetch
from latent_inv.errors import AssetError, InternalError
from latent_inv.generators.base import Generator
from latent_inv.images import Picture
from latent_inv.spaces import LatentSpace
from latent_inv.types import Latents, by_row

from .file import Card, read_encoder, write_encoder
from .network import EncoderNetwork, Shape, shape_for


class PictureEncoder(Protocol):
    """What finds latents of one space of a generator in forward passes."""

    @property
    def space_name(self) -> str:
        """The space of what it finds."""

    @property
    def space(self) -> LatentSpace:
        """The same, itself."""

    def see(self, picture: Picture, passes: int, fixed: Latents) -> dict[str, Tensor]:
        """Searched parts -> [1, …] behind a picture as the generator makes it; see `initialisers.Encode`."""


class OwnEncoder:
    """The encoder that is part of a generator; it looks once."""

    def __init__(self, generator: Generator) -> None:
        self.generator, self.space_name = generator, generator.default_space
        self.space = generator.spaces[self.space_name]

    def see(self, picture: Picture, passes: int, fixed: Latents) -> dict[str, Tensor]:
        """See `PictureEncoder.see`."""
        image, _ = self.generator.place_picture(picture)
        with torch.no_grad():
            latents = self.generator.encode(image)
        if latents is None:
            raise InternalError(f"{self.generator.name} says that it has an encoder, and has none")
        return self.space.retract({name: latents[name] for name in self.space.searched})


class AmortisedEncoder:
    """A frozen encoder beside its generator.

    Raises:
        AssetError: it was trained for another generator or other weights of it.
    """

    def __init__(self, network: EncoderNetwork, card: Card, generator: Generator) -> None:
        for what, found, expected in (
            ("generator", card.generator, generator.name),
            ("weights", card.weights_sha256[:12], generator.weights_sha256[:12]),
        ):
            if found != expected:
                raise AssetError(
                    f"the encoder was trained for {what} {found}, this is {expected}; "
                    f"`latent-inv train-encoder --generator {generator.name}` makes one that fits",
                    field="encoder",
                )
        if card.space not in generator.spaces:
            raise AssetError(f"the encoder was trained for a space {card.space} that is not there", field="encoder")
        self.card, self.generator, self.space_name = card, generator, card.space
        self.space = generator.spaces[card.space]
        self.network = network.to(device=generator.device, dtype=generator.dtype)

    def __call__(
        self, images: Tensor, fixed: Latents | None = None, *, passes: int, weight: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The latents behind pictures; the pass whose picture is nearest is kept, row by row.

        Args:
            images: [R, 3, H, W] in [-1, 1].
            fixed: parts of the space that are not searched, part -> [R, …].
            weight: [R, 1, H, W]; how much each pixel counts, or None.
            passes: 1 is one look at the picture; each further one also sees what the last one decodes to.
        Returns:
            searched parts -> [R, …].
        """
        if weight is not None:
            images = torch.where(weight > 0, images, torch.zeros_like(images))
        rows, size = images.shape[0], (images.shape[2], images.shape[3])
        fixed = dict(fixed or {})
        best: dict[str, Tensor] = {}
        error = images.new_full((rows,), float("inf"))
        latents = start_of(self.space, size, rows, images)
        decoded: Tensor | None = None
        with torch.no_grad():
            for _ in range(passes):
                latents = refine(self.network, self.space, images, decoded, latents)
                decoded = self.generator({**fixed, **latents})
                if weight is not None:
                    decoded = decoded * (weight > 0)
                difference = (decoded - images).square() * (1 if weight is None else weight)
                now = difference.mean(dim=(1, 2, 3))
                better = now < error
                error = torch.where(better, now, error)
                best = {
                    name: torch.where(by_row(better, tensor), tensor, best.get(name, tensor))
                    for name, tensor in latents.items()
                }
        return best

    def see(self, picture: Picture, passes: int, fixed: Latents) -> dict[str, Tensor]:
        """The same of one picture of the generator's size: searched parts -> [1, …]; see `initialisers.Encode`."""
        image, weight = self.generator.place_picture(picture)
        placed = {name: self.generator.place(tensor) for name, tensor in fixed.items()}
        return self(image, placed, passes=passes, weight=weight)


def start_of(space: LatentSpace, size: tuple[int, int], rows: int, like: Tensor) -> dict[str, Tensor]:
    """The prior's mean of the searched parts, [rows, …]."""
    mean = space.mean(size)
    return {name: mean[name].to(like).expand(rows, *mean[name].shape[1:]) for name in space.searched}


def refine(
    network: EncoderNetwork, space: LatentSpace, images: Tensor, decoded: Tensor | None, latents: Latents
) -> dict[str, Tensor]:
    """One pass: latents and what they decode to (None in the first pass) in, better latents out, inside their sets."""
    means = {n: space.parts[n].prior.mean(tuple(t.shape[1:])).to(t) for n, t in latents.items()}
    scales = {name: space.parts[name].prior.scale for name in latents}
    units = {name: (tensor - means[name]) / scales[name] for name, tensor in latents.items()}
    correction = network(images, decoded, units)
    # Added in the latents' own format: a network in bfloat16 must not round them.
    moved = {name: latents[name] + correction[name].to(latents[name]) * scales[name] for name in latents}
    return space.retract(moved)


def load_encoder(generator: Generator, path: Path | None = None) -> PictureEncoder:
    """The encoder at `path`, or the one that comes with the package, or the generator's own.

    Raises:
        AssetError: there is none, it is damaged, or it is of another generator.
    """
    if path is None and generator.name not in ENCODERS and generator.has_encoder:
        return OwnEncoder(generator)
    if path is None and generator.name not in ENCODERS:
        raise AssetError(
            f"no encoder for {generator.name}; `latent-inv train-encoder --generator {generator.name}` makes one",
            field="encoder",
        )
    return AmortisedEncoder(*read_encoder(path or fetch(ENCODERS[generator.name])), generator)


__all__ = [
    "AmortisedEncoder",
    "Card",
    "EncoderNetwork",
    "OwnEncoder",
    "PictureEncoder",
    "Shape",
    "load_encoder",
    "read_encoder",
    "refine",
    "shape_for",
    "start_of",
    "write_encoder",
]
