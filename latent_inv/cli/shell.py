"""What all commands share: errors as one line, exit codes, the progress bar, stopping on Ctrl-C."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from latent_inv.errors import (
    AlreadyExistsError,
    AssetError,
    CancelledError,
    InputError,
    LatentInvError,
    LimitError,
    LoginError,
    NotFoundError,
    UnavailableError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from latent_inv.result import Progress

#: exit code by kind of error; the first that fits counts
EXIT_CODES: tuple[tuple[type[LatentInvError], int], ...] = (
    (InputError, 2),
    (NotFoundError, 2),
    (AlreadyExistsError, 2),
    (UnsupportedError, 2),
    (AssetError, 3),
    (UnavailableError, 4),
    (LimitError, 4),
    (LoginError, 4),
    (CancelledError, 130),
    (LatentInvError, 1),
)
EXIT_HELP = (
    "Exit codes: 0 done; 1 no good result, or an internal error; 2 wrong input; 3 weights missing; "
    "4 server not reachable, full, or without a login for us; 130 stopped."
)

errors = Console(stderr=True, highlight=False)


@contextmanager
def reporting_errors() -> Iterator[None]:
    """Turn a typed error into one line on stderr and an exit code."""
    try:
        yield
    except LatentInvError as error:
        errors.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
        code = next(code for kind, code in EXIT_CODES if isinstance(error, kind))
        raise typer.Exit(code) from None
    except BrokenPipeError:
        raise typer.Exit(0) from None
    except OSError as error:
        # An output folder that cannot be written, a full disk: the system's own words are the best ones.
        name = f" ({error.filename})" if error.filename else ""
        errors.print(f"[bold red]error:[/] {escape(str(error.strerror or error))}{escape(name)}", soft_wrap=True)
        raise typer.Exit(2) from None


def escape(text: str) -> str:
    """Text that rich must not read as markup."""
    from rich.markup import escape as rich_escape

    return rich_escape(text)


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def stop_on_interrupt(*others: signal.Signals) -> Iterator[Callable[[], bool]]:
    """Ctrl-C asks for a stop, so that the best so far is kept; a second one ends at once. So do `others`."""
    asked = False

    def ask(_signal: int, _frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    before = {each: signal.signal(each, ask) for each in (signal.SIGINT, *others)}
    try:
        yield lambda: asked
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def bars(quiet: bool, *fields: str) -> Iterator[tuple[Callable[..., None], Any]]:
    """Bars on stderr, one a task, made when it is first told of.

    Args:
        fields: texts after the bar, in order; what is not told of is empty.
    Yields:
        (call it with task, total, completed and the texts, call it with (name, bytes done, bytes in all) while loading)
    """
    from rich.progress import BarColumn, Progress, TextColumn

    texts = [TextColumn(f"{{task.fields[{field}]}}") for field in fields]
    with Progress(
        TextColumn("{task.description}"), BarColumn(bar_width=24), *texts, console=errors, disable=quiet
    ) as bar:
        tasks: dict[str, Any] = {}

        def tell(name: str, total: float | None, completed: float, **said: Any) -> None:
            if name not in tasks:
                empty: dict[str, Any] = dict.fromkeys(fields, "")
                tasks[name] = bar.add_task(escape(name), total=total, **empty)
            bar.update(tasks[name], total=total, completed=completed, **said)

        def load(name: str, done: int, total: int | None) -> None:
            amount = f"{done / 1e6:.1f}" + (f"/{total / 1e6:.1f} MB" if total else " MB")
            tell(f"fetching {name}", total, done, **{fields[0]: amount})

        yield tell, load


@contextmanager
def progress_bar(quiet: bool, title: str = "inverting") -> Iterator[tuple[Callable[[Progress], None], Any]]:
    """A bar on stderr with loss, LPIPS, PSNR and time left.

    Yields:
        (call it with each progress event, call it with (name, bytes done, bytes in all) while loading)
    """
    from latent_inv.spec import UNLIMITED_STEPS

    with bars(quiet, "done", "scores", "left") as (tell, load):

        def step(event: Progress) -> None:
            step = event.latest.step
            timed = event.total_steps >= UNLIMITED_STEPS  # with a time budget alone, steps have no end to show
            tell(
                title,
                None if timed else event.total_steps,
                step,
                done=f"step {step}" if timed else f"{step}/{event.total_steps}",
                scores=scores(event),
                left="" if event.seconds_left is None else f"{event.seconds_left:.0f} s left",
            )

        yield step, load


def scores(event: Progress) -> str:
    """Loss, LPIPS and PSNR of the best iterate so far."""
    lpips = "" if event.best.lpips is None else f"  LPIPS {event.best.lpips:.4f}"
    return f"loss {event.best_loss:.4f}{lpips}  PSNR {event.best.psnr_db:.1f} dB"
