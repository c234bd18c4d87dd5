"""Tensors and numbers of a pickle's records, with every size held against the bytes that are there."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latent_inv.errors import InputError

from .pickles import STORAGES, Record, Storage, read_pickle

_NUMBERS = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")


def as_tensor(value: Any, name: str) -> Tensor | None:
    """The tensor that a record stands for, float32 where it is of floating numbers; None: it stands for something else.

    Raises:
        InputError: it says more numbers than it has, or is of an unknown kind.
    """
    if isinstance(value, Record) and value.name == "torch._utils._rebuild_parameter" and value.args:
        return as_tensor(value.args[0], name)
    if not isinstance(value, Record) or value.name != "torch._utils._rebuild_tensor_v2":
        return None
    try:
        held, offset, size, stride = value.args[:4]
        storage = _storage(held, name)
        offset = int(offset)
        shape, steps = _sides(size), _sides(stride)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name:.100} is damaged", field="checkpoint") from error
    dtype = STORAGES[storage.kind]
    count, numbers = math.prod(shape), len(storage.data) // dtype.itemsize
    last = offset + sum((side - 1) * step for side, step in zip(shape, steps, strict=False))
    # Steps of 0 would make much of little: no weights are so.
    if len(shape) != len(steps) or min((offset, *shape, *steps)) < 0 or count > numbers or (count and last >= numbers):
        raise InputError(
            f"{name:.100} says that it has {count} numbers, found {numbers} in the file", field="checkpoint"
        )
    if not count:
        return torch.zeros(shape)
    flat = torch.frombuffer(bytearray(storage.data), dtype=dtype)
    tensor = flat.as_strided(shape, steps, offset).contiguous()
    return tensor.float() if tensor.is_floating_point() else tensor


def _sides(value: Any) -> tuple[int, ...]:
    if isinstance(value, Record) and value.name == "torch.Size" and len(value.args) == 1:
        value = value.args[0]
    if not isinstance(value, (tuple, list)) or len(value) > 8:
        raise ValueError("no shape")
    return tuple(int(side) for side in value)


def _storage(held: Any, name: str) -> Storage:
    if isinstance(held, Record) and held.name == "torch.storage._load_from_bytes":
        if len(held.args) != 1 or not isinstance(held.args[0], bytes):
            raise InputError(f"{name:.100} is damaged", field="checkpoint")
        held = read_pickle(held.args[0])
    if not isinstance(held, Storage):
        raise InputError(f"{name:.100} has no numbers", field="checkpoint")
    return held


def as_number(value: Any) -> Any:
    """A numpy number or array that a record stands for as plain Python's; everything else as it is.

    Raises:
        InputError: a number of an unknown kind, or an array that says more numbers than it has.
    """
    if not isinstance(value, Record) or not value.name.startswith("numpy."):
        return value
    try:
        if value.name.endswith("scalar"):
            kind, data = value.args
            return np.frombuffer(_bytes(data), _number_kind(kind), count=1)[0].item()
        if value.name.endswith("_reconstruct"):
            _, shape, kind, fortran, data = value.state
            sides, found = _sides(shape), np.frombuffer(_bytes(data), _number_kind(kind))
            if math.prod(sides) == len(found):
                return found.reshape(sides, order="F" if fortran else "C").tolist()
    except (TypeError, ValueError) as error:
        raise InputError("a number of the file is damaged", field="checkpoint") from error
    raise InputError(f"the file holds a {value.name}, expected numbers", field="checkpoint")


def _number_kind(record: Any) -> np.dtype[Any]:
    text = record.args[0] if isinstance(record, Record) and record.name == "numpy.dtype" and record.args else None
    if text not in _NUMBERS:
        raise ValueError("no kind of numbers")
    order = record.state[1] if isinstance(record.state, tuple) and len(record.state) > 1 else "="
    return np.dtype(text).newbyteorder(order if order in ("<", ">") else "=")


def _bytes(data: Any) -> bytes:
    # Protocols below 3 write bytes as text, Python 3 with the call that would turn it into bytes, Python 2 without.
    if isinstance(data, Record) and data.name == "_codecs.encode" and data.args:
        data = data.args[0]
    if isinstance(data, str):
        return data.encode("latin1")
    if not isinstance(data, bytes):
        raise TypeError("no bytes")  # of a number, bytes() would make as many
    return data
