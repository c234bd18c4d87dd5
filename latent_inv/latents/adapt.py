"""From what a file holds to what a generator takes: the names of parts, the space, and the convention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from latent_inv.errors import LatentsError, at
from latent_inv.scaling import Scaling

from .fit import with_rows
from .layouts import LAYERED
from .read import LatentsFile

if TYPE_CHECKING:
    from latent_inv.result import GeneratorInfo

Parts = Mapping[str, Mapping[str, Any]]

STATE_IT = "say which with --scaled or --raw (in Python: load_latents(…, scaled=True or False))"


def adapt(
    file: LatentsFile, info: GeneratorInfo, space: str = ""
) -> tuple[dict[str, np.ndarray], str, tuple[str, ...]]:
    """Latents of a file as the generator takes them.

    Tools name the one array of a file as they like, or not at all; such an array becomes the part that has its shape.
    What fits no space is given back as it is: whoever fits it to a space says what is wrong.

    Args:
        space: the space that is asked for; "": any, first the one that the file states, and then the default one.
    Returns:
        part → array; the space that they are of, "" if they fit none; warnings.
    Raises:
        LatentsError: they are scaled or raw, the generator tells the two apart, and the file does not say.
    """
    latents: dict[str, np.ndarray] = dict(file.latents)
    warnings: list[str] = []
    found, part = _place(latents, file, info, space)
    if part:
        (named, array), *_ = latents.items()
        latents = {part: array}
        if named and not {named, part} <= set(LAYERED):
            warnings.append(f'the array "{named:.40}" was taken for the part "{part}"')
    with at("latents"):
        if found:
            shapes = shapes_of(info.spaces[found], latents)
            latents = {name: with_rows(array, shapes[name], name) for name, array in latents.items()}
        latents, more = _in_convention(latents, file, info)
    return latents, found, (*warnings, *more)


def shapes_of(parts: Parts, latents: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """Shapes of the parts that are there or must be; sides that depend on the picture are taken from the arrays."""
    return {
        name: _shape(part["shape"], latents[name]) if name in latents else tuple(part["shape"])
        for name, part in parts.items()
        if name in latents or part.get("role") != "fixed"
    }


def _place(latents: Mapping[str, np.ndarray], file: LatentsFile, info: GeneratorInfo, space: str) -> tuple[str, str]:
    """The space of these arrays, and the part that their one array is where its name does not say so; "" for none."""
    preferred = (space, file.space or "", info.default_space)
    order = [name for name in (*preferred, *info.spaces) if name in info.spaces]
    alone = len(latents) == 1
    named, array = next(iter(latents.items()))
    for name in order:
        parts, asked, part = info.spaces[name], name == space, _only(info.spaces[name])
        if _fits(latents, parts, equal_layers=asked):
            return name, ""
        alike = asked or {named, part} <= set(LAYERED)
        if alone and alike and part and _matches(array, parts[part]["shape"], part, asked):
            return name, part
    for whole in (True, False):  # [18, 512] is one picture of 18 layers before it is 18 pictures
        for name in order if alone else ():
            if part := _only(info.spaces[name]):
                entries = info.spaces[name][part]["shape"]
                if array.shape == _shape(entries, array) if whole else _matches(array, entries, part):
                    return name, part
    return "", ""


def _fits(latents: Mapping[str, np.ndarray], parts: Parts, *, equal_layers: bool) -> bool:
    """Could these be latents with just these names? Parts that are not searched may be missing."""
    searched = {name for name, part in parts.items() if part.get("role") != "fixed"}
    return searched <= set(latents) <= set(parts) and all(
        _matches(array, parts[name]["shape"], name, equal_layers) for name, array in latents.items()
    )


def _only(parts: Parts) -> str:
    """The one part that is searched, "" if there are several."""
    searched = [name for name, part in parts.items() if part.get("role") != "fixed"]
    return searched[0] if len(searched) == 1 else ""


def _shape(entries: list[int], array: np.ndarray) -> tuple[int, ...]:
    """The shape of a part, sides that depend on the picture taken from the array."""
    if all(entry >= 0 for entry in entries):
        return tuple(entries)
    sides = array.shape[-len(entries) :]
    return tuple(side if entry < 0 else entry for side, entry in zip(sides, entries, strict=False))


def _matches(array: np.ndarray, entries: list[int], name: str, equal_layers: bool = False) -> bool:
    """Has the array the shape of a part? With `equal_layers` also w+ that is w at each layer, for w."""
    shape = _shape(entries, array)
    rows = with_rows(array, shape, name) if equal_layers or array.ndim <= len(entries) + 1 else array
    return rows.shape[1:] == shape and rows.ndim == len(entries) + 1


def _in_convention(
    latents: dict[str, np.ndarray], file: LatentsFile, info: GeneratorInfo
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Latents scaled or raw, as the generator takes them; each is moved once or not at all."""
    takes = info.scaling
    if takes is None:
        if file.scaled:
            text = f"the file says that its latents are scaled, and {info.name} states no factor to undo it with"
            raise LatentsError(f"{text}; convert the file to raw ones first")
        return latents, ()
    if file.scaled is None:
        text = f"{info.name} tells scaled latents from raw ones, and the file does not say which these are; {STATE_IT}"
        raise LatentsError(text)
    numbers, state, warnings = file.scaling or takes, file.scaled, []
    if state and not numbers.same_numbers(takes):
        latents = Scaling(numbers.factor, numbers.shift, scaled=True).convert_parts(latents, False)
        state = False
        text = f"the file's latents are scaled by {numbers.factor[0]:g}, {info.name} has the factor {takes.factor[0]:g}"
        warnings.append(f"{text}: undone with the file's own")
    if state != takes.scaled:
        latents = Scaling(takes.factor, takes.shift, state).convert_parts(latents, takes.scaled)
        warnings.append(f"{'scaled' if state else 'raw'} latents, {info.name} takes {takes.name} ones: converted")
    return latents, tuple(warnings)
