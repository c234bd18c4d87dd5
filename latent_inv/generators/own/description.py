"""The text beside a generator: what its latents mean and what its numbers are. What it leaves out, the program says."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from latent_inv.errors import AssetError, LatentInvError
from latent_inv.files import read_bytes
from latent_inv.spaces import (
    Box,
    Categorical,
    Constraint,
    Free,
    LatentSpace,
    Normal,
    Part,
    Prior,
    Simplex,
    Sphere,
    Uniform,
)

from .signature import Form, Signature

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: more than any description needs
_MAX_BYTES = 2**20
_KEYS = (
    "title", "range", "layout", "size", "stride", "differentiable", "forward_mode", "licence", "source", "latents",
)  # fmt: skip
_PART_KEYS = ("name", "shape", "prior", "low", "high", "constraint", "role")
_PRIORS = ("normal", "uniform", "categorical")
_CONSTRAINTS = ("free", "box", "sphere", "simplex")
#: layout -> does the colour come last?
_LAYOUTS = {"channels_first": False, "channels_last": True}
_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,64}")
_SIDE = re.compile(r"(height|width)(?:\s*/\s*([1-9][0-9]{0,3}))?")
_UNSTATED = ("of the weights: not stated", "of the training data: not stated", "whether the terms of the data reach it")
#: largest side of a picture, and of anything else
_MAX_SIDE, _MAX_ENTRY = 2**14, 2**24


@dataclass(frozen=True)
class Description:
    """All that must be known of a generator before it is loaded.

    Attributes:
        inputs: parts in the order of the program's arguments.
        bounds: of the program's numbers; they become −1 and 1.
        clips: may the program leave its bounds? Then its picture is cut there.
        channels_last: is the colour the last dimension of what it gives?
        size: (height, width); None: any multiple of `stride`.
    """

    title: str
    inputs: Mapping[str, Part]
    bounds: tuple[float, float]
    clips: bool
    channels_last: bool
    size: tuple[int, int] | None
    stride: int
    differentiable: bool
    forward_mode: bool
    licence: tuple[str, ...]
    source: str

    @property
    def spaces(self) -> dict[str, LatentSpace]:
        """One of the searched parts; and where others are fixed, one in which they are searched, too."""
        searched = [name for name, part in self.inputs.items() if part.role == "searched"]
        spaces = {"+".join(searched): LatentSpace(self.inputs)}
        if len(searched) < len(self.inputs):
            free = {name: Part(part.shape, part.prior, part.constraint) for name, part in self.inputs.items()}
            spaces["+".join(self.inputs)] = LatentSpace(free)
        return spaces


def read_table(path: Path) -> dict[str, Any]:
    """The text beside the file at `path`: same stem, `.toml`; empty if there is none.

    Raises:
        AssetError: it cannot be read.
    """
    beside = path.with_suffix(".toml")
    if not beside.exists():
        return {}
    try:
        return tomllib.loads(read_bytes(beside, _MAX_BYTES).decode("utf-8"))
    except LatentInvError as error:
        raise AssetError(error.message) from error
    except UnicodeDecodeError as error:
        raise AssetError(f'"{beside.name}" is not UTF-8 at byte {error.start}') from error
    except tomllib.TOMLDecodeError as error:
        raise AssetError(f'"{beside.name}" cannot be read as TOML: {error!s:.200}') from error


def describe(table: Mapping[str, Any], signature: Signature, beside: str, called: str) -> Description:
    """Put together what the text and the program say.

    Args:
        table: the text's keys.
        beside: name of the text, for errors.
        called: what the generator is, for want of a title.
    Raises:
        AssetError: a key is missing, unknown, of the wrong kind or against what the program says; names key and text.
    """
    return _Reader(table, signature, beside).read(called)


class _Reader:
    def __init__(self, table: Mapping[str, Any], signature: Signature, beside: str) -> None:
        self._table, self._signature, self._beside = table, signature, beside

    def read(self, called: str) -> Description:
        table, signature = self._table, self._signature
        self._check_keys(table, _KEYS, "")
        inputs = self._inputs()
        last = self._choice("layout", table.get("layout", "channels_first"), _LAYOUTS)
        size, stride = self._size(inputs, _LAYOUTS[last])
        bounds = self._bounds()
        licence = table.get("licence", list(_UNSTATED))
        if not _is_list(licence, str, 3) or not all(licence):
            example = 'licence = ["of the weights", "of the training data", "what is not known"]'
            raise self._wrong("licence", "must be three lines of text", licence, example)
        return Description(
            title=self._text("title", called),
            inputs=inputs,
            bounds=bounds,
            clips=bounds != signature.bounds,
            channels_last=_LAYOUTS[last],
            size=size,
            stride=stride,
            differentiable=self._truth("differentiable"),
            forward_mode=self._truth("forward_mode") and self._truth("differentiable"),
            licence=tuple(licence),
            source=self._text("source", called),
        )

    def _inputs(self) -> dict[str, Part]:
        tables = self._table.get("latents", {})
        if not isinstance(tables, Mapping) or not all(isinstance(one, Mapping) for one in tables.values()):
            raise self._wrong("latents", "must be tables", tables, "[latents.z]\nshape = [16]".replace("\n", " ⏎ "))
        forms = {form.name: form for form in self._signature.inputs}
        if not forms:
            raise AssetError(f"{self._beside}: the program has no input that could be latents")
        self._check_keys(tables, tuple(forms), "latents.")
        inputs: dict[str, Part] = {}
        for name, form in forms.items():
            given = tables.get(name, {})
            where = f"latents.{name}."
            self._check_keys(given, _PART_KEYS, where)
            part = str(given.get("name", name))
            if _NAME.fullmatch(part) is None or part in inputs:
                text = "must be letters, digits, _, . or -, and differ between parts"
                raise self._wrong(f"{where}name", text, part, 'name = "z"')
            inputs[part] = self._part(form, given, where)
        if not any(part.role == "searched" for part in inputs.values()):
            raise AssetError(f'{self._beside}: all parts are "fixed"; at least one must be "searched"')
        return inputs

    def _part(self, form: Form, given: Mapping[str, Any], where: str) -> Part:
        if not form.floating:
            text = f'the input "{form.name}" of the program is {form.kind}, and latents are numbers with fractions'
            raise AssetError(f"{self._beside}: {text}; let a class be a one-hot vector, and bring other inputs inside")
        kind = self._choice(f"{where}prior", given.get("prior", "normal"), _PRIORS)
        usual = {"normal": "free", "uniform": "box", "categorical": "simplex"}[kind]
        constraint = self._choice(f"{where}constraint", given.get("constraint", usual), _CONSTRAINTS)
        role = self._choice(f"{where}role", given.get("role", "searched"), ("searched", "fixed"))
        low, high = self._ends(given, where, needed=kind == "normal" and constraint == "box")
        shape = self._shape(form, given, where)
        if kind == "categorical" and (len(shape) != 1 or shape[0] < 2):
            raise self._wrong(f"{where}shape", "of classes is their number", list(shape), "shape = [10]")
        priors: dict[str, Prior] = {
            "normal": Normal(), "uniform": Uniform(low, high), "categorical": Categorical(),
        }  # fmt: skip
        constraints: dict[str, Constraint] = {
            "free": Free(), "box": Box(low, high), "sphere": Sphere(), "simplex": Simplex(),
        }  # fmt: skip
        return Part(shape, priors[kind], constraints[constraint], role)

    def _ends(self, given: Mapping[str, Any], where: str, *, needed: bool) -> tuple[float, float]:
        low, high = given.get("low", -1.0), given.get("high", 1.0)
        if needed and not {"low", "high"} <= set(given):
            raise self._missing(f"{where}low and {where}high", "they bound the box", "low = -3.0 and high = 3.0")
        if not _are_ends(low, high):
            raise self._wrong(f"{where}low", "must be a number below high", low, "low = -1.0 and high = 1.0")
        return float(low), float(high)

    def _shape(self, form: Form, given: Mapping[str, Any], where: str) -> tuple[int, ...]:
        example = 'shape = [16], or shape = [4, "height / 8", "width / 8"]'
        if "shape" not in given:
            if not form.shape or None in form.shape:
                found = f"the program's own is [rows, {_sides(form.shape)}]"
                raise self._missing(f"{where}shape", found, example)
            return tuple(side for side in form.shape if side is not None)
        entries = given["shape"]
        shape = tuple(map(_side, entries)) if isinstance(entries, list) and entries else ()
        tied = (
            [str(entry)[:1] for entry, side in zip(entries, shape, strict=True) if side and side < 0] if shape else []
        )
        if not shape or None in shape or tied not in ([], ["h", "w"]):
            text = "must list sides: whole numbers, and height and width divided by a whole number, in this order"
            raise self._wrong(f"{where}shape", text, entries, example)
        sides = tuple(side for side in shape if side is not None)
        own = form.shape
        if own and (len(own) != len(sides) or any(b is not None and b != a for a, b in zip(sides, own, strict=True))):
            raise self._wrong(
                f"{where}shape", f"is [{_sides(own)}] in the program", entries, f"shape = [{_sides(own)}]"
            )
        return sides

    def _size(self, inputs: Mapping[str, Part], last: bool) -> tuple[tuple[int, int] | None, int]:
        table, picture = self._table, self._signature.picture
        own = None if picture is None or len(picture.shape) != 3 else picture.shape
        if picture is not None and (own is None or own[2 if last else 0] not in (3, None)):
            wanted = "[rows, height, width, 3]" if last else "[rows, 3, height, width]"
            raise AssetError(
                f"{self._beside}: the program gives [rows, {_sides(picture.shape)}], and a picture is {wanted}"
            )
        factors = [-side for part in inputs.values() for side in part.shape if side < 0]
        stride = table.get("stride", math.lcm(*factors) if factors else 1)
        if not _is_whole(stride, 1, 1024) or any(stride % factor for factor in factors):
            text = f"must be a whole number, and a multiple of {', '.join(map(str, sorted(set(factors))))}"
            raise self._wrong("stride", text if factors else "must be a whole number from 1", stride, "stride = 8")
        sides = None if own is None else own[:2] if last else own[1:]
        fixed = None if sides is None or None in sides else (int(sides[0] or 0), int(sides[1] or 0))
        if "size" in table:
            size = table["size"]
            if not _is_list(size, int, 2) or not all(_is_whole(side, 1, _MAX_SIDE) for side in size):
                raise self._wrong("size", "must be height and width", size, "size = [64, 64]")
            if factors or (fixed and fixed != tuple(size)):
                said = "any, as the latents' sides follow it" if factors else f"{list(fixed or ())} in the program"
                raise self._wrong("size", f"is {said}", size, "leave it out")
            return (size[0], size[1]), stride
        if factors:
            return None, stride
        if fixed is None:
            raise self._missing("size", "the program does not tell its height and width", "size = [64, 64]")
        return fixed, stride

    def _bounds(self) -> tuple[float, float]:
        if "range" not in self._table:
            if self._signature.bounds is None:
                text = "the program does not end in tanh or sigmoid, so its numbers are not known"
                raise self._missing("range", text, "range = [-1.0, 1.0], [0.0, 1.0] or [0.0, 255.0]")
            return self._signature.bounds
        bounds = self._table["range"]
        if not isinstance(bounds, list) or len(bounds) != 2 or not _are_ends(*bounds):
            text = "must be what black and white are, the smaller number first"
            raise self._wrong("range", text, bounds, "range = [-1.0, 1.0], [0.0, 1.0] or [0.0, 255.0]")
        return float(bounds[0]), float(bounds[1])

    def _text(self, key: str, default: str) -> str:
        text = self._table.get(key, default)
        if not isinstance(text, str) or not text.strip():
            raise self._wrong(key, "must be text", text, f'{key} = "Faces, 64 × 64"')
        return text

    def _truth(self, key: str) -> bool:
        value = self._table.get(key, True)
        if not isinstance(value, bool):
            raise self._wrong(key, "must be true or false", value, f"{key} = true")
        return value

    def _choice(self, key: str, found: object, accepted: Sequence[str] | Mapping[str, object]) -> str:
        if not isinstance(found, str) or found not in accepted:
            first = next(iter(accepted))
            raise self._wrong(key, f"must be one of {', '.join(accepted)}", found, f'{key.split(".")[-1]} = "{first}"')
        return found

    def _check_keys(self, table: Mapping[str, Any], known: Sequence[str], where: str) -> None:
        for key in table:
            if key not in known:
                close = get_close_matches(str(key), known, n=1)
                hint = f'; did you mean "{close[0]}"?' if close else ""
                raise AssetError(
                    f'{self._beside}: "{where}{key!s:.60}" is not known, accepted: {", ".join(known)}{hint}'
                )

    def _missing(self, key: str, why: str, example: str) -> AssetError:
        return AssetError(f"{self._beside}: {key} is missing, as {why}; for example: {example}")

    def _wrong(self, key: str, text: str, found: object, example: str) -> AssetError:
        return AssetError(f"{self._beside}: {key} {text}, found {found!r:.80}; for example: {example}")


def _side(entry: object) -> int | None:
    """A side as `Part.shape` has it: negative for height and width divided; None: it is none."""
    if _is_whole(entry, 1, _MAX_ENTRY):
        return int(str(entry))
    found = _SIDE.fullmatch(entry.strip()) if isinstance(entry, str) else None
    return -int(found.group(2) or 1) if found else None


def _is_whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_list(value: object, kind: type, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(isinstance(item, kind) for item in value)


def _are_ends(low: object, high: object) -> bool:
    numbers = [one for one in (low, high) if isinstance(one, (int, float)) and not isinstance(one, bool)]
    return len(numbers) == 2 and all(map(math.isfinite, numbers)) and numbers[0] < numbers[1]


def _sides(shape: Sequence[int | None]) -> str:
    return ", ".join("?" if side is None else str(side) for side in shape)
