"""Parts of a space that are given: a class by label, which is read back as one, and others as numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from .conditions import parse
from .errors import SpecError, unknown_name
from .latents import fit_latents
from .spaces import Categorical, LatentSpace
from .types import Latents

#: weight from which on a class needs no number beside it
_CLEAR = 0.995


def given(
    space: LatentSpace,
    conditions: str,
    numbers: Mapping[str, np.ndarray],
    size: tuple[int, int],
    *,
    searched: bool = False,
) -> dict[str, Tensor]:
    """The parts that are given: part -> one-hot [1, …, n], or numbers [1, …], on the CPU.

    Args:
        conditions: see `conditions.parse`.
        numbers: part -> [1, …] or […].
        size: of the pictures, (height, width).
        searched: may parts that an inversion searches be given? Where something is drawn, all may.
    Raises:
        SpecError: there is no such part or class, or it is searched. LatentsError: numbers of another shape.
    """
    found: dict[str, Tensor] = {}
    categorical = {name: part.prior for name, part in space.parts.items() if isinstance(part.prior, Categorical)}
    for name, label in parse(conditions).items():
        if name not in categorical:
            raise unknown_name("condition", name, list(categorical) or ["none here"], field="conditions")
        part = space.parts[name]
        one_hot = torch.zeros(part.shape)
        one_hot[..., categorical[name].index(label, part.shape[-1])] = 1.0
        found[name] = one_hot[None]
    for name, array in numbers.items():
        if name not in space.parts:
            known = [other for other, part in space.parts.items() if searched or part.role == "fixed"]
            raise unknown_name("condition", name, known or ["none here"], field="conditions")
        if name in categorical:
            raise SpecError(f'"{name}" is a class; give its label or number', field="conditions")
        shape = {name: space.shapes(size)[name]}
        fitted = fit_latents({name: array}, shape, field="conditions", dtype=np.float64)[name]
        if len(fitted) != 1:
            raise SpecError(f"one row serves all, found {len(fitted)}", field=f"conditions.{name}")
        found[name] = torch.from_numpy(fitted)
    for name in found:
        if space.parts[name].role == "searched" and not searched:
            text = f'"{name}" is searched in this space; take one in which it is fixed, or leave it out'
            raise SpecError(text, field="conditions")
    return found


def labels(space: LatentSpace, latents: Latents) -> dict[str, str]:
    """What the categorical parts of one row say: part -> label, with its weight where that is below 0.995."""
    found = {}
    for name, part in space.parts.items():
        if isinstance(part.prior, Categorical) and name in latents and len(part.shape) == 1:
            weight, index = latents[name][0].float().max(dim=-1)
            label = part.prior.label(int(index))
            found[name] = label if float(weight) >= _CLEAR else f"{label} {float(weight):.2f}"
    return found
