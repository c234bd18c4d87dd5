"""Between the event loop and the engine: orders in threads, one thread that polls, one listener a job or request."""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

from latent_inv.engine.seam import EngineSeam
from latent_inv.errors import LimitError
from latent_inv.result import Event, Finished
from latent_inv.spec import Spec

logger = logging.getLogger(__name__)
T = TypeVar("T")
Listener = Callable[[Event], None]

#: how long the polling thread waits for news, in seconds; also how long a stop may take
_POLL_SECONDS = 0.2
#: threads for pictures: decoding and encoding, bound by the processor
_PICTURE_THREADS = 2
#: threads for orders, which wait while the worker takes a step or loads weights; jobs and requests have their own, so
#: that neither waits for the other's weights
_ORDER_THREADS = 16


class Dispatcher:
    """Owns an engine. Used on one event loop.

    Args:
        engine: must be safe to use from several threads.
        max_requests: most requests without progress (sample, decode, …) at once.
    """

    def __init__(self, engine: EngineSeam, max_requests: int) -> None:
        self._engine, self._max_requests = engine, max_requests
        self._listeners: dict[str, Listener] = {}
        self._requests: set[str] = set()
        self._pictures = ThreadPoolExecutor(_PICTURE_THREADS, thread_name_prefix="pictures")
        self._job_orders = ThreadPoolExecutor(_ORDER_THREADS, thread_name_prefix="job orders")
        self._request_orders = ThreadPoolExecutor(_ORDER_THREADS, thread_name_prefix="request orders")
        # Of its own, so that no cancel waits behind submits.
        self._words = ThreadPoolExecutor(1, thread_name_prefix="words")
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
        for threads in (self._pictures, self._job_orders, self._request_orders, self._words):
            threads.shutdown(wait=False, cancel_futures=True)

    @property
    def alive(self) -> bool:
        """Does the engine take orders?"""
        return bool(getattr(self._engine, "alive", True))

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of the devices that have a worker each, as a `ResidenceSpec` takes them."""
        return tuple(getattr(self._engine, "devices", ("",)))

    @property
    def requests(self) -> int:
        """Requests without progress that the engine has not answered; they count though their caller has left."""
        return len(self._requests)

    async def in_thread(self, function: Callable[[], T]) -> T:
        """Run what would hold up the event loop: decoding and encoding of pictures."""
        return await asyncio.get_running_loop().run_in_executor(self._pictures, copy_context().run, function)

    # ---- orders --------------------------------------------------------------------------------

    async def submit(self, job_id: str, spec: Spec, checkpoint: bytes | None, listener: Listener) -> None:
        """Give a job to the engine. The first events may come before this returns.

        Args:
            listener: called on the event loop with each event of the job; the last one is `Finished`.
        Raises:
            LatentInvError: the engine refused it; there will be no event.
        """
        await self._submit(self._job_orders, job_id, spec, checkpoint, listener)

    async def _submit(self, threads: ThreadPoolExecutor, job_id: str, spec: Spec, *more: Any) -> None:
        checkpoint, self._listeners[job_id] = more
        loop = asyncio.get_running_loop()
        submitting = loop.run_in_executor(threads, self._engine.submit, job_id, spec, checkpoint)
        try:
            await asyncio.shield(submitting)
        except asyncio.CancelledError:
            # Whoever asked has left while the engine was deciding: cancel as soon as it has.
            submitting.add_done_callback(lambda done: self._abandon(job_id, done))
            raise
        except Exception:
            self._forget(job_id)
            raise

    def _abandon(self, job_id: str, done: asyncio.Future[None]) -> None:
        if done.cancelled() or done.exception() is not None:
            self._forget(job_id)
        else:
            self.cancel(job_id)

    def _forget(self, job_id: str) -> None:
        self._listeners.pop(job_id, None)
        self._requests.discard(job_id)

    def cancel(self, job_id: str) -> None:
        """Stop a job within one step, without waiting for it; harmless if it is unknown or over."""
        self._say(self._engine.cancel, job_id)

    def checkpoint(self, job_id: str) -> None:
        """Ask for a checkpoint of a job before its next step; harmless if it is unknown or over."""
        self._say(self._engine.checkpoint, job_id)

    def _say(self, order: Callable[[str], None], job_id: str) -> None:
        if job_id in self._listeners and not self._stopping.is_set():
            self._words.submit(order, job_id)

    async def ask(self, spec: Spec) -> Any:
        """Give a request without progress to the engine, and wait for its answer.

        Raises:
            LimitError: too many of them. LatentInvError: it was refused, or could not be done.
        """
        if len(self._requests) >= self._max_requests:
            text = f"{self._max_requests} requests are being answered, which is the most here; try again later"
            raise LimitError(text, retry_after=1.0)
        job_id = secrets.token_hex(8)
        self._requests.add(job_id)
        answer: asyncio.Future[Finished] = asyncio.get_running_loop().create_future()

        def listen(event: Event) -> None:
            if isinstance(event, Finished) and not answer.done():
                answer.set_result(event)

        await self._submit(self._request_orders, job_id, spec, None, listen)
        try:
            finished = await answer
        except asyncio.CancelledError:
            self.cancel(job_id)
            raise
        if finished.error is not None:
            raise finished.error
        return finished.result

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
            listener = self._listeners.get(event.job_id)
            if listener is None:
                continue
            if isinstance(event, Finished):
                self._forget(event.job_id)
            try:
                listener(event)
            except Exception:
                logger.exception("an event of %s was not understood", event.job_id)
