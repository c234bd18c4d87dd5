"""The figures: what they say of jobs, queue, workers and store, and the port where they are read."""

from __future__ import annotations

import asyncio
import socket
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from latent_inv.client import AsyncClient
from latent_inv.engine.durations import STEP_SECONDS
from latent_inv.engine.health import Health, Load
from latent_inv.errors import SpecError, UnavailableError
from latent_inv_server.app import Application
from latent_inv_server.config import ServerConfig
from latent_inv_server.fleet import DeviceHealth
from latent_inv_server.store.folder import open_store
from latent_inv_server.telemetry.collector import Readings, Sources
from latent_inv_server.telemetry.meters import Meters
from latent_inv_server.telemetry.telemetry import Telemetry
from tests.server.fake import PNG, FakeEngine, until
from tests.server.memory_store import MemoryStore
from tests.server.telemetry.watching import figure, logged, serve_watched


def read(url: str) -> dict[str, float]:
    """All samples, by name and labels as they are written."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    return {
        f"{sample.name}{{{','.join(f'{key}={value}' for key, value in sorted(sample.labels.items()))}}}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


# ---- jobs --------------------------------------------------------------------------------------------


def test_jobs_by_priority_outcome_and_state() -> None:
    async def scenario(application: Application, client: AsyncClient) -> None:
        forever = await client.jobs.create(PNG, "forever", steps=3)
        bulk = [await client.jobs.create(PNG, "steps", steps=3, priority="bulk") for _ in range(2)]
        await until(lambda: figure(application, "latent_inv_queue_jobs", priority="bulk") == 2)
        assert figure(application, "latent_inv_queue_jobs", priority="interactive") == 0
        assert figure(application, "latent_inv_running_jobs") == 1
        assert figure(application, "latent_inv_jobs", state="queued") == 2
        await client.jobs.cancel(forever.job_id)
        await until(lambda: application.jobs.unfinished == 0)
        assert figure(application, "latent_inv_jobs_accepted_total", priority="bulk") == len(bulk)
        assert figure(application, "latent_inv_jobs_accepted_total", priority="interactive") == 1
        assert figure(application, "latent_inv_job_seconds_count", outcome="step_limit") == 2
        assert figure(application, "latent_inv_job_seconds_count", outcome="cancelled") == 1
        assert figure(application, "latent_inv_job_wait_seconds_count", priority="bulk") == 2
        assert figure(application, "latent_inv_job_wait_seconds_sum", priority="bulk") > 0
        assert figure(application, "latent_inv_jobs", state="succeeded") == 2
        assert figure(application, "latent_inv_queue_jobs", priority="bulk") == 0
        assert figure(application, "latent_inv_running_jobs") == 0

    serve_watched(scenario, max_jobs=1)


def test_what_has_not_happened_yet_is_there_as_0() -> None:
    async def scenario(application: Application, _: AsyncClient) -> None:
        read = application.telemetry.meters.registry.get_sample_value
        for name, labels in (
            ("rejects_total", {"reason": "internal"}),
            ("rejects_total", {"reason": "limit_exceeded"}),
            ("job_seconds_count", {"outcome": "failed"}),
            ("job_seconds_count", {"outcome": "diverged"}),
            ("jobs_accepted_total", {"priority": "bulk"}),
            ("jobs_interrupted_total", {"reason": "worker_lost"}),
            ("calls_total", {"method": "latent_inv.v1.ArtifactService/UploadArtifact", "code": "OK"}),
            ("received_bytes_total", {"method": "latent_inv.v1.ArtifactService/UploadArtifact"}),
        ):
            assert read(f"latent_inv_{name}", labels) == 0, (name, labels)

    serve_watched(scenario)


def test_jobs_that_fail_and_jobs_that_are_interrupted() -> None:
    async def scenario(application: Application, client: AsyncClient) -> None:
        await client.jobs.create(PNG, "deadly", steps=9)
        await until(lambda: application.jobs.unfinished == 0)
        assert figure(application, "latent_inv_jobs_interrupted_total", reason="worker_lost") == 2
        assert figure(application, "latent_inv_job_seconds_count", outcome="failed") == 1
        assert figure(application, "latent_inv_job_wait_seconds_count", priority="interactive") == 1, "its first turn"

    serve_watched(scenario)


# ---- what is read ------------------------------------------------------------------------------------


def worker(device: str, **load: Any) -> DeviceHealth:
    """One that has three rows on four places."""
    busy = Load(jobs=1, rows=3, lanes=1, places=4, steps=3, step_seconds=0.25, step_counts=(0, 2, 1), row_steps=9)
    health = Health(True, "step", 0.0, 0.1, 1000, (), 2, replace(busy, place_steps=12, **load))
    return DeviceHealth(device, health, pid=1, jobs=1, replaced=7, problem="")


def sample(sources: Sources, name: str, **labels: str) -> float | None:
    meters = Meters()
    meters.collect(Readings(sources))
    return meters.registry.get_sample_value(name, labels)


def test_workers_by_device() -> None:
    sources = Sources(devices=lambda: [worker("cpu"), worker("cuda:1", rows=0, places=0)])
    at = {"device": "cpu"}
    assert sample(sources, "latent_inv_worker_up", **at) == 1
    assert sample(sources, "latent_inv_worker_memory_bytes", **at) == 1000
    assert sample(sources, "latent_inv_worker_restarts_total", **at) == 7
    assert sample(sources, "latent_inv_worker_steps_total", **at) == 3
    assert sample(sources, "latent_inv_worker_row_steps_total", **at) == 9
    assert sample(sources, "latent_inv_worker_place_steps_total", **at) == 12
    assert sample(sources, "latent_inv_worker_occupancy", **at) == 0.75
    assert sample(sources, "latent_inv_worker_occupancy", device="cuda:1") == 1.0
    assert sample(sources, "latent_inv_worker_step_seconds_sum", **at) == 0.25
    assert sample(sources, "latent_inv_worker_step_seconds_count", **at) == 3
    ends = [f"{end:g}" for end in STEP_SECONDS[:3]]
    found = [sample(sources, "latent_inv_worker_step_seconds_bucket", le=end, **at) for end in [*ends, "+Inf"]]
    assert found == [0, 2, 3, 3]


def test_a_source_that_fails_hides_no_other() -> None:
    def broken() -> Any:
        raise UnavailableError("the database does not answer")

    with logged("warning") as lines:
        sources = Sources(kept=broken, running=lambda: 3)
        assert sample(sources, "latent_inv_running_jobs") == 3
        assert sample(sources, "latent_inv_jobs", state="queued") is None
        assert "the database does not answer" in lines()[0]["event"]


def test_a_real_store(tmp_path: Path) -> None:
    store = open_store(tmp_path)

    async def scenario(application: Application, client: AsyncClient) -> None:
        await client.jobs.create(PNG, "steps", steps=3)
        await until(lambda: application.jobs.unfinished == 0)
        assert figure(application, "latent_inv_store_bytes") == store.blobs.used > 0
        assert figure(application, "latent_inv_store_budget_bytes") == 2**30
        assert figure(application, "latent_inv_disk_free_bytes") > 0
        assert figure(application, "latent_inv_database_bytes") > 1000
        assert figure(application, "latent_inv_jobs", state="succeeded") == 1

    serve_watched(scenario, store=store, disk_budget_mb=1024)


# ---- the port ----------------------------------------------------------------------------------------


def test_figures_are_read_over_http_until_the_server_stops() -> None:
    url = ""

    async def scenario(application: Application, client: AsyncClient) -> None:
        nonlocal url
        assert application.telemetry.port
        url = f"http://127.0.0.1:{application.telemetry.port}/metrics"
        await client.generators()
        found = await asyncio.to_thread(read, url)
        method = "latent_inv.v1.GeneratorService/ListGenerators"
        assert found[f"latent_inv_calls_total{{code=OK,method={method}}}"] == 1
        assert found["latent_inv_running_jobs{}"] == 0
        assert found["process_resident_memory_bytes{}"] > 0

    serve_watched(scenario, metrics_port=0)
    with pytest.raises(OSError, match="refused"):
        read(url)


def test_no_port_unless_asked_for() -> None:
    async def scenario(application: Application, _: AsyncClient) -> None:
        assert application.telemetry.port is None

    serve_watched(scenario)


def test_a_port_in_use_is_said_at_the_start() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config = ServerConfig(port=0, grace_seconds=0, metrics_port=port)

        async def start() -> None:
            application = Application(config, FakeEngine(), MemoryStore())
            with pytest.raises(UnavailableError, match=f"metrics_port: port {port}"):
                await application.start()

        asyncio.run(start())


def test_two_servers_in_one_process_count_apart() -> None:
    one, other = Telemetry(ServerConfig()), Telemetry(ServerConfig())
    one.meters.job_accepted("bulk")
    name, labels = "latent_inv_jobs_accepted_total", {"priority": "bulk"}
    assert one.meters.registry.get_sample_value(name, labels) == 1
    assert not other.meters.registry.get_sample_value(name, labels)


@pytest.mark.parametrize("value", [-1, 65536])
def test_ports_that_are_none(value: int) -> None:
    with pytest.raises(SpecError):
        ServerConfig(metrics_port=value)
