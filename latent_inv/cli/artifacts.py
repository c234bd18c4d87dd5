"""`latent-inv artifacts …`: files on a server, uploaded pictures and what jobs made."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from .connection import Server, always_on_server
from .shell import bars, errors, print_json, reporting_errors

Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Hashes = Annotated[list[str], typer.Argument(help="SHA-256 of the files, as `latent-inv artifacts list` shows them.")]

artifacts = typer.Typer(
    name="artifacts",
    help="Files on a server: uploaded once, used in any number of jobs; and the files that jobs made.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@artifacts.command("upload")
@always_on_server
def upload(
    files: Annotated[list[Path], typer.Argument(help="The files.")],
    server: Server = Server(),
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Send FILES, or what the server lacks of them, and print their hashes.

    latent-inv jobs create sha256:$(latent-inv artifacts upload photo.png)
    """
    with reporting_errors():
        with server.client() as client, bars(quiet, "amount") as (_, load):
            # Files of two folders may have one name: the path tells their bars apart.
            sent = [client.artifacts.upload(file, on_progress=partial(load, str(file))) for file in files]
        if as_json:
            print_json([vars(artifact) for artifact in sent])
        else:
            for artifact in sent:
                typer.echo(artifact.sha256)


@artifacts.command("download")
@always_on_server
def download(
    sha256: Annotated[str, typer.Argument(help="Hash of the file: an upload, or as `latent-inv jobs show --json`.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write it.")],
    server: Server = Server(),
    quiet: Quiet = False,
) -> None:
    """Fetch a file, check its hash, and write it."""
    with reporting_errors(), server.client() as client, bars(quiet, "amount") as (_, load):
        client.artifacts.download(sha256, out, on_progress=partial(load, out.name))


@artifacts.command("list")
@always_on_server
def list_artifacts(
    server: Server = Server(),
    limit: Annotated[int, typer.Option(help="Most files.")] = 50,
    as_json: Json = False,
) -> None:
    """List your uploads, newest first, unfinished ones too. Files of results are in `latent-inv jobs show --json`."""
    with reporting_errors():
        with server.client() as client:
            found = list(client.artifacts.list(limit))
        if as_json:
            print_json([vars(artifact) for artifact in found])
        elif not found:
            errors.print("no uploads")
        for artifact in () if as_json else found:
            amount = str(artifact.size) if artifact.complete else f"{artifact.received} of {artifact.size}"
            typer.echo(f"{artifact.sha256}  {amount} bytes  {artifact.content_type}".rstrip())


@artifacts.command("delete")
@always_on_server
def delete(sha256: Hashes, server: Server = Server()) -> None:
    """Remove uploads that no job needs any more."""
    with reporting_errors(), server.client() as client:
        for name in sha256:
            client.artifacts.delete(name)
