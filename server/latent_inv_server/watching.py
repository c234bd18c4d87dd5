"""What is told of one job on its way to one reader, with bounded memory however slow the reader is."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any

from latent_inv.convert import preview_to
from latent_inv.convert.errors import error_from
from latent_inv.errors import CancelledError, InternalError, LatentInvError
from latent_inv.result import Preview
from latent_inv.v1 import job_pb2

from .store.records import JobRecord, JobState

#: runs a function where it does not hold up the event loop
InThread = Callable[[Callable[[], Any]], Awaitable[Any]]

#: unread progress that is kept of what happens while a reader reads; of more, the newest
MAX_UNREAD = 64
#: progress of a job that is kept for readers who come later
MAX_HISTORY = 1000


@dataclass(frozen=True)
class Told:
    """Something that is told of a job; numbers grow over the whole life of the job, and gaps are merged progress."""

    sequence: int


@dataclass(frozen=True)
class ToldProgress(Told):
    """A step was done; `data` is the wire's `Progress`, serialized once for the store and for all readers."""

    data: bytes


class LazyPng:
    """A preview that is made into a PNG when the first reader wants it, once for all readers."""

    def __init__(self, preview: Preview) -> None:
        self._preview = preview
        self._encoding: asyncio.Future[job_pb2.Preview] | None = None

    async def message(self, in_thread: InThread) -> job_pb2.Preview:
        """The wire's `Preview`."""
        if self._encoding is None:
            self._encoding = asyncio.ensure_future(in_thread(partial(preview_to, self._preview)))
        # A reader that leaves must not end what others wait for.
        return await asyncio.shield(self._encoding)


@dataclass(frozen=True)
class ToldPreview(Told):
    """The best picture so far."""

    picture: LazyPng


@dataclass(frozen=True)
class ToldEnd(Told):
    """The job is over, and that is kept.

    Attributes:
        record: the job as it is kept.
        result: the wire's `JobResult`, serialized; empty: none.
        error: why it failed, with the field of the request; None: it did not, or long ago.
    """

    record: JobRecord
    result: bytes = b""
    error: LatentInvError | None = None


def error_of(end: ToldEnd) -> LatentInvError:
    """Why a job has no result."""
    if end.error is not None:
        return copy(end.error)  # each who raises it leaves traces in it
    record = end.record
    if record.state is JobState.cancelled:
        return CancelledError("the job was cancelled before its first step")
    if record.state is JobState.failed:
        return error_from(record.error_status, record.error_message, None)
    return InternalError("the job has no result")


class History:
    """Progress of one job for readers who come later: all of it, or evenly thinned once that is too much."""

    def __init__(self, most: int = MAX_HISTORY) -> None:
        self._most, self._stride, self._count = most, 1, 0
        self._kept: list[ToldProgress] = []
        self._newest: ToldProgress | None = None

    def add(self, told: ToldProgress) -> None:
        """Remember the newest progress."""
        self._newest = told
        if self._count % self._stride == 0:
            self._kept.append(told)
        self._count += 1
        if len(self._kept) > self._most:
            self._kept = self._kept[::2]
            self._stride *= 2

    def after(self, sequence: int) -> list[ToldProgress]:
        """What is kept with larger numbers, in order; the newest is always there."""
        known = [told for told in self._kept if told.sequence > sequence]
        newest = self._newest
        if newest is not None and newest.sequence > sequence and (not known or known[-1] is not newest):
            known.append(newest)
        return known


class Feed:
    """Ordered, merged. Not thread-safe: used on the event loop alone.

    A reader that is behind loses old progress and old previews, never the end.

    Args:
        earlier: what happened before the reader came.
    """

    def __init__(self, earlier: Sequence[Told] = ()) -> None:
        self._earlier = deque(earlier)
        self._progress: deque[Told] = deque(maxlen=MAX_UNREAD)
        self._preview: Told | None = None
        self._news = asyncio.Event()
        self._broken: LatentInvError | None = None
        self.end: ToldEnd | None = None

    def put(self, told: Told) -> None:
        """Take what is told; nothing comes after the end."""
        if self.end is not None:
            return
        if isinstance(told, ToldEnd):
            self.end = told
        elif isinstance(told, ToldPreview):
            self._preview = told
        else:
            self._progress.append(told)
        self._news.set()

    def break_off(self, error: LatentInvError) -> None:
        """Nothing more will be told here, though the job is not over: readers get `error` after what is unread."""
        self._broken = error
        self._news.set()

    def _next(self) -> Told | None:
        if self._earlier:
            return self._earlier.popleft()
        preview = self._preview
        if preview is not None and not (self._progress and self._progress[0].sequence < preview.sequence):
            self._preview = None
            return preview
        return self._progress.popleft() if self._progress else self.end

    async def told(self) -> AsyncGenerator[Told, None]:
        """All that is told until the end, which is last. For one reader, once.

        Raises:
            LatentInvError: it was broken off.
        """
        while True:
            told = self._next()
            if told is not None:
                yield told
                if isinstance(told, ToldEnd):
                    return
            elif self._broken is not None:
                raise self._broken
            else:
                self._news.clear()
                await self._news.wait()
