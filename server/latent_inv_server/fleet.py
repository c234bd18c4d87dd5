"""A worker process for each device, behind one seam: where a job goes, and what is done when a worker dies or hangs."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from latent_inv.engine.health import Health
from latent_inv.engine.pipe import DEFAULT_CATALOGUE, Events, take_events
from latent_inv.engine.remote import ProcessEngine
from latent_inv.errors import AlreadyExistsError, LatentInvError, LimitError, UnavailableError
from latent_inv.incidents import as_typed
from latent_inv.result import Event, Finished
from latent_inv.spec import ResidenceSpec, Spec

from .config import ServerConfig

logger = logging.getLogger(__name__)

#: how often a worker is looked at, in seconds
_LOOK_SECONDS = 0.1
#: pause before a worker that did not last is started again, in seconds; it doubles each time, up to the second one
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
#: a worker that was ready for so long has lasted, and is replaced at once
_LASTED_SECONDS = 5.0


@dataclass(frozen=True)
class DeviceHealth:
    """How the worker of one device is.

    Attributes:
        pid: its process; None before the first one.
        jobs: jobs and requests that it was given and that are not over.
        replaced: how many workers there were before this one.
        problem: why it does not start; empty: it does, or is just doing so.
    """

    device: str
    health: Health
    pid: int | None
    jobs: int
    replaced: int
    problem: str


@dataclass(eq=False)
class _Seat:
    """The place of a worker, whichever process has it."""

    device: str
    engine: ProcessEngine
    jobs: set[str] = field(default_factory=set)
    replaced: int = 0
    problem: LatentInvError | None = None
    retry_at: float = 0.0


class Fleet:
    """An `EngineSeam` over one worker process a device. Safe to use from several threads.

    It is there at once; its workers are started beside that, and again whenever they die. Jobs of a worker that is
    lost end in `Lost` events; whoever keeps checkpoints may submit them again.

    Args:
        devices: a worker for each.
        threads, lane_width, precision, memory_mb, generator_memory_mb, catalogue, aliases: of each worker, see
            `WorkerSettings`.
        heartbeat_seconds: a worker is replaced if its loop has not turned, or nothing was heard of it, for so long.
        wait_seconds: how long `submit` waits for a worker that is being started.
    Attributes:
        started: done when every device has had a worker that was ready; fails with the error of a device that cannot
            have one, e.g. because it is not there.
    """

    def __init__(
        self,
        devices: Sequence[str] = ("auto",),
        threads: int | None = None,
        lane_width: int | None = None,
        *,
        precision: str = "float32",
        memory_mb: int | None = None,
        generator_memory_mb: int | None = None,
        catalogue: str = DEFAULT_CATALOGUE,
        aliases: tuple[tuple[str, str], ...] = (),
        heartbeat_seconds: float = 30.0,
        wait_seconds: float = 30.0,
    ) -> None:
        self._limit, self._wait_seconds = heartbeat_seconds, wait_seconds
        self._events: Events = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._homes: dict[str, _Seat | None] = {}
        self._not_yet = len(devices)
        self.started: Future[None] = Future()
        self._seats = []
        for device in devices:
            engine = ProcessEngine(
                device,
                threads,
                lane_width,
                catalogue,
                aliases=aliases,
                precision=precision,
                memory_mb=memory_mb,
                generator_memory_mb=generator_memory_mb,
                by_hand=True,
                events=self._events,
            )
            self._seats.append(_Seat(device, engine))
        self._threads = [
            threading.Thread(target=self._supervise, args=(seat,), name=f"worker of {seat.device}", daemon=True)
            for seat in self._seats
        ]
        for thread in self._threads:
            thread.start()

    # ---- the seam ------------------------------------------------------------------------------

    def submit(self, job_id: str, spec: Spec, checkpoint: bytes | None = None) -> None:
        """Give a request to the worker that has least to do. See `EngineSeam.submit`.

        Raises:
            UnavailableError: there is no worker, and none is ready in time; nobody has seen the request.
        """
        with self._changed:
            if job_id in self._homes:
                raise AlreadyExistsError(f'a job with the id "{job_id:.80}" is running', field="job_id")
            self._homes[job_id] = None
        try:
            self._give(job_id, spec, checkpoint)
        except BaseException:
            self._leave(job_id, forget=True)
            raise

    def _give(self, job_id: str, spec: Spec, checkpoint: bytes | None) -> None:
        end = time.monotonic() + self._wait_seconds
        full: dict[_Seat, LimitError] = {}
        while True:
            seat = self._place(job_id, end, full, spec.device if isinstance(spec, ResidenceSpec) else "")
            try:
                seat.engine.submit(job_id, spec, checkpoint)
                return
            except UnavailableError:
                # It went away before it had the order. Others may be there, or it may be back in time.
                if self._closing.wait(_LOOK_SECONDS) or time.monotonic() > end:
                    raise
            except LimitError as error:
                if error.retry_after is None:
                    raise
                full[seat] = error
            self._leave(job_id, forget=False)

    def cancel(self, job_id: str) -> None:
        """See `EngineSeam.cancel`."""
        seat = self._homes.get(job_id)
        if seat is not None:
            seat.engine.cancel(job_id)

    def checkpoint(self, job_id: str) -> None:
        """See `EngineSeam.checkpoint`."""
        seat = self._homes.get(job_id)
        if seat is not None:
            seat.engine.checkpoint(job_id)

    def poll(self, timeout: float = 0.0) -> list[Event]:
        """See `EngineSeam.poll`."""
        events = take_events(self._events, timeout)
        for event in events:
            if isinstance(event, Finished):
                self._leave(event.job_id, forget=True)
        return events

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of the devices whose workers take orders; all of them if none does."""
        return tuple(seat.device for seat in self._seats if seat.engine.alive) or tuple(
            seat.device for seat in self._seats
        )

    @property
    def alive(self) -> bool:
        """Is there a worker that takes orders?"""
        return any(seat.engine.alive for seat in self._seats)

    @property
    def health(self) -> tuple[DeviceHealth, ...]:
        """How the worker of each device is, in the order of the devices."""
        return tuple(
            DeviceHealth(
                seat.device,
                seat.engine.health,
                seat.engine.pid,
                len(seat.jobs),
                seat.replaced,
                "" if seat.problem is None else str(seat.problem),
            )
            for seat in self._seats
        )

    def close(self, grace: float = 10.0) -> None:
        """Stop all workers. See `EngineSeam.close`.

        Args:
            grace: seconds that a worker may take for that before it is ended.
        """
        self._closing.set()
        with self._changed:
            self._changed.notify_all()
        closing = [threading.Thread(target=seat.engine.close, args=(grace,)) for seat in self._seats]
        for thread in closing:
            thread.start()
        for thread in (*closing, *self._threads):
            thread.join()
        self.started.cancel()

    # ---- where a job goes ------------------------------------------------------------------------

    def _place(self, job_id: str, end: float, full: dict[_Seat, LimitError], device: str) -> _Seat:
        """Take the seat with the fewest jobs for a job, waiting until there is one.

        Args:
            full: seats that have no room for it.
            device: the only one that is meant; empty: any.
        """
        with self._changed:
            while True:
                if self._closing.is_set():
                    raise UnavailableError("the engine is closed")
                there = [seat for seat in self._seats if seat.engine.alive and device in ("", seat.device)]
                open_ = [seat for seat in there if seat not in full]
                if open_:
                    seat = min(open_, key=lambda seat: (len(seat.jobs), seat.engine.health.load.rows))
                    seat.jobs.add(job_id)
                    self._homes[job_id] = seat
                    return seat
                if there:
                    raise next(iter(full.values()))
                self._refuse_without_hope(end)
                self._changed.wait(_LOOK_SECONDS)

    def _refuse_without_hope(self, end: float) -> None:
        now = time.monotonic()
        problems = [seat.problem for seat in self._seats if seat.problem is not None]
        if len(problems) == len(self._seats):
            wait = max(1.0, min(seat.retry_at for seat in self._seats) - now)
            raise UnavailableError(f"no worker can be started: {problems[0]}", retry_after=wait)
        if now > end:
            raise UnavailableError("no worker is ready yet; try again", retry_after=1)

    def _leave(self, job_id: str, *, forget: bool) -> None:
        with self._changed:
            seat = self._homes.pop(job_id, None) if forget else self._homes.get(job_id)
            if seat is not None:
                seat.jobs.discard(job_id)

    # ---- the care for a worker -------------------------------------------------------------------

    def _supervise(self, seat: _Seat) -> None:
        failures, first = 0, True
        while not self._closing.is_set():
            try:
                seat.engine.start()
            except Exception as error:
                if self._closing.is_set():
                    return
                failures += 1
                self._cannot_start(seat, as_typed(error, "the start of a worker"), first)
            else:
                since = time.monotonic()
                self._is_ready(seat, first)
                first = False
                self._watch(seat)
                seat.engine.kill()  # returns when all its jobs have their ends
                if self._closing.is_set():
                    return
                seat.replaced += 1
                failures = 0 if time.monotonic() - since > _LASTED_SECONDS else failures + 1
                logger.warning("the worker of %s is gone; another one is started", seat.device)
            pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (failures - 1)) if failures else 0.0
            seat.retry_at = time.monotonic() + pause
            self._closing.wait(pause)

    def _watch(self, seat: _Seat) -> None:
        """Until it is gone, or hangs."""
        while seat.engine.alive and not self._closing.wait(_LOOK_SECONDS):
            health = seat.engine.health
            if health.hangs(self._limit):
                quiet = max(health.turn_seconds, health.silent_seconds)
                logger.error("the worker of %s hangs in %s for %.0f s", seat.device, health.state, quiet)
                return

    def _is_ready(self, seat: _Seat, first: bool) -> None:
        logger.info("the worker of %s is ready, process %s", seat.device, seat.engine.pid)
        with self._changed:
            seat.problem = None
            self._not_yet -= first
            if first and self._not_yet == 0 and not self.started.done():
                self.started.set_result(None)
            self._changed.notify_all()

    def _cannot_start(self, seat: _Seat, error: LatentInvError, first: bool) -> None:
        logger.error("the worker of %s does not start: %s", seat.device, error)
        with self._changed:
            seat.problem = error
            if first and not isinstance(error, UnavailableError) and not self.started.done():
                self.started.set_exception(error)
            self._changed.notify_all()


def open_fleet(config: ServerConfig) -> Fleet:
    """The fleet that a configuration describes."""
    return Fleet(
        config.devices,
        config.threads,
        config.lane_width,
        precision=config.precision,
        memory_mb=config.memory_mb,
        generator_memory_mb=config.generator_memory_mb,
        aliases=config.aliases,
        heartbeat_seconds=config.heartbeat_seconds,
    )
