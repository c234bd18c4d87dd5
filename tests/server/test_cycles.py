"""Calls that end in every way, over and over on a real engine: nothing is left, and nothing grows."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from pathlib import Path

import pytest

from latent_inv.client import AsyncClient
from latent_inv.engine.remote import ThreadEngine
from latent_inv.errors import CancelledError, DeadlineError, InternalError, LatentInvError, SpecError
from latent_inv.images import encode_png
from latent_inv.result import JobResult, Outcome, Progress
from latent_inv.spec import Pixel
from latent_inv_server.app import Application
from latent_inv_server.testing import running_server
from tests.conftest import make_picture
from tests.server.fake import until

PNG = encode_png(make_picture(32, 32).pixels)
PIXEL = (Pixel(),)
CYCLES = 20


def open_files() -> int:
    gc.collect()
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


async def leaves(client: AsyncClient) -> None:
    stream = client.invert_stream(PNG, "smooth", losses=PIXEL, steps=100_000)
    assert isinstance(await anext(stream), Progress)
    await stream.aclose()


async def is_cancelled(client: AsyncClient) -> None:
    async for event in client.invert_stream(PNG, "smooth", losses=PIXEL, steps=100_000):
        if isinstance(event, JobResult):
            assert event.outcome is Outcome.cancelled
        else:
            await client.cancel(event.job_id)


async def runs_out_of_time(client: AsyncClient) -> None:
    with pytest.raises(DeadlineError):
        await client.invert(PNG, "smooth", losses=PIXEL, steps=100_000, timeout=0.05)


async def is_dropped_at_once(client: AsyncClient) -> None:
    task = asyncio.create_task(client.invert(PNG, "smooth", losses=PIXEL, steps=100_000))
    await asyncio.sleep(0.002)
    task.cancel()
    with pytest.raises((asyncio.CancelledError, CancelledError)):
        await task


async def fails(client: AsyncClient) -> None:
    with pytest.raises(InternalError):
        await client.invert(PNG, "raises", losses=PIXEL)


async def is_refused(client: AsyncClient) -> None:
    with pytest.raises(SpecError):
        await client.invert(PNG, "smoth", losses=PIXEL)


async def is_done(client: AsyncClient) -> None:
    assert (await client.invert(PNG, "smooth", losses=PIXEL, steps=1)).steps == 1
    with pytest.raises(LatentInvError):
        await client.decode({"z": make_picture(2, 2).pixels}, "smooth")


WAYS = (leaves, is_cancelled, runs_out_of_time, is_dropped_at_once, fails, is_refused, is_done)


def test_nothing_grows() -> None:
    engine = ThreadEngine("cpu", catalogue="tests.toy:TOYS")

    async def cycle(application: Application, client: AsyncClient) -> None:
        await asyncio.gather(*(way(client) for way in WAYS))
        await until(lambda: application.jobs.unfinished == 0)

    async def scenario() -> None:
        async with (
            running_server(engine) as application,
            AsyncClient(f"127.0.0.1:{application.port}") as client,
        ):
            for _ in range(5):
                await cycle(application, client)
            tasks, threads, files = len(asyncio.all_tasks()), threading.active_count(), open_files()
            for _ in range(CYCLES):
                await cycle(application, client)
            await until(lambda: len(asyncio.all_tasks()) <= tasks)
            # The loop's pool may still start the threads that it is allowed to have; one a cycle would be far more.
            assert threading.active_count() <= threads + min(12, (os.cpu_count() or 1) + 4)
            # The same holds for the store's connections, of two files each; it keeps eight and needs one at least.
            assert open_files() <= files + 2 * 7
            assert not engine._live
            assert not engine._replies

    asyncio.run(scenario())
