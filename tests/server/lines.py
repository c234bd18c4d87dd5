"""Servers in a thread of their own, and lines to them that are slow and break."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from latent_inv_server.app import Store
from latent_inv_server.config import ServerConfig
from latent_inv_server.testing import running_server
from tests.server.fake import address


@contextmanager
def serving(engine: Any, config: ServerConfig | None = None, store: Store | None = None) -> Iterator[str]:
    """The address of a server that runs beside the test, for blocking clients and other programs."""
    found: list[str] = []
    ready, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        try:
            async with running_server(engine, config, store) as application:
                found.append(address(application))
                ready.set()
                while not stop.is_set():
                    await asyncio.sleep(0.01)
        finally:
            ready.set()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(30)
        assert found, "the server did not start"
        yield found[0]
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


class BadLine:
    """Forwards to a server, late, and resets its connections one after the other.

    Args:
        target: "host:port".
        cuts: bytes that pass, both ways together, before the first connection is reset, the second …; those after them
            stay.
        delay: seconds that each piece takes longer.
    """

    def __init__(self, target: str, cuts: list[int], delay: float = 0.0) -> None:
        host, port = target.rsplit(":", 1)
        self._target, self._cuts, self._delay = (host, int(port)), list(cuts), delay
        #: connections that were reset
        self.broken = 0
        self._ready, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),))

    def __enter__(self) -> str:
        """Its address."""
        self._thread.start()
        assert self._ready.wait(30)
        return f"127.0.0.1:{self._port}"

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        while not self._stop.is_set():
            await asyncio.sleep(0.01)
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = [self._cuts.pop(0)] if self._cuts else []
        there, back = await asyncio.open_connection(*self._target)
        pipes = [asyncio.create_task(self._pipe(*ends, left)) for ends in ((reader, back), (there, writer))]
        try:
            await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
            # Here, once a connection: both ways may have passed the cut before either was noticed.
            self.broken += bool(left and left[0] < 0)
        finally:
            for pipe in pipes:
                pipe.cancel()
            for end in (writer, back):
                end.transport.abort()  # a reset, not an orderly end

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: list[int]) -> None:
        while data := await reader.read(2**14):
            if left:
                left[0] -= len(data)
                if left[0] < 0:
                    return
            await asyncio.sleep(self._delay)
            writer.write(data)
            await writer.drain()
