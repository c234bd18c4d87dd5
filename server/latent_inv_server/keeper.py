"""What is kept, when, and how often it is tried: the way from the event loop to the store."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace
from typing import TypeVar

from latent_inv.incidents import as_typed

from .live import RESERVE, LiveJob
from .store.records import Blobs, JobRecord, JobState, JobStore

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: threads that wait for disks and databases
_THREADS = 8
#: a content that nothing refers to is swept after two minutes, so one that is older than this is put anew, in seconds
_FRESH_SECONDS = 60.0
#: what no file of a result is called
_RESULT = ""
#: pauses between attempts to keep what must be kept, in seconds; the last one again and again
_PAUSES = (0.1, 0.5, 2.0, 5.0)


class Keeper:
    """Jobs and blobs for use on an event loop."""

    def __init__(self, jobs: JobStore, blobs: Blobs) -> None:
        self.jobs, self.blobs = jobs, blobs
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="store")

    async def ask(self, function: Callable[[], T]) -> T:
        """Run one call of the store in a thread.

        Raises:
            LatentInvError: the store's own.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, copy_context().run, function)

    async def insist(self, what: str, function: Callable[[], T]) -> T:
        """The same for what must be kept: tried until it works, since a full disk may have room again."""
        pauses = iter(_PAUSES)
        while True:
            try:
                return await self.ask(function)
            except Exception as error:
                pause = next(pauses, _PAUSES[-1])
                logger.warning("%s could not be kept, again in %.1f s: %s", what, pause, as_typed(error, what))
                await asyncio.sleep(pause)

    def close(self) -> None:
        """Let go of the threads; what they are doing is done."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    # ---- the steps of a job ------------------------------------------------------------------------

    async def started(self, job: LiveJob) -> bool:
        """Keep that a job runs, with numbers for what it will tell; False: it is over, or gone."""
        reserve = job.sequence + RESERVE
        now = time.time()

        def start() -> bool:
            return self.jobs.start(job.job_id, now) and self.jobs.save(job.job_id, sequence=reserve)

        done = await self.insist(f"the start of job {job.job_id}", start)
        if done:
            job.moved(JobState.running, start_time=job.record.start_time or now)
            job.kept(reserve)
        return done

    async def requeued(self, job: LiveJob, strike: bool) -> int:
        """Keep that a job waits again; returns how many workers died while it ran."""
        strikes = await self.insist(f"job {job.job_id}", lambda: self.jobs.requeue(job.job_id, strike))
        job.moved(JobState.queued, strikes=strikes)
        return strikes

    async def save(self, job: LiveJob) -> None:
        """Keep progress and checkpoint of a running job, if there is news.

        Raises:
            LatentInvError: the store's own; the news stays unsaved.
        """
        async with job.saving:  # or an older save could come after a newer one
            if job.unsaved and job.under_way:
                await self._save(job)

    async def _save(self, job: LiveJob) -> None:
        job.unsaved = False
        checkpoint, progress, reserve = job.checkpoint, job.record.progress, job.sequence + RESERVE

        def save() -> str | None:
            blob = "" if checkpoint is None else self.blobs.put(checkpoint, needed=True)
            kept = self.jobs.save(job.job_id, sequence=reserve, progress=progress or None, checkpoint_blob=blob)
            return blob if kept else None

        try:
            blob = await self.ask(save)
        except BaseException:
            job.unsaved = True
            raise
        if blob is None:
            return
        if job.checkpoint is checkpoint:
            job.checkpoint = None  # it can be read from where it is kept
        if blob:
            job.record = replace(job.record, checkpoint_blob=blob)
        job.kept(reserve)

    async def save_all(self, jobs: Iterable[LiveJob]) -> None:
        """The same for many; a failure is logged, and tried again with the next news."""
        done = await asyncio.gather(*(self.save(job) for job in jobs), return_exceptions=True)
        for failed in done:
            if isinstance(failed, Exception):
                logger.warning("progress could not be kept: %s", as_typed(failed, "saving progress"))

    async def ended(
        self,
        job: LiveJob,
        state: JobState,
        result: bytes,
        files: Mapping[str, bytes],
        error_status: str = "",
        error_message: str = "",
    ) -> JobRecord | None:
        """Keep the end of a job, with its result and the files of that.

        Returns:
            the job as it is kept; None: it was removed.
        """
        sequence, now, progress = job.sequence + 1, time.time(), job.record.progress or None

        contents = {_RESULT: result, **files} if result else {}
        names: dict[str, str] = {}
        since = now

        def finish() -> JobRecord | None:
            nonlocal since
            if time.time() - since > _FRESH_SECONDS:
                names.clear()
                since = time.time()
            for name, data in contents.items():
                if name not in names:  # in an attempt before this one
                    names[name] = self.blobs.put(data, needed=True)
            self.jobs.finish(
                job.job_id,
                state,
                now,
                sequence=sequence,
                result_blob=names.get(_RESULT, ""),
                files={name: names[name] for name in files if name in names},
                progress=progress,
                error_status=error_status,
                error_message=error_message,
            )
            # As it is kept: another one may have ended it before.
            return self.jobs.get(job.job_id)

        return await self.insist(f"the end of job {job.job_id}", finish)

    async def result_of(self, record: JobRecord) -> bytes:
        """The wire's `JobResult` of a job that is over, serialized; empty: it has none.

        Raises:
            NotFoundError, InternalError: what is kept is gone, or damaged.
        """
        return await self.ask(lambda: self.blobs.read(record.result_blob)) if record.result_blob else b""
