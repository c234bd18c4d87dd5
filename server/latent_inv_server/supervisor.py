"""Telling systemd that we are ready, stopping, and alive: its notify protocol, one datagram each.

Does nothing where NOTIFY_SOCKET is not set. See sd_notify(3).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Mapping

logger = logging.getLogger(__name__)


class Supervisor:
    """Who started us and waits for news, if anybody."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        wanted = environ.get("WATCHDOG_USEC", "")
        mine = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._seconds = int(wanted) / 2e6 if wanted.isdigit() and mine else 0.0
        self._pulse: asyncio.Task[None] | None = None

    def ready(self) -> None:
        """Calls are answered. From now on the event loop's pulse is told, if it is wanted."""
        self._tell("READY=1")
        if self._address and self._seconds:
            self._pulse = asyncio.create_task(self._beat(self._seconds))

    def stopping(self) -> None:
        """It may take the grace time; the pulse goes on until the event loop ends."""
        self._tell("STOPPING=1")

    async def _beat(self, seconds: float) -> None:
        while True:
            self._tell("WATCHDOG=1")
            await asyncio.sleep(seconds)

    def _tell(self, news: str) -> None:
        if not self._address:
            return
        address = self._address
        # A name that begins with "@" is one without a file.
        address = "\0" + address[1:] if address.startswith("@") else address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            line.setblocking(False)
            line.sendto(news.encode(), address)
