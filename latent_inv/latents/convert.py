"""Files of latents of one tool to those of another."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from latent_inv.errors import LatentsError, SpecError, unknown_name
from latent_inv.scaling import Scaling

from .adapt import STATE_IT, adapt, shapes_of
from .fit import check_origin, fit_latents
from .layouts import LAYERED, LAYOUTS
from .read import LatentsFile
from .write import find_layout, save_latents

if TYPE_CHECKING:
    from latent_inv.result import GeneratorInfo


@dataclass(frozen=True)
class Converted:
    """What was written.

    Attributes:
        paths: the files.
        rows: pictures in all of them.
        scaled: are they scaled; None where that is not known or there is one convention.
        warnings: what was done that a reader may not expect.
    """

    paths: tuple[Path, ...]
    rows: int
    scaled: bool | None
    warnings: tuple[str, ...]


def format_of(path: str | os.PathLike[str]) -> str:
    """The format that files called like this usually have.

    Raises:
        SpecError: no such files are known.
    """
    suffix = Path(path).suffix.lower()
    for name in ("safetensors", "comfyui", "npz", "npy", "pt"):
        if suffix in LAYOUTS[name].suffixes:
            return name
    raise SpecError(f'"{Path(path).name:.80}" tells no format; say one of {", ".join(LAYOUTS)}', field="format")


def convert_files(
    files: Sequence[LatentsFile],
    out: str | os.PathLike[str],
    *,
    format: str = "",
    info: GeneratorInfo | None = None,
    space: str = "",
    scaling: Scaling | None = None,
    scaled: bool | None = None,
    layers: int = 0,
    split: bool = False,
) -> Converted:
    """Write the rows of `files` as a file of another tool.

    Args:
        out: the file; with `split` a number stands before its suffix.
        format: one of `LAYOUTS`; "": by the suffix of `out`.
        info: the generator that they are of; with it, names, shapes and convention are checked and brought in order.
        space: of the generator; "": the one that they fit.
        scaling: factor and shift, where there is no generator and the files do not state them.
        scaled: what is written; None: what the format's tool expects, else as it is in the files.
        layers: where the format wants a vector for each layer and the files have one for all.
        split: one file a row.
    Raises:
        LatentsError: they do not fit the generator, each other or the format; or they would have to be scaled and
            nothing says whether they are, or by which factor.
        SpecError: an unknown format, or a suffix of another one. InputError: the folder cannot be written to.
    """
    format = format or format_of(out)
    wanted = find_layout(format, out).scaled if scaled is None else scaled
    pieces = [_piece(file, info, space, scaling) for file in files]
    names = [sorted(piece.latents) for piece in pieces]
    for file, other in zip(pieces[1:], names[1:], strict=True):
        if other != names[0] or (file.scaled, file.scaling) != (pieces[0].scaled, pieces[0].scaling):
            found = f"{', '.join(names[0])} and {', '.join(other)}" if other != names[0] else "scaled and raw ones"
            raise LatentsError(f"the files hold different things, {found}; convert them one by one", field="latents")
    latents = {name: _joined([piece.latents[name] for piece in pieces], name) for name in names[0]}
    first = pieces[0]
    state = _known(first, latents, wanted, info is not None)
    if format == "nvidia":
        latents = {name: _layered(array, layers or _layers(info)) for name, array in latents.items()}
    warnings = tuple(dict.fromkeys(text for piece in pieces for text in piece.warnings))
    rows = len(next(iter(latents.values())))
    extra = {} if state is None else {"scaled": "true" if state else "false"}
    paths = [_numbered(Path(out), row) for row in range(rows)] if split else [Path(out)]
    for row, path in enumerate(paths):
        save_latents(
            path,
            {name: array[row : row + 1] for name, array in latents.items()} if split else latents,
            generator=first.generator or "",
            space=first.space or "",
            weights_sha256=first.weights_sha256 or "",
            extra=extra,
            scaling=first.scaling,
            format=format,
            scaled=wanted if first.scaling is not None else (scaled if info is not None else None),
        )
    return Converted(tuple(paths), rows, state if first.scaling is None or wanted is None else wanted, warnings)


def _piece(file: LatentsFile, info: GeneratorInfo | None, space: str, scaling: Scaling | None) -> LatentsFile:
    """One file as the generator takes it, or as it is without one; what is known of its scaling in one place."""
    if info is None:
        numbers = file.scaling or scaling
        known = None if numbers is None or file.scaled is None else Scaling(numbers.factor, numbers.shift, file.scaled)
        return replace(file, scaling=known)
    origin = check_origin(file, generator=info.name, weights_sha256=info.weights_sha256)
    latents, found, warnings = adapt(file, info, space)
    chosen = found or space or info.default_space
    if chosen not in info.spaces:
        raise unknown_name("space", chosen, list(info.spaces), field="space")
    wide = any(array.dtype == np.float64 for array in latents.values())
    fitted = fit_latents(latents, shapes_of(info.spaces[chosen], latents), dtype=np.float64 if wide else np.float32)
    return replace(
        file,
        latents=fitted,
        generator=info.name,
        space=chosen,
        weights_sha256=info.weights_sha256,
        scaling=info.scaling,
        scaled=None if info.scaling is None else info.scaling.scaled,
        warnings=(*file.warnings, *origin, *warnings),
    )


def _joined(arrays: Sequence[np.ndarray], name: str) -> np.ndarray:
    if len({array.shape[1:] for array in arrays}) != 1 or not arrays[0].ndim:
        found = ", ".join(f"[{', '.join(map(str, array.shape))}]" for array in arrays[:5])
        raise LatentsError(f"all files need the same shape behind the rows, found {found}", field=name or "latents")
    return np.concatenate(arrays)


def _known(piece: LatentsFile, latents: Mapping[str, np.ndarray], wanted: bool | None, named: bool) -> bool | None:
    """Are they scaled, as far as is known? What cannot be written as wanted for want of knowledge is refused."""
    if piece.scaling is not None or wanted is None or named or not any(a.ndim == 4 for a in latents.values()):
        return piece.scaled
    word = "scaled" if wanted else "raw"
    if piece.scaled is None:
        text = f"{word} latents are to be written, and the file does not say which these are; {STATE_IT}"
        raise LatentsError(text, field="latents")
    if piece.scaled != wanted:
        text = f"the latents are {'raw' if wanted else 'scaled'}, {word} ones are to be written, and no factor is known"
        raise LatentsError(f"{text}; say --generator, or --factor and --shift", field="latents")
    return piece.scaled


def _layered(array: np.ndarray, layers: int) -> np.ndarray:
    """One vector for all layers, at each of them."""
    if array.ndim != 2 or not layers:
        return array
    return np.ascontiguousarray(np.broadcast_to(array[:, None], (len(array), layers, array.shape[1])))


def _layers(info: GeneratorInfo | None) -> int:
    """How many the generator has, 0 if that is not known."""
    shapes = [] if info is None else [parts[name]["shape"] for parts in info.spaces.values() for name in parts]
    names = [] if info is None else [name for parts in info.spaces.values() for name in parts]
    return next((shape[0] for name, shape in zip(names, shapes, strict=True) if name in LAYERED and len(shape) == 2), 0)


def _numbered(path: Path, row: int) -> Path:
    return path.with_name(f"{path.stem}-{row:04d}{path.suffix}")
