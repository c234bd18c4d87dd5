"""Conditions of a generator as people give them: classes as "class=blue,pose=left", vectors as arrays. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .errors import SpecError

if TYPE_CHECKING:
    import numpy as np

_ACCEPTED = "PART=LABEL or PART=NUMBER, several with commas, such as class=blue"


def split(conditions: object, numbers: object) -> tuple[str, dict[str, np.ndarray]]:
    """Labels in the form that `as_text` gives, and parts that are given as numbers (an embedding, a vector).

    Args:
        conditions: a text, or part -> label, number or array.
        numbers: further parts as arrays.
    Raises:
        SpecError, LatentsError: something else, or a part in both.
    """
    if not isinstance(numbers, Mapping):
        raise SpecError(f"must be a mapping part → array, found {type(numbers).__name__}", field="fixed")
    found = dict(numbers)
    if isinstance(conditions, Mapping):
        arrays = {part: value for part, value in conditions.items() if _is_array(value)}
        if found.keys() & arrays.keys():
            raise SpecError(f'gives "{min(found.keys() & arrays.keys()):.40}" twice', field="conditions")
        found |= arrays
        conditions = {part: value for part, value in conditions.items() if part not in arrays}
    text = as_text(conditions)
    if found:
        from .latents import as_array  # not for the many who give none: it imports numpy

        found = {str(part): as_array(value, f"fixed.{part!s:.40}") for part, value in found.items()}
    return text, found


def _is_array(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or getattr(value, "ndim", 0) > 0


def as_text(conditions: object) -> str:
    """The one form that goes through specs and over the wire.

    Args:
        conditions: such a text, or part -> label or number; an empty one gives none.
    Raises:
        SpecError: something else.
    """
    if isinstance(conditions, str):
        parse(conditions)
        return conditions
    if not isinstance(conditions, Mapping):
        text = f"must be {_ACCEPTED}, or a mapping, found {type(conditions).__name__}"
        raise SpecError(text, field="conditions")
    text = ",".join(f"{part}={label}" for part, label in conditions.items())
    if len(parse(text)) != len(conditions):
        raise SpecError(f"must be {_ACCEPTED}, found {text:.80}", field="conditions")
    return text


def parse(text: str) -> dict[str, str]:
    """Part -> label or number.

    Raises:
        SpecError: another form, or one part twice.
    """
    found: dict[str, str] = {}
    for item in filter(None, (item.strip() for item in text.split(","))):
        part, equals, label = (piece.strip() for piece in item.partition("="))
        if not (equals and part and label):
            raise SpecError(f'must be {_ACCEPTED}, found "{text:.80}"', field="conditions")
        if part in found:
            raise SpecError(f'gives "{part:.40}" twice', field="conditions")
        found[part] = label
    return found
