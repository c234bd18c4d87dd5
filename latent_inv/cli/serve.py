"""`latent-inv serve`: the gRPC service."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from .shell import print_json, reporting_errors


def serve(
    host: Annotated[str, typer.Option(help="Address to bind.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 50051,
    port_file: Annotated[
        Path | None, typer.Option(help="Write the port into this file once the server is ready.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder for the server's data. Nothing is kept by this version.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU threads of the worker.")] = None,
    lane_width: Annotated[int | None, typer.Option(help="Rows a kernel call of bulk jobs runs at.")] = None,
    max_message_mb: Annotated[int, typer.Option(help="Largest message, both ways, in MiB.")] = 64,
    max_jobs: Annotated[int, typer.Option(help="Most jobs at once; more are refused with a time to try again.")] = 64,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Bind an address that other machines reach. There is no login yet.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print address and process id as JSON once ready.")] = False,
) -> None:
    """Serve inversion, sampling and decoding over gRPC until stopped.

    Ctrl-C or SIGTERM stops it gracefully.
    """
    with reporting_errors():
        from latent_inv_server.config import ServerConfig
        from latent_inv_server.main import run

        config = ServerConfig(
            host=host,
            port=port,
            port_file=port_file,
            data=data,
            device=device,
            threads=threads,
            lane_width=lane_width,
            max_message_bytes=max_message_mb * 2**20,
            max_jobs=max_jobs,
            allow_remote=allow_remote,
        )

        def tell(bound: int) -> None:
            if as_json:
                print_json({"host": host, "port": bound, "pid": os.getpid()})
            else:
                typer.echo(f"serving on {host}:{bound}; stop with Ctrl-C")
            sys.stdout.flush()

        raise typer.Exit(run(config, tell))
