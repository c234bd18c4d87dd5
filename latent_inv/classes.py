"""Parts of a space that say a class: given by label, and read back as one."""

from __future__ import annotations

import torch
from torch import Tensor

from .conditions import parse
from .errors import SpecError, unknown_name
from .spaces import Categorical, LatentSpace
from .types import Latents

#: weight from which on a class needs no number beside it
_CLEAR = 0.995


def given(space: LatentSpace, conditions: str, *, searched: bool = False) -> dict[str, Tensor]:
    """The parts that conditions give: part -> one-hot [1, …, n], float32 on the CPU.

    Args:
        conditions: see `conditions.parse`.
        searched: may parts that an inversion searches be given? Where something is drawn, all may.
    Raises:
        SpecError: there is no such part or class, or it is searched.
    """
    found: dict[str, Tensor] = {}
    categorical = {name: part.prior for name, part in space.parts.items() if isinstance(part.prior, Categorical)}
    for name, label in parse(conditions).items():
        if name not in categorical:
            raise unknown_name("condition", name, list(categorical) or ["none here"], field="conditions")
        part = space.parts[name]
        one_hot = torch.zeros(part.shape)
        one_hot[..., categorical[name].index(label, part.shape[-1])] = 1.0
        if part.role == "searched" and not searched:
            text = f'"{name}" is searched in this space; take one in which it is fixed, or leave it out'
            raise SpecError(text, field="conditions")
        found[name] = one_hot[None]
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
