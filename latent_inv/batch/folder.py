"""`invert_folder`: the library's call. No torch, unless the work is done here."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from latent_inv.errors import InputError, SpecError, UnavailableError

from . import question as questions
from .manifest import Manifest
from .outputs import LOCK, MANIFEST, sweep
from .run import Files, Run, Tally
from .walk import Found, name_results, shown, walk
from .workplace import Workplace

if TYPE_CHECKING:
    from latent_inv.client import Client
    from latent_inv.generators.base import LoadProgress


@dataclass(frozen=True)
class FolderSummary:
    """What a run over a folder came to.

    Attributes:
        done, failed: pictures of this run. skipped: files that are no pictures. kept: pictures that an earlier run had
            finished. left: pictures that a stop left undone.
        stopped: was it ended before its end?
        seconds: how long it took.
        failures: (path, reason) of those that failed.
    """

    done: int
    failed: int
    skipped: int
    kept: int
    left: int
    stopped: bool
    seconds: float
    failures: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        more = ((self.kept, "done before"), (self.left, "left"))
        text = f"{self.done} done, {self.failed} failed, {self.skipped} skipped"
        return ", ".join([text, *(f"{count} {word}" for count, word in more if count)])

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        counts = {name: getattr(self, name) for name in ("done", "failed", "skipped", "kept", "left")}
        failures = [{"path": shown(path), "reason": reason} for path, reason in self.failures]
        return {**counts, "stopped": self.stopped, "seconds": round(self.seconds, 3), "failures": failures}


def invert_folder(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    recursive: bool = False,
    full: bool = False,
    redo: bool = False,
    client: Client | None = None,
    in_flight: int | None = None,
    encoder: str | os.PathLike[str] | None = None,
    device: str = "auto",
    threads: int | None = None,
    on_progress: Callable[[Tally], None] | None = None,
    on_load: LoadProgress | None = None,
    stop: Callable[[], bool] | None = None,
    **settings: Any,
) -> FolderSummary:
    """Invert every picture of a folder, many at once; what one of them has wrong with it does not stop the others.

    `out` gets NAME.latents.safetensors and NAME.png for each picture, manifest.jsonl with a row for each file as soon
    as it is known, and index.html. Pictures are told by their content; see `batch.walk` for what is skipped, and
    `batch.manifest` for the rows. Run again, it repeats what is not finished: a picture is, if its content and the
    settings are those of its row and its outputs are there.

    Args:
        recursive: enter the folders in it, which are kept in `out`.
        full: a folder NAME.result with everything that `JobResult.save` writes, in place of the two files.
        redo: repeat what is finished.
        client: of a server that does the work; None does it here, in this thread.
        in_flight: most jobs at once; None: as many as the lanes need here, 256 on a server, which says when it is full.
        encoder, device, threads, on_load: as those of `invert`, for work that is done here.
        on_progress: called with what is done and left, again and again.
        stop: asked between steps; once it says True, what is finished stays, and jobs in flight are given up.
        settings: those of `invert`, for every picture the same; the seed too. `crop` and `weight` need pictures that
            they fit. With `seconds`, pictures are done here one after the other.
    Raises:
        InputError: there is no folder, no picture in it, `out` is in the way, or a setting is wrong.
        UnavailableError: another run writes into `out`, or the server is gone.
        LatentInvError: as `invert`, for what is wrong with no single picture.
    """
    began = time.monotonic()
    source, target = Path(folder), Path(out)
    if in_flight is not None and (isinstance(in_flight, bool) or not isinstance(in_flight, int) or in_flight < 1):
        raise SpecError(f"must be a whole number ≥ 1, found {in_flight!r:.40}", field="in_flight")
    _check_apart(source, target)
    found = walk(source, recursive=recursive, leave_out=target)
    _check_pictures(source, found, recursive)
    question = questions.ask(encoder=encoder, **settings)
    workplace: Workplace
    if client is not None:
        from .on_server import OnServer

        for name, given in (("device", device != "auto"), ("threads", threads), ("encoder", encoder)):
            if given:
                raise SpecError("is for work in this process; leave it out with a client", field=name)
        workplace = OnServer(client, question, in_flight=in_flight, redo=redo)
    else:
        from .here import Here

        workplace = Here(
            question, in_flight=in_flight, device=device, threads=threads, encoder=encoder, on_load=on_load
        )
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f'cannot make "{shown(target.name)}": {error.strerror}', field="out") from error
    try:
        with FileLock(target / LOCK, timeout=0):
            sweep(target)
            with Manifest(target / MANIFEST) as manifest:
                names = name_results([each.path for each in found if not each.skip])
                settings_sha256 = questions.with_weights(question, workplace.weights_sha256)
                files = Files(source, target, found, names, settings_sha256, full, redo)
                return _go(Run(files, manifest, workplace, stop or _never, on_progress or _nothing), manifest, began)
    except Timeout:
        text = f'another run writes into "{shown(target.name)}"; wait for it, or take another folder'
        raise UnavailableError(text, field="out") from None


def _go(run: Run, manifest: Manifest, began: float) -> FolderSummary:
    try:
        run.go()
    finally:
        manifest.tidy()
        run.write_page()
    tally = run.tally
    return FolderSummary(
        done=tally.done,
        failed=tally.failed,
        skipped=tally.skipped,
        kept=tally.kept,
        left=tally.left,
        stopped=tally.left > 0,
        seconds=time.monotonic() - began,
        failures=tuple(run.failures),
    )


def _check_apart(folder: Path, out: Path) -> None:
    """Results must not be written over pictures."""
    inside, outer = Path(os.path.realpath(folder)), Path(os.path.realpath(out))
    if inside == outer or outer in inside.parents:
        raise SpecError("must not be the folder of the pictures, or one around it", field="out")


def _check_pictures(folder: Path, found: list[Found], recursive: bool) -> None:
    if any(not each.skip for each in found):
        return
    name = shown(folder.absolute().name)
    files = f"{len(found)} files that are none" if found else "nothing"
    hint = "" if recursive else "; folders in it are entered with recursive"
    raise InputError(f'there is no picture in "{name}", but {files}{hint}', field="folder")


def _never() -> bool:
    return False


def _nothing(_: Tally) -> None:
    return
