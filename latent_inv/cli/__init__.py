"""The command line. Importing this, and `--help`, load no torch, numpy or grpc: commands import what they use."""

from __future__ import annotations

import typer

from .artifacts import artifacts
from .batch import batch
from .convert import convert
from .doctor import doctor, health
from .invert import invert
from .jobs import jobs
from .latents import latents
from .looks import decode, generators, sample
from .models import models
from .serve import serve
from .shell import EXIT_HELP
from .tokens import tokens
from .train_encoder import train_encoder

app = typer.Typer(
    name="latent-inv",
    help="Which latents are behind this picture? Invert images into the latent space of a pretrained generator.",
    epilog=EXIT_HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
)
app.command()(invert)
app.command()(batch)
app.command()(decode)
app.command()(sample)
app.command()(generators)
app.command()(serve)
app.add_typer(latents, name="latents")
app.add_typer(tokens, name="tokens")
app.add_typer(jobs, name="jobs")
app.add_typer(artifacts, name="artifacts")
app.add_typer(models, name="models")
app.add_typer(convert, name="convert")
app.command()(doctor)
app.command()(health)
app.command()(train_encoder)


@app.callback(invoke_without_command=True)
def options(version: bool = typer.Option(False, "--version", help="Print the version and leave.")) -> None:
    """Which latents are behind this picture? Invert images into the latent space of a pretrained generator.

    Start with:  latent-inv invert photo.png --out result

    then look at result/index.html.
    """
    if version:
        from importlib.metadata import version as installed

        typer.echo(installed("latent-inv"))
        raise typer.Exit()


def main() -> None:
    """The console script."""
    app()
