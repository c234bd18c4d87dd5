"""Jobs as resources: created once, in order, seen by their owner alone, kept before anybody hears of it."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from latent_inv.client import AsyncClient
from latent_inv.errors import (
    AlreadyExistsError,
    CancelledError,
    InputError,
    LatentInvError,
    LimitError,
    NotFoundError,
    SpecError,
    StateError,
    UnavailableError,
)
from latent_inv.result import JobResult, Outcome, Progress
from latent_inv.spec import Pixel, Reporting
from latent_inv.v1 import data_pb2, inversion_service_pb2, job_pb2, job_service_pb2
from latent_inv_server.app import Application
from latent_inv_server.config import ServerConfig
from latent_inv_server.door.identity import Caller, Quotas
from latent_inv_server.store.records import JobState
from tests.server.fake import PNG, FakeEngine, serve, until
from tests.server.memory_store import MemoryStore

ONE_AT_A_TIME = ServerConfig(port=0, max_jobs=1, grace_seconds=0)


@pytest.fixture
def who(monkeypatch: pytest.MonkeyPatch) -> list[Caller]:
    """Whose calls all calls are: the last one's."""
    callers = [Caller("ada")]
    for module in ("jobs", "making"):
        monkeypatch.setattr(f"latent_inv_server.{module}.caller", lambda: callers[-1])
    return callers


# ---- the life of a job ---------------------------------------------------------------------------


def test_a_life() -> None:
    store = MemoryStore()

    async def scenario(application: Application, client: AsyncClient) -> None:
        made = await client.jobs.create(PNG, "steps", steps=30, seed=3, losses=(Pixel(),), labels={"album": "1"})
        assert made.state in ("queued", "running")
        assert (made.labels, made.request_id, made.generator) == ({"album": "1"}, "", "steps")
        assert made.settings["seed"] == "3"
        assert "image" not in made.settings
        ended = await client.jobs.wait(made.job_id)
        assert ended.state == "succeeded"
        assert ended.result is not None
        assert (ended.result.outcome, ended.result.steps, ended.result.seed) == (Outcome.step_limit, 30, 3)
        assert ended.start_time is not None
        assert ended.end_time is not None
        assert ended.create_time <= ended.start_time <= ended.end_time
        assert ended.progress is not None
        assert ended.progress.latest.step == 30
        again = await client.jobs.get(made.job_id)
        assert (again.state, again.sequence, again.end_time) == ("succeeded", ended.sequence, ended.end_time)
        assert again.result is not None
        assert application.jobs.unfinished == 0
        await client.jobs.delete(made.job_id)
        with pytest.raises(NotFoundError) as caught:
            await client.jobs.get(made.job_id)
        assert caught.value.field == "job_id"
        for gone in (client.jobs.delete, client.jobs.cancel, client.jobs.wait):
            with pytest.raises(NotFoundError):
                await gone(made.job_id)

    serve(FakeEngine(), scenario, store=store)
    assert store.closed == 1


def test_a_job_that_fails_says_why() -> None:
    error = SpecError("must be > 0, found 0", field="solver.learning_rate")

    async def scenario(_: Application, client: AsyncClient) -> None:
        for generator in ("fails", "refused"):
            job = await client.jobs.wait((await client.jobs.create(PNG, generator)).job_id)
            assert (job.state, job.result) == ("failed", None)
            assert job.error == "spec.solver.learning_rate: must be > 0, found 0"
            # An Invert that comes to a job which has failed already is told the same.
            await client.jobs.create(PNG, generator, request_id=generator)
            await until_over(client, generator)
            with pytest.raises(InputError, match="must be > 0, found 0") as caught:
                await client.invert(PNG, generator, request_id=generator)
            assert caught.value.field == "solver.learning_rate"

    async def until_over(client: AsyncClient, request_id: str) -> None:
        async for job in client.jobs.list():
            if job.request_id == request_id:
                await client.jobs.wait(job.job_id)

    serve(FakeEngine(error=error), scenario)


def test_cancelled_jobs_keep_the_best_so_far() -> None:
    async def scenario(_: Application, client: AsyncClient) -> None:
        running = await client.jobs.create(PNG, "forever")
        waiting = await client.jobs.create(PNG, "forever")
        async for event in client.jobs.watch(running.job_id):
            if isinstance(event, Progress) and event.latest.step >= 3:
                break
        with pytest.raises(StateError):
            await client.jobs.delete(running.job_id)
        for _ in range(2):  # harmless the second time
            await client.jobs.cancel(waiting.job_id)
            await client.jobs.cancel(running.job_id)
        ended = await client.jobs.wait(running.job_id)
        assert (ended.state, ended.error) == ("cancelled", "")
        assert ended.result is not None
        assert ended.result.outcome is Outcome.cancelled
        never_ran = await client.jobs.wait(waiting.job_id)
        assert (never_ran.state, never_ran.result, never_ran.start_time) == ("cancelled", None, None)
        await client.jobs.cancel(running.job_id)

    serve(FakeEngine(), scenario, ONE_AT_A_TIME)


def test_an_end_is_told_only_when_it_is_kept() -> None:
    store = MemoryStore()
    kept = threading.Event()
    tries: list[str] = []

    def full_at_first(name: str) -> None:
        if name == "finish" and not kept.is_set():
            tries.append(name)
            raise LimitError("the disk is full")

    store.jobs.fault = full_at_first

    async def scenario(application: Application, client: AsyncClient) -> None:
        job = await client.jobs.create(PNG, "steps", steps=2)
        waiting = asyncio.create_task(client.jobs.wait(job.job_id))
        await until(lambda: len(tries) >= 2)
        assert not waiting.done()
        assert (await client.jobs.get(job.job_id)).state == "running"
        assert application.jobs.runs.running == 1, "its place is not free, so that results cannot pile up"
        kept.set()
        assert (await waiting).state == "succeeded"
        assert application.jobs.runs.running == 0

    serve(FakeEngine(), scenario, store=store)


def test_progress_and_checkpoints_are_kept_while_it_runs() -> None:
    store = MemoryStore()

    async def scenario(_: Application, client: AsyncClient) -> None:
        job = await client.jobs.create(PNG, "forever", reporting=Reporting(checkpoint_steps=5))
        await until(lambda: store.only().checkpoint_blob != "")
        record = store.only()
        assert int(store.blobs.contents[record.checkpoint_blob]) % 5 == 0
        assert job_pb2.Progress.FromString(record.progress).latest.step >= 5
        assert record.sequence > (await client.jobs.get(job.job_id)).sequence, (
            "numbers are reserved before they are told"
        )

    serve(FakeEngine(), scenario, store=store)


# ---- bad requests ----------------------------------------------------------------------------------


def test_what_is_wrong_never_becomes_a_job() -> None:
    store = MemoryStore()
    wrong = {
        "spec.image": {"image": PNG[:40]},
        "spec.generator": {"generator": "step"},
        "spec.space": {"space": "w"},
        "labels": {"labels": {"": "x"}},
        "request_id": {"request_id": "../x"},
    }

    async def scenario(_: Application, client: AsyncClient) -> None:
        for field, arguments in wrong.items():
            with pytest.raises(InputError) as caught:
                await client.jobs.create(**{"image": PNG, "generator": "steps", "request_id": "once"} | arguments)  # type: ignore[arg-type]
            assert caught.value.field == field.removeprefix("spec.")
        with pytest.raises(SpecError, match='did you mean "steps"'):
            await client.jobs.create(PNG, "step")
        assert store.jobs.records == {}
        # None of them has used up the id.
        assert (await client.jobs.create(PNG, "steps", request_id="once")).request_id == "once"

    serve(FakeEngine(), scenario, store=store)


@pytest.mark.parametrize(
    ("labels", "accepted"),
    [
        ({str(number): "" for number in range(16)}, True),
        ({str(number): "" for number in range(17)}, False),
        ({"k" * 63: "v" * 63, "ключ": "значение"}, True),
        ({"k" * 64: "v"}, False),
        ({"k": "v" * 64}, False),
        ({"k": "a\0b"}, False),
        ({"a\nb": ""}, False),
    ],
)
def test_labels(labels: dict[str, str], accepted: bool) -> None:
    async def scenario(_: Application, client: AsyncClient) -> None:
        if accepted:
            assert (await client.jobs.create(PNG, "steps", steps=1, labels=labels)).labels == labels
            return
        for call in (client.jobs.create(PNG, "steps", labels=labels), anext(client.jobs.list(labels=labels))):
            with pytest.raises(InputError) as caught:
                await call
            assert caught.value.field == "labels"

    serve(FakeEngine(), scenario)


def test_settings_that_are_megabytes_are_refused() -> None:
    spec = job_pb2.JobSpec(image=data_pb2.Image(encoded=PNG), generator="steps" * 20_000)

    async def scenario(_: Application, client: AsyncClient) -> None:
        with pytest.raises(LimitError, match="beside pictures"), client._errors():
            await client.jobs._stub.CreateJob(job_service_pb2.CreateJobRequest(spec=spec))

    serve(FakeEngine(), scenario)


# ---- one request, one job --------------------------------------------------------------------------


def test_twenty_at_once_with_one_id_are_one_job() -> None:
    engine, store = FakeEngine(), MemoryStore()
    config = ServerConfig(port=0, max_jobs=1, max_queued=0, grace_seconds=0)  # there is room for one

    async def scenario(_: Application, client: AsyncClient) -> None:
        asked = [client.jobs.create(PNG, "forever", request_id="once", labels={"a": "1"}) for _ in range(20)]
        jobs = await asyncio.gather(*asked)
        assert {job.job_id for job in jobs} == {store.only().job_id}
        for other in ({"seed": 1}, {"labels": {"a": "2"}}, {"labels": None}):
            with pytest.raises(AlreadyExistsError) as caught:
                await client.jobs.create(PNG, "forever", request_id="once", **{"labels": {"a": "1"}} | other)  # type: ignore[arg-type]
            assert caught.value.field == "request_id"
        await until(lambda: len(engine.jobs) == 1)

    serve(engine, scenario, config, store=store)


def test_a_refused_request_burns_no_id_and_a_full_queue_knows_its_own() -> None:
    config = ServerConfig(port=0, max_jobs=1, max_queued=2, grace_seconds=0)

    async def scenario(application: Application, client: AsyncClient) -> None:
        running = await client.jobs.create(PNG, "forever")
        await until(lambda: application.jobs.queued == 0)
        waiting = [await client.jobs.create(PNG, "forever", request_id=str(number)) for number in range(2)]
        with pytest.raises(LimitError, match="2 jobs are waiting") as caught:
            await client.jobs.create(PNG, "forever", request_id="late")
        assert caught.value.retry_after is not None
        assert caught.value.field == ""
        # Who asks again for a job that is there gets it.
        assert (await client.jobs.create(PNG, "forever", request_id="1")).job_id == waiting[1].job_id
        await client.jobs.cancel(running.job_id)
        await until(lambda: application.jobs.queued == 1)
        assert (await client.jobs.create(PNG, "steps", request_id="late", steps=1)).request_id == "late"

    serve(FakeEngine(), scenario, config)


def test_an_end_that_a_stop_overtakes_is_given_up_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    """A warning that something "was never awaited" is an error here."""
    store = MemoryStore()

    async def scenario(application: Application, client: AsyncClient) -> None:
        await client.jobs.create(PNG, "forever")
        waiting = await client.jobs.create(PNG, "forever")
        application.jobs.runs.cancel_if_live(waiting.job_id)
        await application.jobs.runs.close()
        assert store.jobs.records[waiting.job_id].state is JobState.queued, "given up before it is kept"
        gc.collect()

    serve(FakeEngine(), scenario, ONE_AT_A_TIME, store=store)
    assert not caplog.records


def test_an_invert_with_the_id_of_a_job_comes_to_it() -> None:
    engine = FakeEngine()

    async def scenario(_: Application, client: AsyncClient) -> None:
        first = await client.invert(PNG, "steps", steps=5, request_id="once")
        again = await client.invert(PNG, "steps", steps=5, request_id="once")
        assert (again.to_json(), len(engine.jobs)) == (first.to_json(), 1)
        made = await client.jobs.create(PNG, "forever", request_id="other")
        stream = client.invert_stream(PNG, "forever", request_id="other")
        assert isinstance(await anext(stream), Progress)
        await stream.aclose()
        await asyncio.sleep(0.05)
        assert (await client.jobs.get(made.job_id)).state == "running", "it was not made by who left"

    serve(engine, scenario)


def test_leaving_a_create_leaves_no_ghost() -> None:
    """The caller is gone before its job is kept; the job runs, and is found by its id."""
    engine, store = FakeEngine(), MemoryStore()
    gate = threading.Event()
    store.blobs.fault = lambda _name: gate.wait(20)

    async def scenario(application: Application, client: AsyncClient) -> None:
        task = asyncio.create_task(client.jobs.create(PNG, "steps", steps=3, request_id="once"))
        await until(lambda: application.jobs._maker._coming.total() == 1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        gate.set()
        await until(lambda: len(store.jobs.records) == 1 and store.only().state is JobState.succeeded)
        assert (await client.jobs.create(PNG, "steps", steps=3, request_id="once")).job_id == store.only().job_id

    serve(engine, scenario, store=store)


def test_leaving_an_invert_before_its_job_is_kept_cancels_it_then() -> None:
    store = MemoryStore()
    gate = threading.Event()
    store.blobs.fault = lambda _name: gate.wait(20)

    async def scenario(application: Application, client: AsyncClient) -> None:
        task = asyncio.create_task(client.invert(PNG, "forever"))
        await until(lambda: application.jobs._maker._coming.total() == 1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0.05)  # until the server knows it, too
        gate.set()
        await until(lambda: len(store.jobs.records) == 1 and store.only().state is JobState.cancelled)

    serve(FakeEngine(), scenario, store=store)


# ---- dropped calls ---------------------------------------------------------------------------------


def test_a_dropped_watch_does_not_affect_the_job_and_a_detached_invert_neither() -> None:
    async def scenario(application: Application, client: AsyncClient) -> None:
        made = await client.jobs.create(PNG, "forever")
        stream = client.jobs.watch(made.job_id)
        assert isinstance(await anext(stream), Progress)
        await stream.aclose()
        detached = client.invert_stream(PNG, "forever", detach=True)
        event = await anext(detached)
        assert isinstance(event, Progress)
        await detached.aclose()
        tied = client.invert_stream(PNG, "forever")
        gone = await anext(tied)
        assert isinstance(gone, Progress)
        await tied.aclose()
        assert (await client.jobs.wait(gone.job_id)).state == "cancelled"
        for job_id in (made.job_id, event.job_id):
            assert (await client.jobs.get(job_id)).state == "running"
            live = application.jobs.runs.live[job_id]
            await until(lambda live=live: live.watchers == 0)  # type: ignore[misc]

    serve(FakeEngine(), scenario)


def test_the_asynchronous_client_can_stop_early() -> None:
    async def scenario(_: Application, client: AsyncClient) -> None:
        asked = iter([False, False, False])
        result = await client.invert(PNG, "forever", stop=lambda: next(asked, True))
        assert isinstance(result, JobResult)
        assert result.outcome is Outcome.cancelled

    serve(FakeEngine(), scenario)


# ---- whose job it is -------------------------------------------------------------------------------


def test_another_client_s_job_does_not_exist(who: list[Caller]) -> None:
    async def scenario(_: Application, client: AsyncClient) -> None:
        live = await client.jobs.create(PNG, "forever", request_id="once")
        over = await client.jobs.wait((await client.jobs.create(PNG, "steps", steps=1)).job_id)
        who.append(Caller("bob"))
        for job in (live, over):
            for call in (client.jobs.get, client.jobs.cancel, client.jobs.delete, client.jobs.wait):
                with pytest.raises(NotFoundError, match="no job with this id") as caught:
                    await call(job.job_id)
                assert caught.value.field == "job_id"
        assert [job async for job in client.jobs.list()] == []
        own = await client.jobs.create(PNG, "forever", request_id="once", seed=5)
        assert own.job_id != live.job_id, "ids of requests are each client's own"
        assert [job.job_id async for job in client.jobs.list()] == [own.job_id]
        who.pop()
        assert (await client.jobs.get(live.job_id)).state == "running"

    serve(FakeEngine(), scenario)


def test_quotas_of_a_client(who: list[Caller]) -> None:
    who[0] = Caller("ada", Quotas(queued_jobs=1, running_jobs=2))

    async def scenario(application: Application, client: AsyncClient) -> None:
        for _ in range(3):
            await client.jobs.create(PNG, "forever")
            await asyncio.sleep(0.02)
        assert (application.jobs.queued, application.jobs.runs.running) == (1, 2)
        with pytest.raises(LimitError, match="1 of your jobs are waiting") as caught:
            await client.jobs.create(PNG, "forever")
        assert caught.value.retry_after is not None
        who.append(Caller("bob", Quotas(queued_jobs=3, running_jobs=1)))
        for _ in range(4):
            await client.jobs.create(PNG, "forever")
            await asyncio.sleep(0.02)
        assert (application.jobs.queued, application.jobs.runs.running) == (4, 3)
        with pytest.raises(LimitError, match="3 of your jobs"):
            await client.jobs.create(PNG, "forever")
        who.append(Caller("cy", Quotas(queued_jobs=0, running_jobs=1)))
        await client.jobs.create(PNG, "forever")  # has its place at once, so it does not wait
        with pytest.raises(LimitError, match="at most 0 may"):
            await client.jobs.create(PNG, "forever")

    serve(FakeEngine(), scenario)


def test_a_queue_of_none_takes_what_can_run() -> None:
    config = ServerConfig(port=0, max_jobs=2, max_queued=0, grace_seconds=0)

    async def scenario(_: Application, client: AsyncClient) -> None:
        for _ in range(2):
            await client.jobs.create(PNG, "forever")
        with pytest.raises(LimitError, match="0 jobs are waiting"):
            await client.jobs.create(PNG, "forever")

    serve(FakeEngine(), scenario, config)


def test_clients_take_turns_and_interactive_jobs_go_first(who: list[Caller]) -> None:
    engine = FakeEngine()

    async def scenario(application: Application, client: AsyncClient) -> None:
        first = await client.jobs.create(PNG, "forever")
        await until(lambda: len(engine.jobs) == 1)
        for seed in (10, 11, 12):
            await client.jobs.create(PNG, "steps", steps=1, seed=seed)
        await client.jobs.create(PNG, "steps", steps=1, seed=13, priority="bulk")
        who.append(Caller("bob"))
        await client.jobs.create(PNG, "steps", steps=1, seed=20)
        who.pop()
        await client.jobs.cancel(first.job_id)
        await until(lambda: application.jobs.unfinished == 0)
        assert [spec.seed for spec in engine.jobs[1:]] == [20, 10, 11, 13, 12]

    serve(engine, scenario, ONE_AT_A_TIME)


# ---- lists -----------------------------------------------------------------------------------------


def test_lists_are_filtered_paged_and_newest_first() -> None:
    async def scenario(_: Application, client: AsyncClient) -> None:
        made = []
        for number in range(7):
            job = await client.jobs.create(PNG, "steps", steps=1, labels={"odd": str(number % 2), "all": ""})
            made.append(job.job_id)
            await client.jobs.wait(job.job_id)
        running = await client.jobs.create(PNG, "forever")
        newest_first = [running.job_id, *reversed(made)]

        async def ids(*arguments: object, **named: object) -> list[str]:
            return [job.job_id async for job in client.jobs.list(*arguments, **named)]  # type: ignore[arg-type]

        assert await ids() == newest_first
        assert await ids(limit=3) == newest_first[:3]
        assert await ids(("succeeded",)) == newest_first[1:]
        assert await ids(("running", "queued")) == [running.job_id]
        assert await ids(labels={"odd": "1", "all": ""}) == [made[5], made[3], made[1]]
        assert await ids(labels={"odd": "2"}) == []
        assert {job.result async for job in client.jobs.list()} == {None}
        with pytest.raises(SpecError, match='did you mean "succeeded"'):
            await ids(("succeded",))

        stub = client.jobs._stub
        request = job_service_pb2.ListJobsRequest(page_size=3, labels={"all": ""})
        pages = []
        while True:
            page = await stub.ListJobs(request)
            pages.append([job.job_id for job in page.jobs])
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        assert [len(page) for page in pages] == [3, 3, 1]
        assert [job_id for page in pages for job_id in page] == list(reversed(made))
        # A token of one list is none of another.
        with pytest.raises(InputError, match="other states or labels") as caught, client._errors():
            await stub.ListJobs(job_service_pb2.ListJobsRequest(page_token=request.page_token))
        assert caught.value.field == "page_token"

    serve(FakeEngine(), scenario)


@pytest.mark.parametrize(
    "token", ["x", "ä", "e30=", "W10=", "WzEsMiwzXQ==", "W251bGwsImEiLCJiIl0=", "A" * 501, "[" * 400]
)
def test_page_tokens_that_are_none(token: str) -> None:
    async def scenario(_: Application, client: AsyncClient) -> None:
        with pytest.raises(InputError, match="next_page_token") as caught, client._errors():
            await client.jobs._stub.ListJobs(job_service_pb2.ListJobsRequest(page_token=token))
        assert caught.value.field == "page_token"

    serve(FakeEngine(), scenario)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (job_service_pb2.ListJobsRequest(page_size=1001), "page_size"),
        (job_service_pb2.ListJobsRequest(page_size=-1), "page_size"),
        (job_service_pb2.ListJobsRequest(states=[99]), "states"),  # type: ignore[list-item]
    ],
)
def test_lists_that_cannot_be(request_: job_service_pb2.ListJobsRequest, field: str) -> None:
    async def scenario(_: Application, client: AsyncClient) -> None:
        with pytest.raises(InputError) as caught, client._errors():
            await client.jobs._stub.ListJobs(request_)
        assert caught.value.field == field

    serve(FakeEngine(), scenario)


# ---- the engine has its limits -----------------------------------------------------------------------


def test_a_full_engine_lets_jobs_wait() -> None:
    class Full(FakeEngine):
        def submit(self, job_id: str, spec: object, checkpoint: bytes | None = None) -> None:  # type: ignore[override]
            if self.running >= 1 and getattr(spec, "generator", "") == "steps":
                self.refusals = getattr(self, "refusals", 0) + 1
                raise LimitError("rows are full", retry_after=0.1)
            super().submit(job_id, spec, checkpoint)  # type: ignore[arg-type]

    engine, store = Full(), MemoryStore()

    async def scenario(application: Application, client: AsyncClient) -> None:
        first = await client.jobs.create(PNG, "forever")
        await until(lambda: engine.running == 1)
        waiting = await client.jobs.create(PNG, "steps", steps=2)
        await until(lambda: getattr(engine, "refusals", 0) >= 1)
        await until(lambda: application.jobs.queued == 1)
        assert (await client.jobs.get(waiting.job_id)).state == "queued"
        await client.jobs.cancel(first.job_id)
        assert (await client.jobs.wait(waiting.job_id)).state == "succeeded"
        assert store.jobs.records[waiting.job_id].strikes == 0

    serve(engine, scenario, store=store)


def test_a_stopping_server_takes_no_jobs_and_cancels_none() -> None:
    engine = FakeEngine()

    async def scenario(application: Application, client: AsyncClient) -> None:
        job = await client.jobs.create(PNG, "forever")
        stream = client.invert_stream(PNG, "forever")
        await anext(stream)
        draining = asyncio.create_task(application.jobs.drain(5))
        await asyncio.sleep(0)
        with pytest.raises(UnavailableError, match="stopping") as caught:
            await client.jobs.create(PNG, "forever")
        assert caught.value.retry_after is not None
        with pytest.raises(UnavailableError, match="goes on when it is back"):
            async for _ in stream:
                pass
        await draining
        await asyncio.sleep(0.1)
        assert (await client.jobs.get(job.job_id)).state == "running"
        assert (application.jobs.unfinished, engine.cancelled) == (2, [])

    serve(engine, scenario)


def test_errors_without_a_result_are_typed() -> None:
    request = inversion_service_pb2.InvertRequest(
        spec=job_pb2.JobSpec(image=data_pb2.Image(encoded=PNG), generator="forever"), request_id="once"
    )

    async def scenario(application: Application, client: AsyncClient) -> None:
        await client.jobs.create(PNG, "forever")
        made = await client.jobs.create(PNG, "forever")
        assert application.jobs.queued == 1
        waiting = client._inversion.Invert(request)
        accepted = await waiting.read()
        await client.jobs.cancel(accepted.accepted.job_id)
        with pytest.raises(CancelledError), client._errors():
            await waiting.read()
        await client.jobs.cancel(made.job_id)

    serve(FakeEngine(), scenario, ONE_AT_A_TIME)


def test_ids_are_checked_everywhere() -> None:
    async def scenario(_: Application, client: AsyncClient) -> None:
        for call in (client.jobs.get, client.jobs.cancel, client.jobs.delete, client.jobs.wait):
            for job_id in ("", "../x", "x" * 300):
                with pytest.raises(LatentInvError) as caught:
                    await call(job_id)
                assert (caught.value.status, caught.value.field) == ("INVALID_ARGUMENT", "job_id")

    serve(FakeEngine(), scenario)
