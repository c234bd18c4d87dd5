"""Arrays, latents and pictures ⇄ messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from latent_inv.errors import LimitError, ShapeError, SpecError, UnsupportedError, at
from latent_inv.images import Limits, Picture, load
from latent_inv.v1 import data_pb2 as pb

from .settings import enum_name, enum_number

MAX_DIMENSIONS = 8
MAX_PARTS = 64
_DTYPE = pb.Dtype.DESCRIPTOR
#: the numpy type of each number format, little-endian as on the wire
_NUMPY = {"float32": "<f4", "float64": "<f8", "float16": "<f2", "uint8": "|u1"}
_RANGES = {
    pb.VALUE_RANGE_MINUS_ONE_TO_ONE: (-1.0, 1.0),
    pb.VALUE_RANGE_ZERO_TO_ONE: (0.0, 1.0),
    pb.VALUE_RANGE_ZERO_TO_255: (0.0, 255.0),
}


def array_from(message: pb.Tensor) -> np.ndarray:
    """The array of a tensor, read-only.

    Raises:
        ShapeError: sides and bytes do not belong together. SpecError: no number format.
    """
    name = enum_name(_DTYPE, message.dtype, "dtype")
    if name not in _NUMPY:
        raise SpecError(f"must be one of {', '.join(_NUMPY)}, found none", field="dtype")
    shape = tuple(message.shape)
    if len(shape) > MAX_DIMENSIONS or any(side < 0 for side in shape):
        found = list(shape[: MAX_DIMENSIONS + 1])
        raise ShapeError(f"must have at most {MAX_DIMENSIONS} sides ≥ 0, found {found}", field="shape")
    dtype = np.dtype(_NUMPY[name])
    # In Python's integers, so that a product of huge sides is huge, and does not wrap around to a small one.
    expected = dtype.itemsize
    for side in shape:
        expected *= side
    if expected != len(message.data):
        text = f"{list(shape)} of {name} are {expected} bytes, found {len(message.data)}"
        raise ShapeError(text, field="data")
    return np.frombuffer(message.data, dtype=dtype).reshape(shape)


def array_to(array: np.ndarray) -> pb.Tensor:
    """The message of an array of floats or bytes.

    Raises:
        SpecError: another number format.
    """
    name = array.dtype.name
    if name not in _NUMPY:
        raise SpecError(f"arrays of {', '.join(_NUMPY)} are accepted, found {name}", field="dtype")
    data = np.ascontiguousarray(array, dtype=_NUMPY[name]).tobytes()
    return pb.Tensor(dtype=enum_number(_DTYPE, name, "dtype"), shape=array.shape, data=data)  # type: ignore[arg-type]


def latents_from(message: pb.Latents) -> dict[str, np.ndarray]:
    """Part → array.

    Raises:
        LimitError: too many parts. ShapeError, SpecError: as `array_from`.
    """
    if len(message.parts) > MAX_PARTS:
        raise LimitError(f"at most {MAX_PARTS} parts, found {len(message.parts)}", field="parts")
    arrays = {}
    for name in message.parts:
        with at(f"parts.{name:.60}"):
            arrays[name] = array_from(message.parts[name])
    return arrays


def latents_to(latents: Mapping[str, np.ndarray]) -> pb.Latents:
    """The message of latents."""
    return pb.Latents(parts={name: array_to(np.asarray(array)) for name, array in latents.items()})


def image_from(message: pb.Image, *, limits: Limits, field: str) -> Picture:
    """Load a picture, completely, so that a bad one is found before anything is queued.

    Raises:
        ImageError, LimitError: as `images.load`. UnsupportedError: an artifact.
    """
    source = image_source(message)
    value_range = _RANGES.get(message.value_range)
    return load(source, limits=limits, value_range=value_range, field=field)


def image_source(message: pb.Image) -> Any:
    """Encoded bytes or an array.

    Raises:
        SpecError: no source. UnsupportedError: an artifact.
    """
    kind = message.WhichOneof("source")
    if kind is None:
        raise SpecError("a picture is needed: encoded or tensor, found none")
    if kind == "artifact_sha256":
        raise UnsupportedError("pictures by hash come with the artifact service; send it as encoded", field=kind)
    if kind == "tensor":
        with at("tensor"):
            return array_from(message.tensor)
    return message.encoded


def image_to(source: Any, value_range: tuple[float, float] | None = None) -> pb.Image:
    """The message of encoded bytes or an array."""
    if isinstance(source, bytes):
        return pb.Image(encoded=source)
    number = next((number for number, ends in _RANGES.items() if ends == value_range), 0)
    return pb.Image(tensor=array_to(np.asarray(source)), value_range=number)  # type: ignore[arg-type]
