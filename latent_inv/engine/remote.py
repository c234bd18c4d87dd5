"""The engine elsewhere: the same seam over a pipe, with the work in a thread or in a process of its own."""

from __future__ import annotations

import atexit
import logging
import multiprocessing
import os
import signal
import threading
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from latent_inv.machine import kills_for_memory

from .pipe import PATIENCE, RemoteEngine, Worker
from .worker import serve_pipe, serve_process

__all__ = ["ProcessEngine", "RemoteEngine", "ThreadEngine"]


class ThreadEngine(RemoteEngine):
    """The engine in a thread of this process. A thread cannot be ended: one that is killed is left to itself."""

    def _start_worker(self, pipe: Connection) -> Worker:
        worker = threading.Thread(target=serve_pipe, args=(pipe, self._settings), name="engine", daemon=True)
        worker.start()
        return worker

    def _kill_worker(self, worker: Worker) -> None:
        self._send(self._pipe, ("leave",))


class ProcessEngine(RemoteEngine):
    """The engine in a process of its own, spawned and never forked: torch's threads do not survive a fork."""

    #: whether this process has ended the worker; what the kernel had counted when it began
    _ended_here = False
    _memory_kills: int | None = None

    def _start_worker(self, pipe: Connection) -> Worker:
        context = multiprocessing.get_context("spawn")
        self._ended_here, self._memory_kills = False, kills_for_memory()
        # What would not be written here need not be sent.
        level = logging.getLogger("latent_inv").getEffectiveLevel()
        settings = replace(self._settings, log_level=level)
        worker = context.Process(target=serve_process, args=(pipe, settings), name="engine", daemon=True)
        worker.start()
        pipe.close()  # so that the end of the process is the end of the pipe
        # A worker heeds no SIGTERM, by which multiprocessing would end it when this process ends without `close`.
        atexit.register(worker.kill)
        return worker

    def _kill_worker(self, worker: Worker) -> None:
        if isinstance(worker, BaseProcess):
            self._ended_here = worker.is_alive()
            worker.kill()
            worker.join(PATIENCE)

    def _at_fault(self) -> bool:
        """Not if somebody has sent a SIGKILL: whoever runs this machine, but neither this process nor the kernel."""
        worker = self._worker
        if not isinstance(worker, BaseProcess) or self._ended_here:
            return True
        worker.join(1.0)  # its pipe may close a moment before it ends
        if os.name != "posix" or worker.exitcode != -signal.SIGKILL:
            return True
        kills = kills_for_memory()
        return kills is None or kills != self._memory_kills

    def _worker_gone(self, pipe: Connection) -> None:
        worker = self._worker  # of this pipe: there is no other one before the pipe is gone
        super()._worker_gone(pipe)
        if isinstance(worker, BaseProcess):
            self._see_off(worker)
            atexit.unregister(worker.kill)

    @property
    def pid(self) -> int | None:
        """The worker's process id."""
        return self._worker.pid if isinstance(self._worker, BaseProcess) else None
