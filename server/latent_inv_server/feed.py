"""The events of one job on their way to one reader, with bounded memory however slow the reader is."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from latent_inv.result import Event, Finished, Preview, Progress

#: unread progress events that are kept; of more, the newest ones
MAX_UNREAD = 64


class Feed:
    """Ordered, merged events. Not thread-safe: used on the event loop alone.

    A reader that is behind loses old progress and old previews, never the end. Checkpoints are for whoever keeps jobs,
    and no reader's matter.
    """

    def __init__(self) -> None:
        self._progress: deque[Progress] = deque(maxlen=MAX_UNREAD)
        self._preview: Preview | None = None
        self._news = asyncio.Event()
        self.finished: Finished | None = None

    def put(self, event: Event) -> None:
        """Take an event; nothing comes after the end."""
        if self.finished is not None:
            return
        if isinstance(event, Progress):
            self._progress.append(event)
        elif isinstance(event, Preview):
            self._preview = event
        elif isinstance(event, Finished):
            self.finished = event
        else:
            return
        self._news.set()

    def _next(self) -> Event | None:
        preview = self._preview
        if preview is not None and not (self._progress and self._progress[0].sequence < preview.sequence):
            self._preview = None
            return preview
        return self._progress.popleft() if self._progress else self.finished

    async def events(self) -> AsyncIterator[Event]:
        """All events until the end; the last one is `Finished`. For one reader, once."""
        while True:
            event = self._next()
            if event is None:
                self._news.clear()
                await self._news.wait()
                continue
            yield event
            if isinstance(event, Finished):
                return
