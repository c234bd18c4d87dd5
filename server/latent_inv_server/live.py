"""One job that is not over, in memory: what was told of it, to whom, and what is not kept yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from enum import Enum

from latent_inv.convert import progress_to
from latent_inv.errors import LatentInvError
from latent_inv.result import Checkpoint, Event, Preview, Progress
from latent_inv.spec import JobSpec
from latent_inv.v1 import job_pb2

from .store.records import JobRecord, JobState
from .watching import Feed, History, LazyPng, ToldEnd, ToldPreview, ToldProgress

#: numbers of events that are reserved in the store at once; more than any job uses between two saves
RESERVE = 10_000


class Phase(Enum):
    """What is being done for a job."""

    waiting = "in the queue"
    starting = "on its way to the engine"
    running = "in the engine"
    ending = "its end is being kept"


class LiveJob:
    """A queued or running job. Not thread-safe: used on the event loop alone.

    Events are numbered here, over all workers and servers that the job sees. Numbers are reserved in the store before
    they are told, so that a server that is killed never tells one twice. Steps that are done again, since a worker or
    server was lost after its last checkpoint, are not told again.

    Args:
        record: as it is kept.
        spec: its decoded request; None: to be read from the store.
        new: just created, with the first numbers reserved and none of them told.
    """

    def __init__(self, record: JobRecord, spec: JobSpec | None = None, *, new: bool = False) -> None:
        self.record, self.spec = record, spec
        self.phase = Phase.waiting
        self.cancelling = False
        self.sequence = 0 if new else record.sequence
        self.reserved = record.sequence
        #: not kept yet: whether there is news at all, and the newest checkpoint
        self.unsaved = False
        self.checkpoint: bytes | None = None
        self.saving = asyncio.Lock()
        #: set for a stop: told nothing any more once the checkpoint for it is here
        self.last_checkpoint: asyncio.Event | None = None
        self._history = History()
        self._preview: ToldPreview | None = None
        self._feeds: set[Feed] = set()
        self._held: bytes | None = None
        self._told_step = self._lost_at = -1
        #: doing again what was told
        self._behind = False
        if record.progress:
            self._told_step = job_pb2.Progress.FromString(record.progress).latest.step
            self._history.add(ToldProgress(self.sequence, record.progress))

    @property
    def job_id(self) -> str:
        """Its id."""
        return self.record.job_id

    @property
    def under_way(self) -> bool:
        """Is it in the engine, or on its way there?"""
        return self.phase in (Phase.starting, Phase.running)

    @property
    def newest(self) -> JobRecord:
        """As it is now, which may be ahead of what is kept."""
        return replace(self.record, sequence=self.sequence)

    @property
    def stopped(self) -> bool:
        """Is all told and kept that will be before this server stops?"""
        return self.last_checkpoint is not None and self.last_checkpoint.is_set()

    # ---- what the engine says --------------------------------------------------------------------

    def begins(self) -> None:
        """It goes to a worker, from its newest checkpoint or its beginning."""
        self._behind = self._told_step >= 0

    def hear(self, event: Event) -> None:
        """Number an event, tell it to whoever watches, and note what is to be kept."""
        if self.stopped:
            return
        if isinstance(event, Progress):
            self._progress(event)
        elif isinstance(event, Preview) and not self._behind and self.sequence < self.reserved:
            self._preview = ToldPreview(self._number(), LazyPng(event))
            self._tell(self._preview)
        elif isinstance(event, Checkpoint):
            self.checkpoint, self.unsaved = event.data, True
            if self.last_checkpoint is not None:
                self.last_checkpoint.set()

    def lost(self) -> bool:
        """Its worker is gone; True if the job has got further than it was when it lost one before."""
        further, self._lost_at = self._told_step > self._lost_at, self._told_step
        return further

    def _progress(self, event: Progress) -> None:
        if event.latest.step <= self._told_step:
            return
        self._told_step, self._behind = event.latest.step, False
        data = progress_to(event).SerializeToString()
        self.record, self.unsaved = replace(self.record, progress=data), True
        if self.sequence < self.reserved:
            self._tell_progress(data)
        else:
            self._held = data  # until numbers are reserved; a newer one takes its place

    def kept(self, reserved: int) -> None:
        """The store has reserved numbers up to `reserved`."""
        self.reserved = max(self.reserved, reserved)
        held, self._held = self._held, None
        if held is not None:
            self._tell_progress(held)

    def _tell_progress(self, data: bytes) -> None:
        told = ToldProgress(self._number(), data)
        self._history.add(told)
        self._tell(told)

    def _number(self) -> int:
        self.sequence += 1
        return self.sequence

    def _tell(self, told: ToldProgress | ToldPreview | ToldEnd) -> None:
        for feed in self._feeds:
            feed.put(told)

    # ---- the end -----------------------------------------------------------------------------------

    def ends(self, record: JobRecord, result: bytes, error: LatentInvError | None) -> None:
        """It is over, and that is kept: tell everybody."""
        self.record = record
        self._tell(ToldEnd(record.sequence, record, result, error))

    def break_off(self, error: Callable[[], LatentInvError]) -> None:
        """Send all watchers away, though it is not over; each gets an error of its own."""
        for feed in self._feeds:
            feed.break_off(error())

    # ---- watchers ------------------------------------------------------------------------------------

    def attach(self, after: int) -> Feed:
        """A new watcher, who gets what is kept with numbers larger than `after`, and then what happens."""
        earlier: list[ToldProgress | ToldPreview] = [*self._history.after(after)]
        if self._preview is not None and self._preview.sequence > after:
            earlier.append(self._preview)
        feed = Feed(sorted(earlier, key=lambda told: told.sequence))
        self._feeds.add(feed)
        return feed

    def detach(self, feed: Feed) -> None:
        """A watcher has left; nothing else changes."""
        self._feeds.discard(feed)

    @property
    def watchers(self) -> int:
        """How many there are."""
        return len(self._feeds)

    def moved(self, state: JobState, **changes: object) -> None:
        """Note what the store was told."""
        self.record = replace(self.record, state=state, **changes)  # type: ignore[arg-type]
