"""A real server in a few lines, for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from latent_inv.engine.seam import EngineSeam

from .app import Application, Store
from .config import ServerConfig
from .store.folder import open_store


@asynccontextmanager
async def running_server(
    engine: EngineSeam, config: ServerConfig | None = None, store: Store | None = None
) -> AsyncIterator[Application]:
    """A server on a free port; `application.port` says which.

    Args:
        engine: closed at the end.
        store: closed at the end; None takes a temporary folder.
        config: its port is used as it is; None takes a free one and stops without grace.
    """
    kept = store or open_store(None)
    try:
        application = Application(config or ServerConfig(port=0, grace_seconds=0), engine, kept)
        await application.start()
    except BaseException:
        kept.close()
        raise
    try:
        yield application
    finally:
        await application.stop()
