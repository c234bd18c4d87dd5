"""Spans of calls, jobs and runs; and nothing at all where nobody wants them."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from latent_inv.client import AsyncClient
from latent_inv.errors import InternalError
from latent_inv.v1 import job_service_pb2
from latent_inv_server.app import Application
from latent_inv_server.telemetry import traces as module
from latent_inv_server.telemetry.traces import NO_TRACES, Traces, open_traces, traces_to
from tests.conftest import require
from tests.server.fake import PNG, FakeEngine, address, until
from tests.server.memory_store import MemoryStore
from tests.server.telemetry.test_calls import spec
from tests.server.telemetry.watching import logged, serve_watched

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CREATE = "/latent_inv.v1.JobService/CreateJob"


@pytest.fixture
def exporter() -> Any:
    require("otel", module._installed(), "pip install 'latent-inv[otel]'")
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    return InMemorySpanExporter()


def named(exporter: Any, name: str) -> list[Any]:
    return [span for span in exporter.get_finished_spans() if span.name == name]


def about(span: Any) -> Mapping[str, Any]:
    return {key.removeprefix("latent_inv."): value for key, value in span.attributes.items()}


def test_a_call_its_job_and_the_run_are_one_trace(exporter: Any) -> None:
    async def scenario(application: Application, client: AsyncClient) -> None:
        async with grpc.aio.insecure_channel(address(application)) as channel:
            request = job_service_pb2.CreateJobRequest(spec=spec(steps=4)).SerializeToString()
            metadata = (("traceparent", f"00-{TRACE}-{PARENT}-01"), ("x-request-id", "mine"))
            await channel.unary_unary(CREATE)(request, metadata=metadata)
        # A call that is open meanwhile, and is of another trace.
        await client.generators()
        await until(lambda: bool(named(exporter, "job")))
        (call,), (job,), (run,) = named(exporter, CREATE[1:]), named(exporter, "job"), named(exporter, "engine run")
        assert f"{call.context.trace_id:032x}" == TRACE
        assert f"{call.parent.span_id:016x}" == PARENT
        assert job.parent.span_id == call.context.span_id
        assert run.parent.span_id == job.context.span_id
        assert {span.context.trace_id for span in (job, run)} == {call.context.trace_id}
        assert call.kind.name == "SERVER"
        assert about(call) | {"rpc.grpc.status_code": "OK", "request_id": "mine", "client": "local"} == about(call)
        assert about(job)["outcome"] == "step_limit"
        assert about(job)["steps"] == 4
        assert about(run) == {"run": 1, "resumed": False}
        assert job.start_time <= run.start_time <= run.end_time <= job.end_time
        other = named(exporter, "latent_inv.v1.GeneratorService/ListGenerators")[0]
        assert f"{other.context.trace_id:032x}" != TRACE
        assert other.parent is None

    serve_watched(scenario, traces=traces_to(exporter, at_once=True))


def test_a_job_that_loses_its_worker_has_a_run_for_each(exporter: Any) -> None:
    async def scenario(_: Application, client: AsyncClient) -> None:
        await client.jobs.create(PNG, "deadly", steps=9)
        await until(lambda: bool(named(exporter, "job")))
        runs, (job,) = named(exporter, "engine run"), named(exporter, "job")
        assert [about(run)["run"] for run in runs] == [1, 2]
        assert [(run.status.status_code.name, run.status.description) for run in runs] == [("ERROR", "worker_lost")] * 2
        assert {run.parent.span_id for run in runs} == {job.context.span_id}
        assert (about(job)["state"], job.status.status_code.name) == ("failed", "ERROR")

    serve_watched(scenario, traces=traces_to(exporter, at_once=True))


def test_errors_of_ours_are_errors_of_the_span_and_those_of_callers_are_not(exporter: Any) -> None:
    async def scenario(application: Application, client: AsyncClient) -> None:
        with pytest.raises(InternalError):
            await client.sample([1], "fails")
        async with grpc.aio.insecure_channel(address(application)) as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await channel.unary_unary(CREATE)(b"")
        (sample,) = named(exporter, "latent_inv.v1.GeneratorService/Sample")
        (create,) = named(exporter, CREATE[1:])
        assert (sample.status.status_code.name, about(sample)["rpc.grpc.status_code"]) == ("ERROR", "INTERNAL")
        assert (create.status.status_code.name, about(create)["rpc.grpc.status_code"]) == ("UNSET", "INVALID_ARGUMENT")

    serve_watched(scenario, FakeEngine(ValueError("x")), traces=traces_to(exporter, at_once=True))


def test_a_job_that_outlives_the_server_ends_unfinished_and_goes_on_in_a_new_trace(exporter: Any) -> None:
    store, traces = MemoryStore(), traces_to(exporter, at_once=True)

    async def first(application: Application, client: AsyncClient) -> None:
        await client.jobs.create(PNG, "forever")
        await until(lambda: application.jobs.queued == 0)

    async def second(application: Application, client: AsyncClient) -> None:
        (job_id,) = application.jobs.runs.live
        await client.jobs.cancel(job_id)
        await until(lambda: application.jobs.unfinished == 0)

    serve_watched(first, traces=traces, store=store)
    # A provider that was shut down makes no spans, so the next run has one of its own.
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    after = InMemorySpanExporter()
    serve_watched(second, traces=traces_to(after, at_once=True), store=store)
    (before,), (job,) = named(exporter, "job"), named(after, "job")
    assert about(before)["state"] == "unfinished"
    assert (about(job)["state"], job.parent) == ("cancelled", None)
    assert about(before)["job_id"] == about(job)["job_id"]


# ---- where they go -----------------------------------------------------------------------------------


def test_traces_arrive_at_the_collector_that_the_environment_names(
    exporter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    received: list[bytes] = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    with http.server.HTTPServer(("127.0.0.1", 0), Collector) as collector:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")

        async def scenario(_: Application, client: AsyncClient) -> None:
            await client.generators()

        serve_watched(scenario, traces=open_traces())
        collector.shutdown()
        thread.join()
    assert any(b"ListGenerators" in body and b"latent-inv" in body for body in received)


def test_a_collector_that_is_not_there_holds_nothing_up(exporter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")

    async def scenario(_: Application, client: AsyncClient) -> None:
        for _ in range(5):
            await client.generators()

    with logged("error"):
        serve_watched(scenario, traces=open_traces(), seconds=20)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
    ],
)
def test_none_without_a_collector(environ: Mapping[str, str]) -> None:
    assert open_traces(environ) is NO_TRACES


def test_none_without_the_packages_and_a_line_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PACKAGES", ("no_such_package.at.all",))
    with logged("warning") as lines:
        assert open_traces({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}) is NO_TRACES
        assert "latent-inv[otel]" in lines()[0]["event"]


def test_a_server_without_traces_imports_nothing_of_them(tmp_path: Path) -> None:
    code = """
import sys
from latent_inv_server.main import run
from latent_inv_server.telemetry.traces import open_traces
assert open_traces({}).call("m", {}, "id").end("OK", "") is None
print(sorted(name for name in sys.modules if name.split(".")[0] in ("opentelemetry", "torch")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_does_nothing_has_all_that_what_does_has() -> None:
    job = NO_TRACES.job("j", "bulk")
    job.runs(False)
    job.stops("")
    job.end("failed", "failed", 0)
    NO_TRACES.close()
    both: Sequence[Traces] = [NO_TRACES]
    assert both
