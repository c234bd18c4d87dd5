"""`latent-inv invert`: a picture to its latents, here or on a server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .asking import Asked, asks
from .connection import Server, on_server
from .shell import escape, print_json, progress_bar, reporting_errors, stop_on_interrupt

if TYPE_CHECKING:
    from latent_inv.result import JobResult


@on_server
@asks
def invert(
    image: Annotated[Path, typer.Argument(help="The picture: PNG, JPEG, WebP, TIFF, BMP or GIF.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for the result. Default: out/NAME-OF-IMAGE.")
    ] = None,
    asked: Asked = Asked(),
    server: Server = Server(),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done, and estimate it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print result.json on standard output.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")] = False,
) -> None:
    """Find the latents behind IMAGE, and write them with pictures, curves and a page to look at.

    Examples:

    latent-inv invert photo.jpg --crop 160,60,290,190

    latent-inv invert photo.jpg --seconds 5 --start best_of:count=16

    latent-inv invert photo.jpg --loss pixel:kind=l1 --loss perceptual --loss latent_prior:weight=0.01
    """
    with reporting_errors():
        chosen, here = asked.settings(), asked.local()
        if server:
            asked.check_for_server(dry_run=dry_run)
        if dry_run:
            from latent_inv.plan import plan

            planned = plan(image, **chosen, **here)
            print_json(planned.to_json()) if as_json else typer.echo(planned.describe())
            return
        folder = out or Path("out") / image.stem
        check_folder(folder)
        with stop_on_interrupt() as stop, progress_bar(quiet, image.name) as (on_step, on_load):
            if server:
                with server.client() as client:
                    result = client.invert(image, **chosen, on_progress=on_step, stop=stop)
            else:
                from latent_inv.solve import invert as invert_here

                result = invert_here(image, **chosen, **here, on_progress=on_step, on_load=on_load, stop=stop)
        result = result.save(folder)
        if as_json:
            print_json(result.to_json())
        elif not quiet:
            show(result, folder)
        raise typer.Exit(exit_code(result))


def check_folder(folder: Path) -> None:
    """Fail before the work if the result could not be written after it. Makes nothing: the work may be refused yet.

    Raises:
        SpecError: there is a file of that name, or nothing may be written there.
    """
    from latent_inv.errors import SpecError

    nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not nearest.is_dir():
        raise SpecError(f'"{nearest.name}" is a file, a folder is needed', field="out")
    in_the_way = [name for name in ("result.json", "latents.safetensors", "index.html") if (folder / name).is_dir()]
    if in_the_way:
        raise SpecError(f'a folder is in the way of "{in_the_way[0]}" there', field="out")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise SpecError(f'"{nearest.name}" may not be written to', field="out")


def exit_code(result: JobResult) -> int:
    """0 for a good outcome, 130 for a stop, else 1."""
    return 0 if result.outcome.good else 130 if result.outcome.name == "cancelled" else 1


def show(result: JobResult, folder: Path) -> None:
    """The summary after a run."""
    from rich.console import Console
    from rich.table import Table

    from latent_inv.report.views import typicality_text

    table = Table(box=None, show_header=False, pad_edge=False)
    lpips = "" if result.metrics.lpips is None else f"{result.metrics.lpips:.4f}  ({result.perceptual})"
    lines = (
        ("outcome", f"{result.outcome.name}: {result.message}"),
        ("PSNR", f"{result.metrics.psnr_db:.2f} dB"),
        ("LPIPS", lpips),
        ("steps", f"{result.steps}, best after {result.best_step}, {result.seconds:.1f} s"),
        *(("picked", str(reason)) for reason in result.picked.get("why", ())),
        *(("typicality", f"{part}: {typicality_text(share)}") for part, share in result.typicality.items()),
        *((part, label) for part, label in result.labels.items()),
        *(("note", warning) for warning in result.warnings),
        ("latents", str(folder / result.files["latents"])),
        ("look at", str(folder / result.files["page"])),
    )
    for name, value in lines:
        table.add_row(f"[bold]{name}", escape(value))
    Console(highlight=False, soft_wrap=True).print(table)
