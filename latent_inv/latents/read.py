"""The reader: format told from the content, sizes checked before anything is allocated, nothing unpickled."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from latent_inv.errors import InputError, LatentsError, LimitError
from latent_inv.files import read_bytes
from latent_inv.scaling import Scaling, scaling_from_text

from .layouts import COMFYUI_MARK, COMFYUI_PART, FORMAT
from .limits import Limits
from .npy import MAGIC, read_npy, read_npz
from .safe import decode

_OWN_KEYS = (
    *("format", "generator", "space", "weights_sha256", "convention"),
    *("scaling_factor", "shift_factor", "scaled"),
)
_SUFFIXES = {
    ".npz": "npz",
    ".npy": "npy",
    ".safetensors": "safetensors",
    ".latent": "safetensors",
    ".pt": "torch",
    ".pth": "torch",
}
_SAYS = {"true": True, "false": False}
_MAX_MEMBERS = 10_000
_VERSION_0 = f'a file of an older ComfyUI, without "{COMFYUI_MARK}": divided by 0.18215, as ComfyUI does'


@dataclass(frozen=True, eq=False)
class LatentsFile:
    """What a file of latents says.

    Attributes:
        latents: part → array as stored; key "" for the array of a file that names none.
        generator, space, weights_sha256: None where the file does not say.
        scaled: are they scaled, (raw − shift) · factor, or raw? None where nothing says so.
        scaling: factor and shift, where the file states them.
        stored: part → number format in the file; bfloat16 is read as float32.
        layout: "latent_inv", "comfyui", or the kind of file: "safetensors", "npz", "npy", "torch".
        extra: all other metadata.
        warnings: what a reader may not expect.
    """

    latents: Mapping[str, np.ndarray]
    generator: str | None
    space: str | None
    weights_sha256: str | None
    extra: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    scaled: bool | None = None
    scaling: Scaling | None = None
    stored: Mapping[str, str] = field(default_factory=dict)
    layout: str = ""

    def stated(self, scaled: bool | None) -> LatentsFile:
        """The same, where somebody knows what the file does not say; None: nobody does.

        Raises:
            LatentsError: the file says the contrary.
        """
        if scaled is None or scaled == self.scaled:
            return self
        if self.scaled is not None:
            says, said = (f"{'scaled' if value else 'raw'}" for value in (self.scaled, scaled))
            raise LatentsError(f"the file says that its latents are {says}, it was said that they are {said}")
        return replace(self, scaled=scaled)


def load_latents(
    source: str | os.PathLike[str] | bytes, *, scaled: bool | None = None, limits: Limits = Limits()
) -> LatentsFile:
    """Read saved latents: safetensors (also ComfyUI's .latent), .npz, .npy, or a .pt of plain tensors.

    The suffix decides nothing; where it does not fit the content, a warning says so.

    Args:
        source: path, or the bytes of a file.
        scaled: are latents of a diffusion model in it scaled, or raw? For files that do not say so themselves.
    Raises:
        LatentsError: not such a file, damaged, or with something in it that would have to be unpickled.
        LimitError: too large.
    """
    name, data = _bytes(source, limits)
    metadata: dict[str, str] = {}
    stored: dict[str, str] = {}
    if data[:2] == b"PK":
        kind, latents, stored = _zip(data, limits)
    elif data[:6] == MAGIC:
        kind, latents = "npy", {"": read_npy(data, "the file")}
    elif data[8:9] == b"{":
        kind = "safetensors"
        latents, metadata, stored = decode(data, limits)
    else:
        raise LatentsError(_strange(data), field="latents")
    current = latents.pop(COMFYUI_MARK, None) is not None
    if not latents:
        raise LatentsError("the file holds no arrays", field="latents")
    suffix = Path(name).suffix.lower()
    lies = _SUFFIXES.get(suffix, kind) != kind
    warnings = (f"{kind} data in a {suffix} file",) if lies else ()
    stored = stored or {part: array.dtype.name for part, array in latents.items()}
    ours = metadata.get("format") == FORMAT
    scaling = scaling_from_text(metadata) if ours else None
    layout, says = "latent_inv" if ours else kind, _SAYS.get(metadata.get("scaled", "")) if ours else None
    if kind == "safetensors" and COMFYUI_PART in latents:
        layout, says = "comfyui", False
        latents, stored = {"": latents[COMFYUI_PART]}, {"": stored[COMFYUI_PART]}
        if not current:
            latents, warnings = {"": _undo_version_0(latents[""])}, (*warnings, _VERSION_0)
    return LatentsFile(
        latents=latents,
        generator=metadata.get("generator") or None,
        space=metadata.get("space") or None,
        weights_sha256=metadata.get("weights_sha256"),
        extra={key: value for key, value in metadata.items() if key not in _OWN_KEYS},
        warnings=warnings,
        scaled=says,
        scaling=scaling,
        stored=stored,
        layout=layout,
    ).stated(scaled)


def _undo_version_0(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) * np.float32(1 / 0.18215)


def _bytes(source: str | os.PathLike[str] | bytes, limits: Limits) -> tuple[str, bytes]:
    if isinstance(source, bytes):
        limits.check(len(source), "the file")
        return "", source
    name = Path(source).name
    try:
        return name, read_bytes(source, limits.max_bytes)
    except InputError as error:
        raise LatentsError(error.message, field="latents") from error
    except LimitError as error:
        raise LimitError(error.message, field="latents") from error


def _strange(data: bytes) -> str:
    if not data:
        return "the file is empty"
    if data[:1] == b"\x80":
        return "the file is a bare pickle, which could run code and is not read; save safetensors, .npz or .npy"
    return "accepted are safetensors, .npz, .npy and .pt files, found something else"


def _zip(data: bytes, limits: Limits) -> tuple[str, dict[str, np.ndarray], dict[str, str]]:
    """An archive is a .pt if it has torch's pickle in it, else a .npz."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise LatentsError("the archive is damaged", field="latents") from error
    with archive:
        members = archive.infolist()
        if len(members) > _MAX_MEMBERS:
            text = f"the archive has {len(members)} members, at most {_MAX_MEMBERS} are accepted"
            raise LimitError(text, field="latents")
        limits.check(sum(member.file_size for member in members), "the unpacked archive")
        if any(member.filename.endswith("data.pkl") for member in members):
            if any(member.filename.endswith("constants.pkl") for member in members):
                raise LatentsError("the .pt file is a TorchScript program, not latents", field="latents")
            return ("torch", *_torch(data, limits))
        return "npz", read_npz(archive, limits), {}


def _torch(data: bytes, limits: Limits) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    import pickle

    import torch

    more = LatentsError(
        "the .pt file holds more than plain tensors, or is damaged; it is not unpickled", field="latents"
    )
    failures = (pickle.UnpicklingError, RuntimeError, EOFError, LookupError, ValueError, AttributeError, TypeError)
    try:
        loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    # Warning: torch warns of unknown pickle versions, which raises where warnings are errors.
    except (*failures, AssertionError, OverflowError, OSError, Warning) as error:
        raise more from error
    entries = {"": loaded} if isinstance(loaded, torch.Tensor) else loaded
    if not isinstance(entries, dict) or not all(isinstance(item, torch.Tensor) for item in entries.values()):
        raise LatentsError("the .pt file must hold a tensor or a dictionary of tensors", field="latents")
    limits.check_parts(len(entries))
    # A tensor can be a view that is far larger than what is stored.
    limits.check(
        sum(item.numel() * max(item.element_size(), 4) for item in entries.values()), "what the file describes"
    )
    try:
        stored = {str(name): str(item.dtype).removeprefix("torch.") for name, item in entries.items()}
        return {
            str(name): item.detach().to(torch.promote_types(item.dtype, torch.float32)).contiguous().numpy()
            for name, item in entries.items()
        }, stored
    except failures as error:
        raise more from error
