"""The loop over a folder: look, offer, collect, write down. No torch."""

from __future__ import annotations

import hashlib
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from latent_inv.images import Limits
from latent_inv.images.load import read_file
from latent_inv.incidents import as_typed
from latent_inv.result import JobResult

from .manifest import Manifest, Row
from .outputs import PAGE, output_names, remove_outputs, write_outputs, write_thumbnail
from .page import write_page
from .walk import Found
from .workplace import Ended, Workplace, WorkplaceGoneError

logger = logging.getLogger(__name__)

#: the page is written anew so often while a run goes on
_PAGE_SECONDS = 30.0


@dataclass(frozen=True)
class Files:
    """What a run is about.

    Attributes:
        folder, out: where pictures come from, and where results go.
        found: every file. names: picture → what its result is called.
        settings: hash of what is asked for. full: a folder a picture. redo: repeat what is finished.
    """

    folder: Path
    out: Path
    found: Sequence[Found]
    names: dict[str, str]
    settings: str
    full: bool = False
    redo: bool = False


@dataclass
class Tally:
    """How far a run is, in files.

    Attributes:
        total: pictures. kept: of them finished by an earlier run. skipped: files that are none.
        part_done: how much of the pictures in work is done, in pictures.
        seconds_left: estimate until the end; None if unknown.
    """

    total: int
    skipped: int
    done: int = 0
    failed: int = 0
    kept: int = 0
    part_done: float = 0.0
    seconds_left: float | None = None

    @property
    def left(self) -> int:
        """Pictures of which nothing is known yet."""
        return self.total - self.done - self.failed - self.kept


@dataclass(frozen=True)
class _Picture:
    path: str
    data: bytes = field(repr=False)
    sha256: str


class Run:
    """One run; `go` does it.

    Args:
        stop: asked again and again; once it says True, nothing more is begun or waited for.
        tell: called with the tally whenever it may have changed.
    """

    def __init__(
        self,
        files: Files,
        manifest: Manifest,
        workplace: Workplace,
        stop: Callable[[], bool],
        tell: Callable[[Tally], None],
    ) -> None:
        self._files, self._manifest, self._workplace = files, manifest, workplace
        self._stop, self._tell = stop, tell
        self._coming = deque(found.path for found in files.found if not found.skip and not found.fault)
        faults = sum(bool(found.fault) for found in files.found)
        skipped = sum(bool(found.skip) for found in files.found)
        self.tally = Tally(total=len(self._coming) + faults, skipped=skipped)
        #: (path, reason)
        self.failures: list[tuple[str, str]] = []
        self._held: _Picture | None = None
        self._taken: dict[str, str] = {}
        self._ended = 0
        self._began = self._page_at = time.monotonic()

    def go(self) -> None:
        """Until every picture has a row, or a stop was asked for.

        Raises:
            LatentInvError: the work cannot go on, e.g. the server is gone. OSError: the manifest cannot be written.
        """
        known = {each.path for each in self._files.found}
        # Of a picture that is not there any more, what is finished still is.
        self._manifest.forget([row.path for row in self._manifest if row.status != "done" and row.path not in known])
        self._manifest.add(*(Row(each.path, "skipped", each.skip) for each in self._files.found if each.skip))
        for found in self._files.found:
            if found.fault:
                self._fail(found.path, found.fault)
        self._began = time.monotonic()
        stopped = True
        try:
            while self._held or self._coming or self._workplace.busy:
                self._report()
                if self._stop():
                    return
                offered = self._offer_next()
                for ended in self._workplace.poll(wait=not offered):
                    self._take(ended)
                if time.monotonic() - self._page_at > _PAGE_SECONDS:
                    self.write_page()
            stopped = False
        except WorkplaceGoneError as gone:
            # Jobs that a server may still have are left to it: the next run finds them.
            stopped = False
            raise gone.error from None
        finally:
            self._workplace.close(stopped=stopped)
            self._report()

    def write_page(self) -> None:
        """Write the page of all that is known."""
        write_page(self._files.out / PAGE, self._files.folder.absolute().name, list(self._manifest))
        self._page_at = time.monotonic()

    # ---- a picture comes -------------------------------------------------------------------------

    def _offer_next(self) -> bool:
        """Bring one picture further; False if there is none, or no room for it."""
        if self._held is None and not self._coming:
            return False
        picture = self._held or self._read(self._coming.popleft())
        self._held = None
        if picture is None:
            return True
        try:
            if not self._workplace.offer(picture.path, picture.data, picture.sha256):
                self._held = picture
                return False
            self._taken[picture.path] = picture.sha256
        except WorkplaceGoneError:
            raise
        except Exception as error:
            self._fail(picture.path, _sentence(error, "taking a picture"), picture.sha256)
        return True

    def _read(self, path: str) -> _Picture | None:
        """The picture, unless it is finished already, or cannot be read."""
        try:
            data = read_file(self._files.folder / path, Limits())
        except Exception as error:
            self._fail(path, _sentence(error, "reading a picture"))
            return None
        sha256 = hashlib.sha256(data).hexdigest()
        if not self._files.redo and self._finished(path, sha256):
            self.tally.kept += 1
            return None
        return _Picture(path, data, sha256)

    def _finished(self, path: str, sha256: str) -> bool:
        row = self._manifest.rows.get(path)
        if row is None or (row.status, row.sha256, row.settings) != ("done", sha256, self._files.settings):
            return False
        wanted = output_names(self._files.names[path], self._files.full)
        return row.outputs.keys() == wanted.keys() and all(
            (self._files.out / name).is_file() for name in (*row.outputs.values(), row.thumbnail)
        )

    # ---- a picture is done -----------------------------------------------------------------------

    def _take(self, ended: Ended) -> None:
        sha256 = self._taken.pop(ended.key)
        if ended.lost:
            self._coming.appendleft(ended.key)
            return
        self._ended += 1
        if ended.result is None:
            self._fail(ended.key, _sentence(ended.error, "a job") if ended.error else "there is no result", sha256)
        else:
            self._keep(ended.key, ended.result, sha256)

    def _keep(self, path: str, result: JobResult, sha256: str) -> None:
        out, before = self._files.out, self._manifest.rows.get(path)
        try:
            outputs = write_outputs(result, out, self._files.names[path], self._files.full)
            thumbnail = write_thumbnail(result, out, path)
        except Exception as error:
            self._fail(path, _sentence(error, "writing a result"), sha256)
            return
        good = result.outcome.good
        row = Row(
            path,
            status="done" if good else "failed",
            reason="" if good else result.message,
            sha256=sha256,
            settings=self._files.settings,
            outcome=result.outcome.name,
            psnr_db=result.metrics.psnr_db,
            lpips=result.metrics.lpips,
            steps=result.steps,
            seconds=round(result.seconds, 3),
            outputs=outputs,
            thumbnail=thumbnail,
            warnings=result.warnings,
        )
        self._manifest.add(row)
        if good:
            self.tally.done += 1
        else:
            self._count_failure(path, result.message)
        if before is not None:
            unused = {kind: name for kind, name in before.outputs.items() if not self._manifest.uses(name)}
            remove_outputs(out, unused)

    def _fail(self, path: str, reason: str, sha256: str = "") -> None:
        self._manifest.add(Row(path, "failed", reason, sha256, self._files.settings))
        self._count_failure(path, reason)

    def _count_failure(self, path: str, reason: str) -> None:
        self.tally.failed += 1
        self.failures.append((path, reason))

    def _report(self) -> None:
        tally = self.tally
        tally.part_done = self._workplace.part_done
        # What failed before it was taken took no time, and says nothing about the others.
        worked = self._ended + tally.part_done
        tally.seconds_left = None
        if worked and tally.left:
            each = (time.monotonic() - self._began) / worked
            tally.seconds_left = max(0.0, tally.left - tally.part_done) * each
        self._tell(tally)


def _sentence(error: Exception, where: str) -> str:
    """Why something failed; the system's own words where it is about a file or the disk."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    typed = as_typed(error, where)
    return typed.message if typed.field == "image" else str(typed)  # which picture is said already
