"""Leaving and cancelling: the work stops, the best so far comes back, and nothing is left behind."""

from __future__ import annotations

import asyncio
import threading

import pytest

from latent_inv.client import AsyncClient, Client
from latent_inv.errors import DeadlineError
from latent_inv.result import JobResult, Outcome, Progress
from latent_inv.v1 import data_pb2, inversion_service_pb2, inversion_service_pb2_grpc, job_pb2
from latent_inv_server.app import Application
from latent_inv_server.store.records import JobState
from tests.server.fake import PNG, FakeEngine, address, serve, until
from tests.server.memory_store import MemoryStore


def test_leaving_the_stream_cancels_its_job() -> None:
    engine = FakeEngine()

    async def scenario(application: Application, client: AsyncClient) -> None:
        stream = client.invert_stream(PNG, "forever")
        async for event in stream:
            assert isinstance(event, Progress)
            if event.sequence >= 3:
                break
        await stream.aclose()
        await until(lambda: engine.running == 0)
        assert len(engine.cancelled) == 1
        await until(lambda: application.jobs.unfinished == 0)

    serve(engine, scenario)


def test_leaving_the_blocking_stream_cancels_its_job() -> None:
    engine = FakeEngine()

    def leave(where: str) -> None:
        with Client(where) as client:
            for _ in client.invert_stream(PNG, "forever"):
                break
            raising = iter(client.invert_stream(PNG, "forever"))
            next(raising)
            raising.close()  # type: ignore[attr-defined]

    async def scenario(application: Application, _: AsyncClient) -> None:
        await asyncio.to_thread(leave, address(application))
        await until(lambda: len(engine.cancelled) == 2 and engine.running == 0)

    serve(engine, scenario)


def test_cancelling_a_task_cancels_its_job() -> None:
    engine = FakeEngine()

    async def scenario(_: Application, client: AsyncClient) -> None:
        task = asyncio.create_task(client.invert(PNG, "forever"))
        await until(lambda: engine.running == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: engine.running == 0)

    serve(engine, scenario)


def test_the_deadline_of_a_call_ends_its_job() -> None:
    engine = FakeEngine()

    async def scenario(_: Application, client: AsyncClient) -> None:
        with pytest.raises(DeadlineError, match="timeout"):
            await client.invert(PNG, "forever", timeout=0.2)
        await until(lambda: engine.running == 0 and len(engine.jobs) == 1)

    serve(engine, scenario)


def test_cancel_gives_the_best_so_far_and_may_come_twice() -> None:
    engine = FakeEngine()

    async def scenario(_: Application, client: AsyncClient) -> None:
        last: list[Progress] = []
        async for event in client.invert_stream(PNG, "forever"):
            if isinstance(event, Progress):
                last.append(event)
                await client.cancel(event.job_id)
                await client.cancel(event.job_id)
            else:
                assert isinstance(event, JobResult)
                assert event.outcome is Outcome.cancelled
                assert event.latents["z"].shape == (1, 3)
        # The job is over: still harmless.
        await client.cancel(last[0].job_id)
        assert set(engine.cancelled) == {last[0].job_id}

    serve(engine, scenario)


def test_stop_of_the_blocking_client() -> None:
    engine = FakeEngine()

    def run(where: str) -> JobResult:
        asked = iter([False, False, True])
        with Client(where) as client:
            return client.invert(PNG, "forever", stop=lambda: next(asked, True))

    async def scenario(application: Application, _: AsyncClient) -> None:
        result = await asyncio.to_thread(run, address(application))
        assert result.outcome is Outcome.cancelled

    serve(engine, scenario)


def test_leaving_before_the_job_was_taken_cancels_it_then() -> None:
    engine = FakeEngine()

    async def scenario(application: Application, client: AsyncClient) -> None:
        task = asyncio.create_task(client.invert(PNG, "blocked"))
        await until(lambda: len(engine.jobs) == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert application.jobs.unfinished == 1, "it counts until the engine has decided"
        engine.gate.set()
        await until(lambda: application.jobs.unfinished == 0)
        assert engine.running == 0
        assert len(engine.cancelled) == 1

    serve(engine, scenario)


def test_a_blocked_engine_holds_up_no_cancel() -> None:
    """More submits wait than there are threads for them, and another job is still cancelled."""
    engine = FakeEngine()

    async def scenario(application: Application, client: AsyncClient) -> None:
        stream = client.invert_stream(PNG, "forever")
        first = await anext(stream)
        assert isinstance(first, Progress)
        waiting = [asyncio.create_task(client.invert(PNG, "blocked")) for _ in range(30)]
        await until(lambda: application.jobs.unfinished == 31)
        assert len(engine.jobs) < 31
        await client.cancel(first.job_id)
        async for event in stream:
            if isinstance(event, JobResult):
                assert event.outcome is Outcome.cancelled
        assert await client.healthy()
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        engine.gate.set()

    serve(engine, scenario, seconds=20)


def test_two_hundred_jobs_left_in_the_middle_leave_nothing() -> None:
    engine, store = FakeEngine(), MemoryStore()
    request = inversion_service_pb2.InvertRequest(
        spec=job_pb2.JobSpec(image=data_pb2.Image(encoded=PNG), generator="forever")
    )

    async def leave(stub: inversion_service_pb2_grpc.InversionServiceStub) -> None:
        call = stub.Invert(request)
        seen = 0
        async for _ in call:
            seen += 1
            if seen == 3:
                break
        call.cancel()

    async def scenario(application: Application, client: AsyncClient) -> None:
        for _ in range(20):
            await leave(client._inversion)
        await until(lambda: application.jobs.unfinished == 0)
        tasks, threads = len(asyncio.all_tasks()), threading.active_count()
        for _ in range(200):
            await leave(client._inversion)
        await until(lambda: application.jobs.unfinished == 0)
        await until(lambda: len(asyncio.all_tasks()) <= tasks)
        assert threading.active_count() <= threads + 2
        assert {record.state for record in store.jobs.records.values()} == {JobState.cancelled}
        assert len(store.jobs.records) == 220

    serve(engine, scenario, store=store)
