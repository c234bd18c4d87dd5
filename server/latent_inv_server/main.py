"""Run a server until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from latent_inv.files import write_bytes

from .app import Application
from .config import ServerConfig
from .door.door import Door
from .fleet import Fleet, open_fleet
from .store.folder import Store, open_store
from .store.retention import retention

logger = logging.getLogger(__name__)


def run(config: ServerConfig, on_ready: Callable[[int], None] | None = None) -> int:
    """Serve until SIGINT or SIGTERM; SIGHUP reads tokens and certificates again.

    Args:
        on_ready: called with the port once it listens; calls that need a worker wait until one is ready.
    Returns:
        the exit code.
    Raises:
        LatentInvError: it could not start.
    """
    level = config.log_level.upper()
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    asyncio.run(_serve(config, on_ready))
    return 0


async def _serve(config: ServerConfig, on_ready: Callable[[int], None] | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    # Before the worker, which takes seconds to start: what is wrong is said at once.
    door = Door(config)
    if hasattr(signal, "SIGHUP"):
        loop.add_signal_handler(signal.SIGHUP, lambda: loop.run_in_executor(None, door.refresh, True))
    if config.port_file is not None:
        # One of an earlier run would be read before this server is there.
        config.port_file.unlink(missing_ok=True)
    store = await asyncio.to_thread(open_store, config.data, config.database, config.disk_budget_mb * 2**20)
    with store:
        fleet = open_fleet(config)
        application = Application(config, fleet, store, door, partial(_retain, store, config))
        try:
            await application.start()
        except BaseException:
            await asyncio.to_thread(fleet.close)
            raise
        await _run(stop, application, fleet, on_ready)


def _retain(store: Store, config: ServerConfig) -> None:
    """Remove what is too old or too much."""
    retention(store, time.time(), config.retention_hours * 3600, config.disk_budget_mb * 2**20)


async def _run(
    stop: asyncio.Event, application: Application, fleet: Fleet, on_ready: Callable[[int], None] | None
) -> None:
    """Say where it listens, and serve until `stop`."""
    config = application.config
    try:
        if config.port_file is not None:
            write_bytes(config.port_file, f"{application.port}\n".encode())
        logger.info("serving on %s:%d", config.host, application.port)
        if on_ready is not None:
            on_ready(application.port)
        await _until_stopped(stop, fleet)
        logger.info("stopping")
    finally:
        await application.stop()


async def _until_stopped(stop: asyncio.Event, fleet: Fleet) -> None:
    """Raises the error of a device that cannot have a worker: that is a mistake of whoever started this."""
    stopped: asyncio.Future[Any] = asyncio.create_task(stop.wait())
    started: asyncio.Future[Any] = asyncio.wrap_future(fleet.started)
    await asyncio.wait({stopped, started}, return_when=asyncio.FIRST_COMPLETED)
    try:
        if started.done():
            started.result()
            await stopped
    finally:
        stopped.cancel()
        started.cancel()
