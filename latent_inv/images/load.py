"""The one loader."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from PIL import Image

from latent_inv.errors import ImageError, InputError, at
from latent_inv.files import read_bytes
from latent_inv.images import arrays
from latent_inv.images.decode import decode, decode_pil
from latent_inv.images.picture import Limits, Picture


def load(
    source: Any,
    *,
    limits: Limits = Limits(),
    value_range: tuple[float, float] | None = None,
    field: str = "image",
) -> Picture:
    """Load a picture from whatever holds one.

    Args:
        source: a path (str, PathLike), an encoded file (bytes), a PIL image, a numpy array or a torch tensor. Layouts
            and dtypes of arrays are in `latent_inv.images.arrays`.
        limits: sizes that are accepted.
        value_range: range of float values, one of (-1, 1), (0, 1), (0, 255). Floats must state it; others need not.
        field: dotted name of the input, for messages.
    Returns:
        the picture: upright, sRGB, float32 in [-1, 1], alpha as weight; see the package's docstring for each rule.
    Raises:
        ImageError: nothing that can be taken; the message says what was found.
        LimitError: over a limit.
        ShapeError, SpecError: an array of another layout, an unknown `value_range`.
    """
    with at(field):
        colour, alpha, warnings = _planes(source, value_range, limits)
        if alpha is not None and bool((alpha >= 1.0).all()):
            alpha = None
        if alpha is not None:
            # Adding 0 makes -0.0 into 0.0, so that hidden colours leave no trace in the bits either.
            colour = colour * alpha + np.float32(0.0)
            alpha = np.ascontiguousarray(alpha, dtype=np.float32)
        return Picture(np.ascontiguousarray(colour, dtype=np.float32), alpha, warnings)


def _planes(source: Any, value_range: object, limits: Limits) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]:
    if isinstance(source, (bytes, bytearray, memoryview)):
        limits.check_bytes(len(source))
        return decode(bytes(source), value_range, limits)
    if isinstance(source, Image.Image):
        return decode_pil(source, value_range, limits)
    if isinstance(source, np.ndarray) or arrays.is_tensor(source):
        return arrays.planes(arrays.as_array(source), value_range, limits)
    if isinstance(source, (str, os.PathLike)):
        return decode(read_file(source, limits), value_range, limits)
    raise ImageError(
        f"found {type(source).__name__}; "
        "accepted: a path, the bytes of a file, a PIL image, a numpy array, a torch tensor"
    )


def read_file(path: str | os.PathLike[str], limits: Limits) -> bytes:
    """Read a file after looking at its size.

    Args:
        path: a regular file.
        limits: `max_bytes` is checked before reading.
    Returns:
        the whole file.
    Raises:
        ImageError: no regular file, or unreadable; the message holds the file's name and never its folder.
        LimitError: too large.
    """
    try:
        return read_bytes(path, limits.max_bytes)
    except InputError as error:
        raise ImageError(error.message) from error
