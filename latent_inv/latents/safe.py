"""The safetensors format, both ways: a JSON header with the place of every array, then their bytes.

The library of that name writes metadata in random order; here the same latents give the same bytes. And it is given no
file here, so that all sizes can be checked first.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from latent_inv.errors import LatentsError

from .limits import Limits

#: name in the header → numpy name, all little-endian
DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U8": "|u1",
}
_NAMES = {name: key for key, name in DTYPES.items()}
# Half of a float32, the upper one: read as such.
_BFLOAT16 = "BF16"


def encode(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """Encode arrays of the types in `DTYPES`, sorted by size of a number and name, as the library does.

    Raises:
        LatentsError: another type.
    """
    ordered = sorted(arrays.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    bodies: list[bytes] = []
    begin = 0
    for name, array in ordered:
        little = array.dtype.newbyteorder("<").str
        if little not in _NAMES:
            raise LatentsError(f"is of type {array.dtype}, accepted: {', '.join(DTYPES)}", field=name)
        bodies.append(array.astype(little).tobytes())
        header[name] = {
            "dtype": _NAMES[little],
            "shape": list(array.shape),
            "data_offsets": [begin, begin + len(bodies[-1])],
        }
        begin += len(bodies[-1])
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)  # arrays begin at a multiple of 8 bytes
    return b"".join([len(text).to_bytes(8, "little"), text, *bodies])


def decode(data: bytes, limits: Limits) -> tuple[dict[str, np.ndarray], dict[str, str], dict[str, str]]:
    """Decode a whole file.

    Returns:
        (arrays by name, metadata, name → number format as stored).
    Raises:
        LatentsError: damage, or a type that is not in `DTYPES`.
        LimitError: a header, a number of arrays, or arrays that together are too large.
    """
    size = int.from_bytes(data[:8], "little")
    if size > len(data) - 8:
        raise LatentsError("the safetensors file is cut off or damaged", field="latents")
    limits.check_header(size)
    # Counted before it is parsed, as objects take many times what their text does.
    limits.check_parts(data.count(b'"data_offsets"', 8, 8 + size))
    try:
        header: dict[str, Any] = json.loads(data[8 : 8 + size])
        metadata = {str(key): str(value) for key, value in (header.pop("__metadata__", None) or {}).items()}
        limits.check_parts(len(header))
        # Arrays may lie on each other, so that few bytes can say that they are many.
        limits.check(sum(_extent(entry)[2] for entry in header.values()), "what the header describes")
        arrays = {name: _array(name, entry, data, 8 + size) for name, entry in header.items()}
        bfloat16 = {name: "bfloat16" for name, entry in header.items() if entry["dtype"] == _BFLOAT16}
        return arrays, metadata, {name: array.dtype.name for name, array in arrays.items()} | bfloat16
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise LatentsError("the safetensors file is damaged", field="latents") from error


def _extent(entry: Mapping[str, Any]) -> tuple[int, int, int]:
    begin, end = entry["data_offsets"]
    if type(begin) is not int or type(end) is not int or not 0 <= begin <= end:
        raise ValueError("offsets")
    return begin, end, end - begin


def _array(name: str, entry: Mapping[str, Any], data: bytes, start: int) -> np.ndarray:
    key, shape = str(entry["dtype"]), entry["shape"]
    if key != _BFLOAT16 and key not in DTYPES:
        text = f"has the number format {key:.10}, accepted: {', '.join(DTYPES)}, {_BFLOAT16}"
        raise LatentsError(text, field=name)
    if not isinstance(shape, list) or len(shape) > 32 or not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError("shape")
    dtype = np.dtype("<u2" if key == _BFLOAT16 else DTYPES[key])
    begin, end, length = _extent(entry)
    if start + end > len(data) or length != math.prod(shape) * dtype.itemsize:
        raise ValueError("length")
    array = np.frombuffer(data[start + begin : start + end], dtype=dtype).reshape(shape)
    if key == _BFLOAT16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(dtype.newbyteorder("="))
