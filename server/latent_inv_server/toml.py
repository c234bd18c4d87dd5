"""TOML files: read with the standard library, values written with tomlkit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from latent_inv.errors import SpecError, at
from latent_inv.files import read_bytes

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: more than any settings or list of clients needs
_MAX_BYTES = 16 * 2**20


def read_toml(path: Path, field: str) -> dict[str, Any]:
    """The tables of a file.

    Args:
        field: what the file is for, as errors name it.
    Raises:
        InputError: it cannot be read, or is no TOML; the text names line and column, and no content.
    """
    with at(field):
        return parse_toml(read_bytes(path, _MAX_BYTES), path.name)


def parse_toml(data: bytes, name: str) -> dict[str, Any]:
    """The tables of a file's content; `name` is for the error.

    Raises:
        SpecError: no TOML.
    """
    try:
        return tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise SpecError(f'"{name:.80}" is not UTF-8 at byte {error.start}') from None
    except tomllib.TOMLDecodeError as error:
        where = str(error).rpartition("(")[2].rstrip(")") or "somewhere"
        raise SpecError(f'"{name:.80}" cannot be read as TOML {where}') from None


def toml_value(value: Any) -> str:
    """A plain value (text, number, truth, list of texts) as TOML."""
    import tomlkit

    return tomlkit.item(value).as_string()
