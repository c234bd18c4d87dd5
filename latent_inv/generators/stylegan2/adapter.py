"""`stylegan2:FILE`: StyleGAN2 and its successor with adaptive augmentation, from a file of `latent-inv convert`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from latent_inv.constraints import Simplex, Standardised
from latent_inv.errors import InternalError
from latent_inv.files import sha256_of
from latent_inv.generators.base import Generator, LoadProgress
from latent_inv.generators.half import HALVES
from latent_inv.generators.staged import PICTURE, Staged, layer_routes
from latent_inv.measured import LayerSpace, Measured
from latent_inv.spaces import Categorical, LatentSpace, NoiseMap, Normal, Part
from latent_inv.types import Latents

from .architecture import Architecture
from .file import read_header, read_network
from .network import State, StyleGAN2
from .prior import Spread, Styles

_NOISE, _STYLE = "noise.", "s."
#: of a layer: the picture that the blocks before it made, and the vectors w of the blocks after it
_SKIP, _LATER = "skip", "later"


class StyleGAN2Generator(Staged):
    """Spaces `z` (with `class` where there are classes), `w`, `w+`, `w+noise`, `s` and `layer:k`.

    Subclasses are made by `open_model`. Where a space has no maps of noise, those of the checkpoint are taken, as the
    public tools do. `layer:k` is what block k hands to the next: its activations and the picture so far, with the
    vectors w of the blocks that follow.
    """

    default_space = "w+"
    #: a draw goes through a large network; with one statistic a channel, these are enough
    measured_draws = 32
    halves = tuple(HALVES)
    path: ClassVar[Path]
    architecture: ClassVar[Architecture]
    network: StyleGAN2

    @classmethod
    def load(cls, device: torch.device, dtype: torch.dtype, progress: LoadProgress | None = None) -> StyleGAN2Generator:
        tell, size = progress or (lambda *_: None), cls.path.stat().st_size
        tell(cls.name, 0, size)
        network = read_network(cls.path, cls.architecture)
        tell(cls.name, size, size)
        return cls(network.to(device=device, dtype=dtype))

    def map(self, z: Tensor, label: Tensor | None = None, psi: float = 1.0, cutoff: int | None = None) -> Tensor:
        """Latents of `w+` from z, [R, z] and [R, classes] -> [R, rows, w].

        Args:
            psi: truncation, how far from the mean w: 1 not at all pulled, 0 the mean.
            cutoff: rows that are pulled, the coarsest first; None: all.
        """
        rows = self.broadcast(self.network.mapping(z, label))
        if psi == 1:
            return rows
        pulled = self.network.mapping.w_avg.lerp(rows[:, :cutoff], psi)
        return torch.cat([pulled, rows[:, pulled.shape[1] :]], dim=1)

    def broadcast(self, w: Tensor) -> Tensor:
        """Latents of `w` as latents of `w+`: [R, w] -> [R, rows, w]."""
        return w[:, None].expand(-1, self.architecture.rows, -1)

    def _enter(self, latents: Latents, space: str) -> Latents:
        return {"w+": self._extended(latents)}

    def _segment(self, index: int, latents: Latents) -> dict[str, Tensor]:
        shape, stages = self.architecture, self.stages
        ws = latents[_LATER] if index else latents["w+"]
        state = State(latents[stages[index - 1]], latents[_SKIP]) if index else None
        synthesis = self.network.synthesis
        x, picture = synthesis.run(state, synthesis.styles(ws, index), {}, index, index + 1)
        if picture is None:
            raise InternalError("a block made no picture")
        if index == len(stages):
            return {PICTURE: picture.clamp(-1, 1)}
        left = ws[:, shape.first_row(index + 1) - shape.first_row(index) :]
        return {stages[index]: x, _SKIP: picture, _LATER: left}

    def _extended(self, latents: Latents) -> Tensor:
        if "z" in latents:
            return self.map(latents["z"], latents.get("class"))
        return latents["w+"] if "w+" in latents else self.broadcast(latents["w"])

    def _decode(self, latents: Latents) -> Tensor:
        if _LATER in latents:
            return super()._decode(latents)
        styles = {name.removeprefix(_STYLE): x for name, x in latents.items() if name.startswith(_STYLE)}
        if not styles:
            styles = self.network.synthesis.styles(self._extended(latents))
        noise = {name.removeprefix(_NOISE): x for name, x in latents.items() if name.startswith(_NOISE)}
        picture: Tensor = self.network(styles, noise)
        return picture.clamp(-1, 1)


def spaces_of(shape: Architecture, known: Mapping[str, Tensor]) -> dict[str, LatentSpace]:
    """All spaces of a network of this shape; `known` are the statistics of w."""
    prior = Styles(known["mean"], known["factor"], known["centre"])
    z = {"z": Part((shape.z,), Normal())}
    if shape.classes:
        z["class"] = Part((shape.classes,), Categorical(), Simplex())
    extended = Part((shape.rows, shape.w), prior)
    maps = {f"{_NOISE}{layer}": Part(shape.sides(layer), NoiseMap(), Standardised()) for layer in shape.layers}
    styles = {
        f"{_STYLE}{layer}": Part((shape.style_size(layer),), Spread(*known[f"s.{layer}"])) for layer in shape.styled
    }
    return {
        "z": LatentSpace(z),
        "w": LatentSpace({"w": Part((shape.w,), prior)}),
        "w+": LatentSpace({"w+": extended}),
        "w+noise": LatentSpace({"w+": extended, **maps}),
        "s": LatentSpace(styles),
        **{stage: _layer(shape, block, stage, prior) for block, stage in enumerate(stages_of(shape), 1)},
    }


def stages_of(shape: Architecture) -> tuple[str, ...]:
    """Names of the layers: one after each block but the last."""
    return tuple(f"layer:{index}" for index in range(1, len(shape.blocks)))


def _layer(shape: Architecture, block: int, stage: str, prior: Styles) -> LayerSpace:
    height, width = shape.sides(f"{shape.blocks[block - 1]}.conv1")
    parts = {
        stage: Part((shape.channels[block - 1], height, width), Measured("channel")),
        _SKIP: Part((3, height, width), Measured("channel")),
        _LATER: Part((shape.rows - shape.first_row(block), shape.w), prior),
    }
    return LayerSpace(parts)


def open_model(reference: str, name: str) -> type[Generator]:
    """The generator of `stylegan2:reference`; its weights are read when it is loaded.

    Args:
        reference: a file of `latent-inv convert stylegan2`.
    Raises:
        AssetError: it is not there, or is another kind of file.
    """
    path = Path(reference).expanduser()
    shape, metadata, known = read_header(path)
    height, width = shape.size
    origin = f"{metadata.get('source_name', 'a checkpoint')}, SHA-256 {metadata.get('source_sha256', 'unknown')}"
    return type(
        "OpenedStyleGAN2",
        (StyleGAN2Generator,),
        {
            "__doc__": StyleGAN2Generator.__doc__,
            "name": name,
            "title": f"StyleGAN2, {height} × {width}" + (f", {shape.classes} classes" if shape.classes else ""),
            "spaces": spaces_of(shape, known),
            "stages": stages_of(shape),
            "routes": layer_routes(("w+",), stages_of(shape)),
            "size": shape.size,
            "path": path,
            "architecture": shape,
            "licence": (
                "that of the checkpoint, which the file does not state; those of NVIDIA are for non-commercial use",
                "its training data: see where the checkpoint is from",
                "whether the terms of the data reach the weights",
            ),
            "source": origin,
            "weights_sha256": sha256_of(path),
        },
    )
