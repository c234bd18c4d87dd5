"""The text beside a generator: what its latents mean and what its numbers are. What it leaves out, the program says."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latent_inv.errors import AssetError, LatentInvError
from latent_inv.files import read_bytes
from latent_inv.spaces import LatentSpace, Part

from .parts import read_part
from .signature import Signature
from .table import Table, are_ends, is_list, is_whole, sides_as_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: more than any description needs
_MAX_BYTES = 2**20
_KEYS = (
    "title", "range", "layout", "size", "stride", "differentiable", "forward_mode", "dtypes", "licence", "source",
    "latents",
)  # fmt: skip
_LAYOUTS = ("channels_first", "channels_last")
_DTYPES = ("float32", "float64")
_RANGES = "range = [-1.0, 1.0], [0.0, 1.0] or [0.0, 255.0]"
_UNSTATED = ("of the weights: not stated", "of the training data: not stated", "whether the terms of the data reach it")
_MAX_SIDE, _MAX_STRIDE = 2**14, 2**10


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
    dtypes: tuple[str, ...]
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


def describe(values: Mapping[str, Any], signature: Signature, beside: str, called: str) -> Description:
    """Put together what the text and the program say.

    Args:
        values: the text's keys.
        beside: name of the text, for errors.
        called: what the generator is, for want of a title.
    Raises:
        AssetError: a key is missing, unknown, of the wrong kind or against what the program says; names key and text.
    """
    table = Table(values, beside, _KEYS)
    inputs = _inputs(table, signature)
    layout = table.choice("layout", _LAYOUTS[0], _LAYOUTS)
    size, stride = _size(table, signature, inputs, last=layout == "channels_last")
    bounds = _bounds(table, signature)
    licence = values.get("licence", list(_UNSTATED))
    if not is_list(licence, str, 3) or not all(licence):
        example = 'licence = ["of the weights", "of the training data", "what is not known"]'
        raise table.wrong("licence", "must be three lines of text", licence, example)
    dtypes = values.get("dtypes", list(_DTYPES))
    if not isinstance(dtypes, list) or not dtypes or any(one not in _DTYPES for one in dtypes):
        raise table.wrong("dtypes", "must list float32, float64 or both", dtypes, 'dtypes = ["float32"]')
    differentiable = table.truth("differentiable")
    return Description(
        title=table.text("title", called),
        inputs=inputs,
        bounds=bounds,
        clips=bounds != signature.bounds,
        channels_last=layout == "channels_last",
        size=size,
        stride=stride,
        differentiable=differentiable,
        forward_mode=table.truth("forward_mode") and differentiable,
        dtypes=tuple(dtypes),
        licence=tuple(licence),
        source=table.text("source", called),
    )


def _inputs(table: Table, signature: Signature) -> dict[str, Part]:
    given = table.values.get("latents", {})
    if not isinstance(given, Mapping) or not all(isinstance(one, Mapping) for one in given.values()):
        raise table.wrong("latents", "must hold a table for each input", given, "[latents.z] and below it shape = [16]")
    if not signature.inputs:
        raise AssetError(f"{table.beside}: the program has no input that could be latents")
    Table(given, table.beside, [form.name for form in signature.inputs], "latents.")
    inputs: dict[str, Part] = {}
    for form in signature.inputs:
        name, part = read_part(form, given.get(form.name, {}), table.beside)
        if name in inputs:
            raise AssetError(f'{table.beside}: two parts are called "{name}"')
        inputs[name] = part
    if not any(part.role == "searched" for part in inputs.values()):
        raise AssetError(f'{table.beside}: all parts are "fixed"; at least one must be "searched"')
    return inputs


def _size(
    table: Table, signature: Signature, inputs: Mapping[str, Part], *, last: bool
) -> tuple[tuple[int, int] | None, int]:
    """Size, None if it is any, and stride."""
    own = None if signature.picture is None else signature.picture.shape
    if own is not None and (len(own) != 3 or own[2 if last else 0] not in (3, None)):
        wanted = "[rows, height, width, 3]" if last else "[rows, 3, height, width]"
        hint = "" if last or not own or own[-1] != 3 else ', or `layout = "channels_last"`'
        found = f"the program gives [rows, {sides_as_text(own)}]"
        raise AssetError(f"{table.beside}: {found}, and a picture is {wanted}; change it in the module{hint}")
    factors = sorted({-side for part in inputs.values() for side in part.shape if side < 0})
    stride = table.values.get("stride", math.lcm(*factors) if factors else 1)
    if not is_whole(stride, 1, _MAX_STRIDE) or any(stride % factor for factor in factors):
        text = f"must be a multiple of {', '.join(map(str, factors or [1]))}, at most {_MAX_STRIDE}"
        raise table.wrong("stride", text, stride, f"stride = {math.lcm(*factors) if factors else 8}")
    sides = () if own is None else own[:2] if last else own[1:]
    fixed = tuple(side for side in sides if side is not None)
    size = table.values.get("size")
    if factors:
        if size is not None:
            raise table.wrong("size", "is any, as the latents' sides follow it", size, "leave it out")
        return None, stride
    if size is None:
        if len(fixed) != 2:
            raise table.missing("size", "the program does not tell its height and width", "size = [64, 64]")
        return (fixed[0], fixed[1]), stride
    if not is_list(size, int, 2) or not all(is_whole(side, 1, _MAX_SIDE) for side in size):
        raise table.wrong("size", "must be height and width", size, "size = [64, 64]")
    if len(fixed) == 2 and fixed != tuple(size):
        raise table.wrong("size", f"is {list(fixed)} in the program", size, "leave it out")
    return (size[0], size[1]), stride


def _bounds(table: Table, signature: Signature) -> tuple[float, float]:
    if "range" not in table:
        if signature.bounds is None:
            text = "the program does not end in tanh or sigmoid, so its black and white are not known"
            raise table.missing("range", text, _RANGES)
        return signature.bounds
    bounds = table.values["range"]
    if not isinstance(bounds, list) or len(bounds) != 2 or not are_ends(*bounds):
        raise table.wrong("range", "must be what black and white are, the smaller number first", bounds, _RANGES)
    return float(bounds[0]), float(bounds[1])
