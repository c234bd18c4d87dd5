"""Servers and workers that come and go: jobs go on, numbers grow, steps never go back, and each job ends once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from latent_inv.client import AsyncClient, Job
from latent_inv.device import place
from latent_inv.engine.engine import Engine
from latent_inv.errors import InternalError, LimitError, NotFoundError, UnavailableError
from latent_inv.images import encode_png, load
from latent_inv.result import Checkpoint, Outcome, Progress
from latent_inv.spec import Adam, Budget, JobSpec, Pixel
from latent_inv.v1 import job_pb2, job_service_pb2
from latent_inv_server.app import Application
from latent_inv_server.config import ServerConfig
from latent_inv_server.fleet import Fleet
from latent_inv_server.store.folder import open_store
from latent_inv_server.store.records import JobState
from latent_inv_server.testing import running_server
from tests.conftest import make_picture
from tests.engine.awkward import TABLE
from tests.engine.helpers import result_of
from tests.server.fake import PNG, FakeEngine, address, serve, until
from tests.server.memory_store import MemoryStore

Scenario = Callable[[Application, AsyncClient], Awaitable[Any]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """News are kept more often than once a second, so that tests need not wait for it."""
    monkeypatch.setattr("latent_inv_server.runs.TICK_SECONDS", 0.05)


def runs(store: MemoryStore, *each: tuple[Any, Scenario], **settings: Any) -> None:
    """One server after the other on one store; without grace, so that each stops as if it were killed."""
    config = ServerConfig(**{"port": 0, "grace_seconds": 0, "checkpoint_steps": 5} | settings)
    for engine, scenario in each:
        serve(engine, scenario, config, store=store)


class Quiet(FakeEngine):
    """Gives no checkpoint of itself, only when it is asked."""

    def _step(self, job_id: str) -> list[Any]:
        return [event for event in super()._step(job_id) if not isinstance(event, Checkpoint)]


# ---- another server --------------------------------------------------------------------------------


def test_a_server_in_the_middle_of_it_all() -> None:
    """One job runs, three wait, one is over: all of them end once, the running one from its checkpoint."""
    store, before, after = MemoryStore(), FakeEngine(), FakeEngine()
    told: list[tuple[int, int]] = []
    ids: list[str] = []

    async def first(application: Application, client: AsyncClient) -> None:
        done = await client.jobs.wait((await client.jobs.create(PNG, "steps", steps=1)).job_id)
        ids.extend([(await client.jobs.create(PNG, "steps", steps=600, seed=seed)).job_id for seed in range(4)])
        async for event in client.jobs.watch(ids[0]):
            assert isinstance(event, Progress)
            told.append((event.sequence, event.latest.step))
            if store.jobs.records[ids[0]].checkpoint_blob:
                break
        states = [store.jobs.records[job_id].state for job_id in ids]
        assert states == [JobState.running, *[JobState.queued] * 3]
        ids.append(done.job_id)

    async def second(_: Application, client: AsyncClient) -> None:
        fresh = await anext(client.jobs.watch(ids[0]))
        assert fresh.sequence > told[-1][0], "counting goes on"
        follower = client.jobs.watch(ids[0], after=told[-1][0])
        async for event in follower:
            if isinstance(event, Job):
                assert event.state == "succeeded"
                assert event.sequence > told[-1][0]
            else:
                told.append((event.sequence, event.latest.step))  # type: ignore[union-attr]
        for job_id in ids:
            assert (await client.jobs.wait(job_id)).state == "succeeded"
        with pytest.raises(NotFoundError):
            await client.jobs.get("0" * 16)

    runs(store, (before, first), (after, second), max_jobs=1)
    assert [spec.seed for spec in after.jobs] == [0, 1, 2, 3], "in the order in which they came"
    began_at = after.checkpoints[0]
    assert began_at is not None
    assert int(began_at) >= 5
    assert after.checkpoints[1:] == [None] * 3
    numbers = [number for number, _ in told]
    assert numbers == sorted(set(numbers)), "no number twice, over both servers"
    assert told[-1][1] == 600


def test_a_stop_in_time_keeps_what_was_done_last() -> None:
    store, after = MemoryStore(), FakeEngine()
    last: list[int] = []

    async def first(application: Application, client: AsyncClient) -> None:
        job = await client.jobs.create(PNG, "steps", steps=1000)
        async for event in client.jobs.watch(job.job_id):
            if isinstance(event, Progress) and event.latest.step >= 20:
                break
        await application.jobs.drain(20)
        record = store.only()
        assert record.state is JobState.running
        kept = int(store.blobs.contents[record.checkpoint_blob])
        told = job_pb2.Progress.FromString(record.progress).latest.step
        assert kept >= told >= 20, "nothing was told that would be done again"
        last.append(kept)

    async def second(_: Application, client: AsyncClient) -> None:
        (job,) = [job async for job in client.jobs.list()]
        assert (await client.jobs.wait(job.job_id)).state == "succeeded"

    runs(store, (Quiet(), first), (after, second))
    assert after.checkpoints == [str(last[0]).encode()]


def test_a_stop_waits_no_longer_than_its_grace_time() -> None:
    class Deaf(FakeEngine):
        def checkpoint(self, job_id: str) -> None:
            pass

    store = MemoryStore()

    async def scenario(application: Application, client: AsyncClient) -> None:
        await client.jobs.create(PNG, "forever")
        await until(lambda: application.jobs.runs.running == 1)
        await asyncio.wait_for(application.jobs.drain(0.2), 10)
        assert store.only().state is JobState.running

    runs(store, (Deaf(), scenario), checkpoint_steps=1_000_000)


def test_what_the_store_has_of_a_job_is_told_before_it_goes_on() -> None:
    store = MemoryStore()

    async def first(_: Application, client: AsyncClient) -> None:
        await client.jobs.create(PNG, "steps", steps=10_000)
        await until(lambda: store.only().progress != b"")

    async def second(_: Application, client: AsyncClient) -> None:
        (job,) = [job async for job in client.jobs.list()]
        assert job.state in ("queued", "running")
        assert job.progress is not None
        assert job.progress.latest.step >= kept > 0
        newest = await anext(client.jobs.watch(job.job_id))
        assert isinstance(newest, Progress)
        assert newest.latest.step == kept

    runs(store, (FakeEngine(), first))
    kept = job_pb2.Progress.FromString(store.only().progress).latest.step
    runs(store, (FakeEngine(), second))


def test_a_job_that_was_interrupted_and_is_cancelled_while_it_waits_has_a_result() -> None:
    store = MemoryStore()

    async def first(_: Application, client: AsyncClient) -> None:
        for _ in range(2):
            await client.jobs.create(PNG, "steps", steps=10_000)
        await until(lambda: all(record.checkpoint_blob for record in store.jobs.records.values()))

    async def second(application: Application, client: AsyncClient) -> None:
        await until(lambda: application.jobs.runs.running == 1)
        waiting = next(job for job in application.jobs.runs.live.values() if job.job_id in application.jobs._queue)
        await client.jobs.cancel(waiting.job_id)
        ended = await client.jobs.wait(waiting.job_id)
        assert ended.state == "cancelled"
        assert ended.result is not None
        assert (ended.result.outcome, ended.result.steps >= 5) == (Outcome.cancelled, True)
        assert application.jobs.runs.running == 1

    config = {"max_jobs": 2}
    runs(store, (FakeEngine(), first), **config)
    runs(store, (FakeEngine(), second), max_jobs=1)


@pytest.mark.parametrize("damage", ["gone", "refused"])
def test_a_checkpoint_that_is_of_no_use_means_to_begin_anew(damage: str) -> None:
    store, after = MemoryStore(), FakeEngine()

    class Strict(FakeEngine):
        def submit(self, job_id: str, spec: Any, checkpoint: bytes | None = None) -> None:
            if checkpoint is not None:
                from latent_inv.errors import InputError

                raise InputError("the checkpoint is damaged", field="checkpoint")
            super().submit(job_id, spec, checkpoint)

    async def first(_: Application, client: AsyncClient) -> None:
        await client.jobs.create(PNG, "steps", steps=500)
        await until(lambda: store.only().checkpoint_blob != "")

    async def second(_: Application, client: AsyncClient) -> None:
        (job,) = [job async for job in client.jobs.list()]
        assert (await client.jobs.wait(job.job_id)).state == "succeeded"

    runs(store, (FakeEngine(), first))
    if damage == "gone":
        del store.blobs.contents[store.only().checkpoint_blob]
    after = Strict() if damage == "refused" else FakeEngine()
    runs(store, (after, second))
    assert after.checkpoints == [None]


def test_a_request_that_is_gone_fails_its_job_alone() -> None:
    store = MemoryStore()

    async def first(application: Application, client: AsyncClient) -> None:
        await client.jobs.create(PNG, "forever")
        for seed in (1, 2):
            await client.jobs.create(PNG, "steps", steps=2, seed=seed)
        assert application.jobs.queued == 2

    async def second(_: Application, client: AsyncClient) -> None:
        ends = {}
        async for job in client.jobs.list():
            if job.generator == "steps":
                ends[job.settings["seed"]] = await client.jobs.wait(job.job_id)
        assert (ends["1"].state, ends["2"].state) == ("failed", "succeeded")
        assert "no such content" in ends["1"].error

    runs(store, (FakeEngine(), first), max_jobs=1)
    broken = next(record for record in store.jobs.records.values() if b"steps" in record.summary and _seed(record) == 1)
    del store.blobs.contents[broken.spec_blob]
    runs(store, (FakeEngine(), second))


def _seed(record: Any) -> int:
    return job_pb2.JobSpec.FromString(record.summary).seed


# ---- another worker --------------------------------------------------------------------------------


def test_jobs_of_a_lost_worker_go_on_and_steps_never_go_back() -> None:
    engine, store = FakeEngine(), MemoryStore()

    async def scenario(_: Application, client: AsyncClient) -> None:
        job = await client.jobs.create(PNG, "steps", steps=400)
        steps: list[int] = []
        numbers: list[int] = []
        # As it comes over the wire: our own clients would leave out what goes back.
        async for message in client.jobs._stub.WatchJob(job_service_pb2.WatchJobRequest(job_id=job.job_id)):
            numbers.append(message.sequence)
            if message.HasField("progress"):
                steps.append(message.progress.latest.step)
                if steps[-1] == 33:
                    engine.lose()
        assert message.finished.state == job_service_pb2.JOB_STATE_SUCCEEDED
        assert steps == sorted(set(steps))
        assert numbers == sorted(set(numbers))
        assert store.only().strikes == 1
        assert len(engine.jobs) == 2
        resumed = engine.checkpoints[1]
        assert resumed is not None, "though it was not kept yet"
        assert int(resumed) % 5 == 0
        assert int(resumed) >= 30

    runs(store, (engine, scenario))


def test_a_job_that_stops_two_workers_is_given_up_and_the_others_go_on() -> None:
    engine, store = FakeEngine(), MemoryStore()

    async def scenario(_: Application, client: AsyncClient) -> None:
        deadly = await client.jobs.create(PNG, "deadly")
        ended = await client.jobs.wait(deadly.job_id)
        assert ended.state == "failed"
        assert "stopped 2 workers" in ended.error
        assert store.only().error_status == "INTERNAL"
        with pytest.raises(InternalError, match="stopped 2 workers"):
            await client.invert(PNG, "deadly")
        assert (await client.invert(PNG, "steps", steps=3)).steps == 3

    runs(store, (engine, scenario))


def test_only_suspects_get_strikes() -> None:
    engine, store = FakeEngine(), MemoryStore()

    async def scenario(_: Application, client: AsyncClient) -> None:
        job = await client.jobs.create(PNG, "steps", steps=400)
        async for event in client.jobs.watch(job.job_id):
            if isinstance(event, Progress) and event.latest.step in (50, 100, 150):
                engine.lose(suspect=False)
        assert isinstance(event, Job)
        assert event.state == "succeeded"
        assert (store.only().strikes, len(engine.jobs)) == (0, 4)

    runs(store, (engine, scenario))


def test_a_job_that_gets_on_between_losses_is_not_given_up() -> None:
    engine, store = FakeEngine(), MemoryStore()

    async def scenario(_: Application, client: AsyncClient) -> None:
        job = await client.jobs.create(PNG, "steps", steps=400)
        async for event in client.jobs.watch(job.job_id):
            if isinstance(event, Progress) and event.latest.step in (50, 100, 150):
                engine.lose()
        assert isinstance(event, Job)
        assert event.state == "succeeded"
        assert (store.only().strikes, len(engine.jobs)) == (1, 4)

    runs(store, (engine, scenario))


def test_a_job_that_no_worker_has_seen_waits() -> None:
    class Away(FakeEngine):
        refusals = 0

        def submit(self, job_id: str, spec: Any, checkpoint: bytes | None = None) -> None:
            if isinstance(spec, JobSpec) and self.refusals < 3:
                self.refusals += 1
                raise UnavailableError("no worker is ready yet", retry_after=0.05)
            super().submit(job_id, spec, checkpoint)

    engine, store = Away(), MemoryStore()

    async def scenario(_: Application, client: AsyncClient) -> None:
        job = await client.jobs.create(PNG, "steps", steps=2)
        assert (await client.jobs.wait(job.job_id)).state == "succeeded"
        assert (engine.refusals, store.only().strikes) == (3, 0)

    runs(store, (engine, scenario))


def test_a_job_that_is_cancelled_while_its_worker_dies_is_cancelled() -> None:
    class Deaf(FakeEngine):
        def cancel(self, job_id: str) -> None:
            self.cancelled.append(job_id)
            self.lose()

    engine, store = Deaf(), MemoryStore()

    async def scenario(application: Application, client: AsyncClient) -> None:
        job = await client.jobs.create(PNG, "forever")
        await until(lambda: engine.running == 1)
        await client.jobs.cancel(job.job_id)
        assert (await client.jobs.wait(job.job_id)).state == "cancelled"
        assert application.jobs.runs.running == 0

    runs(store, (engine, scenario))


def test_no_job_is_begun_without_a_worker() -> None:
    class Slow(FakeEngine):
        ready = False

        def submit(self, job_id: str, spec: Any, checkpoint: bytes | None = None) -> None:
            assert self.ready or not isinstance(spec, JobSpec)
            super().submit(job_id, spec, checkpoint)
            self.alive = self.ready

    engine = Slow()
    engine.alive = False

    async def scenario(application: Application, client: AsyncClient) -> None:
        job = await client.jobs.create(PNG, "steps", steps=2)
        await asyncio.sleep(0.3)
        assert (await client.jobs.get(job.job_id)).state == "queued"
        engine.ready = engine.alive = True
        assert (await client.jobs.wait(job.job_id)).state == "succeeded"

    runs(MemoryStore(), (engine, scenario))


def test_a_store_that_is_away_for_a_while_loses_nothing() -> None:
    """Every call but the first few fails now and then; each job still ends once, and what is told is kept."""
    store, calls = MemoryStore(), [0]

    def now_and_then(name: str) -> None:
        calls[0] += 1
        if name in ("start", "save", "requeue", "finish", "put") and calls[0] % 3 == 0:
            raise LimitError("the disk is full")

    async def scenario(_: Application, client: AsyncClient) -> None:
        jobs = [await client.jobs.create(PNG, "steps", steps=20, seed=seed) for seed in range(6)]
        store.jobs.fault = store.blobs.fault = now_and_then
        ended = await asyncio.gather(*(client.jobs.wait(job.job_id) for job in jobs))
        assert {job.state for job in ended} == {"succeeded"}
        assert all(job.result is not None for job in ended)

    runs(store, (FakeEngine(), scenario))


# ---- the real thing --------------------------------------------------------------------------------


def test_a_restart_with_the_real_engine_and_store_gives_the_same_result(tmp_path: Any) -> None:
    """A stop in the middle, kept in SQLite and files; the next server's result is that of an undisturbed run."""
    png = encode_png(make_picture(32, 32).pixels)
    settings: dict[str, Any] = {"generator": "slow", "losses": (Pixel(),), "solver": Adam(learning_rate=0.05)}
    expected = result_of(JobSpec(picture=load(png), budget=Budget(steps=20), **settings), Engine(TABLE, place("cpu")))
    config = ServerConfig(port=0, grace_seconds=30)
    seen: list[int] = []

    def engine() -> Fleet:
        return Fleet(("cpu",), catalogue="tests.engine.awkward:TABLE")

    async def first() -> None:
        async with (
            running_server(engine(), config, open_store(tmp_path)) as application,
            AsyncClient(address(application)) as client,
        ):
            job = await client.jobs.create(png, steps=20, request_id="once", **settings)
            async for event in client.jobs.watch(job.job_id):
                assert isinstance(event, Progress)
                seen.append(event.latest.step)
                if len(seen) == 5:
                    break

    async def second() -> None:
        async with (
            running_server(engine(), config, open_store(tmp_path)) as application,
            AsyncClient(address(application)) as client,
        ):
            job = await client.jobs.create(png, steps=20, request_id="once", **settings)
            steps = [event.latest.step async for event in client.jobs.watch(job.job_id) if isinstance(event, Progress)]
            assert steps == sorted(set(steps))
            assert steps[0] >= seen[-1]
            ended = await client.jobs.get(job.job_id)
            assert ended.result is not None
            np.testing.assert_array_equal(ended.result.latents["z"], expected.latents["z"])
            assert [step.loss for step in ended.result.history] == [step.loss for step in expected.history]

    asyncio.run(first())
    asyncio.run(second())
