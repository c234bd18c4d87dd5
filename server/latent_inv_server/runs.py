"""The way of a job through the engine: its turn, what the engine says, and what happens when things break.

queue -> keep that it runs -> engine.submit, from its newest checkpoint
  progress, previews, checkpoints   numbered, told, kept about once a second (`live`, `keeper`)
  Finished                          result kept, end kept, then told; only then its place is free
  the worker was lost               queued again with a strike, to go on from its checkpoint; two strikes are the end
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Coroutine
from dataclasses import replace
from functools import partial
from typing import Any

from latent_inv import convert
from latent_inv.errors import (
    CancelledError,
    InputError,
    InternalError,
    LatentInvError,
    LimitError,
    NotFoundError,
    UnavailableError,
)
from latent_inv.incidents import as_typed
from latent_inv.result import Event, Finished, JobResult, Lost, Outcome
from latent_inv.spec import JobSpec
from latent_inv.v1 import job_pb2

from .admission import in_request
from .config import ServerConfig
from .dispatcher import Dispatcher
from .keeper import Keeper
from .live import LiveJob, Phase
from .logs import scope
from .outputs import result_files
from .queue import Queue
from .store.records import JobRecord, JobState
from .telemetry.jobs import JobsTold

logger = logging.getLogger(__name__)

#: workers that may be lost while they are busy with a job
MAX_STRIKES = 2
#: failed jobs whose errors are remembered whole, for a watcher who comes just after the end
REMEMBERED = 1000
#: how often what is due is looked at: news to be kept, a worker that is back, in seconds
TICK_SECONDS = 1.0


class Runs:
    """All jobs that are not over. Used on one event loop.

    Args:
        queue: who is next; `config.max_jobs` of them run at once.
        told: hears what happens to jobs.
    """

    def __init__(
        self, config: ServerConfig, dispatcher: Dispatcher, keeper: Keeper, queue: Queue, told: JobsTold
    ) -> None:
        self._config, self._dispatcher, self._keeper, self._queue, self._told = config, dispatcher, keeper, queue, told
        self.live: dict[str, LiveJob] = {}
        #: why jobs failed of late, with the fields of their requests; the store keeps the sentence alone
        self.errors: OrderedDict[str, LatentInvError] = OrderedDict()
        self.stopping = False
        self._closed = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._paused_until = 0.0

    @property
    def running(self) -> int:
        """Jobs that have a place in the engine."""
        return self._queue.taken

    def newest(self, record: JobRecord) -> JobRecord:
        """A job as it is now, which may be ahead of what is kept."""
        live = self.live.get(record.job_id)
        return record if live is None else live.newest

    def adopt(self, job: LiveJob, *, first: bool = False) -> None:
        """Take over a job that is kept as queued."""
        self.live[job.job_id] = job
        self._told.adopted(job.record)
        self._enqueue(job, first=first)

    def _enqueue(self, job: LiveJob, *, first: bool = False) -> None:
        job.phase = Phase.waiting
        self._queue.add(job.job_id, job.record.client, job.record.bulk, first=first)
        if len(self._queue) > self._config.max_jobs:
            job.spec = None  # will be read again when it has its turn; a long queue of pictures would fill the memory
        self.pump()

    def pump(self) -> None:
        """Let run what may run."""
        now = asyncio.get_running_loop().time()
        while self._queue.taken < self._config.max_jobs and not self.stopping and now >= self._paused_until:
            # Without a worker jobs keep their turn.
            job_id = self._queue.take() if self._dispatcher.alive else None
            if job_id is None:
                return
            self._begin(self.live[job_id])

    def _begin(self, job: LiveJob) -> None:
        job.phase = Phase.starting
        self._do(job, self._run(job))

    def _do(self, job: LiveJob, work: Coroutine[Any, Any, None]) -> None:
        # Its lines are about the job, whatever call or other work it was begun in.
        with scope(job_id=job.job_id, client=job.record.client):
            task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._did)

    def _did(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("the care for a job broke off", exc_info=task.exception())

    # ---- to the engine -----------------------------------------------------------------------------

    async def _run(self, job: LiveJob) -> None:
        try:
            if not await self._keeper.started(job):
                raise InternalError("the job was ended by somebody else")
            spec = await self._spec(job)
            checkpoint = await self._checkpoint(job)
            await self._submit(job, spec, checkpoint)
        except Exception as error:
            await self._refused(job, as_typed(error, f"the start of job {job.job_id}"))
            return
        if job.phase is not Phase.starting:
            return  # over, or lost, before the engine's answer came
        job.phase = Phase.running
        # Asked for while the engine did not know it.
        if job.cancelling:
            self._dispatcher.cancel(job.job_id)
        if self.stopping:
            self._dispatcher.checkpoint(job.job_id)

    async def _spec(self, job: LiveJob) -> JobSpec:
        spec, job.spec = job.spec, None
        if spec is None:
            data = await self._keeper.ask(lambda: self._keeper.blobs.read(job.record.spec_blob))
            limits, kept = self._config.image_limits, self._keeper.blobs.read
            read = job_pb2.JobSpec.FromString
            # The uploads that it names are the job's own by now, whatever its client has done with them since.
            spec = await self._dispatcher.in_thread(lambda: convert.job_spec(read(data), limits, kept))
        if spec.reporting.checkpoint_steps is None:
            spec = replace(spec, reporting=replace(spec.reporting, checkpoint_steps=self._config.checkpoint_steps))
        return spec

    async def _checkpoint(self, job: LiveJob) -> bytes | None:
        if job.checkpoint is not None or not job.record.checkpoint_blob:
            return job.checkpoint
        try:
            return await self._keeper.ask(lambda: self._keeper.blobs.read(job.record.checkpoint_blob))
        except LatentInvError as error:
            logger.warning("job %s: its checkpoint cannot be read, it begins anew: %s", job.job_id, error)
            return None

    async def _submit(self, job: LiveJob, spec: JobSpec, checkpoint: bytes | None) -> None:
        job.begins()
        self._told.runs(job.record, checkpoint is not None)
        try:
            await self._dispatcher.submit(job.job_id, spec, checkpoint, partial(self._hear, job))
        except InputError as error:
            if checkpoint is None or error.field != "checkpoint":
                raise
            logger.warning("job %s: its checkpoint is refused, it begins anew: %s", job.job_id, error)
            job.begins()
            self._told.runs(job.record, False)
            await self._dispatcher.submit(job.job_id, spec, None, partial(self._hear, job))
        logger.info("job %s: in the engine%s", job.job_id, "" if checkpoint is None else ", from its checkpoint")

    async def _refused(self, job: LiveJob, error: LatentInvError) -> None:
        """The engine did not take it, or there is no engine any more."""
        if self.stopping:
            job.phase = Phase.waiting  # for the next start
        elif isinstance(error, UnavailableError) or (isinstance(error, LimitError) and error.retry_after is not None):
            # Full for now, or without a worker that could have seen it: nobody's fault.
            self._told.interrupted(job.record, "no_worker" if isinstance(error, UnavailableError) else "no_room")
            self._paused_until = asyncio.get_running_loop().time() + (error.retry_after or 1.0)
            await self._again(job, strike=False)
        else:
            await self._end(job, Finished(job.job_id, 0, error=error))

    # ---- from the engine -----------------------------------------------------------------------------

    def _hear(self, job: LiveJob, event: Event) -> None:
        if self._closed or not job.under_way:
            return
        if not isinstance(event, Finished):
            job.hear(event)
        elif isinstance(event, Lost) and self.stopping:
            job.phase = Phase.waiting  # for the next start
        elif isinstance(event, Lost):
            logger.warning("job %s: its worker is gone", job.job_id)
            self._told.interrupted(job.record, "worker_lost")
            job.phase = Phase.ending  # so that nothing else happens to it until it is queued again
            # A job that breaks its workers does so at one place. Others are hit by chance, and get on between.
            gets_on = job.lost() and job.record.strikes > 0
            self._do(job, self._again(job, strike=event.suspect and not gets_on))
        elif not job.stopped:
            job.phase = Phase.ending
            self._do(job, self._end(job, event))

    async def _again(self, job: LiveJob, *, strike: bool) -> None:
        """Queue it anew, to go on from its checkpoint.

        Args:
            strike: its worker was lost while busy with it.
        """
        job.phase = Phase.ending
        strikes = await self._keeper.requeued(job, strike)
        if job.cancelling:
            await self._end(job, Finished(job.job_id, 0, error=CancelledError("the job was cancelled")))
            return
        if strikes >= MAX_STRIKES:
            text = f"the job stopped {strikes} workers, so it was given up; try a smaller picture or lane width"
            await self._end(job, Finished(job.job_id, 0, error=InternalError(text)))
            return
        self._queue.leave(job.record.client)
        self._enqueue(job, first=True)

    async def _end(self, job: LiveJob, finished: Finished) -> None:
        """Keep how it ended, then tell it, then let the next one in."""
        job.phase = Phase.ending
        error = None if finished.error is None else in_request(as_typed(finished.error, f"job {job.job_id}"))
        result, files, steps = b"", {}, 0
        state = JobState.cancelled if isinstance(error, CancelledError) else JobState.failed
        outcome = state.name
        if isinstance(finished.result, JobResult):
            made = finished.result
            outcome, steps = made.outcome.name, made.steps
            state = JobState.cancelled if made.outcome is Outcome.cancelled else JobState.succeeded
            try:
                result = await self._dispatcher.in_thread(lambda: convert.result_to(made).SerializeToString())
                files = await self._dispatcher.in_thread(lambda: result_files(made, job.job_id))
            except Exception as broken:
                outcome = "failed"
                state, error = JobState.failed, as_typed(broken, f"the result of job {job.job_id}")
        failed = error if state is JobState.failed else None
        record = await self._keeper.ended(
            *(job, state, result, files),
            *(("", "") if failed is None else (failed.status, str(failed))),
        )
        if failed is not None:
            self.errors[job.job_id] = failed
            if len(self.errors) > REMEMBERED:
                self.errors.popitem(last=False)
        del self.live[job.job_id]
        self._queue.leave(job.record.client)
        self._told.ended(job.record if record is None else record, state.name, outcome, steps)
        if record is None:
            job.break_off(lambda: NotFoundError("the job was removed", field="job_id"))
        else:
            job.ends(record, result if record.state is state else b"", error)
        logger.info("job %s: %s", job.job_id, "removed" if record is None else record.state.name)
        self._paused_until = 0.0  # there is room again
        self.pump()

    # ---- cancelling ------------------------------------------------------------------------------------

    def cancel(self, job: LiveJob) -> None:
        """Stop a job within one step, without waiting for it; harmless if it is over or cancelled already."""
        if job.cancelling or self.stopping:
            return
        job.cancelling = True
        if job.phase is Phase.running:
            self._dispatcher.cancel(job.job_id)
        elif self._queue.remove(job.job_id):
            self._queue.enter(job.record.client)
            if (job.record.checkpoint_blob or job.checkpoint) and self._dispatcher.alive:
                self._begin(job)  # whatever it found before it was interrupted is its result
            else:
                error = CancelledError("the job was cancelled before its first step")
                self._do(job, self._end(job, Finished(job.job_id, 0, error=error)))

    def cancel_if_live(self, job_id: str) -> None:
        """The same by its id."""
        job = self.live.get(job_id)
        if job is not None:
            self.cancel(job)

    # ---- time passes -----------------------------------------------------------------------------------

    async def tend(self) -> None:
        """Keep news and let jobs run, for ever."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            await self._keeper.save_all([job for job in self.live.values() if job.unsaved])
            self.pump()

    async def drain(self, seconds: float) -> None:
        """Let nothing begin any more; running jobs get a checkpoint if that takes less than `seconds`.

        They stay unfinished in the store. Ends that are being kept are waited for as long.
        """
        self.stopping = True
        running = [job for job in self.live.values() if job.under_way]
        for job in running:
            job.last_checkpoint = asyncio.Event()
            self._dispatcher.checkpoint(job.job_id)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._settle(running), seconds)
        for job in self.live.values():
            text = "the server is stopping; the job goes on when it is back, watch it again then"
            job.break_off(partial(UnavailableError, text, retry_after=2))
        if self.live:
            logger.info("%d jobs are not over; they go on at the next start", len(self.live))

    async def _settle(self, running: list[LiveJob]) -> None:
        while any(not job.stopped and job.under_way for job in running):
            await asyncio.sleep(0.01)
        await self._keeper.save_all(running)
        while any(job.phase is Phase.ending for job in self.live.values()):
            await asyncio.sleep(0.01)

    async def close(self) -> None:
        """Give up what is still being done, and hear nothing more; the store has how far it got."""
        self.stopping = self._closed = True
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
