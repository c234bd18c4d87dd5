"""Our own file of a StyleGAN2: safetensors with the weights, what the mapping makes, and where it is from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from latent_inv.errors import AssetError, InputError
from latent_inv.files import sha256_of, write_bytes
from latent_inv.seeding import stream

from .architecture import Architecture
from .checkpoints import check, read_checkpoint
from .network import StyleGAN2
from .prior import statistics

FORMAT = "latent-inv stylegan2 1"
#: draws of w by which its distribution is measured
_DRAWS = 10_000
_STATISTICS = "statistics."


def convert(source: Path, target: Path) -> Architecture:
    """Read a public checkpoint and write our file; nothing in the checkpoint is run.

    Raises:
        InputError: it cannot be read, or is no StyleGAN2; the target stays as it was.
    """
    shape, weights = read_checkpoint(source)
    network = build(shape, weights)
    drawn = _draw(network)
    known = {f"{_STATISTICS}{name}": value for name, value in statistics(drawn).items()}
    for layer in shape.styled:
        with torch.no_grad():
            style = network.get_submodule(f"synthesis.{layer}.affine")(drawn)
        known[f"{_STATISTICS}s.{layer}"] = torch.stack([style.mean(dim=0), style.std(dim=0).clamp_min(1e-3)])
    tensors = {name: tensor.contiguous().clone() for name, tensor in {**weights, **known}.items()}
    metadata = {
        "format": FORMAT,
        "architecture": json.dumps(asdict(shape)),
        "source_name": source.name[:200],
        "source_sha256": sha256_of(source),
    }
    write_bytes(target, save(tensors, metadata))
    return shape


def _draw(network: StyleGAN2) -> Tensor:
    """w of draws of z, and of classes, that are the same every time."""
    noise, shape = stream(0, "stylegan2"), network.shape
    z = torch.randn(_DRAWS, shape.z, generator=noise)
    label = None
    if shape.classes:
        label = torch.eye(shape.classes)[torch.randint(shape.classes, (_DRAWS,), generator=noise)]
    with torch.no_grad():
        w: Tensor = network.mapping(z, label)
    return w


def build(shape: Architecture, weights: Mapping[str, Tensor]) -> StyleGAN2:
    """The network with these weights, which are checked already."""
    with torch.device("meta"):
        network = StyleGAN2(shape)
    network.load_state_dict(dict(weights), assign=True)
    return network.eval().requires_grad_(False)


def read_header(path: Path) -> tuple[Architecture, dict[str, str], dict[str, Tensor]]:
    """What it is, its metadata, and the statistics of w; the weights are left on the disk.

    Raises:
        AssetError: it is not there, or is no file of `convert`.
    """
    try:
        with safe_open(str(path), "pt") as file:
            metadata = dict(file.metadata() or {})
            if metadata.get("format") != FORMAT:
                raise _other(path)
            shape = _architecture(metadata)
            known = {name: file.get_tensor(f"{_STATISTICS}{name}") for name in _names(shape)}
    except FileNotFoundError as error:
        raise AssetError(f'there is no file "{path.name}"', field="generator") from error
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise _other(path) from error
    styles = {layer: (2, shape.style_size(layer)) for layer in shape.styled}
    if any(known[f"s.{layer}"].shape != expected for layer, expected in styles.items()):
        raise AssetError(f"the statistics of {path.name} are damaged; convert it again", field="generator")
    if known["factor"].shape != (shape.w, shape.w) or {known[n].shape for n in ("mean", "centre")} != {(shape.w,)}:
        raise AssetError(f"the statistics of {path.name} are damaged; convert it again", field="generator")
    return shape, metadata, known


def _names(shape: Architecture) -> list[str]:
    return ["mean", "factor", "centre", *(f"s.{layer}" for layer in shape.styled)]


def read_network(path: Path, shape: Architecture) -> StyleGAN2:
    """The network of a file whose header was read.

    Raises:
        AssetError: it is damaged.
    """
    try:
        with safe_open(str(path), "pt") as file:
            names = [name for name in file.keys() if not name.startswith(_STATISTICS)]  # noqa: SIM118, no mapping
            weights = {name: file.get_tensor(name) for name in names}
        check(shape, weights)
    except InputError as error:
        raise AssetError(f"{path.name}: {error.message}", field="generator") from error
    except (OSError, SafetensorError) as error:
        raise _other(path) from error
    return build(shape, weights)


def _other(path: Path) -> AssetError:
    return AssetError(
        f"{path.name} is damaged, or no file of `latent-inv convert stylegan2 in.pkl out.safetensors`",
        field="generator",
    )


def _architecture(metadata: Mapping[str, str]) -> Architecture:
    held: Any = json.loads(metadata["architecture"])
    held = {item.name: held[item.name] for item in fields(Architecture)}
    return Architecture(**{**held, "base": tuple(held["base"]), "channels": tuple(held["channels"])})
