"""Run a server until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from latent_inv.files import write_bytes

from .app import Application
from .config import ServerConfig
from .door.door import Door
from .fleet import Fleet, open_fleet
from .logs import logging_to
from .stopping import Stop
from .store.folder import Store, open_store
from .store.retention import retention
from .supervisor import Supervisor
from .telemetry.telemetry import Telemetry
from .telemetry.traces import open_traces

logger = logging.getLogger(__name__)


def run(config: ServerConfig, on_ready: Callable[[int], None] | None = None) -> int:
    """Serve until SIGINT or SIGTERM, a second of which ends at once; SIGHUP reads tokens and certificates again.

    Args:
        on_ready: called with the port once it listens; calls that need a worker wait until one is ready.
    Returns:
        the exit code, at most a second after the grace time.
    Raises:
        LatentInvError: it could not start.
    """
    stop = Stop(config.grace_seconds)
    with logging_to(None, config.log_format, config.log_level):
        try:
            asyncio.run(_serve(config, stop, on_ready))
        finally:
            # Not before the loop is closed, which waits for its threads.
            stop.close()
    return 0


async def _serve(config: ServerConfig, stop: Stop, on_ready: Callable[[int], None] | None) -> None:
    stop.listen()
    # Before the worker, which takes seconds to start: what is wrong is said at once.
    door = Door(config)
    loop = asyncio.get_running_loop()
    if hasattr(signal, "SIGHUP"):
        loop.add_signal_handler(signal.SIGHUP, lambda: loop.run_in_executor(None, door.refresh, True))
    if config.port_file is not None:
        # One of an earlier run would be read before this server is there.
        config.port_file.unlink(missing_ok=True)
    store = await asyncio.to_thread(open_store, config.data, config.database, config.disk_budget_mb * 2**20)
    with store:
        fleet = open_fleet(config)
        telemetry = Telemetry(config, open_traces())
        application = Application(config, fleet, store, door, partial(_retain, store, config), telemetry)
        try:
            await application.start()
        except BaseException:
            await asyncio.to_thread(fleet.close)
            raise
        await _run(stop, application, fleet, on_ready)


def _retain(store: Store, config: ServerConfig) -> None:
    """Remove what is too old or too much."""
    retention(store, time.time(), config.retention_hours * 3600, config.disk_budget_mb * 2**20)


async def _run(stop: Stop, application: Application, fleet: Fleet, on_ready: Callable[[int], None] | None) -> None:
    """Say where it listens, and serve until `stop`."""
    config = application.config
    supervisor = Supervisor()
    try:
        if config.port_file is not None:
            write_bytes(config.port_file, f"{application.port}\n".encode())
        logger.info("serving on %s:%d", config.host, application.port)
        if on_ready is not None:
            on_ready(application.port)
        supervisor.ready()
        await _until_stopped(stop, fleet)
    finally:
        stop.within_grace()
        supervisor.stopping()
        await application.stop()
        logger.info("stopped")


async def _until_stopped(stop: Stop, fleet: Fleet) -> None:
    """Raises the error of a device that cannot have a worker: that is a mistake of whoever started this."""
    stopped: asyncio.Future[Any] = asyncio.create_task(stop.asked())
    started: asyncio.Future[Any] = asyncio.wrap_future(fleet.started)
    await asyncio.wait({stopped, started}, return_when=asyncio.FIRST_COMPLETED)
    try:
        if started.done():
            started.result()
            await stopped
    finally:
        stopped.cancel()
        started.cancel()
