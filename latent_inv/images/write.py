"""The one writer: 8-bit sRGB PNG with pixels and nothing else (no profile, no orientation, no metadata)."""

from __future__ import annotations

import io
import os
from typing import Any

import numpy as np
from PIL import Image

from latent_inv.errors import ImageError, ShapeError
from latent_inv.files import write_bytes
from latent_inv.images.arrays import as_array


def to_uint8(pixels: Any) -> np.ndarray:
    """Round a picture to 8 bits.

    Args:
        pixels: [3, H, W] float array or tensor, range [-1, 1]; what lies outside is clipped.
    Returns:
        [H, W, 3] uint8, contiguous, 0..255, rounded to the nearest level.
    Raises:
        ShapeError: another shape.
        ImageError: another dtype, or a value that is not finite.
    """
    array = as_array(pixels)
    if array.dtype.kind != "f":
        raise ImageError(f"pixels must be floats in [-1, 1], found {array.dtype.name}")
    if array.ndim != 3 or array.shape[0] != 3 or array.size == 0:
        raise ShapeError(f"pixels must be [3, H, W], found {list(array.shape)}")
    finite = np.isfinite(array)
    if not finite.all():
        index = [int(i) for i in np.argwhere(~finite)[0]]
        raise ImageError(f"pixels must be finite, found {array[tuple(index)]} at index {index}")
    levels = np.rint((np.clip(array.astype(np.float32, copy=False), -1.0, 1.0) + 1.0) * 127.5)
    return np.ascontiguousarray(levels.astype(np.uint8).transpose(1, 2, 0))


def encode_png(pixels: Any, *, level: int = 6) -> bytes:
    """Encode a picture as PNG. The same pixels give the same bytes with one version of Pillow and zlib.

    Args:
        pixels: [3, H, W] float array or tensor in [-1, 1]; or uint8 [H, W, 3] or [H, W], 0..255.
        level: zlib level, 0 (quick) to 9 (small).
    Returns:
        the file's bytes.
    Raises:
        ShapeError, ImageError: as `to_uint8`.
    """
    array = as_array(pixels)
    if array.dtype != np.uint8:
        array = to_uint8(array)
    elif array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)):
        raise ShapeError(f"uint8 pixels must be [H, W, 3] or [H, W], found {list(array.shape)}")
    if not 0 <= level <= 9:
        raise ImageError(f"must be 0 to 9, found {level}", field="level")
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(buffer, format="PNG", compress_level=level)
    return buffer.getvalue()


def write_png(path: str | os.PathLike[str], pixels: Any) -> None:
    """Write a picture as PNG so that `path` holds the old file or the whole new one, never a part.

    Args:
        path: file to write; its folder must exist.
        pixels: as `encode_png`.
    Raises:
        ShapeError, ImageError: as `to_uint8`.
        InputError: the folder is missing or may not be written to.
        OSError: the disk failed or is full.
    """
    write_bytes(path, encode_png(pixels))
