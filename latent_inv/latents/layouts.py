"""How latents lie in the files of public tools: what each format holds, and how it is written."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from latent_inv.errors import LatentsError

from .safe import encode

FORMAT = "latent_inv latents 1"

#: names of the arrays in a .latent file of ComfyUI; the second one is empty and says that the first is not scaled
COMFYUI_PART, COMFYUI_MARK = "latent_tensor", "latent_format_version_0"
#: parts whose first axis is the layers of a style-based generator: one vector stands for the same at each layer
LAYERED = ("w", "w+")

Arrays = Mapping[str, np.ndarray]
Metadata = Mapping[str, str]


@dataclass(frozen=True)
class Layout:
    """One format of files.

    Attributes:
        title: whose it is, for people.
        suffixes: what such a file may be called; the first one is usual.
        write: (part → [n, …], metadata, suffix) → bytes. Raises LatentsError where the format cannot hold these.
        scaled: which convention the tool expects of latents that come scaled and raw; None: as they are.
    """

    title: str
    suffixes: tuple[str, ...]
    write: Callable[[Arrays, Metadata, str], bytes]
    scaled: bool | None = None


def _own(arrays: Arrays, metadata: Metadata, _suffix: str) -> bytes:
    return encode(arrays, metadata)


def _comfyui(arrays: Arrays, metadata: Metadata, _suffix: str) -> bytes:
    spatial = _spatial(arrays, "a .latent file of ComfyUI")
    return encode({COMFYUI_PART: spatial, COMFYUI_MARK: np.zeros(0, np.float32)}, metadata)


def _diffusers(arrays: Arrays, metadata: Metadata, suffix: str) -> bytes:
    spatial = _spatial(arrays, "`latents` of a diffusers pipeline")
    if suffix == ".safetensors":
        return encode({"latents": spatial}, metadata)
    return _npy(spatial) if suffix == ".npy" else _pt(spatial)


def _nvidia(arrays: Arrays, _metadata: Metadata, _suffix: str) -> bytes:
    array, name = _single(arrays, "a projected_w.npz"), next(iter(arrays))
    if name not in (*LAYERED, "", "latent", "latents"):
        raise LatentsError(f'a projected_w.npz holds w, found the part "{name:.40}"', field="latents")
    if array.ndim != 3:
        text = (
            f"a projected_w.npz holds w of [n, layers, dimensions], found [{_sides(array)}]; for one vector a picture"
        )
        raise LatentsError(f"{text} name the generator, or say how many layers", field=name)
    return _npz({"w": array})


def _tensor(arrays: Arrays, _metadata: Metadata, _suffix: str) -> bytes:
    return _pt(next(iter(arrays.values())) if len(arrays) == 1 else arrays)


def _plain_npz(arrays: Arrays, _metadata: Metadata, _suffix: str) -> bytes:
    return _npz(arrays)


def _plain_npy(arrays: Arrays, _metadata: Metadata, _suffix: str) -> bytes:
    return _npy(_single(arrays, "a .npy file"))


#: name → format
LAYOUTS: dict[str, Layout] = {
    "safetensors": Layout("latent_inv, with origin and scaling", (".safetensors",), _own),
    "comfyui": Layout("ComfyUI, Load Latent", (".latent",), _comfyui, scaled=False),
    "diffusers": Layout("diffusers, `latents` of a pipeline", (".safetensors", ".pt", ".npy"), _diffusers, scaled=True),
    "nvidia": Layout("NVIDIA's StyleGAN2 and 3, --projected-w", (".npz",), _nvidia),
    "pt": Layout("e4e, PTI, and others that load a tensor", (".pt", ".pth"), _tensor),
    "npz": Layout("NumPy, an array a part", (".npz",), _plain_npz),
    "npy": Layout("NumPy, one array", (".npy",), _plain_npy),
}


def _single(arrays: Arrays, what: str) -> np.ndarray:
    if len(arrays) != 1:
        raise LatentsError(f"{what} holds one part, found {len(arrays)}: {', '.join(arrays)}", field="latents")
    return next(iter(arrays.values()))


def _spatial(arrays: Arrays, what: str) -> np.ndarray:
    array = _single(arrays, what)
    if array.ndim != 4:
        raise LatentsError(f"{what} is [n, channels, height, width], found [{_sides(array)}]", field=next(iter(arrays)))
    return array


def _sides(array: np.ndarray) -> str:
    return ", ".join(map(str, array.shape))


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _npz(arrays: Arrays) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            # A date of its own, and not of today: the same latents give the same bytes.
            archive.writestr(zipfile.ZipInfo(f"{name or 'latents'}.npy"), _npy(array))
    return buffer.getvalue()


def _pt(value: np.ndarray | Arrays) -> bytes:
    import torch

    buffer = io.BytesIO()
    if isinstance(value, np.ndarray):
        torch.save(torch.from_numpy(value.copy()), buffer)
    else:
        torch.save({name: torch.from_numpy(array.copy()) for name, array in value.items()}, buffer)
    return buffer.getvalue()
