"""Settings as a commented TOML file: the defaults to start from, or what is in force and where it came from."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from typing import Any

from latent_inv.settings import describe_range

from .config import GROUPS, OPTIONS, Option, ServerConfig
from .config_sources import LoadedConfig
from .toml import toml_value

_WIDTH = 100
_HEAD = """\
Settings of `latent-inv serve --config FILE`.
Flags are stronger than environment variables, which are stronger than this file.
A setting "max_jobs" is the flag --max-jobs and the variable LATENT_INV_SERVE_MAX_JOBS.
"none" turns off what may be off. Relative paths start from the folder of this file.
`latent-inv serve --print-config` shows what is in force."""


def default_text() -> str:
    """Every setting with its meaning, its range and its default, commented out: a file to start from."""
    return _text(ServerConfig(), dict.fromkeys(OPTIONS, "default"), show_origin=False)


def effective_text(loaded: LoadedConfig) -> str:
    """Every setting with its value and where that came from. Read as a file, it gives the same settings.

    A password in a database URL is left out, and its line is commented out.
    """
    return _text(loaded.config, loaded.origins, show_origin=True)


def _text(config: ServerConfig, origins: Mapping[str, str], show_origin: bool) -> str:
    lines = [f"# {line}" for line in _HEAD.splitlines()]
    for group, title in GROUPS.items():
        lines += ["", "", f"# ---- {title}", "", f"[{group}]"]
        for option in OPTIONS.values():
            if option.group == group:
                lines += ["", *(f"# {line}" for line in _explained(option, show_origin))]
                lines.append(_line(option, getattr(config, option.name), origins[option.key], show_origin))
    return "\n".join(lines) + "\n"


def _explained(option: Option, with_default: bool) -> list[str]:
    ends = describe_range(option.range).strip()
    if not ends and option.meta["unit"]:
        ends = f"in {option.meta['unit']}"
    choices = ", ".join(option.meta["choices"])
    accepted = f"One of {choices}." if choices else f"{ends[0].upper()}{ends[1:]}." if ends else ""
    default = f"Default: {_shown(option, option.default) or 'none'}." if with_default else ""
    return textwrap.wrap(" ".join(filter(None, (option.meta["doc"], accepted, default))), _WIDTH - 2)


def _line(option: Option, value: Any, origin: str, show_origin: bool) -> str:
    shown = _shown(option, value)
    text = f"{option.key} = {shown}" if shown else f'{option.key} = "none"' if option.optional else f"{option.key} ="
    hidden = option.meta["secret"] and value != _without_password(value)
    if hidden:
        text = f"# {option.key} = {toml_value(_without_password(value))}"
        origin += "; the password is not shown"
    elif not show_origin:
        text = f"# {text}"
    return f"{text}  # {origin}" if show_origin else text


def _shown(option: Option, value: Any) -> str:
    """As TOML, in the key's unit; empty for none."""
    if value is None:
        return ""
    if option.kind == "path":
        return toml_value(str(value.absolute()))
    if option.kind == "list":
        return toml_value(list(value))
    if option.meta["scale"] != 1:
        return toml_value(value // option.meta["scale"])
    return toml_value(value)


def _without_password(url: str) -> str:
    """A URL with *** for the password, wherever drivers accept one."""
    url = re.sub(r"(?<=://)([^/@:]*):[^@]*@", r"\1:***@", url)
    return re.sub(r"(?i)([?&](?:password|passwd|sslpassword)=)[^&]*", r"\1***", url)
