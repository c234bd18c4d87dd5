"""NumPy's .npy and .npz, of plain numbers alone.

The header is read here and not by numpy, so that every kind of damage ends in one error, nothing warns, and an array
that would have to be unpickled is told from its header.
Format: numpy.lib.format, versions 1.0 to 3.0.
"""

from __future__ import annotations

import ast
import math
import re
import zipfile
import zlib

import numpy as np

from latent_inv.errors import LatentsError

from .limits import Limits

MAGIC = b"\x93NUMPY"

#: numpy's own limit, against expressions that are too deep to parse
_MAX_HEADER_BYTES = 10_000
_NUMBERS = re.compile(r"[<>|=]?[fiub][1248]")


def read_npz(archive: zipfile.ZipFile, limits: Limits) -> dict[str, np.ndarray]:
    """Read all arrays of an archive whose unpacked size was checked.

    Raises:
        LatentsError: a member that is no array of numbers, two of one name, or damage.
        LimitError: too many arrays.
    """
    members = archive.infolist()
    limits.check_parts(len(members))
    arrays: dict[str, np.ndarray] = {}
    for member in members:
        what = f'"{member.filename:.60}"'
        name = member.filename.removesuffix(".npy")
        if name == member.filename:
            raise LatentsError(f"the archive holds {what}, which is no array", field="latents")
        if name in arrays:
            raise LatentsError(f"the archive holds {what} twice", field="latents")
        try:
            # Read with a size: without one a member that says less than it unpacks to is unpacked as a whole.
            with archive.open(member) as file:
                content = file.read(member.file_size)
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            NotImplementedError,
            RuntimeError,
            ValueError,
            OSError,
        ) as error:
            raise LatentsError(f"{what} is damaged", field="latents") from error
        arrays[name] = read_npy(content, what)
    return arrays


def read_npy(data: bytes, what: str) -> np.ndarray:
    """Read one array from the bytes of a .npy file; it is never larger than they are.

    Raises:
        LatentsError: damage, or anything but numbers.
    """
    damaged = LatentsError(f"{what} is damaged", field="latents")
    size_bytes = {1: 2, 2: 4, 3: 4}.get(data[6] if len(data) > 6 else 0)
    if data[:6] != MAGIC or size_bytes is None:
        raise damaged
    begin = 8 + size_bytes
    size = int.from_bytes(data[8:begin], "little")
    if size > min(_MAX_HEADER_BYTES, len(data) - begin):
        raise damaged
    try:
        header = ast.literal_eval(data[begin : begin + size].decode("utf-8" if data[6] == 3 else "latin1").strip())
        descr, fortran, shape = header["descr"], header["fortran_order"], header["shape"]
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError) as error:
        raise damaged from error
    if "O" in str(descr):
        text = f"{what} is an object array, which would have to be unpickled; numbers are accepted"
        raise LatentsError(text, field="latents")
    if not isinstance(descr, str) or not _NUMBERS.fullmatch(descr) or descr.endswith(("f1", "b2", "b4", "b8")):
        raise LatentsError(f"{what} is of type {descr!s:.40}, numbers are accepted", field="latents")
    if not isinstance(shape, tuple) or len(shape) > 32 or not all(type(side) is int and side >= 0 for side in shape):
        raise damaged
    dtype, body = np.dtype(descr), data[begin + size :]
    if math.prod(shape) * dtype.itemsize != len(body):
        raise damaged
    try:
        array = np.frombuffer(body, dtype=dtype).reshape(shape, order="F" if fortran else "C")
    except ValueError as error:  # sides beyond numpy's own limit, which an empty array may have
        raise damaged from error
    return array.astype(dtype.newbyteorder("="), order="C")
