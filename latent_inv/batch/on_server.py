"""A folder's pictures on a server: as many jobs in flight as it takes, over refusals, broken lines and restarts."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from latent_inv.errors import (
    AssetError,
    CancelledError,
    DeadlineError,
    InternalError,
    LatentInvError,
    LimitError,
    LoginError,
    NotFoundError,
    StateError,
    UnavailableError,
    UnsupportedError,
)

from .question import Question
from .workplace import Ended, Workplace, WorkplaceGoneError

if TYPE_CHECKING:
    from latent_inv.client import Client, Job

#: most jobs in flight, unless told otherwise: enough for any server's workers, and room for others in its queue
IN_FLIGHT = 256
#: seconds between looks at the jobs: soon after one ended, and at most
_FIRST_LOOK, _LONGEST_LOOK = 0.1, 2.0
#: seconds between attempts to reach a server that is away: the first pause, and the longest
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
#: longest pause between two looks at whether to stop, in seconds
_NAP = 0.25
#: a job that a server has lost is made again so many times
_MAX_LOSSES = 3
#: errors that every further call would meet too
_FATAL = (LoginError, UnsupportedError, AssetError)
#: errors of lines and servers, and of no picture
_AWAY = (UnavailableError, DeadlineError)


class OnServer(Workplace):
    """Jobs on a server. See `Workplace`.

    A job's request_id is made from the picture's content and the settings, so that a call that is made again, by this
    run or by the next one, finds the job that is there. One that failed or was cancelled before is made anew.

    Args:
        client: of the server; left open at the end.
        in_flight: most jobs at once; None takes 256.
        redo: make jobs that have succeeded before anew as well.
        patience: seconds without an answer after which the server is given up.
    Raises:
        LatentInvError: the server does not answer, does not know the generator, or does not let us in.
    """

    def __init__(
        self,
        client: Client,
        question: Question,
        *,
        in_flight: int | None = None,
        redo: bool = False,
        patience: float = 600.0,
    ) -> None:
        self._client, self._question, self._redo, self._patience = client, question, redo, patience
        self._most = in_flight or IN_FLIGHT
        self.weights_sha256 = client.generator(question.spec.generator).weights_sha256
        #: job → keys of the pictures that it is for: files of one content share it
        self._jobs: dict[str, list[str]] = {}
        self._fresh: set[str] = set()
        self._losses: Counter[str] = Counter()
        self._parts: dict[str, float] = {}
        self._label = {"batch": question.digest[:32]}
        self._not_before = self._next_look = time.monotonic()
        self._look_pause, self._away_pause = _FIRST_LOOK, _FIRST_PAUSE
        self._away_since: float | None = None

    @property
    def busy(self) -> bool:
        return bool(self._jobs)

    @property
    def part_done(self) -> float:
        return sum(self._parts.values())

    def offer(self, key: str, data: bytes, sha256: str) -> bool:
        now = time.monotonic()
        if len(self._jobs) >= self._most or now < self._not_before:
            return False
        try:
            job = self._create(data, sha256)
        except _AWAY as error:
            self._away(error)
            return False
        except LimitError as error:
            if error.retry_after is None:
                raise
            self._answered()
            self._not_before = time.monotonic() + error.retry_after
            return False
        except _FATAL as error:
            raise WorkplaceGoneError(error) from error
        self._answered()
        self._jobs.setdefault(job.job_id, []).append(key)
        return True

    def _create(self, data: bytes, sha256: str) -> Job:
        arguments: dict[str, Any] = dict(self._question.arguments)
        # Another version might write the same settings in other words, and be refused for it.
        whole = f"{sha256} {self._question.digest} {_version()}"
        request_id = f"batch-{hashlib.sha256(whole.encode()).hexdigest()[:48]}"
        for _ in range(2):
            job = self._client.jobs.create(data, request_id=request_id, labels=self._label, **arguments)
            if not job.over or job.job_id in self._fresh or (job.state == "succeeded" and not self._redo):
                break
            with suppress(NotFoundError, StateError):
                self._client.jobs.delete(job.job_id)
        self._fresh.add(job.job_id)
        return job

    def poll(self, wait: bool) -> list[Ended]:
        now = time.monotonic()
        due = min(self._next_look, self._not_before) if not self._jobs else self._next_look
        if now < due or not self._jobs:
            if wait:
                time.sleep(min(max(due - now, 0.01), _NAP))
            return []
        try:
            ended = self._look()
        except _FATAL as error:
            raise WorkplaceGoneError(error) from error
        except LatentInvError as error:
            self._away(error)
            return []
        self._answered()
        self._look_pause = _FIRST_LOOK if ended else min(1.5 * self._look_pause, _LONGEST_LOOK)
        self._next_look = time.monotonic() + self._look_pause
        if ended:
            self._not_before = min(self._not_before, time.monotonic())  # there is room again
        return ended

    def _look(self) -> list[Ended]:
        going = {job.job_id: job for job in self._client.jobs.list(("queued", "running"), self._label)}
        self._parts = {name: _part(going[name]) * len(keys) for name, keys in self._jobs.items() if name in going}
        ended: list[Ended] = []
        for job_id in [job_id for job_id in self._jobs if job_id not in going]:
            try:
                found = self._end(job_id)
            except LatentInvError:
                if ended:
                    break  # what came is not to be lost; the next look meets the error again
                raise
            if found is not None:
                ended += [Ended(key, found.result, found.error, found.lost) for key in self._jobs.pop(job_id)]
        return ended

    def _end(self, job_id: str) -> Ended | None:
        """How a job ended, for any of its pictures; None: it has not."""
        try:
            job = self._client.jobs.get(job_id)
        except NotFoundError as error:
            # The server has lost its memory, or somebody has removed the job.
            self._losses.update(self._jobs[job_id])
            if max(self._losses[key] for key in self._jobs[job_id]) >= _MAX_LOSSES:
                return Ended("", error=error)
            return Ended("", lost=True)
        except LatentInvError as error:
            if isinstance(error, (*_FATAL, *_AWAY)) or error.retry_after is not None:
                raise
            return Ended("", error=error)
        if not job.over:
            return None
        if job.state == "cancelled":
            return Ended("", error=CancelledError("the job was cancelled on the server"))
        if job.state == "succeeded" and job.result is not None:
            return Ended("", result=job.result)
        return Ended("", error=InternalError(job.error or "the server has kept no result of the job"))

    def _answered(self) -> None:
        self._away_since, self._away_pause = None, _FIRST_PAUSE

    def _away(self, error: LatentInvError) -> None:
        """The server does not answer, or not well: try again a little later, until patience is used up."""
        now = time.monotonic()
        self._away_since = now if self._away_since is None else self._away_since
        if now - self._away_since > self._patience:
            raise WorkplaceGoneError(error) from error
        pause = max(self._away_pause, min(error.retry_after or 0.0, _LONGEST_PAUSE))
        self._not_before = self._next_look = now + pause
        self._away_pause = min(2 * self._away_pause, _LONGEST_PAUSE)

    def close(self, *, stopped: bool) -> None:
        if not stopped:
            return
        for job_id in self._jobs:
            try:
                self._client.jobs.cancel(job_id)
            except NotFoundError:
                continue
            except LatentInvError:
                return  # away, or closed to us: its jobs go on, and the next run finds them


def _part(job: Job) -> float:
    progress = job.progress
    if progress is None or not progress.total_steps:
        return 0.0
    return min(1.0, progress.latest.step / progress.total_steps)


def _version() -> str:
    try:
        return version("latent-inv")
    except PackageNotFoundError:
        return "source"
