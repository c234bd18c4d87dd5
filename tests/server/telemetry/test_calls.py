"""Around every call: its id in metadata and log, who called, about which job, how it ended, and its figures."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2

from latent_inv.client import AsyncClient
from latent_inv.errors import InternalError, LimitError, LoginError, NotFoundError
from latent_inv.v1 import data_pb2, generator_service_pb2, inversion_service_pb2, job_pb2, job_service_pb2
from latent_inv_server.app import Application
from latent_inv_server.door.token_edit import add_client
from tests.server.fake import PNG, FakeEngine, UnprintableError, address, until
from tests.server.telemetry.watching import figure, logged, serve_watched

LIST = "/latent_inv.v1.GeneratorService/ListGenerators"
GET = "/latent_inv.v1.GeneratorService/GetGenerator"
INVERT = "/latent_inv.v1.InversionService/Invert"


def spec(generator: str = "steps", steps: int = 2) -> job_pb2.JobSpec:
    made = job_pb2.JobSpec(image=data_pb2.Image(encoded=PNG), generator=generator)
    made.budget.steps = steps
    return made


def texts(metadata: Any) -> Mapping[str, str]:
    return {key: value for key, value in metadata or () if isinstance(value, str)}


async def listed(channel: Any, *metadata: tuple[str, str]) -> Mapping[str, str]:
    """Trailing metadata of a call that is well."""
    call = channel.unary_unary(LIST)(
        generator_service_pb2.ListGeneratorsRequest().SerializeToString(), metadata=metadata
    )
    await call
    return texts(await call.trailing_metadata())


async def drained(call: Any) -> None:
    """Read all that comes, without end."""
    while True:
        await call.read()


# ---- the id ------------------------------------------------------------------------------------------


def test_a_sane_id_is_kept_and_any_other_is_replaced() -> None:
    async def scenario(application: Application, _: AsyncClient) -> None:
        async with grpc.aio.insecure_channel(address(application)) as channel:
            assert (await listed(channel, ("x-request-id", "my-call.7")))["x-request-id"] == "my-call.7"
            made = [(await listed(channel, *given))["x-request-id"]
                    for given in ((), (("x-request-id", "a b"),), (("x-request-id", "x" * 129),),
                                  (("x-request-id", "/etc/passwd"),))]  # fmt: skip
            assert all(re.fullmatch("[0-9a-f]{16}", each) for each in made)
            assert len(set(made)) == len(made)

    serve_watched(scenario)


def test_errors_carry_the_id_and_still_their_details() -> None:
    async def scenario(application: Application, client: AsyncClient) -> None:
        async with grpc.aio.insecure_channel(address(application)) as channel:
            call = channel.unary_unary(GET)(b"", metadata=(("x-request-id", "bad-one"),))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            metadata = dict(caught.value.trailing_metadata())
            assert metadata["x-request-id"] == "bad-one"
            assert metadata["grpc-status-details-bin"]

    serve_watched(scenario)


def test_a_stream_says_its_id_before_its_end() -> None:
    async def scenario(application: Application, _: AsyncClient) -> None:
        async with grpc.aio.insecure_channel(address(application)) as channel:
            request = inversion_service_pb2.InvertRequest(spec=spec("forever"))
            call = channel.unary_stream(INVERT)(request.SerializeToString(), metadata=(("x-request-id", "long"),))
            assert texts(await call.initial_metadata())["x-request-id"] == "long"
            call.cancel()

    serve_watched(scenario)


# ---- lines -------------------------------------------------------------------------------------------


def test_all_lines_of_a_call_say_which_and_whose(tmp_path: Path) -> None:
    token = add_client(tmp_path / "tokens.toml", "alice")

    async def scenario(application: Application, _: AsyncClient) -> None:
        async with grpc.aio.insecure_channel(address(application)) as channel:
            request = job_service_pb2.CreateJobRequest(spec=spec()).SerializeToString()
            login = (("x-request-id", "making"), ("authorization", f"Bearer {token}"))
            data = await channel.unary_unary("/latent_inv.v1.JobService/CreateJob")(request, metadata=login)
            job_id = job_service_pb2.CreateJobResponse.FromString(data).job.job_id
            await until(lambda: application.jobs.unfinished == 0)
        of_call = [line for line in lines() if line.get("request_id") == "making"]
        assert [line["event"] for line in of_call] == [f"job {job_id}: accepted", "call"]
        assert {(line["client"], line["job_id"]) for line in of_call} == {("alice", job_id)}
        access = of_call[-1]
        assert access["level"] == "debug"
        assert (access["method"], access["code"]) == ("latent_inv.v1.JobService/CreateJob", "OK")
        assert access["received"] == len(request)
        assert access["seconds"] > 0
        # What happens to the job later is not the call's, but still hers.
        of_job = [line for line in lines() if line.get("job_id") == job_id and "request_id" not in line]
        assert [line["event"] for line in of_job][-1] == f"job {job_id}: succeeded"
        assert {line["client"] for line in of_job} == {"alice"}

    with logged() as lines:
        serve_watched(scenario, tokens=tmp_path / "tokens.toml")
        whole = str(lines())
        assert token not in whole
        assert str(tmp_path) not in whole


def test_a_job_s_lines_are_about_that_job_whoever_let_it_in() -> None:
    """With one place, the end of each job starts the next one, from the end's own task."""

    async def scenario(application: Application, client: AsyncClient) -> None:
        made = [await client.jobs.create(PNG, "steps", steps=3) for _ in range(3)]
        await until(lambda: application.jobs.unfinished == 0)
        for job in made:
            about = [line["event"] for line in lines() if line.get("job_id") == job.job_id]
            assert all(job.job_id in event for event in about if event != "call"), about
            assert any("in the engine" in event for event in about)

    with logged() as lines:
        serve_watched(scenario, max_jobs=1)


def test_an_incident_is_found_by_its_id_and_tells_no_path() -> None:
    async def scenario(application: Application, client: AsyncClient) -> None:
        with pytest.raises(InternalError, match="incident") as caught:
            await client.sample([1], "fails")
        incident = str(caught.value).split()[-1]
        (line,) = [line for line in lines() if incident in line["event"]]
        assert line["request_id"]
        assert "secret …/x" in line["error"]
        assert "/path" not in str(lines())
        assert "Traceback" not in str(lines())

    with logged() as lines:
        serve_watched(scenario, FakeEngine(RuntimeError("secret /path/to/x")))


def test_an_error_without_a_text_is_a_line_too() -> None:
    async def scenario(_: Application, client: AsyncClient) -> None:
        with pytest.raises(InternalError):
            await client.sample([1], "fails")
        (line,) = [line for line in lines() if "incident" in line["event"]]
        assert "UnprintableError" in str(line)

    with logged() as lines:
        serve_watched(scenario, FakeEngine(UnprintableError()))


# ---- figures -----------------------------------------------------------------------------------------


def test_calls_are_counted_by_method_and_code() -> None:
    service = "latent_inv.v1.GeneratorService"

    async def scenario(application: Application, client: AsyncClient) -> None:
        for _ in range(3):
            await client.generators()
        with pytest.raises(NotFoundError):
            await client.jobs.get("0" * 16)
        assert figure(application, "latent_inv_calls_total", method=f"{service}/ListGenerators", code="OK") == 3
        method = "latent_inv.v1.JobService/GetJob"
        assert figure(application, "latent_inv_calls_total", method=method, code="NOT_FOUND") == 1
        assert figure(application, "latent_inv_rejects_total", reason="not_found") == 1
        assert figure(application, "latent_inv_call_seconds_count", method=f"{service}/ListGenerators") == 3
        assert figure(application, "latent_inv_sent_bytes_total", method=f"{service}/ListGenerators") > 100
        assert figure(application, "latent_inv_received_bytes_total", method=method) == 18

    serve_watched(scenario)


def test_methods_that_are_not_there_make_no_figures() -> None:
    async def scenario(application: Application, client: AsyncClient) -> None:
        async with grpc.aio.insecure_channel(address(application)) as channel:
            for name in ("a", "b"):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await channel.unary_unary(f"/made.up/{name}")(b"")
                assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        names = {sample.labels.get("method", "") for metric in application.telemetry.meters.registry.collect()
                 for sample in metric.samples}  # fmt: skip
        assert not any("made.up" in name for name in names)

    serve_watched(scenario)


@pytest.mark.parametrize(("timeout", "code"), [(None, "CANCELLED"), (0.5, "DEADLINE_EXCEEDED")])
def test_calls_that_were_left_are_over(timeout: float | None, code: str) -> None:
    async def scenario(application: Application, _: AsyncClient) -> None:
        method = INVERT.lstrip("/")
        async with grpc.aio.insecure_channel(address(application)) as channel:
            request = inversion_service_pb2.InvertRequest(spec=spec("forever"))
            call = channel.unary_stream(INVERT)(request.SerializeToString(), timeout=timeout)
            await call.read()
            assert figure(application, "latent_inv_calls_open", method=method) == 1
            if timeout is None:
                call.cancel()
            else:
                with pytest.raises(grpc.aio.AioRpcError):
                    await drained(call)
            await until(lambda: figure(application, "latent_inv_calls_open", method=method) == 0)
            # At the deadline either end may be the first to know.
            codes = ("CANCELLED", code)
            assert (
                sum(figure(application, "latent_inv_calls_total", method=method, code=each) for each in set(codes)) == 1
            )

    serve_watched(scenario)


def test_many_calls_that_are_left_leave_nothing_open() -> None:
    async def scenario(application: Application, _: AsyncClient) -> None:
        method = INVERT.lstrip("/")
        async with grpc.aio.insecure_channel(address(application)) as channel:
            request = inversion_service_pb2.InvertRequest(spec=spec("forever")).SerializeToString()

            async def once(messages: int) -> None:
                call = channel.unary_stream(INVERT)(request)
                for _ in range(messages):
                    await call.read()
                call.cancel()

            await asyncio.gather(*(once(number % 4) for number in range(40)))
            await until(lambda: figure(application, "latent_inv_calls_open", method=method) == 0)

    serve_watched(scenario, max_jobs=100)


def test_what_is_refused_is_counted_by_its_reason(tmp_path: Path) -> None:
    async def full(application: Application, client: AsyncClient) -> None:
        await client.jobs.create(PNG, "forever", steps=3)
        await until(lambda: application.jobs.queued == 0)
        await client.jobs.create(PNG, "forever", steps=3)
        with pytest.raises(LimitError):
            await client.jobs.create(PNG, "forever", steps=3)
        assert figure(application, "latent_inv_rejects_total", reason="limit_exceeded") == 1

    async def strange(application: Application, client: AsyncClient) -> None:
        with pytest.raises(LoginError):
            await client.generators()
        assert figure(application, "latent_inv_rejects_total", reason="login_failed") == 1

    serve_watched(full, max_jobs=1, max_queued=1)
    add_client(tmp_path / "tokens.toml", "alice")
    serve_watched(strange, tokens=tmp_path / "tokens.toml")


def test_health_is_watched_like_any_other_service() -> None:
    async def scenario(application: Application, client: AsyncClient) -> None:
        assert await client.healthy()
        async with grpc.aio.insecure_channel(address(application)) as channel:
            watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(
                health_pb2.HealthCheckRequest().SerializeToString()
            )
            assert await watch.read()
            assert texts(await watch.initial_metadata())["x-request-id"]
            watch.cancel()
        assert figure(application, "latent_inv_calls_total", method="grpc.health.v1.Health/Check", code="OK") == 1
        method = "grpc.health.v1.Health/Watch"
        await until(lambda: figure(application, "latent_inv_calls_total", method=method, code="CANCELLED") == 1)

    serve_watched(scenario)
