"""The giving end of the pipe to a worker; the other end, and the messages, are in `worker`."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import queue
import threading
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from latent_inv.errors import LatentInvError, UnavailableError
from latent_inv.incidents import as_typed
from latent_inv.result import Event, Finished, Lost
from latent_inv.spec import Spec

from .health import Health
from .worker import WorkerSettings
from .worker_log import retell

logger = logging.getLogger(__name__)

#: where the table of generators is, as "module:name"
DEFAULT_CATALOGUE = "latent_inv.generators:GENERATORS"

#: how long a worker that is told to stop may take before it is ended, in seconds
PATIENCE = 10.0
#: how long a worker may take to start, in seconds: loading torch from a cold disk takes a minute
_START_SECONDS = 300.0

_GONE = "the worker stopped; try again"

Worker = threading.Thread | BaseProcess
Reply = queue.SimpleQueue[LatentInvError | None]
Events = queue.SimpleQueue[Event]


class RemoteEngine:
    """The giving end of the pipe; subclasses say what runs the other end. See `EngineSeam`.

    Safe to use from several threads. If the worker dies, or is ended by `kill`, all its jobs end in `Lost` events.

    Args:
        device, threads, lane_width, memory_mb, generator_memory_mb, precision: see `WorkerSettings`.
        catalogue, aliases: see `WorkerSettings`.
        by_hand: only `start` starts a worker. Else one is started here, and by the next `submit` after it was lost.
        events: where events go, if others put theirs there, too; whoever gives it reads it instead of `poll`.
    Raises:
        LatentInvError: the worker could not be started, e.g. there is no such device.
    """

    def __init__(
        self,
        device: str = "auto",
        threads: int | None = None,
        lane_width: int | None = None,
        catalogue: str = DEFAULT_CATALOGUE,
        *,
        aliases: tuple[tuple[str, str], ...] = (),
        memory_mb: int | None = None,
        generator_memory_mb: int | None = None,
        precision: str = "float32",
        by_hand: bool = False,
        events: Events | None = None,
    ) -> None:
        self._settings = WorkerSettings(
            device,
            threads,
            lane_width,
            memory_mb,
            catalogue,
            aliases,
            precision=precision,
            generator_memory_mb=generator_memory_mb,
        )
        self._by_hand = by_hand
        self._lock = threading.Lock()
        self._starting = threading.Lock()
        self._sending = threading.Lock()
        self._numbers = itertools.count(1)
        self._events: Events = queue.SimpleQueue() if events is None else events
        self._replies: dict[int, tuple[str, Reply]] = {}
        self._live: set[str] = set()
        self._at_work: tuple[str, ...] = ()
        self._pipe: Connection | None = None
        self._worker: Worker | None = None
        self._reader: threading.Thread | None = None
        self._health, self._heard = Health(), time.monotonic()
        self._closed = False
        if not by_hand:
            self.start()

    def start(self) -> None:
        """Start a worker if there is none, and wait until it takes orders.

        Raises:
            LatentInvError: it could not be started, e.g. there is no such device.
        """
        with self._starting:
            with self._lock:
                if self._closed:
                    raise UnavailableError("the engine is closed")
                if self._pipe is not None:
                    return
            self._start()

    def submit(self, job_id: str, spec: Spec, checkpoint: bytes | None = None) -> None:
        """See `EngineSeam.submit`. An order that was given when the worker was lost counts as taken, and as lost."""
        if not self._by_hand:
            self.start()
        reply: Reply = queue.SimpleQueue()
        with self._lock:
            if self._closed:
                raise UnavailableError("the engine is closed")
            # This one, also if it is gone by the time of sending: the next worker must not get an order twice.
            pipe = self._pipe
            if pipe is None:
                raise UnavailableError(_GONE, retry_after=1)
            number = next(self._numbers)
            self._replies[number] = (job_id, reply)
        try:
            self._send(pipe, ("submit", number, job_id, spec, checkpoint))
        except Exception as error:  # pickle raises whatever it likes
            with self._lock:
                self._replies.pop(number, None)
            raise as_typed(error, "a submit") from error
        refused = reply.get()
        if refused is not None:
            raise refused

    def cancel(self, job_id: str) -> None:
        """See `EngineSeam.cancel`."""
        self._send(self._pipe, ("cancel", job_id))

    def checkpoint(self, job_id: str) -> None:
        """See `EngineSeam.checkpoint`."""
        self._send(self._pipe, ("checkpoint", job_id))

    def poll(self, timeout: float = 0.0) -> list[Event]:
        """See `EngineSeam.poll`."""
        return take_events(self._events, timeout)

    @property
    def alive(self) -> bool:
        """Is there a worker that takes orders?"""
        return self._pipe is not None and self._worker is not None and self._worker.is_alive()

    @property
    def health(self) -> Health:
        """The newest sign of life of the worker."""
        alive = self.alive
        with self._lock:
            return replace(self._health, alive=alive, silent_seconds=time.monotonic() - self._heard)

    def kill(self) -> None:
        """End a worker that hangs, at once; returns when its jobs have got `Lost` events. Harmless if there is none."""
        worker, reader = self._worker, self._reader
        if worker is not None:
            self._kill_worker(worker)
        if reader is not None:
            reader.join(PATIENCE)

    def _at_fault(self) -> bool:
        """May what the worker did have ended it, as far as can be told?"""
        return True

    def close(self, patience: float = PATIENCE) -> None:
        """See `EngineSeam.close`.

        Args:
            patience: seconds after which a worker that has not stopped is ended.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            worker, reader, pipe = self._worker, self._reader, self._pipe
        if worker is None:
            return
        if pipe is None:
            self._kill_worker(worker)  # it is just starting, or over
        # Not from this thread: a worker that is stuck does not read, and its pipe may be full.
        threading.Thread(target=self._send, args=(pipe, ("close",)), name="engine close", daemon=True).start()
        self._see_off(worker, patience)
        if reader is not None:
            reader.join(PATIENCE)

    # ---- what subclasses say -------------------------------------------------------------------

    def _start_worker(self, pipe: Connection) -> Worker:
        """Start something that runs `serve_pipe` on `pipe`, and closes it at its end."""
        raise NotImplementedError

    def _kill_worker(self, worker: Worker) -> None:
        """End a worker that does not listen, or see to it that nobody listens to it."""
        raise NotImplementedError

    def _see_off(self, worker: Worker, patience: float = PATIENCE) -> None:
        """Wait until a worker that was told to stop has ended; end it if that takes too long."""
        worker.join(patience)
        if worker.is_alive():
            self._kill_worker(worker)

    # ---- the pipe ------------------------------------------------------------------------------

    def _start(self) -> None:
        near, far = multiprocessing.Pipe()
        worker = self._start_worker(far)
        with self._lock:
            self._worker = worker
            self._health, self._heard = Health(state="starting"), time.monotonic()
        error: LatentInvError | None
        try:
            if not near.poll(_START_SECONDS):
                raise EOFError  # it is ended below, and so it has
            message = near.recv()
            while message[0] == "log":
                retell(message[1], self._settings.device)
                message = near.recv()
            _, error = message
        except (EOFError, OSError):
            error = UnavailableError("the worker ended while it was starting", retry_after=5)
        with self._lock:
            if error is None and self._closed:
                error = UnavailableError("the engine is closed")
            if error is None:
                self._pipe, self._at_work, self._heard = near, (), time.monotonic()
                self._reader = threading.Thread(target=self._read, args=(near,), name="engine events", daemon=True)
                self._reader.start()
                return
            self._health = Health()
        near.close()
        self._see_off(worker)
        raise error

    def _send(self, pipe: Connection | None, message: tuple[Any, ...]) -> None:
        if pipe is None:
            return
        try:
            with self._sending:
                pipe.send(message)
        except OSError:
            # Whoever waits for a reply is told by `_worker_gone`.
            logger.warning("the worker is gone; a message to it was dropped")

    def _read(self, pipe: Connection) -> None:
        try:
            while True:
                message = pipe.recv()
                if message[0] == "end":
                    break
                self._take(message)
        except (EOFError, OSError):
            pass
        except Exception:
            logger.exception("a message of the worker cannot be read; it is given up")
        self._worker_gone(pipe)

    def _take(self, message: tuple[Any, ...]) -> None:
        # A job is live from its reply to its end. Both come through here in the worker's order, so a job whose
        # end is known is never taken for live, whatever several threads submit under one id.
        if message[0] == "event":
            event: Event = message[1]
            if isinstance(event, Finished):
                with self._lock:
                    self._live.discard(event.job_id)
            self._events.put(event)
        elif message[0] == "health":
            with self._lock:
                self._health, self._heard = message[1], time.monotonic()
        elif message[0] == "log":
            retell(message[1], self._settings.device)
        elif message[0] == "work":
            self._at_work = message[1]
        else:
            _, number, error = message
            with self._lock:
                job_id, reply = self._replies.pop(number)
                if error is None:
                    self._live.add(job_id)
            reply.put(error)

    def _worker_gone(self, pipe: Connection) -> None:
        at_fault = self._at_fault()
        with self._lock:
            self._pipe = None
            replies, self._replies = list(self._replies.values()), {}
            lost, self._live = self._live, set()
            suspects, closed = set(self._at_work) if at_fault else set(), self._closed
            self._health, self._heard = Health(), time.monotonic()

        def error() -> UnavailableError:
            # A new one each: whoever raises an error may change its field.
            return UnavailableError("the engine was closed") if closed else UnavailableError(_GONE, retry_after=1)

        for job_id, reply in replies:
            # It may be this very order that ended the worker, so whoever counts that must hear of it.
            again = closed or job_id in lost
            lost |= set() if again else {job_id}
            reply.put(error() if again else None)
        for job_id in sorted(lost):
            self._events.put(Lost(job_id, 0, error=error(), suspect=not closed and job_id in suspects))
        with self._sending:  # so that nobody is using it
            pipe.close()


def take_events(events: Events, timeout: float) -> list[Event]:
    """All that is there; waits up to `timeout` seconds if there is nothing."""
    found: list[Event] = []
    try:
        found.append(events.get(timeout=timeout) if timeout > 0 else events.get_nowait())
        while True:
            found.append(events.get_nowait())
    except queue.Empty:
        return found
