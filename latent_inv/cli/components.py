"""Components as text: `adam:learning_rate=0.2,schedule=constant` ⇄ settings. Driven by the tables of `spec`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from latent_inv import conditions
from latent_inv.errors import LatentsError, SpecError, unknown_name
from latent_inv.settings import Settings, describe_range, kind_of


def parse(text: str, table: Mapping[str, type[Settings]], field: str) -> Settings:
    """Settings from `name` or `name:key=value,key=value`.

    Raises:
        SpecError: unknown name or key, or a value out of its range.
    """
    name, _, rest = text.strip().partition(":")
    if name not in table:
        raise unknown_name(field, name, list(table), field=field)
    kind = table[name]
    known = {item.name: item for item in fields(kind) if item.metadata}
    values: dict[str, Any] = {}
    for pair in filter(None, (part.strip() for part in rest.split(","))):
        key, equals, value = pair.partition("=")
        key = key.strip()
        if key not in known:
            raise unknown_name(f"setting of {name}", key, list(known), field=f"{field}.{name}")
        if key in values:
            raise SpecError("is given twice", field=f"{field}.{name}.{key}")
        if not equals:
            raise SpecError(f'expected {key}=value, found "{pair:.40}"', field=f"{field}.{name}.{key}")
        values[key] = _value(value.strip(), kind_of(known[key]), f"{field}.{name}.{key}")
    try:
        return kind(**values)
    except SpecError as error:
        raise SpecError(error.message, field=f"{field}.{name}.{error.field}") from None


def _value(text: str, kind: type | None, field: str) -> Any:
    if kind is bool:
        if text.lower() not in ("true", "false", "yes", "no"):
            raise SpecError(f'must be true or false, found "{text:.40}"', field=field)
        return text.lower() in ("true", "yes")
    if kind in (int, float):
        try:
            return float(text)
        except ValueError:
            raise SpecError(f'must be a number, found "{text:.40}"', field=field) from None
    return text


def describe(table: Mapping[str, type[Settings]]) -> str:
    """Every component with its settings, defaults and ranges, for `--help` and `latent-inv components`."""
    lines = []
    for name, kind in table.items():
        summary = (kind.__doc__ or "").strip().splitlines()[0]
        lines.append(f"{name}: {summary}")
        for item in fields(kind):
            if not item.metadata:
                continue
            meta = item.metadata
            accepted = f"one of {', '.join(meta['choices'])}" if meta["choices"] else describe_range(meta).strip()
            note = f" ({accepted})" if accepted else ""
            lines.append(f"    {item.name}={item.default}{note}  {meta['doc']}")
    return "\n".join(lines)


def parse_conditions(texts: Sequence[str]) -> dict[str, Any]:
    """`PART=LABEL` texts, and `PART=@FILE` for numbers, which are read: part → label or array.

    Raises:
        SpecError: another form, or one part twice. LatentsError: a file that does not have the part.
    """
    found: dict[str, Any] = {}
    for text in texts:
        part, _, label = (piece.strip() for piece in text.partition("="))
        pairs = {part: _numbers_of(part, Path(label[1:]))} if part and label.startswith("@") else conditions.parse(text)
        for name, value in pairs.items():
            if name in found:
                raise SpecError(f'gives "{name:.40}" twice', field="conditions")
            found[name] = value
    return found


def _numbers_of(part: str, path: Path) -> Any:
    from latent_inv.latents import load_latents

    arrays = load_latents(path).latents
    if part not in arrays and len(arrays) != 1:
        raise LatentsError(f'{path.name} has no "{part:.40}", found {", ".join(arrays):.80}', field="conditions")
    return arrays[part] if part in arrays else next(iter(arrays.values()))


def parse_crop(text: str) -> tuple[int, int, int, int]:
    """`left,top,right,bottom` as whole numbers.

    Raises:
        SpecError: anything else.
    """
    parts = text.replace(" ", "").split(",")
    try:
        left, top, right, bottom = (int(part) for part in parts)
    except ValueError:
        found = f'"{text:.60}"'
        raise SpecError(f"must be left,top,right,bottom in whole pixels, found {found}", field="crop") from None
    return left, top, right, bottom
