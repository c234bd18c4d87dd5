"""Conditions of a generator (a class, for one) as people give them: "class=blue", several with commas. No torch."""

from __future__ import annotations

from collections.abc import Mapping

from .errors import SpecError

_ACCEPTED = "PART=LABEL or PART=NUMBER, several with commas, such as class=blue"


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
