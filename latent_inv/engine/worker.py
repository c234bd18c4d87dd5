"""The worker: an engine that takes orders from a pipe, and says twice a second how it is.

Orders: ("submit", number, job_id, spec, checkpoint), ("cancel", job_id), ("checkpoint", job_id), ("close",), ("leave",)
Messages back: ("log", line), ("ready", None | error), ("reply", number, None | error), ("event", event),
("health", Health), ("work", job_ids) before others are worked on than before, ("end",)

Three threads share the work: one reads orders, so that whoever gives them never waits for a step; the loop heeds
them between two steps, so that a cancel takes effect within one; one tells how long ago the loop last turned,
which a loop that hangs could not. What must be loaded is loaded beside the loop, too: see `intake`.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from latent_inv.errors import InternalError
from latent_inv.incidents import as_typed
from latent_inv.machine import resident_bytes
from latent_inv.result import Finished

from .health import BEAT_SECONDS, Health
from .worker_log import PipeHandler, log_to

logger = logging.getLogger(__name__)

#: orders may take this long between two steps, or as long as the last step took, in seconds
_ORDERS_SECONDS = 0.05
#: a worker process whose loop has not noticed by then that nobody gives orders any more ends itself, in seconds
_ORPHAN_SECONDS = 10.0


@dataclass(frozen=True)
class WorkerSettings:
    """How a worker is to be.

    Attributes:
        device, threads, lane_width, precision: as in `device.place`.
        memory_mb: what its jobs may take together, in MiB; None takes a share of what the device has.
        generator_memory_mb: what loaded generators may take together, in MiB; None takes a share, too.
        catalogue: "module:name" of the table of generators; a name, so that a new process can find it too.
        aliases: further generators, name -> reference.
        log_level: least that a process of its own tells of what it logs.
    """

    device: str
    threads: int | None
    lane_width: int | None
    memory_mb: int | None
    catalogue: str
    aliases: tuple[tuple[str, str], ...] = ()
    log_level: int = logging.WARNING
    precision: str = "float32"
    generator_memory_mb: int | None = None


def serve_process(pipe: Connection, settings: WorkerSettings) -> None:
    """The whole of a worker process."""
    # Both reach every process of a terminal or a service; what they mean is decided where the orders come from.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    # Until there are threads, nobody else uses the pipe.
    told = log_to(pipe.send, settings.log_level)
    serve_pipe(pipe, settings, own_process=True, told=told)
    # All is said and done. Taking down torch takes seconds, and does not bear threads that are still loading.
    logging.shutdown()
    os._exit(0)


def serve_pipe(
    pipe: Connection, settings: WorkerSettings, *, own_process: bool = False, told: PipeHandler | None = None
) -> None:
    """Take orders from `pipe` until told to close, or until it breaks.

    Args:
        told: sends log lines; does so in turn with the worker's other messages.
    """
    with pipe:
        try:
            worker = Worker(pipe, settings)
            if told is not None:
                told.send = worker.send
        except Exception as error:
            pipe.send(("ready", as_typed(error, "the start of the worker")))
            return
        worker.run(own_process=own_process)


class Worker:
    """See the module. `run` is called in the thread that touches the device.

    Raises:
        LatentInvError: the engine cannot be made.
    """

    def __init__(self, pipe: Connection, settings: WorkerSettings) -> None:
        # torch is loaded here, in the worker, and not where the orders come from.
        from latent_inv.device import place
        from latent_inv.generators import FAMILIES, GeneratorTable

        from .engine import Engine
        from .footprint import default_generator_limit, default_limit
        from .intake import Intake
        from .loading import Loader

        module, _, name = settings.catalogue.partition(":")
        fixed = getattr(importlib.import_module(module), name)
        table = GeneratorTable(fixed, FAMILIES, dict(settings.aliases))
        placement = place(settings.device, settings.threads, settings.lane_width, settings.precision)
        limit = default_limit(placement) if settings.memory_mb is None else settings.memory_mb * 2**20
        kept = settings.generator_memory_mb
        room = default_generator_limit(placement) if kept is None else kept * 2**20
        self._engine = Engine(table, placement, memory_bytes=limit, generator_bytes=room, on_work=self._tell_work)
        self._pipe, self._sending = pipe, threading.Lock()
        self._news = threading.Event()
        self._loader = Loader(self._news.set)
        self._intake = Intake(self._engine, self._loader, self.send, self._tell_work)
        self._inbox: deque[tuple[Any, ...]] = deque()
        self._told: tuple[str, ...] = ()
        self._state, self._turned, self._step_seconds = "idle", time.monotonic(), 0.0
        self._gone = threading.Event()
        self._ended = threading.Event()

    def run(self, *, own_process: bool) -> None:
        """Work until told to stop."""
        threads = [
            threading.Thread(target=self._listen, args=(own_process,), name="engine orders", daemon=True),
            threading.Thread(target=self._beat, name="engine pulse", daemon=True),
        ]
        try:
            self.send(("ready", None))
            for thread in threads:
                thread.start()
            while self._turn():
                pass
        except (EOFError, OSError):
            pass  # whoever gave the orders is gone
        except Exception:
            logger.exception("the worker stops")
        finally:
            self._ended.set()
            with contextlib.suppress(OSError):
                self.send(("end",))
            self._loader.close()
            self._engine.close()
            for thread in threads:
                if thread.ident is not None:
                    thread.join(_ORPHAN_SECONDS)  # the other end closes the pipe after "end", which ends the reading

    # ---- the loop --------------------------------------------------------------------------------

    def _turn(self) -> bool:
        """Heed orders, let in jobs, take one step; False: it was told to stop."""
        self._turned = time.monotonic()
        self._news.clear()
        if not self._heed():
            return False
        self._state = "order"
        self._intake.let_in(max(_ORDERS_SECONDS, self._step_seconds))
        if self._engine.idle and not self._intake:
            self._tell_work(())
            self._state = "idle"
            self._news.wait()
            return True
        self._state, began = "step", time.monotonic()
        for event in self._engine.poll():
            if isinstance(event, Finished):
                self._intake.memory_is_free()
            self.send(("event", event))
        self._step_seconds = time.monotonic() - began
        return True

    def _heed(self) -> bool:
        # Looked at before the orders: what came until then is still done.
        gone = self._gone.is_set()
        while self._inbox:
            message = self._inbox.popleft()
            if message[0] in ("close", "leave"):
                return False
            if message[0] == "cancel":
                if not self._intake.cancel(message[1]):
                    self._engine.cancel(message[1])
            elif message[0] == "checkpoint":
                if not self._intake.checkpoint(message[1]):
                    self._engine.checkpoint(message[1])
            elif message[0] == "submit":
                self._intake.receive(*message[1:])
            else:
                raise InternalError(f"an order that nobody knows: {message[0]!r:.40}")
        return not gone

    # ---- the other threads -----------------------------------------------------------------------

    def _listen(self, own_process: bool) -> None:
        try:
            while True:
                message = self._pipe.recv()
                self._inbox.append(message)
                self._news.set()
                if message[0] == "leave":
                    # The loop may hang, and nobody waits for it any more.
                    self.send(("end",))
        except (EOFError, OSError):
            pass
        except Exception:
            logger.exception("an order cannot be read")
        self._gone.set()
        self._news.set()
        if own_process and not self._ended.wait(_ORPHAN_SECONDS):
            os._exit(1)

    def _beat(self) -> None:
        while True:
            try:
                self.send(("health", self._health()))
            except OSError:
                return
            if self._ended.wait(BEAT_SECONDS):
                return

    def _health(self) -> Health:
        loading, state, turned = self._loader.titles, self._state, self._turned
        idle = state == "idle"
        return Health(
            state=f"loading {loading[0]}" if idle and loading else state,
            turn_seconds=0.0 if idle else time.monotonic() - turned,
            resident_bytes=resident_bytes(),
            loading=loading,
            waiting=self._intake.parked,
            load=self._engine.load,
        )

    def _tell_work(self, job_ids: Iterable[str]) -> None:
        """Say who is worked on, those for which something is loaded included, if others were before."""
        now = tuple(sorted({*job_ids, *self._intake.loading}))
        if now != self._told:
            self._told = now
            self.send(("work", now))

    def send(self, message: tuple[Any, ...]) -> None:
        """A message back; whole, whoever else sends one."""
        with self._sending:
            self._pipe.send(message)
