"""Submits on their way into an engine: at once, or parked until what they need is loaded, or there is memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from latent_inv.errors import AlreadyExistsError, CancelledError, LatentInvError, LimitError
from latent_inv.incidents import as_typed
from latent_inv.result import Finished
from latent_inv.spec import ResidenceSpec, Spec

from .engine import Engine
from .loading import Loader, Need, check, needs, uses_generator


@dataclass
class _Order:
    """A submit.

    Attributes:
        number: of the reply that is due; None once it was sent: then the job was accepted, and ends in an event.
        wants_checkpoint: one was asked for when there was nothing to tell.
    """

    number: int | None
    job_id: str
    spec: Spec
    checkpoint: bytes | None
    needs: list[Need] = field(default_factory=list)
    wants_checkpoint: bool = False


class Intake:
    """Used in the thread of the engine.

    Args:
        send: takes messages to whoever gave the orders, see `worker`.
        work: told the job that is being looked at.
    """

    def __init__(
        self,
        engine: Engine,
        loader: Loader,
        send: Callable[[tuple[Any, ...]], None],
        work: Callable[[tuple[str, ...]], None],
    ) -> None:
        self._engine, self._loader, self._send, self._work = engine, loader, send, work
        self._submits: dict[str, _Order] = {}
        self._parked: dict[str, _Order] = {}
        self._hungry: set[str] = set()  # parked jobs that wait for memory

    def __len__(self) -> int:
        """Submits that nobody has looked at."""
        return len(self._submits)

    @property
    def parked(self) -> int:
        """Jobs that were accepted and wait; safe to ask from another thread."""
        return len(self._parked)

    @property
    def loading(self) -> list[str]:
        """Jobs for which something is being loaded."""
        return [job_id for job_id in self._parked if job_id not in self._hungry]

    def receive(self, number: int, job_id: str, spec: Spec, checkpoint: bytes | None) -> None:
        """Take a submit, or refuse it if its id is taken; `number` is that of the reply."""
        order = _Order(number, job_id, spec, checkpoint)
        if any(order.job_id in taken for taken in (self._submits, self._parked, self._engine)):
            text = f'a job with the id "{order.job_id:.80}" is running'
            self._end(order, AlreadyExistsError(text, field="job_id"))
        else:
            self._submits[order.job_id] = order

    def cancel(self, job_id: str) -> bool:
        """End a job that waits here; False if there is none."""
        order = self._submits.pop(job_id, None) or self._parked.pop(job_id, None)
        if order is None:
            return False
        self.memory_is_free()
        self._accept(order)
        self._refuse(order, CancelledError("the job was cancelled before its first step"))
        return True

    def checkpoint(self, job_id: str) -> bool:
        """Ask for a checkpoint of a job that waits here; False if there is none."""
        order = self._submits.get(job_id) or self._parked.get(job_id)
        if order is not None:
            order.wants_checkpoint = True
        return order is not None

    def memory_is_free(self) -> None:
        """A job is over, so that another one may fit."""
        self._hungry.clear()

    def let_in(self, seconds: float) -> None:
        """Let in jobs for about so long; if there is nothing else to do, until there is."""
        self._look_at_parked()
        end = time.monotonic() + seconds
        while self._submits and (self._engine.idle or time.monotonic() < end):
            self._admit(self._submits.pop(next(iter(self._submits))))

    def _look_at_parked(self) -> None:
        failed = self._loader.failures()
        ready: dict[str, _Order] = {}
        for job_id, order in list(self._parked.items()):
            errors = [failed[need.key] for need in order.needs if need.key in failed]
            if errors and self._may_wait(order, errors[0]):
                self._starve(order)
            elif errors and _in_time(order, errors[0]):
                self._want(order)  # whoever was in the way has ended meanwhile
            elif errors:
                del self._parked[job_id]
                self._refuse(order, errors[0])
                self.memory_is_free()
            elif job_id in self._hungry:
                continue
            elif not self._loader.has(order.needs):
                self._want(order)  # one may need what another one's load has just brought
            else:
                ready[job_id] = self._parked.pop(job_id)
        if ready:
            self._submits = {**ready, **self._submits}

    def _admit(self, order: _Order) -> None:
        self._work((order.job_id,))
        try:
            order.needs = needs(order.spec, self._engine.catalogue)
            if uses_generator(order.spec):  # before it is looked for, as a load of another one may drop it
                self._engine.catalogue.use(order.job_id, order.spec.generator)
            if not self._loader.has(order.needs):
                check(order.spec, self._engine.catalogue)
                self._parked[order.job_id] = order
                self._accept(order)
                self._want(order)
                return
            self._engine.submit(order.job_id, order.spec, order.checkpoint)
        except LimitError as error:
            # An accepted job waits until there is room; with nothing else to do there is room, or never.
            if order.number is None and self._may_wait(order, error):
                self._parked[order.job_id] = order
                self._starve(order)
            else:
                self._refuse(order, error)
        except Exception as error:
            self._refuse(order, as_typed(error, "a submit"))
        else:
            self._accept(order)
            if order.wants_checkpoint:
                self._engine.checkpoint(order.job_id)

    def _may_wait(self, order: _Order, error: LatentInvError) -> bool:
        loading = any(job_id not in (order.job_id, *self._hungry) for job_id in self._parked)
        return _in_time(order, error) and (loading or not self._engine.idle)

    def _want(self, order: _Order) -> None:
        """Load what it needs; until it is there, nothing of its generator goes."""
        if uses_generator(order.spec):
            self._engine.catalogue.use(order.job_id, order.spec.generator)
        self._loader.begin(order.needs)

    def _starve(self, order: _Order) -> None:
        """Wait until a job is over; its generator may go meanwhile."""
        self._hungry.add(order.job_id)
        self._engine.catalogue.leave(order.job_id)

    def _accept(self, order: _Order) -> None:
        if order.number is not None:
            self._send(("reply", order.number, None))
            order.number = None

    def _refuse(self, order: _Order, error: LatentInvError) -> None:
        self._engine.catalogue.leave(order.job_id)
        self._end(order, error)

    def _end(self, order: _Order, error: LatentInvError) -> None:
        """Refuse an order, or end its job if it was accepted."""
        if order.number is None:
            self._send(("event", Finished(order.job_id, 1, error=error)))
        else:
            self._send(("reply", order.number, error))


def _in_time(order: _Order, error: LatentInvError) -> bool:
    """Is there no room now, and some later? Whoever wants a generator and no more is told, and does not wait."""
    return not isinstance(order.spec, ResidenceSpec) and isinstance(error, LimitError) and error.retry_after is not None
