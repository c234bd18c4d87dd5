"""How a request becomes a job: once, however often it is sent, and only if nothing is wrong with it."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from latent_inv import convert
from latent_inv.convert import Contents
from latent_inv.errors import AlreadyExistsError, LatentInvError, LimitError, UnavailableError, at
from latent_inv.result import GeneratorInfo
from latent_inv.spec import DescribeSpec, JobSpec
from latent_inv.v1 import job_pb2

from .admission import Asked, check_id, check_known, check_labels, read_request
from .config import ServerConfig
from .dispatcher import Dispatcher
from .door.identity import Caller, caller
from .door.quotas import check_queued
from .keeper import Keeper
from .live import RESERVE, LiveJob
from .logs import note
from .queue import Queue
from .runs import Runs
from .store.records import JobRecord, JobState
from .telemetry.jobs import JobsTold

logger = logging.getLogger(__name__)

#: how long the engine's description of its generators is waited for; a job may be taken without it
_DESCRIBE_SECONDS = 5.0
_STOPPING = "the server is stopping; try again once it is back"

Made = tuple[JobRecord, bool]


class Maker:
    """Makes jobs, and gives them to `runs`. Used on one event loop.

    Args:
        contents: client → the contents of its uploads.
        told: hears of new jobs.
    """

    def __init__(
        self,
        config: ServerConfig,
        dispatcher: Dispatcher,
        keeper: Keeper,
        queue: Queue,
        runs: Runs,
        contents: Callable[[str], Contents],
        told: JobsTold,
    ) -> None:
        self._contents = contents
        self._config, self._dispatcher, self._keeper, self._queue, self._runs = config, dispatcher, keeper, queue, runs
        self._told = told
        self._coming: Counter[str] = Counter()
        self._making: set[asyncio.Task[Made]] = set()
        self._alone: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        self._generators: Mapping[str, GeneratorInfo] | None = None

    async def create(
        self,
        spec: job_pb2.JobSpec,
        request_id: str = "",
        labels: Mapping[str, str] | None = None,
        *,
        tied: bool = False,
    ) -> Made:
        """A new job, or the one that the same request made before. What is wrong with it is found before it is one.

        Args:
            request_id: empty: every request is a new one.
            tied: a caller that leaves meanwhile takes the job with it.
        Returns:
            (the job as it is kept, True if it is a new one)
        Raises:
            LatentInvError: it is refused, and its request_id is still free.
        """
        if request_id:
            check_id(request_id, "request_id")
        checked = check_labels(labels or {})
        if len(self._making) >= self._config.max_streams:  # most of them left by their callers
            raise LimitError("too many requests for jobs are being checked; try again later", retry_after=1)
        # A task of its own: a job that is kept must become known here, though its caller left meanwhile.
        making = asyncio.create_task(self._make(caller(), spec, request_id, checked))
        self._making.add(making)
        making.add_done_callback(self._made)
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            if tied:
                making.add_done_callback(self._leave)
            raise

    async def settle(self, seconds: float) -> None:
        """Wait for what is being made, at most `seconds`."""
        if self._making:
            await asyncio.wait(self._making, timeout=seconds)

    def _made(self, making: asyncio.Task[Made]) -> None:
        self._making.discard(making)
        if not making.cancelled():
            making.exception()  # seen, so that nobody complains where the caller has left

    def _leave(self, making: asyncio.Task[Made]) -> None:
        if not making.cancelled() and making.exception() is None:
            record, new = making.result()
            if new:
                self._runs.cancel_if_live(record.job_id)

    async def _make(self, client: Caller, spec: job_pb2.JobSpec, request_id: str, labels: Mapping[str, str]) -> Made:
        async with self._one_at_a_time(client.name, request_id):
            asked = await self._dispatcher.in_thread(lambda: read_request(spec, labels))
            if request_id:
                found = await self._keeper.ask(lambda: self._keeper.jobs.find(client.name, request_id))
                if found is not None:
                    if found.request_sha256 != asked.sha256:
                        text = f'"{request_id}" was used for another request; choose a new one'
                        raise AlreadyExistsError(text, field="request_id")
                    note(job_id=found.job_id)
                    return self._runs.newest(found), False
            self._check_room(client)
            limits, contents = self._config.image_limits, self._contents(client.name)
            with at("spec"):
                decoded = await self._dispatcher.in_thread(lambda: convert.job_spec(spec, limits, contents))
                await self._check_known(decoded)
            # Again, as others came meanwhile; from here on it has its place.
            self._check_room(client)
            self._coming[client.name] += 1
            try:
                return await self._keep(client, asked, decoded, request_id)
            finally:
                self._coming[client.name] -= 1

    @asynccontextmanager
    async def _one_at_a_time(self, client: str, request_id: str) -> AsyncIterator[None]:
        """Requests of one id are looked at one after the other, so that only the first is decoded and counted."""
        if not request_id:
            yield
            return
        key = (client, request_id)
        lock = self._alone.get(key)
        if lock is None:
            self._alone[key] = lock = asyncio.Lock()
        async with lock:
            yield

    def _check_room(self, client: Caller) -> None:
        if self._runs.stopping:
            raise UnavailableError(_STOPPING, retry_after=5)
        # What finds a place in the engine at once does not wait.
        free = max(0, self._config.max_jobs - self._queue.taken)
        waiting, most = len(self._queue) + self._coming.total(), self._config.max_queued
        if waiting >= most + free:
            raise LimitError(f"{most} jobs are waiting, which is the most here; try again later", retry_after=2)
        own = self._queue.waiting(client.name) + self._coming[client.name] - self._queue.places(client.name, free)
        if own >= 0:
            check_queued(client, {JobState.queued: own})

    async def _check_known(self, spec: JobSpec) -> None:
        if self._generators is None and self._dispatcher.alive:
            try:
                described = await asyncio.wait_for(self._dispatcher.ask(DescribeSpec()), _DESCRIBE_SECONDS)
            except (LatentInvError, asyncio.TimeoutError):
                return  # what is wrong will be found when the job has its turn
            self._generators = {info.name: info for info in described.generators}
        if self._generators is not None:
            check_known(spec, self._generators)

    async def _keep(self, client: Caller, asked: Asked, spec: JobSpec, request_id: str) -> Made:
        def keep() -> Made:
            record = JobRecord(
                job_id=secrets.token_hex(8),
                client=client.name,
                request_id=request_id,
                request_sha256=asked.sha256,
                state=JobState.queued,
                summary=asked.summary,
                spec_blob=self._keeper.blobs.put(asked.spec),
                bulk=spec.priority == "bulk",
                create_time=time.time(),
                labels=asked.labels,
                artifacts=asked.artifacts,
                sequence=RESERVE,
            )
            return self._keeper.jobs.create(record)

        record, new = await self._keeper.ask(keep)
        note(job_id=record.job_id)
        if new:
            self._told.accepted(record)
            logger.info("job %s: accepted", record.job_id)
            self._runs.adopt(LiveJob(record, spec, new=True))
        return self._runs.newest(record), new
