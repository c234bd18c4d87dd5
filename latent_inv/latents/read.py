"""The reader: format told from the content, sizes checked before anything is allocated, nothing unpickled."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latent_inv.errors import LatentsError, LimitError

#: safetensors: format name → numpy name; bfloat16 has no numpy type and is refused with that reason
_DTYPES = {"F64": "f8", "F32": "f4", "F16": "f2", "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1", "U8": "u1"}
_OWN_KEYS = ("format", "generator", "space", "weights_sha256", "convention")


@dataclass(frozen=True)
class Limits:
    """How large a file of latents may be.

    Attributes:
        max_bytes: of the file, and of all arrays once they are unpacked.
        max_parts: arrays in one file.
    """

    max_bytes: int = 512 * 2**20
    max_parts: int = 64

    def check(self, found: int, what: str) -> None:
        """Raises: LimitError: over `max_bytes`."""
        if found > self.max_bytes:
            raise LimitError(f"{what} has {found} bytes, at most {self.max_bytes} are accepted", field="latents")


@dataclass(frozen=True, eq=False)
class LatentsFile:
    """What a file of latents says.

    Attributes:
        latents: part → array as stored; key "" for the array of a file that names none.
        generator, space, weights_sha256: None where the file does not say.
        extra: all other metadata.
        warnings: what a reader may not expect.
    """

    latents: Mapping[str, np.ndarray]
    generator: str | None
    space: str | None
    weights_sha256: str | None
    extra: Mapping[str, str]
    warnings: tuple[str, ...] = ()


def load_latents(source: str | os.PathLike[str] | bytes, *, limits: Limits = Limits()) -> LatentsFile:
    """Read saved latents: safetensors, .npz, .npy, or a .pt of plain tensors.

    Args:
        source: path, or the bytes of a file.
    Raises:
        LatentsError: not such a file, damaged, or with something in it that would have to be unpickled.
        LimitError: too large.
    """
    name, data = _bytes(source, limits)
    suffix = Path(name).suffix.lower()
    if data[:2] == b"PK":
        with _archive(data) as archive:
            members = archive.namelist()
            limits.check(sum(info.file_size for info in archive.infolist()), "the unpacked archive")
            if len(members) > 10_000:
                raise LimitError(f"the archive has {len(members)} members, at most 10000 are accepted", field="latents")
            is_torch = any(member.endswith("data.pkl") for member in members)
            kind = "torch" if is_torch else "npz"
            latents = _torch(data) if is_torch else _npz(archive, limits)
        metadata: dict[str, str] = {}
    elif data[:6] == b"\x93NUMPY":
        kind, latents, metadata = "npy", {"": _npy(io.BytesIO(data), "the file", limits)}, {}
    elif data[8:9] == b"{":
        kind = "safetensors"
        latents, metadata = _safetensors(data)
    else:
        raise LatentsError(_strange(data), field="latents")
    if not latents:
        raise LatentsError("the file holds no arrays", field="latents")
    if len(latents) > limits.max_parts:
        raise LimitError(
            f"the file holds {len(latents)} arrays, at most {limits.max_parts} are accepted", field="latents"
        )
    suffixes = {".npz": "npz", ".npy": "npy", ".safetensors": "safetensors", ".pt": "torch", ".pth": "torch"}
    lies = suffixes.get(suffix, kind) != kind
    return LatentsFile(
        latents=latents,
        generator=metadata.get("generator"),
        space=metadata.get("space"),
        weights_sha256=metadata.get("weights_sha256"),
        extra={key: value for key, value in metadata.items() if key not in _OWN_KEYS},
        warnings=(f"{kind} data in a {suffix} file",) if lies else (),
    )


def _bytes(source: str | os.PathLike[str] | bytes, limits: Limits) -> tuple[str, bytes]:
    if isinstance(source, bytes):
        limits.check(len(source), "the file")
        return "", source
    path = Path(source)
    try:
        limits.check(path.stat().st_size, f'"{path.name}"')
        return path.name, path.read_bytes()
    except OSError as error:
        raise LatentsError(f'"{path.name}" cannot be read: {error.strerror}', field="latents") from error


def _strange(data: bytes) -> str:
    if not data:
        return "the file is empty"
    if data[:1] == b"\x80":
        return "the file is a bare pickle, which could run code and is not read; save safetensors, .npz or .npy"
    return "accepted are safetensors, .npz, .npy and .pt files, found something else"


def _archive(data: bytes) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(io.BytesIO(data))
    except zipfile.BadZipFile as error:
        raise LatentsError("the archive is damaged", field="latents") from error


def _npz(archive: zipfile.ZipFile, limits: Limits) -> dict[str, np.ndarray]:
    arrays = {}
    for member in archive.namelist():
        if not member.endswith(".npy"):
            raise LatentsError(f'the archive holds "{member:.60}", which is no array', field="latents")
        try:
            with archive.open(member) as file:
                arrays[member.removesuffix(".npy")] = _npy(io.BytesIO(file.read()), f'"{member:.60}"', limits)
        except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
            raise LatentsError(f'"{member:.60}" is damaged', field="latents") from error
    return arrays


def _npy(file: io.BytesIO, what: str, limits: Limits) -> np.ndarray:
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        if dtype.hasobject:
            raise LatentsError(f"{what} is an object array, which would have to be unpickled; numbers are accepted")
        limits.check(int(np.prod([int(side) for side in shape], dtype=object)) * dtype.itemsize, what)
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, EOFError, OverflowError) as error:
        raise LatentsError(f"{what} is damaged", field="latents") from error


def _safetensors(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    size = int.from_bytes(data[:8], "little")
    if size > len(data) - 8:
        raise LatentsError("the safetensors file is cut off or damaged", field="latents")
    try:
        header: dict[str, Any] = json.loads(data[8 : 8 + size])
        metadata = {str(key): str(value) for key, value in header.pop("__metadata__", {}).items()}
        return {name: _tensor(name, entry, data[8 + size :]) for name, entry in header.items()}, metadata
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise LatentsError("the safetensors file is damaged", field="latents") from error


def _tensor(name: str, entry: Mapping[str, Any], body: bytes) -> np.ndarray:
    if entry["dtype"] not in _DTYPES:
        raise LatentsError(f"has the number format {entry['dtype']!s:.10}, accepted: {', '.join(_DTYPES)}", field=name)
    dtype = np.dtype(_DTYPES[entry["dtype"]]).newbyteorder("<")
    begin, end = entry["data_offsets"]
    shape = tuple(int(side) for side in entry["shape"])
    expected = dtype.itemsize * int(np.prod(shape, dtype=object))
    if min(shape, default=0) < 0 or not 0 <= begin <= end <= len(body) or end - begin != expected:
        raise ValueError(name)
    return np.frombuffer(body[begin:end], dtype=dtype).reshape(shape).copy()


def _torch(data: bytes) -> dict[str, np.ndarray]:
    import pickle

    import torch

    try:
        loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError, AttributeError, TypeError) as error:
        text = "the .pt file holds more than plain tensors, or is damaged; it is not unpickled"
        raise LatentsError(text, field="latents") from error
    entries = {"": loaded} if isinstance(loaded, torch.Tensor) else loaded
    if not isinstance(entries, dict) or not all(isinstance(item, torch.Tensor) for item in entries.values()):
        raise LatentsError("the .pt file must hold a tensor or a dictionary of tensors", field="latents")
    return {
        str(name): item.detach().to(torch.promote_types(item.dtype, torch.float32)).numpy()
        for name, item in entries.items()
    }
