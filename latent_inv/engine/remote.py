"""The engine elsewhere: the same seam over a pipe, with the work in a thread or in a process of its own.

Messages to the worker: ("submit", number, job_id, spec, checkpoint), ("cancel", job_id), ("close",).
Messages back: ("ready", None | error), ("reply", number, None | error), ("event", event).
The worker looks for messages between any two steps, so a cancel takes effect within one step.
"""

from __future__ import annotations

import importlib
import itertools
import logging
import multiprocessing
import queue
import threading
from multiprocessing.connection import Connection
from typing import Any

from latent_inv.errors import LatentInvError, UnavailableError
from latent_inv.result import Event, Finished
from latent_inv.spec import Spec

logger = logging.getLogger(__name__)

#: where the table of generators is, as "module:name"; a name, so that a new process can find it too
DEFAULT_CATALOGUE = "latent_inv.generators:GENERATORS"

#: how long a worker that is told to stop may take before it is ended, in seconds
_PATIENCE = 10.0


def serve_pipe(pipe: Connection, device: str, threads: int | None, lane_width: int | None, catalogue: str) -> None:
    """The worker: an `Engine` that takes orders from `pipe` until it is told to close or the pipe breaks."""
    try:
        engine = _make_engine(device, threads, lane_width, catalogue)
    except LatentInvError as error:
        pipe.send(("ready", error))
        return
    pipe.send(("ready", None))
    try:
        while True:
            # With nothing to do, wait for orders; otherwise only look whether there are any.
            while engine.idle or pipe.poll():
                message = pipe.recv()
                if message[0] == "close":
                    return
                _obey(engine, message, pipe)
            for event in engine.poll():
                pipe.send(("event", event))
    except (EOFError, BrokenPipeError, ConnectionResetError, OSError):
        return  # whoever gave the orders is gone
    finally:
        engine.close()
        pipe.close()


def _make_engine(device: str, threads: int | None, lane_width: int | None, catalogue: str) -> Any:
    # torch is loaded here, in the worker, and not where the orders come from.
    from latent_inv.device import place

    from .engine import Engine

    module, _, name = catalogue.partition(":")
    return Engine(getattr(importlib.import_module(module), name), place(device, threads, lane_width))


def _obey(engine: Any, message: tuple[Any, ...], pipe: Connection) -> None:
    if message[0] == "cancel":
        engine.cancel(message[1])
        return
    _, number, job_id, spec, checkpoint = message
    error: LatentInvError | None = None
    try:
        engine.submit(job_id, spec, checkpoint)
    except LatentInvError as refused:
        error = refused
    except Exception as unforeseen:
        from .requests import internal

        error = internal(unforeseen)
    pipe.send(("reply", number, error))


class RemoteEngine:
    """The giving end of the pipe; subclasses say what runs the other end. See `EngineSeam`.

    Safe to use from several threads. If the worker dies, all its jobs end in an `UnavailableError`, and the
    next `submit` starts a new one.

    Args:
        device, threads, lane_width: as in `device.place`.
        catalogue: "module:name" of the table of generators.
    """

    def __init__(
        self,
        device: str = "auto",
        threads: int | None = None,
        lane_width: int | None = None,
        catalogue: str = DEFAULT_CATALOGUE,
    ) -> None:
        self._settings = (device, threads, lane_width, catalogue)
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._numbers = itertools.count(1)
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._replies: dict[int, queue.SimpleQueue[LatentInvError | None]] = {}
        self._live: set[str] = set()
        self._pipe: Connection | None = None
        self._closed = False
        self._start()

    def submit(self, job_id: str, spec: Spec, checkpoint: bytes | None = None) -> None:
        """See `EngineSeam.submit`."""
        reply: queue.SimpleQueue[LatentInvError | None] = queue.SimpleQueue()
        with self._lock:
            if self._closed:
                raise UnavailableError("the engine is closed")
            if self._pipe is None:
                self._start()
            number = next(self._numbers)
            self._replies[number] = reply
            fresh = job_id not in self._live
            self._live.add(job_id)
        self._send(("submit", number, job_id, spec, checkpoint))
        error = reply.get()
        if error is not None:
            with self._lock:
                if fresh:
                    self._live.discard(job_id)
            raise error

    def cancel(self, job_id: str) -> None:
        """See `EngineSeam.cancel`."""
        self._send(("cancel", job_id))

    def poll(self, timeout: float = 0.0) -> list[Event]:
        """See `EngineSeam.poll`."""
        events: list[Event] = []
        try:
            events.append(self._events.get(timeout=timeout) if timeout > 0 else self._events.get_nowait())
            while True:
                events.append(self._events.get_nowait())
        except queue.Empty:
            return events

    @property
    def alive(self) -> bool:
        """Is there a worker that takes orders?"""
        return self._pipe is not None and self._worker_alive()

    def close(self) -> None:
        """See `EngineSeam.close`."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._send(("close",))
        self._join_worker(_PATIENCE)
        self._reader.join(_PATIENCE)

    # ---- what subclasses say -------------------------------------------------------------------

    def _start_worker(self, pipe: Connection) -> None:
        raise NotImplementedError

    def _worker_alive(self) -> bool:
        raise NotImplementedError

    def _join_worker(self, timeout: float) -> None:
        raise NotImplementedError

    # ---- the pipe ------------------------------------------------------------------------------

    def _start(self) -> None:
        near, far = multiprocessing.Pipe()
        self._start_worker(far)
        try:
            _, error = near.recv()
        except EOFError:
            error = UnavailableError("the worker ended while it was starting", retry_after=5)
        if error is not None:
            near.close()
            raise error
        self._pipe = near
        self._reader = threading.Thread(target=self._read, args=(near,), name="engine events", daemon=True)
        self._reader.start()

    def _send(self, message: tuple[Any, ...]) -> None:
        try:
            with self._sending:
                if self._pipe is not None:
                    self._pipe.send(message)
        except (BrokenPipeError, OSError):
            logger.warning("the worker is gone; a message to it was dropped")

    def _read(self, pipe: Connection) -> None:
        try:
            while True:
                kind, *rest = pipe.recv()
                if kind == "event":
                    if isinstance(rest[0], Finished):
                        with self._lock:
                            self._live.discard(rest[0].job_id)
                    self._events.put(rest[0])
                else:
                    number, error = rest
                    with self._lock:
                        waiting = self._replies.pop(number)
                    waiting.put(error)
        except (EOFError, OSError):
            self._worker_gone(pipe)

    def _worker_gone(self, pipe: Connection) -> None:
        error = UnavailableError("the worker stopped; try again", retry_after=1)
        with self._lock:
            self._pipe = None
            replies, self._replies = list(self._replies.values()), {}
            lost, self._live = sorted(self._live), set()
        for reply in replies:
            reply.put(error)
        for job_id in lost:
            # Sequence 0: how far the job's own events had counted is lost with the worker.
            self._events.put(Finished(job_id, 0, error=error))
        pipe.close()


class ThreadEngine(RemoteEngine):
    """The engine in a thread of this process."""

    def _start_worker(self, pipe: Connection) -> None:
        self._worker = threading.Thread(target=serve_pipe, args=(pipe, *self._settings), name="engine", daemon=True)
        self._worker.start()

    def _worker_alive(self) -> bool:
        return self._worker.is_alive()

    def _join_worker(self, timeout: float) -> None:
        self._worker.join(timeout)


class ProcessEngine(RemoteEngine):
    """The engine in a process of its own, spawned and never forked: torch's threads do not survive a fork."""

    def _start_worker(self, pipe: Connection) -> None:
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=serve_pipe, args=(pipe, *self._settings), name="engine", daemon=True)
        self._process.start()
        pipe.close()  # so that the end of the process is the end of the pipe

    @property
    def pid(self) -> int | None:
        """The worker's process id."""
        return self._process.pid

    def _worker_alive(self) -> bool:
        return self._process.is_alive()

    def _join_worker(self, timeout: float) -> None:
        self._process.join(timeout)
        if self._process.is_alive():
            self._process.kill()
            self._process.join(timeout)
