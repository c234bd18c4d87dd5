"""`latent-inv serve`: the gRPC service. Its flags are made from the table of the server's settings."""

from __future__ import annotations

import os
import sys
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any

import typer

from latent_inv.settings import describe_range
from latent_inv_server.config import GROUPS, OPTIONS, Option

from .parameters import option, with_options
from .shell import print_json, reporting_errors

_METAVARS = {"int": "INTEGER", "float": "NUMBER", "text": "TEXT", "path": "PATH", "list": "NAME,…"}
#: spelling of before → key
_ALSO = {"devices": "--device"}


def _serve(
    config: Annotated[
        Path | None, typer.Option(help="File of settings, TOML; weaker than flags and environment.")
    ] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print all settings and where each is from, and leave.")
    ] = False,
    write_config: Annotated[
        Path | None, typer.Option(help="Write a commented file of all settings to start from, and leave.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print address and process id as JSON once it listens.")
    ] = False,
    **flags: Any,
) -> None:
    """Serve inversion, sampling and decoding over gRPC until stopped.

    Ctrl-C or SIGTERM stops it gracefully, a second one at once; SIGHUP reads tokens and certificates again.

    Each setting is also a line of the file of --config and a variable, LATENT_INV_SERVE_PORT for --port. Flags are
    the strongest, then the environment, then the file.
    """
    with reporting_errors():
        from latent_inv.errors import AlreadyExistsError
        from latent_inv.files import write_bytes
        from latent_inv_server.config_sources import load_config
        from latent_inv_server.config_text import default_text, effective_text

        if write_config is not None:
            if write_config.exists():
                raise AlreadyExistsError(f'"{write_config.name}" is there already; name another file')
            write_bytes(write_config, default_text().encode())
            return
        given = {key: value for key, value in flags.items() if value is not None}
        loaded = load_config(config, os.environ, given)
        if print_config:
            typer.echo(effective_text(loaded), nl=False)
            return

        from latent_inv_server.main import run

        def tell(bound: int) -> None:
            host = loaded.config.host
            if as_json:
                print_json({"host": host, "port": bound, "pid": os.getpid()})
            else:
                typer.echo(f"serving on {host}:{bound}; stop with Ctrl-C")
            sys.stdout.flush()

        raise typer.Exit(run(loaded.config, tell))


def _flag(item: Option) -> Parameter:
    """A setting as a flag: not given unless it is on the command line, so that the other sources count."""
    title = GROUPS[item.group]
    panel = f"{item.group.capitalize()}: {title}"
    if item.kind == "bool":
        names: tuple[str, ...] = (f"{item.flag}/--no-{item.flag[2:]}",)
        made = typer.Option(*names, help=_help(item), rich_help_panel=panel, show_default=False)
        return option(item.key, Annotated[bool | None, made], None)
    names = (item.flag, *([_ALSO[item.key]] if item.key in _ALSO else []))
    metavar = _METAVARS[item.kind]
    made = typer.Option(*names, help=_help(item), rich_help_panel=panel, metavar=metavar, show_default=False)
    return option(item.key, Annotated[str | None, made], None)


def _help(item: Option) -> str:
    ends = describe_range(item.range).strip() or item.meta["unit"]
    choices = ", ".join(item.meta["choices"])
    default = _default(item)
    notes = "; ".join(filter(None, (choices, ends, f"default {default}" if default else "")))
    return f"{item.meta['doc']} ({notes})" if notes else str(item.meta["doc"])


def _default(item: Option) -> str:
    value = item.default
    if value in (None, "", False):
        return ""
    if item.kind == "list":
        return ",".join(value)
    return f"{value // item.meta['scale'] if item.meta['scale'] != 1 else value:g}" if item.kind != "text" else value


_serve.__name__ = "serve"
serve = with_options(_serve, "flags", [_flag(item) for item in OPTIONS.values()])
