"""Between the event loop and the engine: submits and cancels in threads, one thread that polls, one feed a job."""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from latent_inv.engine.seam import EngineSeam
from latent_inv.errors import InternalError, LimitError
from latent_inv.result import Event, Finished
from latent_inv.spec import Spec

from .feed import Feed

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: how long the polling thread waits for news, in seconds; also how long a stop may take
_POLL_SECONDS = 0.2
#: threads for pictures: decoding and encoding, bound by the processor
_PICTURE_THREADS = 2
#: threads for orders, which wait while the worker takes a step or loads weights
_ORDER_THREADS = 16
#: jobs that are over and still known, so that cancelling one of them is harmless
_REMEMBERED = 1000


class Dispatcher:
    """Owns an engine. Used on one event loop.

    Args:
        engine: must be safe to use from several threads.
        max_jobs: most jobs and requests at once.
    """

    def __init__(self, engine: EngineSeam, max_jobs: int) -> None:
        self._engine, self._max_jobs = engine, max_jobs
        self._feeds: dict[str, Feed] = {}
        self._over: deque[str] = deque(maxlen=_REMEMBERED)
        self._pictures = ThreadPoolExecutor(_PICTURE_THREADS, thread_name_prefix="pictures")
        self._orders = ThreadPoolExecutor(_ORDER_THREADS, thread_name_prefix="orders")
        # Of its own, so that no cancel waits behind submits.
        self._cancels = ThreadPoolExecutor(1, thread_name_prefix="cancels")
        self._stopping = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="engine poll", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin to poll; call it on the event loop."""
        self._loop = asyncio.get_running_loop()
        self._poller.start()

    async def stop(self) -> None:
        """Stop polling and close the engine."""
        self._stopping.set()
        await asyncio.to_thread(self._poller.join)
        await asyncio.to_thread(self._engine.close)
        for threads in (self._pictures, self._orders, self._cancels):
            threads.shutdown(wait=False, cancel_futures=True)

    @property
    def alive(self) -> bool:
        """Does the engine take orders?"""
        return bool(getattr(self._engine, "alive", True))

    @property
    def jobs(self) -> int:
        """Jobs and requests that are not over."""
        return len(self._feeds)

    async def in_thread(self, function: Callable[[], T]) -> T:
        """Run what would hold up the event loop: decoding and encoding of pictures."""
        return await asyncio.get_running_loop().run_in_executor(self._pictures, function)

    # ---- jobs ----------------------------------------------------------------------------------

    async def submit(self, spec: Spec) -> tuple[str, Feed]:
        """Queue a job.

        Returns:
            (its id, its events)
        Raises:
            LimitError: too many jobs. LatentInvError: the engine refused it.
        """
        if len(self._feeds) >= self._max_jobs:
            text = f"{self._max_jobs} jobs are running or waiting, which is the most here; try again later"
            raise LimitError(text, retry_after=1.0)
        job_id = secrets.token_hex(8)
        # The feed is there before the job, since its first events may come before `submit` returns.
        feed = self._feeds[job_id] = Feed()
        loop = asyncio.get_running_loop()
        submitting = loop.run_in_executor(self._orders, self._engine.submit, job_id, spec)
        try:
            await asyncio.shield(submitting)
        except asyncio.CancelledError:
            # The caller left while the engine was deciding: cancel as soon as it has.
            submitting.add_done_callback(lambda done: self._abandon(job_id, done))
            raise
        except Exception:
            self._feeds.pop(job_id, None)
            raise
        logger.info("job %s: %s accepted", job_id, type(spec).__name__)
        return job_id, feed

    def _abandon(self, job_id: str, done: asyncio.Future[None]) -> None:
        if done.cancelled() or done.exception() is not None:
            self._feeds.pop(job_id, None)
        else:
            self.cancel(job_id)

    def cancel(self, job_id: str) -> bool:
        """Stop a job within one step, without waiting for it; harmless if it is over.

        Returns:
            False if there is no such job, or it was over long ago.
        """
        if job_id not in self._feeds or self._stopping.is_set():
            return job_id in self._feeds or job_id in self._over
        # A feed without a reader is kept until its end, so that the job still counts.
        self._cancels.submit(self._engine.cancel, job_id)
        return True

    async def ask(self, spec: Spec) -> Any:
        """Submit a request without progress, and wait for its answer.

        Raises:
            LatentInvError: it was refused, or could not be done.
        """
        job_id, feed = await self.submit(spec)
        try:
            async for event in feed.events():
                if isinstance(event, Finished):
                    if event.error is not None:
                        raise event.error
                    return event.result
        finally:
            if feed.finished is None:
                self.cancel(job_id)
        raise InternalError("the request ended without an answer")

    # ---- events --------------------------------------------------------------------------------

    def _poll(self) -> None:
        while not self._stopping.is_set():
            try:
                events = self._engine.poll(_POLL_SECONDS)
            except Exception:
                logger.exception("polling the engine failed")
                self._stopping.wait(_POLL_SECONDS)
                continue
            if events and self._loop is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._deliver, events)

    def _deliver(self, events: list[Event]) -> None:
        for event in events:
            feed = self._feeds.get(event.job_id)
            if feed is not None:
                feed.put(event)
                if isinstance(event, Finished):
                    del self._feeds[event.job_id]
                    self._over.append(event.job_id)
                    logger.info("job %s: over", event.job_id)
