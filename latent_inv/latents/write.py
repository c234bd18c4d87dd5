"""The writer: our safetensors or a format of another tool, whole or not at all, the same bytes for the same latents."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from latent_inv.errors import LatentsError, SpecError, unknown_name
from latent_inv.files import write_bytes
from latent_inv.scaling import Scaling

from .layouts import FORMAT, LAYOUTS, Layout

if TYPE_CHECKING:
    from latent_inv.result import JobResult

_CONVENTIONS = {
    None: "rows first; unscaled latents as the generator takes them",
    True: "rows first; scaled latents, (raw − shift_factor) · scaling_factor",
    False: "rows first; raw latents; scaled ones are (raw − shift_factor) · scaling_factor",
}


def save_latents(
    path: str | os.PathLike[str] | None,
    latents: Mapping[str, np.ndarray],
    *,
    generator: str,
    space: str,
    weights_sha256: str,
    extra: Mapping[str, str] | None = None,
    scaling: Scaling | None = None,
    format: str = "safetensors",
    scaled: bool | None = None,
) -> bytes:
    """Write latents with their origin.

    Args:
        path: the file; None only gives the bytes.
        latents: part → [n, …], n the same for all parts.
        extra: more text for the metadata, e.g. {"seed": "7"}.
        scaling: of these latents, `GeneratorInfo.scaling`; None: they come in one convention.
        format: one of `LAYOUTS`; formats of other tools than ours hold less of the origin, or none.
        scaled: write them scaled, or raw; None: as the format's tool expects them, else as they are.
    Returns:
        the bytes of the file.
    Raises:
        LatentsError: no parts, parts of different n, no numbers in one, one that is not finite, what the format cannot
            hold, or a convention that is asked for and cannot be known.
        SpecError: an unknown format, or a suffix of another one.
        InputError: the folder does not exist or cannot be written.
    """
    layout = find_layout(format, path)
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
    arrays, scaling = _converted(arrays, scaling, layout.scaled if scaled is None else scaled, scaled is not None)
    own = {
        "format": FORMAT,
        "generator": generator,
        "space": space,
        "weights_sha256": weights_sha256,
        "convention": _CONVENTIONS[None if scaling is None else scaling.scaled],
        **({} if scaling is None else scaling.to_text()),
        **{
            f"part.{name}": f"shape {list(array.shape)}, {array.dtype}, range {array.min():.6g} to {array.max():.6g}"
            for name, array in arrays.items()
        },
    }
    suffix = layout.suffixes[0] if path is None else Path(path).suffix.lower()
    data = layout.write(arrays, {**(extra or {}), **own}, suffix)
    if path is not None:
        write_bytes(path, data)
    return data


def _converted(
    arrays: dict[str, np.ndarray], scaling: Scaling | None, scaled: bool | None, asked: bool
) -> tuple[dict[str, np.ndarray], Scaling | None]:
    """The arrays in the wanted convention, and the scaling that they then have."""
    if scaling is None:
        if asked:
            text = "these latents come in one convention, so that they can be neither scaled nor raw"
            raise LatentsError(text, field="scaled")
        return arrays, None
    if scaled is None or scaled == scaling.scaled:
        return arrays, scaling
    return scaling.convert_parts(arrays, scaled), Scaling(scaling.factor, scaling.shift, scaled)


def find_layout(format: str, path: str | os.PathLike[str] | None) -> Layout:
    """The layout called `format`, for a file called `path`.

    Raises:
        SpecError: there is none, or its files are not called so.
    """
    if format not in LAYOUTS:
        raise unknown_name("format", format, list(LAYOUTS), field="format")
    layout = LAYOUTS[format]
    # Ours may be called anything, as it is told by its content; tools look at the suffix.
    if path is not None and format != "safetensors" and Path(path).suffix.lower() not in layout.suffixes:
        text = f'a file of "{format}" ends with {" or ".join(layout.suffixes)}, found "{Path(path).name:.80}"'
        raise SpecError(text, field="path")
    return layout


def save_result(path: str | os.PathLike[str] | None, result: JobResult, *, format: str = "safetensors") -> bytes:
    """The latents that an inversion found, with where they come from; as `save_latents`."""
    return save_latents(
        path,
        result.latents,
        generator=result.generator,
        space=result.space,
        weights_sha256=result.weights_sha256,
        extra={"seed": str(result.seed), "best_step": str(result.best_step)},
        scaling=result.scaling,
        format=format,
    )
