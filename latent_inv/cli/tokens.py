"""`latent-inv tokens add | list | remove`: who may call a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .shell import errors, escape, print_json, reporting_errors

File = Annotated[Path, typer.Argument(help="File of clients: the setting `tokens` of `latent-inv serve`.")]
Name = Annotated[str, typer.Argument(help="Name of the client; its jobs and uploads belong to it.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]

tokens = typer.Typer(no_args_is_help=True, help="Who may call a server: add, list and remove clients and their tokens.")


@tokens.command()
def add(
    file: File,
    name: Name,
    max_queued_jobs: Annotated[int | None, typer.Option(min=0, help="Most jobs that wait.")] = None,
    max_running_jobs: Annotated[int | None, typer.Option(min=1, help="Most jobs that run.")] = None,
    max_upload_mb: Annotated[int | None, typer.Option(min=0, help="Most uploaded data, in MiB.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="A new token in place of the client's old one.")] = False,
    no_token: Annotated[bool, typer.Option("--no-token", help="Only a certificate of that name lets it in.")] = False,
    as_json: Json = False,
) -> None:
    """Add a client to FILE, and print its token: once, as only its hash is kept.

    A server that runs reads the file again by itself. Limits that are not given are the server's.
    """
    with reporting_errors():
        from latent_inv_server.door.token_edit import add_client

        given = {
            "max_queued_jobs": max_queued_jobs,
            "max_running_jobs": max_running_jobs,
            "max_upload_mb": max_upload_mb,
        }
        quotas = {key: value for key, value in given.items() if value is not None}
        token = add_client(file, name, quotas, replace=replace, with_token=not no_token)
        if as_json:
            print_json({"name": name, "token": token or None})
        elif token:
            errors.print(f"The token of {escape(name)}; it cannot be shown again:", soft_wrap=True)
            typer.echo(token)
        else:
            errors.print(f"{escape(name)} may come with a certificate of that common name.", soft_wrap=True)


@tokens.command("list")
def list_tokens(file: File, as_json: Json = False) -> None:
    """List the clients of FILE with their own limits; tokens are not kept."""
    with reporting_errors():
        from latent_inv_server.door.token_edit import list_clients, quotas_text

        clients = list_clients(file)
        if as_json:
            print_json(
                [
                    {"name": name, "created": each.created, "token": each.sha256 is not None, **each.own}
                    for name, each in clients.items()
                ]
            )
            return
        width = max(map(len, clients), default=0)
        for name, each in clients.items():
            kind = "token" if each.sha256 is not None else "certificate only"
            notes = ", ".join(filter(None, (f"{kind} of {each.created}" if each.created else kind, quotas_text(each))))
            typer.echo(f"{name:{width}}  {notes}")


@tokens.command()
def remove(file: File, name: Name) -> None:
    """Remove a client from FILE; its token is worth nothing from then on.

    Calls of it that are open, and jobs that run, go on to their end.
    """
    with reporting_errors():
        from latent_inv_server.door.token_edit import remove_client

        remove_client(file, name)
