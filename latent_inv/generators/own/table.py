"""Keys of a description and what is said where one is missing, unknown or wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from latent_inv.errors import AssetError


class Table:
    """Some keys of a description.

    Args:
        values: key -> value.
        beside: name of the text, for errors.
        where: what stands before the keys, as "latents.z.".
        known: all keys that there are.
    Raises:
        AssetError: a key is not known.
    """

    def __init__(self, values: Mapping[str, Any], beside: str, known: Sequence[str], where: str = "") -> None:
        self.values, self.beside, self._where = values, beside, where
        for key in values:
            if key not in known:
                close = get_close_matches(str(key), known, n=1)
                hint = f'; did you mean "{close[0]}"?' if close else ""
                accepted = ", ".join(known)
                raise AssetError(f'{beside}: "{where}{key!s:.60}" is not known, accepted: {accepted}{hint}')

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def text(self, key: str, default: str) -> str:
        """Some text that is not empty."""
        text = self.values.get(key, default)
        if not isinstance(text, str) or not text.strip():
            raise self.wrong(key, "must be text", text, f'{key} = "Faces, 64 × 64"')
        return text

    def truth(self, key: str) -> bool:
        """True or false; true if nothing is said."""
        value = self.values.get(key, True)
        if not isinstance(value, bool):
            raise self.wrong(key, "must be true or false", value, f"{key} = true")
        return value

    def choice(self, key: str, default: str, accepted: Sequence[str]) -> str:
        """One of some words."""
        found = self.values.get(key, default)
        if found not in accepted:
            raise self.wrong(key, f"must be one of {', '.join(accepted)}", found, f'{key} = "{accepted[0]}"')
        return str(found)

    def missing(self, key: str, why: str, example: str) -> AssetError:
        """The error for a key that must be there."""
        return AssetError(f"{self.beside}: {self._where}{key} is missing, as {why}; for example: {example}")

    def wrong(self, key: str, text: str, found: object, example: str) -> AssetError:
        """The error for a value that cannot be."""
        return AssetError(f"{self.beside}: {self._where}{key} {text}, found {found!r:.80}; for example: {example}")


def is_whole(value: object, low: int, high: int) -> bool:
    """Is it a whole number from `low` to `high`?"""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def is_list(value: object, kind: type, count: int) -> bool:
    """Is it a list of so many of a kind?"""
    return isinstance(value, list) and len(value) == count and all(isinstance(item, kind) for item in value)


def are_ends(low: object, high: object) -> bool:
    """Are they finite numbers, the smaller first?"""
    numbers = [one for one in (low, high) if isinstance(one, (int, float)) and not isinstance(one, bool)]
    return len(numbers) == 2 and all(map(math.isfinite, numbers)) and numbers[0] < numbers[1]


def sides_as_text(shape: Sequence[int | None]) -> str:
    """Sides as "4, ?, ?"."""
    return ", ".join("?" if side is None else str(side) for side in shape)
