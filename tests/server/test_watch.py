"""Watching jobs over the wire: many watchers, slow ones, ones whose line breaks, ones that leave."""

from __future__ import annotations

import asyncio
import socket
import threading
import tracemalloc

import numpy as np
import pytest

from latent_inv.client import AsyncClient, Client, Job
from latent_inv.client.job import Follower
from latent_inv.errors import InputError, UnavailableError
from latent_inv.result import Preview, Progress
from latent_inv.v1 import job_pb2, job_service_pb2
from latent_inv_server.app import Application
from latent_inv_server.config import ServerConfig
from latent_inv_server.testing import running_server
from latent_inv_server.watching import MAX_HISTORY, MAX_UNREAD
from tests.server.fake import PNG, FakeEngine, address, serve, until
from tests.server.memory_store import MemoryStore


def numbers_of(events: list[Progress | Preview | Job]) -> list[int]:
    return [event.sequence for event in events]


def test_fifty_watchers_hear_the_same_and_others_are_still_answered() -> None:
    async def scenario(application: Application, client: AsyncClient) -> None:
        job = await client.jobs.create(PNG, "steps", steps=200)

        async def follow() -> list[Progress | Preview | Job]:
            return [event async for event in client.jobs.watch(job.job_id)]

        following = [asyncio.create_task(follow()) for _ in range(50)]
        while not all(task.done() for task in following):
            assert await client.healthy()
            await client.jobs.get(job.job_id)
            await asyncio.sleep(0.02)
        for task in following:
            events = task.result()
            assert numbers_of(events) == sorted(set(numbers_of(events)))
            steps = [event.latest.step for event in events if isinstance(event, Progress)]
            assert steps == sorted(set(steps))
            assert steps[-1] == 200
            assert isinstance(events[-1], Job)
            assert events[-1].result is not None
        assert application.jobs.unfinished == 0

    serve(FakeEngine(pause=0.005), scenario)


def test_late_watchers_get_history_and_a_number_to_go_on_from() -> None:
    async def scenario(application: Application, client: AsyncClient) -> None:
        job = await client.jobs.create(PNG, "forever")
        live = application.jobs.runs.live[job.job_id]
        await until(lambda: live.sequence >= 50)
        early: list[Progress | Preview | Job] = []
        async for event in client.jobs.watch(job.job_id):
            early.append(event)
            if event.sequence >= 50:
                break
        assert numbers_of(early)[:50] == list(range(1, 51)), "all of a short history is kept"
        late = await anext(client.jobs.watch(job.job_id, after=40))
        assert late.sequence == 41
        await client.jobs.cancel(job.job_id)
        # A number that was never told; the end is told all the same.
        (end,) = [event async for event in client.jobs.watch(job.job_id, after=10**9)]
        assert isinstance(end, Job)
        assert end.state == "cancelled"
        # Once it is over, the newest progress and the end are there.
        newest, end = [event async for event in client.jobs.watch(job.job_id)]
        assert isinstance(newest, Progress)
        assert isinstance(end, Job)
        assert end.progress is not None
        assert newest.latest.step == end.progress.latest.step

    serve(FakeEngine(), scenario)


def test_previews_reach_late_watchers_once_and_in_order() -> None:
    async def scenario(application: Application, client: AsyncClient) -> None:
        job = await client.jobs.create(PNG, "flood")
        live = application.jobs.runs.live[job.job_id]
        await until(lambda: live.sequence > 2000)
        events: list[Progress | Preview | Job] = []
        async for event in client.jobs.watch(job.job_id):
            events.append(event)
            if event.sequence > 2010:
                break
        assert numbers_of(events) == sorted(set(numbers_of(events)))
        (preview,) = [event for event in events if isinstance(event, Preview)]
        np.testing.assert_array_equal(preview.image, np.zeros((8, 8, 3), np.uint8))

    serve(FakeEngine(), scenario)


def test_a_reader_that_stops_reading_holds_up_nobody_and_no_memory() -> None:
    """It attaches and never reads; a few thousand steps later the server holds no more for it than before."""

    async def scenario(application: Application, client: AsyncClient) -> None:
        job = await client.jobs.create(PNG, "forever")
        live = application.jobs.runs.live[job.job_id]
        lazy = [client.jobs._stub.WatchJob(job_service_pb2.WatchJobRequest(job_id=job.job_id)) for _ in range(10)]
        await until(lambda: live.watchers == 10)
        keen = client.jobs.watch(job.job_id)
        seen = [await anext(keen) for _ in range(MAX_HISTORY + 500)]
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        seen += [await anext(keen) for _ in range(2000)]
        held = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        steps = [event.latest.step for event in seen if isinstance(event, Progress)]
        assert steps == sorted(set(steps))
        # 2000 events for ten readers would be several megabytes; what this test itself keeps of them is one.
        assert held < 3 * 2**20, held
        assert all(len(feed._progress) <= MAX_UNREAD for feed in live._feeds)
        await client.jobs.cancel(job.job_id)
        for call in lazy:  # those that read at last hear of the end
            last = None
            async for message in call:
                last = message
            assert last is not None
            assert last.WhichOneof("event") == "finished"

    serve(FakeEngine(), scenario)


def test_two_hundred_watchers_that_leave_take_nothing_with_them() -> None:
    async def scenario(application: Application, client: AsyncClient) -> None:
        job = await client.jobs.create(PNG, "forever")
        live = application.jobs.runs.live[job.job_id]

        async def glance() -> None:
            stream = client.jobs.watch(job.job_id)
            assert isinstance(await anext(stream), Progress)
            await stream.aclose()

        for _ in range(20):
            await glance()
        await until(lambda: live.watchers == 0)
        tasks, threads = len(asyncio.all_tasks()), threading.active_count()
        for _ in range(200):
            await glance()
        await until(lambda: live.watchers == 0 and len(asyncio.all_tasks()) <= tasks)
        assert threading.active_count() <= threads + 2
        assert (await client.jobs.get(job.job_id)).state == "running"

    serve(FakeEngine(), scenario)


def test_negative_numbers_are_refused() -> None:
    async def scenario(_: Application, client: AsyncClient) -> None:
        job = await client.jobs.create(PNG, "forever")
        with pytest.raises(InputError) as caught:
            await anext(client.jobs.watch(job.job_id, after=-1))
        assert caught.value.field == "after_sequence"

    serve(FakeEngine(), scenario)


# ---- broken lines ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["blocking", "asynchronous"])
def test_a_watch_goes_on_over_a_restart_of_the_server(kind: str) -> None:
    store = MemoryStore()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = ServerConfig(port=port, grace_seconds=0, checkpoint_steps=5)
    events: list[Progress | Preview | Job] = []
    half, over = threading.Event(), threading.Event()

    def take(event: Progress | Preview | Job) -> None:
        events.append(event)
        if isinstance(event, Progress) and event.latest.step >= 50:
            half.set()

    def watch(job_id: str) -> None:
        try:
            with Client(f"127.0.0.1:{port}") as client:
                for event in client.jobs.watch(job_id):
                    take(event)
        finally:
            over.set()

    async def watch_too(job_id: str) -> None:
        async with AsyncClient(f"127.0.0.1:{port}") as client:
            async for event in client.jobs.watch(job_id):
                take(event)
        over.set()

    async def run() -> None:
        async with running_server(FakeEngine(pause=0.005), config, store) as application:
            async with AsyncClient(address(application)) as client:
                job_id = (await client.jobs.create(PNG, "steps", steps=150)).job_id
            following = asyncio.create_task(
                asyncio.to_thread(watch, job_id) if kind == "blocking" else watch_too(job_id)
            )
            await until(half.is_set)
        assert not over.is_set()
        await asyncio.sleep(0.3)  # nobody is there for a while
        async with running_server(FakeEngine(), config, store):
            await until(over.is_set)
            await following

    asyncio.run(run())
    assert isinstance(events[-1], Job)
    assert events[-1].state == "succeeded"
    assert numbers_of(events) == sorted(set(numbers_of(events)))
    steps = [event.latest.step for event in events if isinstance(event, Progress)]
    assert steps == sorted(set(steps))
    assert steps[-1] == 150


def test_patience_ends() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with Client(f"127.0.0.1:{port}") as client, pytest.raises(UnavailableError, match="no server answers"):
        client.jobs.wait("0" * 16, patience=0)


def test_a_follower_never_goes_back() -> None:
    follower = Follower("job", 3, patience=60)

    def say(number: int, step: int) -> bool:
        progress = job_pb2.Progress(latest=job_pb2.Step(step=step))
        return follower.take(job_service_pb2.WatchJobResponse(sequence=number, progress=progress)) is not None

    assert [say(3, 3), say(4, 4), say(9, 6), say(9, 6), say(5, 7)] == [False, True, True, False, False]
    # After a crash of the server, larger numbers may tell of steps that were told.
    assert [say(10_001, 5), say(10_002, 6), say(10_003, 7)] == [False, False, True]
    assert follower.request().after_sequence == 10_003
    error = UnavailableError("away", retry_after=3)
    assert follower.pause(error) == 3
    hasty = UnavailableError("away")
    pauses = [follower.pause(hasty) for _ in range(20)]
    assert max(pauses) <= 5
    assert pauses[0] < 1
    follower.take(job_service_pb2.WatchJobResponse(sequence=20_000))
    assert follower.pause(hasty) < 0.3, "a word of the server, and it begins anew"
