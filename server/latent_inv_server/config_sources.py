"""Settings from flags, environment, file and defaults, in this order of strength, each knowing where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from latent_inv.errors import SpecError, unknown_name
from latent_inv.settings import describe_range

from .config import GROUPS, OPTIONS, PREFIX, Option, ServerConfig
from .toml import read_toml

#: names the file, as the flag --config does
CONFIG_VARIABLE = PREFIX + "CONFIG"
_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True)
class LoadedConfig:
    """Settings, and where each of them is from.

    Attributes:
        origins: key → "default", "file NAME", "environment VARIABLE" or "flag --NAME".
    """

    config: ServerConfig
    origins: Mapping[str, str]


def load_config(
    file: Path | None = None, environ: Mapping[str, str] | None = None, flags: Mapping[str, str | bool] | None = None
) -> LoadedConfig:
    """Put the settings of a server together.

    Args:
        file: TOML with a table for each of `GROUPS`; relative paths in it start from its folder. None: what
            LATENT_INV_SERVE_CONFIG names, if anything.
        environ: variables; those that begin with LATENT_INV_SERVE_ count, but for empty ones.
        flags: key → value, as text or truth, for what was given.
    Raises:
        InputError: a file that cannot be read, an unknown name, a value out of its range, or values that do not go
            together; the text says where the value is from.
    """
    environ = environ or {}
    if file is None and environ.get(CONFIG_VARIABLE):
        file = Path(environ[CONFIG_VARIABLE])
    values: dict[str, Any] = {}
    origins = dict.fromkeys(OPTIONS, "default")
    from_file = {} if file is None else _of_file(read_toml(file, "config"))
    for given, origin in (
        (from_file, lambda _: f"file {file.name if file else ''}"),
        (_of_environment(environ), lambda option: f"environment {option.variable}"),
        (flags or {}, lambda option: f"flag {option.flag}"),
    ):
        for key, value in given.items():
            option = OPTIONS[key]
            origins[key] = origin(option)
            base = file.parent if file is not None and given is from_file else None
            try:
                values[option.name] = _read(option, value, base, written=given is not from_file)
            except SpecError as error:
                raise _from(error, origins[key]) from None
    try:
        return LoadedConfig(ServerConfig(**values), origins)
    except SpecError as error:
        key = next((option.key for option in OPTIONS.values() if option.name == error.field), "")
        raise _from(error, origins.get(key, "default")) from None


def _from(error: SpecError, origin: str) -> SpecError:
    return error if origin == "default" else SpecError(f"{error.message} ({origin})", field=error.field)


# ---- the three sources -------------------------------------------------------------------------


def _of_file(tables: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for group, table in tables.items():
        if group in OPTIONS:
            raise SpecError(f"belongs under [{OPTIONS[group].group}]", field=f"config.{group}")
        if group not in GROUPS:
            raise unknown_name("group of settings", group, list(GROUPS), field="config")
        if not isinstance(table, Mapping):
            raise SpecError(f"must be a table, [{group}], found {type(table).__name__}", field=f"config.{group}")
        for key, value in table.items():
            field = f"config.{group}.{key}"[:100]
            if key in OPTIONS and OPTIONS[key].group != group:
                raise SpecError(f"belongs under [{OPTIONS[key].group}]", field=field)
            if key not in OPTIONS:
                known = [option.key for option in OPTIONS.values() if option.group == group]
                raise unknown_name(f"setting of [{group}]", key, known, field=f"config.{group}")
            values[key] = value
    return values


def _of_environment(environ: Mapping[str, str]) -> dict[str, str]:
    known = {option.variable: key for key, option in OPTIONS.items()}
    values: dict[str, str] = {}
    for variable, value in environ.items():
        if not variable.startswith(PREFIX) or variable == CONFIG_VARIABLE or not value:
            continue
        if variable not in known:
            # Only the nearest: the whole list would be cut. They all begin alike, which is no likeness.
            names = [name.removeprefix(PREFIX) for name in (*known, CONFIG_VARIABLE)]
            near = get_close_matches(variable.removeprefix(PREFIX), names, n=1)
            hint = f'did you mean "{PREFIX}{near[0]}"?' if near else "latent-inv serve --write-config FILE lists them"
            raise SpecError(f'unknown variable "{variable:.80}"; {hint}', field="environment")
        values[known[variable]] = value
    return values


# ---- one value ---------------------------------------------------------------------------------


def _read(option: Option, value: Any, base: Path | None, *, written: bool) -> Any:
    """The value of a field, from what stands in a file or was `written` as text on a command line.

    Args:
        base: folder that relative paths start from; None: the current one.
    """
    if option.optional and value == "none":
        return None
    if option.kind == "path":
        if not isinstance(value, str):
            raise SpecError(f'must be a path or "none", found {value!r:.40}', field=option.key)
        if not value:
            raise SpecError('must be a path or "none", found nothing', field=option.key)
        return Path(value).expanduser() if base is None else (base / Path(value).expanduser()).absolute()
    if option.kind == "list":
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    if written and isinstance(value, str):
        value = _of_text(option, value)
    if option.kind in ("int", "float"):
        return _number(option, value)
    return value


def _of_text(option: Option, text: str) -> Any:
    if option.kind == "bool":
        if text.lower() not in _TRUTHS:
            raise SpecError(f'must be true or false, found "{text:.40}"', field=option.key)
        return _TRUTHS[text.lower()]
    if option.kind in ("int", "float"):
        try:
            return int(text) if option.kind == "int" else float(text)
        except ValueError:
            none = ' or "none"' if option.optional else ""
            accepted = f"a {'whole ' if option.kind == 'int' else ''}number{describe_range(option.range)}{none}"
            raise SpecError(f'must be {accepted}, found "{text:.40}"', field=option.key) from None
    return text


def _number(option: Option, value: Any) -> Any:
    """Other units are checked here, so that an error speaks of the unit that the reader wrote."""
    scale = option.meta["scale"]
    if scale == 1 or isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    ends = option.range
    if not ends["low"] <= value <= ends["high"] or int(value) != value:
        raise SpecError(f"must be a whole number{describe_range(ends)}, found {value}", field=option.key)
    return int(value) * scale
