"""`latent-inv convert …`: checkpoints of others as files of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .shell import reporting_errors

convert = typer.Typer(
    name="convert",
    help="Turn checkpoints into files that can be opened as generators; nothing in them is run.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@convert.callback()
def group() -> None:
    """Turn checkpoints into files that can be opened as generators; nothing in them is run."""


@convert.command("stylegan2")
def stylegan2(
    source: Annotated[Path, typer.Argument(help="A .pkl with G_ema, or a .pt with g_ema.")],
    target: Annotated[Path, typer.Argument(help="The .safetensors to write.")],
) -> None:
    """Convert a StyleGAN2 or StyleGAN2-ADA of PyTorch.

    latent-inv convert stylegan2 network.pkl network.safetensors

    then:  latent-inv invert photo.png --generator stylegan2:network.safetensors
    """
    with reporting_errors():
        from latent_inv.generators.stylegan2 import convert as write

        shape = write(source, target)
        classes = f", {shape.classes} classes" if shape.classes else ""
        typer.echo(f"{target}: {shape.size[0]} × {shape.size[1]}{classes}; --generator stylegan2:{target}")
