"""The decoders of pictures, latents and refusals by themselves, with whatever one may give them."""

from __future__ import annotations

import io
import random
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import torch
from PIL import Image

from latent_inv.convert import errors as convert_errors
from latent_inv.errors import MAX_MESSAGE_CHARS, LatentInvError, LimitError
from latent_inv.images import Limits, load
from latent_inv.latents import load_latents

from .fuzz_files import latents, pictures, spoil_file

Example = Callable[[int, random.Random], bytes]
Read = Callable[[bytes, random.Random], Any]

_CODES = tuple(code.name for code in grpc.StatusCode)


def decoders(seed: int, folder: Path) -> dict[str, tuple[Example, Read]]:
    """What is given to each, and how it is read.

    Args:
        folder: for files.
    """
    limits = Limits(max_pixels=2**20, max_bytes=2**16)
    spoken = convert_errors.error_to(LimitError("full", field="spec", retry_after=2.5)).SerializeToString()
    return {
        "pictures": (
            partial(example, pictures(seed)),
            lambda data, chance: load(**a_picture(data, chance, folder), limits=limits),
        ),
        "latents": (partial(example, latents(seed)), lambda data, chance: load_latents(a_file(data, chance, folder))),
        "refusals": (partial(example, [spoken, b""]), refusal),
    }


def example(good: list[bytes], number: int, chance: random.Random) -> bytes:
    """The good ones first, and then such as are spoilt."""
    return good[number] if number < len(good) else spoil_file(chance.choice(good), chance)


def a_file(data: bytes, chance: random.Random, folder: Path) -> Any:
    """The bytes themselves, or a file of them under a name that may lie, or one that is not there."""
    if chance.random() < 0.7:
        return data
    path = folder / f"file{chance.choice(('.png', '.npz', '.safetensors', '.pt', '.npy', '', '.txt'))}"
    path.write_bytes(data)
    return chance.choice((path, str(path), path, folder, folder / "not there"))


def a_picture(data: bytes, chance: random.Random, folder: Path) -> dict[str, Any]:
    """One of the ways to give a picture to the loader: a file, an image, an array, a tensor, or nothing of the kind."""
    value_range = chance.choice((None, None, None, (-1, 1), (0, 1), (0, 255), (1, 0), "all"))
    kind = chance.random()
    if kind < 0.6:
        return {"source": a_file(data, chance, folder), "value_range": value_range}
    if kind < 0.7:
        try:
            return {"source": Image.open(io.BytesIO(data)), "value_range": value_range}
        except Exception:  # it is Pillow's to refuse
            return {"source": chance.choice((None, 3, ["a"], {})), "value_range": value_range}
    shape = chance.choice(
        ((4, 5, 3), (3, 4, 5), (4, 5), (1, 4, 5), (4, 5, 1), (4, 5, 4), (2, 4, 5), (1, 3, 4, 5), (7,))
    )
    dtype = chance.choice(("float32", "float64", "float16", "uint8", "uint16", "bool", "int32", "complex64", "object"))
    low, high = chance.choice(((0, 1), (-1, 1), (0, 255), (0, 65535), (-3, 3), (0, 0)))
    numbers = np.random.default_rng(chance.randrange(2**32)).uniform(low, high, shape)
    if chance.random() < 0.1:
        numbers = np.where(numbers > numbers.mean(), chance.choice((np.nan, np.inf)), numbers)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = numbers.astype(dtype)
    if chance.random() < 0.3 and dtype not in ("object", "uint16"):
        return {"source": torch.from_numpy(array).requires_grad_(dtype == "float32"), "value_range": value_range}
    return {"source": array, "value_range": value_range}


def refusal(data: bytes, chance: random.Random) -> None:
    """What a client makes of a refusal, whoever wrote it."""
    error = convert_errors.error_from(chance.choice((*_CODES, "NO_SUCH_CODE")), "some text", data)
    if not isinstance(error, LatentInvError):
        raise TypeError(f"a refusal became a {type(error).__name__}")
    again = convert_errors.error_to(error)
    if len(again.message.encode()) > MAX_MESSAGE_CHARS:
        raise ValueError(f"a refusal of {len(again.message)} characters")
