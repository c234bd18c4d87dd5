"""Servers whose log lines, figures and spans are looked at."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from latent_inv.client import AsyncClient
from latent_inv_server.app import Application
from latent_inv_server.config import ServerConfig
from latent_inv_server.logs import logging_to
from latent_inv_server.telemetry.telemetry import Telemetry
from latent_inv_server.telemetry.traces import NO_TRACES, Traces
from tests.server.fake import FakeEngine, address
from tests.server.memory_store import MemoryStore

Scenario = Callable[[Application, AsyncClient], Awaitable[None]]


def serve_watched(
    scenario: Scenario,
    engine: Any = None,
    *,
    traces: Traces = NO_TRACES,
    store: Any = None,
    seconds: float = 60,
    **settings: Any,
) -> None:
    """Run `scenario` against a real server on a free port; a hang fails."""
    config = ServerConfig(**{"port": 0, "grace_seconds": 0, **settings})

    async def run() -> None:
        application = Application(
            config, engine or FakeEngine(), store or MemoryStore(), telemetry=Telemetry(config, traces)
        )
        await application.start()
        try:
            async with AsyncClient(address(application)) as client:
                await asyncio.wait_for(scenario(application, client), seconds)
        finally:
            await application.stop()

    asyncio.run(run())


@contextmanager
def logged(level: str = "debug") -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Lines of the log so far, from JSON."""
    stream = io.StringIO()
    with logging_to(stream, "json", level):
        yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def figure(application: Application, name: str, **labels: str) -> float:
    """A figure as it would be scraped now; 0 if it is not there."""
    return application.telemetry.meters.registry.get_sample_value(name, labels) or 0.0
