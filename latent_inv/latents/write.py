"""The writer: safetensors, whole or not at all, the same bytes for the same latents."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from latent_inv.errors import LatentsError
from latent_inv.files import write_bytes

from .safe import encode

if TYPE_CHECKING:
    from latent_inv.result import JobResult

FORMAT = "latent_inv latents 1"


def save_latents(
    path: str | os.PathLike[str] | None,
    latents: Mapping[str, np.ndarray],
    *,
    generator: str,
    space: str,
    weights_sha256: str,
    extra: Mapping[str, str] | None = None,
) -> bytes:
    """Write latents with their origin.

    Args:
        path: the file; None only gives the bytes.
        latents: part → [n, …], n the same for all parts.
        extra: more text for the metadata, e.g. {"seed": "7"}.
    Returns:
        the bytes of the file.
    Raises:
        LatentsError: no parts, parts of different n, no numbers in one, or one that is not finite.
        InputError: the folder does not exist or cannot be written.
    """
    if not latents:
        raise LatentsError("at least one part is needed, found none")
    arrays = {name: np.asarray(array) for name, array in sorted(latents.items())}
    for name, array in arrays.items():
        if array.dtype.kind not in "fiu" or array.size == 0 or array.ndim == 0:
            found = f"{array.dtype} of shape {list(array.shape)}"
            raise LatentsError(f"must be numbers of shape [n, …], found {found}", field=name)
        if not np.isfinite(array).all():
            raise LatentsError("holds values that are not finite and is not saved", field=name)
    if len({array.shape[0] for array in arrays.values()}) != 1:
        found = ", ".join(f"{name} {array.shape[0]}" for name, array in arrays.items())
        raise LatentsError(f"all parts need the same number of rows, found {found}")
    own = {
        "format": FORMAT,
        "generator": generator,
        "space": space,
        "weights_sha256": weights_sha256,
        "convention": "rows first; unscaled latents as the generator takes them",
        **{
            f"part.{name}": f"shape {list(array.shape)}, {array.dtype}, range {array.min():.6g} to {array.max():.6g}"
            for name, array in arrays.items()
        },
    }
    data = encode(arrays, {**(extra or {}), **own})
    if path is not None:
        write_bytes(path, data)
    return data


def save_result(path: str | os.PathLike[str] | None, result: JobResult) -> bytes:
    """The latents that an inversion found, with where they come from; as `save_latents`."""
    return save_latents(
        path,
        result.latents,
        generator=result.generator,
        space=result.space,
        weights_sha256=result.weights_sha256,
        extra={"seed": str(result.seed), "best_step": str(result.best_step)},
    )
