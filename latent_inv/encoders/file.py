"""Encoders at rest: one safetensors file, its text header saying of which generator it is and how it was made."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from latent_inv.errors import AssetError, InputError
from latent_inv.files import read_bytes, write_bytes

from .network import EncoderNetwork, Shape

FORMAT = "latent_inv encoder 1"
MAX_BYTES = 512 * 2**20


@dataclass(frozen=True)
class Card:
    """What a file of an encoder says of itself.

    Attributes:
        generator, space, weights_sha256: whose latents it finds; another generator's pictures are refused.
        size: (height, width) of the pictures it was trained on.
        minutes, samples: how long it was trained, and on how many pictures.
        scores: held-out scores by name, "psnr_db after 1 pass" …
        command: what made it.
        licence: of the generator and its data, which it inherits.
    """

    generator: str
    space: str
    weights_sha256: str
    size: tuple[int, int]
    shape: Shape
    minutes: float
    samples: int
    scores: Mapping[str, float]
    command: str
    licence: tuple[str, ...]
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "format": FORMAT}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Card:
        """The inverse of `to_json`.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        if value["format"] != FORMAT:
            raise ValueError(f"format {value['format']!r:.40}")
        plain = {name: str(value[name]) for name in ("generator", "space", "weights_sha256", "command")}
        return cls(
            **plain,
            size=(int(value["size"][0]), int(value["size"][1])),
            shape=Shape.from_json(value["shape"]),
            minutes=float(value["minutes"]),
            samples=int(value["samples"]),
            scores={str(name): float(score) for name, score in value["scores"].items()},
            licence=tuple(str(line) for line in value["licence"]),
            versions={str(name): str(text) for name, text in value["versions"].items()},
        )


def write_encoder(path: str | os.PathLike[str], network: EncoderNetwork, card: Card) -> None:
    """Write an encoder; its weights as float16, which costs under 0.01 dB.

    Raises:
        InputError: the folder is missing or may not be written to.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    # Batches are counted in whole numbers, which float16 has only up to 65 504.
    weights = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    write_bytes(path, save(weights, metadata={"card": json.dumps(card.to_json(), sort_keys=True)}))


def read_encoder(path: str | os.PathLike[str]) -> tuple[EncoderNetwork, Card]:
    """Read an encoder, in float32 on the CPU.

    Raises:
        AssetError: there is none, or it is damaged.
    """
    try:
        data = read_bytes(path, MAX_BYTES)
        card = Card.from_json(json.loads(_metadata(data)["card"]))
        weights = load(data)
        with torch.device("meta"):
            network = EncoderNetwork(card.shape)
        wide = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
        network.load_state_dict(wide, assign=True)
        if not all(bool(torch.isfinite(tensor).all()) for tensor in weights.values()):
            raise ValueError("a weight is not finite")
    except InputError as error:
        raise AssetError(f"the encoder cannot be read: {error.message}", field="encoder") from error
    except (SafetensorError, LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError) as why:
        raise AssetError(
            f'"{os.path.basename(os.fspath(path))}" is no encoder, or damaged; '
            "`latent-inv train-encoder` makes a new one",
            field="encoder",
        ) from why
    return network.eval().requires_grad_(False), card


def _metadata(data: bytes) -> dict[str, str]:
    """The text header of safetensors: 8 bytes of length, then JSON."""
    length = int.from_bytes(data[:8], "little")
    if not 2 <= length <= min(len(data) - 8, 2**20):
        raise ValueError("no header")
    header = json.loads(data[8 : 8 + length])
    return dict(header["__metadata__"])
