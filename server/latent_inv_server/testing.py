"""A real server in a few lines, for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from latent_inv.engine.seam import EngineSeam

from .app import Application, Store
from .config import ServerConfig


@asynccontextmanager
async def running_server(engine: EngineSeam, config: ServerConfig | None, store: Store) -> AsyncIterator[Application]:
    """A server on a free port; `application.port` says which.

    Args:
        engine, store: closed at the end.
        config: its port is used as it is; None takes a free one and stops without grace.
    """
    application = Application(config or ServerConfig(port=0, grace_seconds=0), engine, store)
    await application.start()
    try:
        yield application
    finally:
        await application.stop()
