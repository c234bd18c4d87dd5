"""`latent-inv batch`: every picture of a folder, here or on a server."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .asking import Asked, asks
from .connection import Server, on_server
from .shell import bars, errors, escape, print_json, reporting_errors, stop_on_interrupt

if TYPE_CHECKING:
    from latent_inv.batch import FolderSummary, Tally

#: failures are listed up to so many; the page and the manifest have all
_MOST_FAILURES = 20
#: seconds between two looks of the bar
_BAR_SECONDS = 0.1


@on_server
@asks
def batch(
    folder: Annotated[Path, typer.Argument(help="The folder; pictures are told by their content.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for results, manifest.jsonl and index.html.")],
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Enter the folders in it; --out gets the same ones.")
    ] = False,
    full: Annotated[
        bool,
        typer.Option(
            "--full", help="A folder NAME.result a picture, with all that `invert` writes. Default: two files."
        ),
    ] = False,
    redo: Annotated[bool, typer.Option("--redo", help="Repeat what an earlier run has finished.")] = False,
    in_flight: Annotated[
        int | None, typer.Option(help="Most pictures at once. Default: what lanes need here, 256 on a server.")
    ] = None,
    asked: Asked = Asked(),
    server: Server = Server(),
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON on standard output.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")] = False,
) -> None:
    """Find the latents behind every picture of FOLDER, many at once, with the same settings and the same seed for all.

    --out gets NAME.latents.safetensors and NAME.png (the reconstruction) for each picture, manifest.jsonl with a row
    for each file, and index.html to look at. Hidden files and files that are no pictures are skipped. Links to files
    are followed, links to folders are not.

    Stopped with Ctrl-C or killed, the same command goes on where it was: a picture is finished if its content and the
    settings are as they were and its results are there. With --seconds, pictures are done one after the other, unless
    a server does them.

    The exit code is 1 if a picture failed; the others are done all the same.

    latent-inv batch photos --out results --recursive

    latent-inv batch photos --out results --server gpu.example.org:50051 --ca ca.pem --token-file token
    """
    with reporting_errors():
        from latent_inv.batch import invert_folder

        from .invert import check_folder

        settings, here = asked.settings(), asked.local()
        if server:
            asked.check_for_server()
        check_folder(out)
        with ExitStack() as stack:
            more: dict[str, Any] = {"client": stack.enter_context(server.client())} if server else here
            stop = stack.enter_context(stop_on_interrupt(signal.SIGTERM))
            told = Bar(quiet)
            try:
                with bars(quiet or not errors.is_terminal, "counts", "left") as (tell, on_load):
                    told.tell = tell
                    summary = invert_folder(
                        folder,
                        out,
                        recursive=recursive,
                        full=full,
                        redo=redo,
                        in_flight=in_flight,
                        on_progress=told,
                        on_load=on_load,
                        stop=stop,
                        **settings,
                        **more,
                    )
            except Exception:
                told.last_words()
                raise
        if as_json:
            print_json({**summary.to_json(), "out": str(out)})
        elif not quiet:
            _show(summary, out)
        raise typer.Exit(130 if summary.stopped else 1 if summary.failed else 0)


class Bar:
    """The bar: how many are done, failed and left, and how long the rest may take."""

    def __init__(self, quiet: bool) -> None:
        self.tell: Any = None
        self._quiet, self._at, self._last = quiet, 0.0, ""

    def __call__(self, tally: Tally) -> None:
        now = time.monotonic()
        if now - self._at < _BAR_SECONDS and tally.left:
            return
        self._at = now
        over = tally.total - tally.left
        kept = f", {tally.kept} done before" if tally.kept else ""
        self._last = f"{tally.done} done, {tally.failed} failed{kept}, {tally.left} left"
        left = "" if tally.seconds_left is None else f"{duration(tally.seconds_left)} left"
        self.tell("inverting", tally.total, over + tally.part_done, counts=self._last, left=left)

    def last_words(self) -> None:
        """What was done before an error ended it all."""
        if self._last and not self._quiet:
            errors.print(f"{self._last}; the same command goes on from there", soft_wrap=True)


def duration(seconds: float) -> str:
    """A time for people, e.g. "1 h 05 min"."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _show(summary: FolderSummary, out: Path) -> None:
    """The summary after a run; what failed goes to stderr."""
    from latent_inv.batch.walk import shown

    for path, reason in summary.failures[:_MOST_FAILURES]:
        errors.print(f"[bold red]failed:[/] {escape(shown(path))}: {escape(reason)}", soft_wrap=True)
    if len(summary.failures) > _MOST_FAILURES:
        errors.print(f"… and {len(summary.failures) - _MOST_FAILURES} more", soft_wrap=True)
    typer.echo(str(summary))
    if summary.stopped:
        errors.print("stopped; the same command goes on from there", soft_wrap=True)
    typer.echo(f"look at {shown(str(out / 'index.html'))}")
