"""From a table of a description, as `[latents.z]`, to a part of a latent space."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from latent_inv.constraints import Box, Constraint, Free, Simplex, Sphere
from latent_inv.errors import AssetError
from latent_inv.spaces import Categorical, Normal, Part, Prior, Uniform

from .signature import Form
from .table import Table, are_ends, is_whole, sides_as_text

_KEYS = ("name", "shape", "prior", "low", "high", "constraint", "role")
#: prior -> the set that holds its draws
_USUAL = {"normal": "free", "uniform": "box", "categorical": "simplex"}
_CONSTRAINTS = ("free", "box", "sphere", "simplex")
_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,64}")
_SIDE = re.compile(r"(height|width)(?:\s*/\s*([1-9][0-9]{0,3}))?")
_MAX_SIDE = 2**24
_EXAMPLE = 'shape = [16], or shape = [4, "height / 8", "width / 8"]'


def read_part(form: Form, given: Mapping[str, Any], beside: str) -> tuple[str, Part]:
    """A part and its name, from what the program and the text say of one input.

    Args:
        form: the input.
        given: the text's table of it; may be empty.
        beside: name of the text, for errors.
    Raises:
        AssetError: a key is missing, unknown, wrong, or against the program.
    """
    table = Table(given, beside, _KEYS, f"latents.{form.name}.")
    if not form.floating:
        text = f'the input "{form.name}" of the program is {form.kind}, and latents are numbers with fractions'
        raise AssetError(f"{beside}: {text}; let a class be a one-hot vector, and bring other inputs inside the module")
    name = table.text("name", form.name)
    if _NAME.fullmatch(name) is None:
        raise table.wrong("name", "must be made of letters, digits, _, . and -", name, 'name = "z"')
    kind = table.choice("prior", "normal", tuple(_USUAL))
    constraint = table.choice("constraint", _USUAL[kind], _CONSTRAINTS)
    role = table.choice("role", "searched", ("searched", "fixed"))
    if kind == "normal" and constraint == "box" and not {"low", "high"} <= set(given):
        raise table.missing("low or high", "a box has two ends", "low = -3.0 and high = 3.0")
    low, high = given.get("low", -1.0), given.get("high", 1.0)
    if not are_ends(low, high):
        raise table.wrong("low", f"must be a number below high, {high!r:.40}", low, "low = -1.0 and high = 1.0")
    shape = _shape(form, table)
    if kind == "categorical" and (len(shape) != 1 or shape[0] < 2):
        raise table.wrong("shape", "of classes is their number, at least 2", list(shape), "shape = [10]")
    priors: dict[str, Prior] = {"normal": Normal(), "uniform": Uniform(low, high), "categorical": Categorical()}
    constraints: dict[str, Constraint] = {
        "free": Free(),
        "box": Box(low, high),
        "sphere": Sphere(),
        "simplex": Simplex(),
    }
    return name, Part(shape, priors[kind], constraints[constraint], role)


def _shape(form: Form, table: Table) -> tuple[int, ...]:
    if "shape" not in table:
        if not form.shape or None in form.shape:
            found = f"the program's own is [rows, {sides_as_text(form.shape) or '?'}]"
            raise table.missing("shape", found, _EXAMPLE)
        return tuple(side for side in form.shape if side is not None)
    entries = table.values["shape"]
    read = [_side(entry) for entry in entries] if isinstance(entries, list) else []
    shape = tuple(side for side in read if side is not None)
    tied = [entry.strip()[0] for entry in entries if isinstance(entry, str)] if shape else []
    if not shape or None in read or tied not in ([], ["h", "w"]):
        text = "must list sides: whole numbers, and height and width divided by one, in this order"
        raise table.wrong("shape", text, entries, _EXAMPLE)
    own = form.shape
    if own and (len(own) != len(shape) or any(b is not None and b != a for a, b in zip(shape, own, strict=True))):
        own_text = f"[{sides_as_text(own)}]"
        raise table.wrong("shape", f"is {own_text} in the program", entries, f"shape = {own_text}, or leave it out")
    return shape


def _side(entry: object) -> int | None:
    """A side as `Part.shape` has it: negative for height and width divided; None: it is none."""
    if is_whole(entry, 1, _MAX_SIDE):
        return int(str(entry))
    found = _SIDE.fullmatch(entry.strip()) if isinstance(entry, str) else None
    return -int(found.group(2) or 1) if found else None
