"""`latent-inv doctor` and `latent-inv health`: is everything here that a server needs, and is one well?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .connection import Server, on_server
from .shell import print_json, reporting_errors

if TYPE_CHECKING:
    from latent_inv_server.doctor import Finding

Config = Annotated[Path | None, typer.Option(help="File of settings of the server; weaker than the environment.")]
#: how a line begins, by state
_MARKS = {"ok": ("ok", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "bold red")}


@on_server
def doctor(
    config: Config = None,
    server: Server = Server(),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")] = False,
) -> None:
    """Look at everything that a server needs: packages, devices, weights, ports, data folder, database, login.

    Takes the settings that `latent-inv serve --config FILE` would, from file and environment, and changes nothing.
    With --server, that server is asked as well. Exits with 1 if something fails; each such line says what to do.
    """
    with reporting_errors():
        from latent_inv_server.doctor import State, examine, reach

        found, _ = examine(config, os.environ)
        if server:
            found += reach(server.client, server.server)
        failed = any(each.state is State.fail for each in found)
        if as_json:
            print_json({"ok": not failed, "findings": [each.as_json() for each in found]})
        else:
            _print(found)
        raise typer.Exit(1 if failed else 0)


def _print(found: list[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, show_header=False)
    columns: tuple[Literal["ellipsis", "fold"], ...] = ("ellipsis", "ellipsis", "fold")
    for overflow in columns:
        table.add_column(overflow=overflow, no_wrap=overflow == "ellipsis")
    width = max(len(each.about) for each in found)
    for each in found:
        mark, style = _MARKS[each.state.value]
        if console.is_terminal:
            advice = f"\n→ {each.advice}" if each.advice else ""
            table.add_row(Text(mark, style), each.about, Text.assemble(each.found, (advice, "bold")))
        else:  # a line each, whole, for logs and pipes
            advice = f" → {each.advice}" if each.advice else ""
            typer.echo(f"{mark:4}  {each.about:{width}}  {each.found}{advice}")
    if console.is_terminal:
        console.print(table)
    counts = {name: sum(each.state.value == name for each in found) for name in _MARKS}
    typer.echo(", ".join(f"{count} {name}" for name, count in counts.items()))


@on_server
def health(
    config: Config = None,
    server: Server = Server(),
    seconds: Annotated[float, typer.Option(help="How long an answer is waited for.", min=0.1, max=60)] = 5.0,
) -> None:
    """Ask a server whether it takes jobs; exits with 0 if so, else with 1. For containers and supervisors.

    Without --server it is the one on this machine that the settings in file and environment describe.
    """
    with reporting_errors():
        from latent_inv.errors import UnavailableError

        well: bool | None
        if server:
            try:
                with server.client() as client:
                    client.timeout = seconds
                    well = client.healthy()
            except UnavailableError:
                well = None
        else:
            from latent_inv_server.config_sources import load_config
            from latent_inv_server.probe import probe

            well = probe(load_config(config, os.environ).config, seconds=seconds)
        typer.echo({True: "serving", False: "not serving", None: "nobody answers"}[well])
        raise typer.Exit(0 if well else 1)
