"""Settings: frozen dataclasses whose fields carry their range, unit and meaning.

Everything that checks, documents or transports a setting (validation, the wire, `--help`,
the batch key) reads the field's metadata, so a new setting is written down once.

A number (int or float) may differ between rows that share a lane; everything else, and numbers that
decide the shape of a tensor, is *structure* and is part of the batch key.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from numbers import Integral, Real
from typing import Any

from .errors import SpecError, unknown_name


def setting(
    default: Any = MISSING,
    *,
    doc: str,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    unit: str = "",
    choices: Sequence[str] = (),
    optional: bool = False,
    structural: bool = False,
) -> Any:
    """Declare one field of a settings class.

    Args:
        default: value when not given; none means that it must be given.
        doc: one sentence for `--help`, the docs and the wire.
        low, high: inclusive ends of the accepted range.
        above, below: exclusive ends.
        unit: "s", "dB", "steps", "pixels"; empty for pure numbers.
        choices: the accepted names, for text.
        optional: None is accepted and means "off".
        structural: this number decides shapes, so rows that differ in it share no lane.
    """
    metadata = {
        "doc": doc,
        "low": low,
        "high": high,
        "above": above,
        "below": below,
        "unit": unit,
        "choices": tuple(choices),
        "optional": optional,
        "structural": structural,
    }
    return field(metadata=metadata) if default is MISSING else field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """Base of all settings: checks every field when it is made.

    Raises:
        SpecError: a field is of the wrong type, not finite, or out of its range.
    """

    def __post_init__(self) -> None:
        for item in fields(self):
            if item.metadata:
                object.__setattr__(self, item.name, _checked(self, item))


def _checked(owner: Settings, item: Field[Any]) -> Any:
    value = getattr(owner, item.name)
    meta = item.metadata
    if value is None and meta["optional"]:
        return None
    kind = kind_of(item)
    if kind in (int, float):
        return _checked_number(value, kind, item.name, meta)
    if kind is bool and not isinstance(value, bool):
        raise SpecError(f"must be true or false, found {value!r:.40}", field=item.name)
    if kind is str:
        if not isinstance(value, str):
            raise SpecError(f"must be text, found {type(value).__name__}", field=item.name)
        if meta["choices"] and value not in meta["choices"]:
            raise unknown_name("value", value, list(meta["choices"]), field=item.name)
    return value


def _checked_number(value: Any, kind: type, name: str, meta: Mapping[str, Any]) -> Any:
    accepted = describe_range(meta)
    if isinstance(value, bool) or not isinstance(value, Real):
        raise SpecError(f"must be a number{accepted}, found {type(value).__name__}", field=name)
    try:
        # Whole numbers are compared as such: as floats, those above 2**53 would be rounded.
        exact = int(value) if isinstance(value, Integral) else float(value)
        if not math.isfinite(exact):
            raise SpecError(f"must be a finite number{accepted}, found {exact}", field=name)
        if kind is int and int(exact) != exact:
            raise SpecError(f"must be a whole number{accepted}, found {exact}", field=name)
        number = kind(exact)
    except OverflowError:
        raise SpecError(f"must be a number{accepted}, found one that is too large", field=name) from None
    low, high, above, below = meta["low"], meta["high"], meta["above"], meta["below"]
    if (
        (low is not None and number < low)
        or (high is not None and number > high)
        or (above is not None and number <= above)
        or (below is not None and number >= below)
    ):
        raise SpecError(f"must be{accepted}, found {str(number)[:40]}", field=name)
    return number


def describe_range(meta: Mapping[str, Any]) -> str:
    """Say the accepted range in words, e.g. " > 0 and ≤ 10 s"; empty if there is none."""
    signs = (("low", "≥"), ("above", ">"), ("high", "≤"), ("below", "<"))
    ends = [f"{sign} {_plain(meta[key])}" for key, sign in signs if meta[key] is not None]
    unit = f" {meta['unit']}" if meta["unit"] else ""
    return f" {' and '.join(ends)}{unit}" if ends else ""


def _plain(number: float) -> str:
    # Whole numbers are written out: the largest seed as 9.22e+18 would be another number.
    return str(number) if isinstance(number, int) else f"{number:g}"


_KINDS: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool}


def kind_of(item: Field[Any]) -> type | None:
    """The plain type of a field, `int | None` counting as int; None for anything richer."""
    name = item.type if isinstance(item.type, str) else getattr(item.type, "__name__", "")
    return _KINDS.get(name.removesuffix(" | None"))


def numbers(settings: Settings) -> dict[str, float]:
    """The fields that may differ between rows of one lane, as floats."""
    return {item.name: float(value) for item, value in _values(settings) if _may_differ(item, value)}


def structure(settings: Settings) -> tuple[Any, ...]:
    """The rest: class, fields that are no numbers, and structural ones; hashable, for the batch key."""
    named = tuple((item.name, value) for item, value in _values(settings) if not _may_differ(item, value))
    return (type(settings).__name__, *named)


def _values(settings: Settings) -> Iterator[tuple[Field[Any], Any]]:
    return ((item, getattr(settings, item.name)) for item in fields(settings) if item.metadata)


def _may_differ(item: Field[Any], value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not item.metadata["structural"]


def plain(value: Any) -> Any:
    """Settings as JSON values, without pictures and latents; components carry their class name as "type".

    Of arrays that are given by name, their hashes.
    """
    if isinstance(value, Settings):
        names = [item.name for item in fields(value) if item.name not in ("picture", "latents")]
        return {"type": type(value).__name__, **{name: plain(getattr(value, name)) for name in names}}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {name: f"sha256 {_digest(array)}" for name, array in value.items()}
    return value


def _digest(array: Any) -> str:
    said = f"{array.dtype.str} {array.shape}".encode()
    return hashlib.sha256(said + array.tobytes()).hexdigest()
