"""Jobs as resources: created once however often they are asked for, seen only by whoever made them, never lost."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial

from latent_inv.convert import Contents
from latent_inv.errors import (
    NotFoundError,
    UnavailableError,
)
from latent_inv.incidents import as_typed
from latent_inv.v1 import job_pb2

from .config import ServerConfig
from .dispatcher import Dispatcher
from .door.identity import Caller, caller
from .keeper import Keeper
from .live import LiveJob
from .logs import note
from .making import Maker
from .queue import Queue
from .runs import Runs
from .store.records import Blobs, JobRecord, JobState, JobStore
from .telemetry.jobs import JobsTold
from .watching import Told, ToldEnd, ToldProgress

logger = logging.getLogger(__name__)

#: how long the engine's description of its generators is waited for; a job may be taken without it
_DESCRIBE_SECONDS = 5.0
#: how often what is old is removed, in seconds
_RETAIN_SECONDS = 60.0
_STOPPING = "the server is stopping; try again once it is back"


class Jobs:
    """All jobs of a server. Used on one event loop; every method answers for `door.identity.caller()`.

    Args:
        told: hears what happens to jobs.
        retain: removes what is kept too long, called in a thread about once a minute; None: nothing is removed.
        contents: client → the contents of its uploads, which its jobs may name by hash.
    """

    def __init__(
        self,
        config: ServerConfig,
        dispatcher: Dispatcher,
        store: JobStore,
        blobs: Blobs,
        retain: Callable[[], object] | None,
        contents: Callable[[str], Contents],
        told: JobsTold,
    ) -> None:
        self._config, self._dispatcher, self._retain = config, dispatcher, retain
        self._keeper = Keeper(store, blobs)
        self._queue = Queue(self._most_running)
        self.runs = Runs(config, dispatcher, self._keeper, self._queue, told)
        self._callers: dict[str, Caller] = {}
        self._maker = Maker(config, dispatcher, self._keeper, self._queue, self.runs, contents, told)
        self._loops: list[asyncio.Task[None]] = []

    @property
    def unfinished(self) -> int:
        """Jobs that are queued or running."""
        return len(self.runs.live)

    @property
    def waiting(self) -> Mapping[str, int]:
        """Jobs that wait for their turn, by priority. May be asked from another thread."""
        return {"interactive": self._queue.count(False), "bulk": self._queue.count(True)}

    @property
    def queued(self) -> int:
        """Jobs that wait for their turn."""
        return len(self._queue)

    # ---- the server's life -------------------------------------------------------------------------

    async def start(self) -> None:
        """Take up what an earlier server left unfinished; running jobs first, from their checkpoints."""
        found = await self._keeper.ask(self._keeper.jobs.unfinished)
        interrupted = [LiveJob(record) for record in found if record.state is JobState.running]
        waiting = [LiveJob(record) for record in found if record.state is not JobState.running]
        for job in interrupted:
            await self._keeper.requeued(job, False)
        for job in (*interrupted, *waiting):
            self.runs.adopt(job)
        if found:
            logger.info("%d jobs of an earlier run go on, %d were running", len(found), len(interrupted))
        self._loops = [asyncio.create_task(self.runs.tend()), asyncio.create_task(self._forget_old())]

    async def drain(self, seconds: float) -> None:
        """Take no more jobs, and keep how far the running ones are, if that takes less than `seconds`."""
        self.runs.stopping = True
        began = time.monotonic()
        await self._maker.settle(seconds)
        await self.runs.drain(max(0.0, seconds - (time.monotonic() - began)))

    async def stop(self) -> None:
        """Let go of everything; what is not over goes on at the next start."""
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        await self.runs.close()
        await asyncio.to_thread(self._keeper.close)

    async def _forget_old(self) -> None:
        while self._retain is not None:
            await asyncio.sleep(_RETAIN_SECONDS)
            try:
                await self._keeper.ask(self._retain)
            except Exception as error:
                logger.warning("what is old could not be removed: %s", as_typed(error, "removing what is old"))

    async def create(
        self,
        spec: job_pb2.JobSpec,
        request_id: str = "",
        labels: Mapping[str, str] | None = None,
        *,
        tied: bool = False,
    ) -> tuple[JobRecord, bool]:
        """A new job, or the one that the same request made before; see `Maker.create`."""
        self._callers[caller().name] = caller()
        return await self._maker.create(spec, request_id, labels, tied=tied)

    def _most_running(self, client: str) -> int | None:
        known = self._callers.get(client)
        # After a restart jobs go on before their client has called.
        return self._config.max_running_per_client if known is None else known.quotas.running_jobs

    # ---- looking -----------------------------------------------------------------------------------

    def _live(self, job_id: str) -> LiveJob | None:
        note(job_id=job_id)
        job = self.runs.live.get(job_id)
        return job if job is not None and job.record.client == caller().name else None

    async def get(self, job_id: str) -> JobRecord:
        """One job.

        Raises:
            NotFoundError: there is none, or it is another client's.
        """
        live = self._live(job_id)
        if live is not None:
            return live.newest
        client = caller().name
        record = await self._keeper.ask(lambda: self._keeper.jobs.get(job_id, client))
        if record is None:
            raise NotFoundError("there is no job with this id", field="job_id")
        return record

    async def result_of(self, record: JobRecord) -> bytes:
        """The wire's `JobResult` of a job, serialized; empty: it has none (yet)."""
        return await self._keeper.result_of(record)

    async def page(
        self, states: Sequence[JobState], labels: Mapping[str, str], limit: int, after: tuple[float, str] | None
    ) -> list[JobRecord]:
        """Jobs of the caller, newest first; see `JobStore.page`."""
        client = caller().name
        ask = partial(self._keeper.jobs.page, client, states, labels, limit, after)
        return [self.runs.newest(record) for record in await self._keeper.ask(ask)]

    async def watch(self, job_id: str, after: int = 0) -> AsyncGenerator[Told, None]:
        """What is told of a job with numbers larger than `after`, and always its end. Leaving does not affect it.

        Raises:
            NotFoundError: there is none, or it is another client's. UnavailableError: the server is stopping.
        """
        live = self._live(job_id)
        if live is None:
            async for told in self._watch_kept(job_id, after):
                yield told
            return
        feed = live.attach(after)
        try:
            async with aclosing(feed.told()) as telling:
                async for told in telling:
                    yield told
        finally:
            live.detach(feed)

    async def _watch_kept(self, job_id: str, after: int) -> AsyncGenerator[Told, None]:
        record = await self.get(job_id)
        if not record.state.over:
            raise UnavailableError("the job is just being taken up; watch it again", retry_after=1)
        if record.progress and after < record.sequence - 1:
            yield ToldProgress(record.sequence - 1, record.progress)
        yield ToldEnd(record.sequence, record, await self.result_of(record), self.runs.errors.get(job_id))

    # ---- ending ------------------------------------------------------------------------------------

    async def cancel(self, job_id: str) -> None:
        """Stop a job within one step, without waiting for it; harmless if it is over.

        Raises:
            NotFoundError: there is none, or it is another client's.
        """
        await self.get(job_id)
        self.runs.cancel_if_live(job_id)

    def abandon(self, job_id: str) -> None:
        """The same for a job that its caller made and leaves."""
        self.runs.cancel_if_live(job_id)

    async def delete(self, job_id: str) -> None:
        """Remove a job that is over; its files go when nothing else needs them.

        Raises:
            NotFoundError: there is none, or it is another client's. StateError: it is not over.
        """
        note(job_id=job_id)
        client = caller().name
        if not await self._keeper.ask(lambda: self._keeper.jobs.delete(job_id, client)):
            raise NotFoundError("there is no job with this id", field="job_id")
