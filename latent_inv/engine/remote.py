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
import signal
import threading
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from latent_inv.errors import LatentInvError, UnavailableError
from latent_inv.incidents import as_typed
from latent_inv.result import Event, Finished
from latent_inv.spec import Spec

logger = logging.getLogger(__name__)

#: where the table of generators is, as "module:name"; a name, so that a new process can find it too
DEFAULT_CATALOGUE = "latent_inv.generators:GENERATORS"

#: how long a worker that is told to stop may take before it is ended, in seconds
_PATIENCE = 10.0

_GONE = "the worker stopped; try again"

Worker = threading.Thread | BaseProcess
Reply = queue.SimpleQueue[LatentInvError | None]


def serve_pipe(pipe: Connection, device: str, threads: int | None, lane_width: int | None, catalogue: str) -> None:
    """The worker: an `Engine` that takes orders from `pipe` until it is told to close or the pipe breaks."""
    with pipe:
        try:
            engine = _make_engine(device, threads, lane_width, catalogue)
        except Exception as error:
            pipe.send(("ready", as_typed(error, "the start of the worker")))
            return
        try:
            pipe.send(("ready", None))
            _work(engine, pipe)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            pass  # whoever gave the orders is gone
        except Exception:
            logger.exception("the worker stops")
        finally:
            engine.close()


def _serve_process(pipe: Connection, *settings: Any) -> None:
    # Ctrl-C reaches every process of a terminal; what it means is decided where the orders come from.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve_pipe(pipe, *settings)


def _make_engine(device: str, threads: int | None, lane_width: int | None, catalogue: str) -> Any:
    # torch is loaded here, in the worker, and not where the orders come from.
    from latent_inv.device import place

    from .engine import Engine

    module, _, name = catalogue.partition(":")
    return Engine(getattr(importlib.import_module(module), name), place(device, threads, lane_width))


def _work(engine: Any, pipe: Connection) -> None:
    while True:
        # With nothing to do, wait for orders; otherwise only look whether there are any.
        while engine.idle or pipe.poll():
            message = pipe.recv()
            if message[0] == "close":
                return
            if message[0] == "cancel":
                engine.cancel(message[1])
                continue
            _, number, job_id, spec, checkpoint = message
            error: LatentInvError | None = None
            try:
                engine.submit(job_id, spec, checkpoint)
            except Exception as refused:
                error = as_typed(refused, "a submit")
            pipe.send(("reply", number, error))
        for event in engine.poll():
            pipe.send(("event", event))


class RemoteEngine:
    """The giving end of the pipe; subclasses say what runs the other end. See `EngineSeam`.

    Safe to use from several threads. If the worker dies, all its jobs end in an `UnavailableError`, and the
    next `submit` starts a new one.

    Args:
        device, threads, lane_width: as in `device.place`.
        catalogue: "module:name" of the table of generators.
    Raises:
        LatentInvError: the worker could not be started, e.g. there is no such device.
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
        self._replies: dict[int, tuple[str, Reply]] = {}
        self._live: set[str] = set()
        self._pipe: Connection | None = None
        self._closed = False
        self._start()

    def submit(self, job_id: str, spec: Spec, checkpoint: bytes | None = None) -> None:
        """See `EngineSeam.submit`."""
        reply: Reply = queue.SimpleQueue()
        with self._lock:
            if self._closed:
                raise UnavailableError("the engine is closed")
            if self._pipe is None:
                self._start()
            number = next(self._numbers)
            self._replies[number] = (job_id, reply)
            # This one, also if it is gone by the time of sending: the next worker must not get an order twice.
            pipe = self._pipe
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
        return self._pipe is not None and self._worker.is_alive()

    def close(self) -> None:
        """See `EngineSeam.close`."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        # Not from this thread: a worker that is stuck does not read, and its pipe may be full.
        threading.Thread(target=self._send, args=(self._pipe, ("close",)), name="engine close", daemon=True).start()
        self._end_worker(self._worker)
        self._reader.join(_PATIENCE)

    # ---- what subclasses say -------------------------------------------------------------------

    def _start_worker(self, pipe: Connection) -> Worker:
        """Start something that runs `serve_pipe` on `pipe`, and closes it at its end."""
        raise NotImplementedError

    def _end_worker(self, worker: Worker) -> None:
        """Wait until a worker that was told to stop has ended."""
        worker.join(_PATIENCE)

    # ---- the pipe ------------------------------------------------------------------------------

    def _start(self) -> None:
        near, far = multiprocessing.Pipe()
        worker = self._start_worker(far)
        error: LatentInvError | None
        try:
            _, error = near.recv()
        except (EOFError, OSError):
            error = UnavailableError("the worker ended while it was starting", retry_after=5)
        if error is not None:
            near.close()
            self._end_worker(worker)
            raise error
        self._pipe, self._worker = near, worker
        self._reader = threading.Thread(target=self._read, args=(near,), name="engine events", daemon=True)
        self._reader.start()

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
                self._take(pipe.recv())
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
            return
        _, number, error = message
        with self._lock:
            job_id, reply = self._replies.pop(number)
            if error is None:
                self._live.add(job_id)
        reply.put(error)

    def _worker_gone(self, pipe: Connection) -> None:
        with self._lock:
            self._pipe = None
            replies, self._replies = list(self._replies.values()), {}
            lost, self._live = sorted(self._live), set()
            closed = self._closed

        def error() -> UnavailableError:
            # A new one each: whoever raises an error may change its field.
            return UnavailableError("the engine was closed") if closed else UnavailableError(_GONE, retry_after=1)

        for _, reply in replies:
            reply.put(error())
        for job_id in lost:
            # Sequence 0: how far the job's own events had counted is lost with the worker.
            self._events.put(Finished(job_id, 0, error=error()))
        with self._sending:  # so that nobody is using it
            pipe.close()


class ThreadEngine(RemoteEngine):
    """The engine in a thread of this process."""

    def _start_worker(self, pipe: Connection) -> Worker:
        worker = threading.Thread(target=serve_pipe, args=(pipe, *self._settings), name="engine", daemon=True)
        worker.start()
        return worker


class ProcessEngine(RemoteEngine):
    """The engine in a process of its own, spawned and never forked: torch's threads do not survive a fork."""

    def _start_worker(self, pipe: Connection) -> Worker:
        context = multiprocessing.get_context("spawn")
        worker = context.Process(target=_serve_process, args=(pipe, *self._settings), name="engine", daemon=True)
        worker.start()
        pipe.close()  # so that the end of the process is the end of the pipe
        return worker

    def _end_worker(self, worker: Worker) -> None:
        super()._end_worker(worker)
        if isinstance(worker, BaseProcess) and worker.is_alive():
            worker.kill()
            worker.join(_PATIENCE)

    @property
    def pid(self) -> int | None:
        """The worker's process id."""
        return self._worker.pid if isinstance(self._worker, BaseProcess) else None
