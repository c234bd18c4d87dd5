"""Stopping when told to: in good order within the grace time, at once if told twice."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import threading

logger = logging.getLogger(__name__)

#: what the orderly way may take beyond the grace time, in seconds; then the process ends as it is
SPARE_SECONDS = 0.8


class Stop:
    """SIGINT and SIGTERM of this process, from `listen` to `close`.

    Args:
        grace: seconds in which all that is open may come to an end.
    """

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._asked = asyncio.Event()
        self._last: threading.Timer | None = None

    def listen(self) -> None:
        """Take signals, on the event loop that runs now, until that is closed."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._hear, number)

    async def asked(self) -> None:
        """Return once a stop was asked for."""
        await self._asked.wait()

    def _hear(self, number: signal.Signals) -> None:
        if self._asked.is_set():
            logger.warning("told to stop again, so it ends at once; what was kept is whole")
            end_now(128 + number)
        logger.info("stopping, told so by %s", number.name)
        self._asked.set()
        self.within_grace()

    def within_grace(self) -> None:
        """From now on the grace time runs: whatever hangs, this process ends soon after it.

        With exit code 0 if it was told to, else with 1.
        """
        if self._last is None:
            self._last = threading.Timer(self._grace + SPARE_SECONDS, self._out_of_time)
            self._last.daemon = True
            self._last.start()

    def _out_of_time(self) -> None:
        logger.warning("not all could be stopped within the grace time, so it ends as it is; what was kept is whole")
        end_now(0 if self._asked.is_set() else 1)

    def close(self) -> None:
        """All is stopped, the event loop and its threads too: the time has no end any more."""
        if self._last is not None:
            self._last.cancel()


def end_now(code: int) -> None:
    """End this process and its workers without another word. Nothing that was kept can be hurt by that."""
    for worker in multiprocessing.active_children():
        worker.kill()
    logging.shutdown()
    os._exit(code)
