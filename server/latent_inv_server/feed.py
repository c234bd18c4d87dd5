"""The events of one job on their way to one reader, with bounded memory however slow the reader is."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from latent_inv.result import Event, Finished, Preview, Progress

#: unread progress events that are kept; older ones are merged into the newest
MAX_UNREAD = 64


class Feed:
    """Ordered, merged events. Not thread-safe: used on the event loop alone."""

    def __init__(self) -> None:
        self._unread: deque[Event] = deque()
        self._news = asyncio.Event()
        self.finished: Finished | None = None

    def put(self, event: Event) -> None:
        """Take an event; a reader that is behind loses old progress and old previews, never the end."""
        if self.finished is not None:
            return
        if isinstance(event, Preview):
            self._drop_one(Preview)
        elif isinstance(event, Progress) and len(self._unread) >= MAX_UNREAD:
            self._drop_one(Progress)
        elif isinstance(event, Finished):
            self.finished = event
        self._unread.append(event)
        self._news.set()

    def _drop_one(self, kind: type[Event]) -> None:
        for old in self._unread:
            if isinstance(old, kind):
                self._unread.remove(old)
                return

    async def events(self) -> AsyncIterator[Event]:
        """All events until the end; the last one is `Finished`."""
        while True:
            while self._unread:
                event = self._unread.popleft()
                yield event
                if isinstance(event, Finished):
                    return
            self._news.clear()
            await self._news.wait()
