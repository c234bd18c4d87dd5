"""Arrays, latents and pictures ⇄ messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from latent_inv.errors import LatentsError, LimitError, ShapeError, SpecError, UnsupportedError, at
from latent_inv.images import Limits, Picture, load, with_weight
from latent_inv.images.arrays import as_array, check_range
from latent_inv.v1 import data_pb2 as pb

from .settings import enum_name, enum_number

MAX_DIMENSIONS = 8
MAX_PARTS = 64
_DTYPE, _VALUE_RANGE = pb.Dtype.DESCRIPTOR, pb.ValueRange.DESCRIPTOR
#: hash of a file → its bytes; raises NotFoundError, or LimitError before it reads too much
Contents = Callable[[str], bytes]
#: the numpy type of each number format, little-endian as on the wire
_NUMPY = {"float32": "<f4", "float64": "<f8", "float16": "<f2", "uint8": "|u1", "uint16": "<u2", "bool": "|b1"}
#: what the names of the enum mean
RANGES = {"minus_one_to_one": (-1.0, 1.0), "zero_to_one": (0.0, 1.0), "zero_to_255": (0.0, 255.0)}


def array_from(message: pb.Tensor) -> np.ndarray:
    """The array of a tensor, read-only.

    Raises:
        ShapeError: sides and bytes do not belong together. SpecError: no number format.
    """
    name = enum_name(_DTYPE, message.dtype, "dtype")
    if name not in _NUMPY:
        raise SpecError(f"must be one of {', '.join(_NUMPY)}, found none", field="dtype")
    sides = len(message.shape)
    if sides > MAX_DIMENSIONS:
        raise ShapeError(f"at most {MAX_DIMENSIONS} sides are accepted, found {sides}", field="shape")
    shape = tuple(message.shape)
    if any(side < 0 for side in shape):
        raise ShapeError(f"sides must be ≥ 0, found {list(shape)}", field="shape")
    dtype = np.dtype(_NUMPY[name])
    # In Python's integers, so that a product of huge sides is huge, and does not wrap around to a small one.
    expected = dtype.itemsize
    for side in shape:
        expected *= side
    if expected != len(message.data):
        text = f"{list(shape)} of {name} are {expected} bytes, found {len(message.data)}"
        raise ShapeError(text, field="data")
    if name == "bool" and message.data.strip(b"\0\1"):
        raise SpecError("bytes of bool are 0 or 1, found another value", field="data")
    try:
        return np.frombuffer(message.data, dtype=dtype).reshape(shape)
    except ValueError as error:  # no bytes at all, and a side that is beyond any array
        raise ShapeError(f"there is no array of {list(shape)}", field="shape") from error


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
    """The message of latents.

    Raises:
        LatentsError: a part that is no array of numbers.
    """
    parts = {}
    for name, latent in latents.items():
        with at(f"latents.{name!s:.60}"):
            array = _array(latent)
            if array.dtype.kind != "f":
                raise LatentsError(f"arrays of floats are accepted, found {array.dtype.name}")
            parts[name] = array_to(array)
    return pb.Latents(parts=parts)


def _array(source: Any) -> np.ndarray:
    try:
        return as_array(source)
    except ValueError as error:  # lists of different lengths
        raise ShapeError(f"{type(source).__name__} is no array of numbers") from error


def image_from(message: pb.Image, *, limits: Limits, field: str, contents: Contents | None = None) -> Picture:
    """Load a picture, completely, so that a bad one is found before anything is queued.

    Args:
        contents: of pictures that are told by hash; None: there are none.
    Raises:
        ImageError, LimitError: as `images.load`. SpecError: no source, or no known range.
        NotFoundError: no file of that hash. UnsupportedError: by hash, without `contents`.
    """
    with at(field):
        source = _source(message, contents)
        name = enum_name(_VALUE_RANGE, message.value_range, "value_range")
    return load(source, limits=limits, value_range=RANGES[name] if name else None, field=field)


def weighted(
    picture: Picture, message: pb.Image, *, limits: Limits, field: str, contents: Contents | None = None
) -> Picture:
    """`picture` with one more weight.

    Raises:
        ImageError, ShapeError, LimitError: as `images.with_weight`.
        SpecError, NotFoundError, UnsupportedError: as `image_from`.
    """
    with at(field):
        source = _source(message, contents)
        if isinstance(source, bytes):
            limits.check_bytes(len(source))
    return with_weight(picture, source, field=field)


def _source(message: pb.Image, contents: Contents | None) -> Any:
    """Encoded bytes or an array."""
    kind = message.WhichOneof("source")
    if kind is None:
        raise SpecError("a picture is needed: encoded, tensor or artifact_sha256, found none")
    if kind == "artifact_sha256":
        if contents is None:
            raise UnsupportedError("there are no files by hash here; send the picture as encoded", field=kind)
        with at(kind):
            return contents(message.artifact_sha256)
    if kind == "tensor":
        with at("tensor"):
            return array_from(message.tensor)
    return message.encoded


def image_to(source: Any, value_range: tuple[float, float] | None = None) -> pb.Image:
    """The message of encoded bytes or an array.

    Raises:
        SpecError: another number format, or a range that is none of `RANGES`.
    """
    number = _range_to(value_range)
    if isinstance(source, bytes):
        return pb.Image(encoded=source, value_range=number)
    return pb.Image(tensor=array_to(_array(source)), value_range=number)


def uploaded_to(sha256: str, value_range: tuple[float, float] | None = None) -> pb.Image:
    """The message of a picture that was uploaded, by its hash.

    Raises:
        SpecError: a range that is none of `RANGES`.
    """
    return pb.Image(artifact_sha256=sha256, value_range=_range_to(value_range))


def _range_to(value_range: tuple[float, float] | None) -> Any:
    name = "unspecified"
    if value_range is not None:
        low, high = check_range(value_range)
        name = next(name for name, ends in RANGES.items() if ends == (low, high))
    return enum_number(_VALUE_RANGE, name, "value_range")
