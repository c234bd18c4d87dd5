"""Both clients: the same calls, the same answers, the library's own words for errors."""

from __future__ import annotations

import asyncio
import inspect
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from latent_inv import solve
from latent_inv.client import AsyncClient, Client
from latent_inv.client.async_jobs import AsyncJobs
from latent_inv.client.jobs import Jobs
from latent_inv.errors import (
    DeadlineError,
    LatentsError,
    LimitError,
    SpecError,
    UnavailableError,
    UnsupportedError,
)
from latent_inv.latents import save_latents
from latent_inv.result import JobResult, Outcome, Preview, Progress
from latent_inv.spec import Given, Pixel
from latent_inv_server.testing import running_server
from tests.server.fake import PNG, FakeEngine, address

CALLS = (
    "cancel",
    "close",
    "decode",
    "encode",
    "generator",
    "generators",
    "healthy",
    "invert",
    "invert_stream",
    "load_generator",
    "loaded_generators",
    "sample",
    "unload_generator",
)


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def where(engine: FakeEngine) -> Iterator[str]:
    """The address of a server in a thread of its own."""
    found: list[str] = []
    ready, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        async with running_server(engine) as application:
            found.append(address(application))
            ready.set()
            while not stop.is_set():
                await asyncio.sleep(0.01)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(20)
    yield found[0]
    stop.set()
    thread.join(20)
    assert not thread.is_alive()


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_both_have_the_same_calls() -> None:
    for kind in (Client, AsyncClient):
        assert tuple(name for name in dir(kind) if not name.startswith("_")) == CALLS
    for name in CALLS:
        here = inspect.signature(getattr(Client, name)).parameters
        there = inspect.signature(getattr(AsyncClient, name)).parameters
        assert set(here) == set(there), name
    jobs = [name for name in dir(Jobs) if not name.startswith("_")]
    assert jobs == [name for name in dir(AsyncJobs) if not name.startswith("_")]
    for name in jobs:
        here, there = (inspect.signature(getattr(kind, name)).parameters for kind in (Jobs, AsyncJobs))
        assert {key: value.default for key, value in here.items()} == {
            key: value.default for key, value in there.items()
        }


@pytest.mark.parametrize("name", ["decode", "encode", "sample"])
def test_arguments_are_the_library_s(name: str) -> None:
    own = {"device", "threads"}  # of the machine that does the work
    library, client = (inspect.signature(getattr(owner, name)).parameters for owner in (solve, Client))
    assert set(client) - {"self"} == set(library) - own
    for each in set(client) - {"self"}:
        assert client[each].default == library[each].default, each


def test_a_whole_job(where: str, engine: FakeEngine) -> None:
    seen: list[int] = []
    with Client(where) as client:
        result = client.invert(PNG, "steps", steps=30, seed=3, on_progress=lambda event: seen.append(event.latest.step))
    assert isinstance(result, JobResult)
    assert result.outcome is Outcome.step_limit
    assert (result.steps, result.seed, result.generator, len(result.history)) == (30, 3, "steps", 31)
    assert result.image.dtype == np.float32
    assert result.image.shape == (3, 8, 8)
    assert result.target.pixels.shape == (3, 8, 8)
    assert result.warnings == ("a warning",)
    result.latents["z"][0, 0] = 7  # the caller's own, not a view into a message
    assert seen == sorted(seen)
    assert seen[-1] == 30
    assert engine.running == 0


def test_events_of_a_stream(where: str) -> None:
    with Client(where) as client:
        events = list(client.invert_stream(PNG, "steps", steps=5))
        assert [type(event) for event in events] == [Progress] * 5 + [JobResult]
        assert len({event.job_id for event in events if isinstance(event, Progress)}) == 1
        stream = client.invert_stream(PNG, "flood")
        preview = next(event for event in stream if isinstance(event, Preview))
        assert preview.image.shape == (8, 8, 3)
        assert preview.image.dtype == np.uint8


def test_generators_samples_and_latents(where: str, tmp_path: Path) -> None:
    with Client(where) as client:
        assert [info.name for info in client.generators()] == list(FakeEngine.names)
        info = client.generator("steps")
        assert info.size == (8, 8)
        assert info.spaces["z"]["z"]["shape"] == [3]
        drawn = client.sample((4, 5), "steps")
        assert drawn.seeds == (4, 5)
        assert drawn.images.shape == (2, 3, 8, 8)
        assert client.sample(6, "steps").seeds == (6,)
        assert client.decode(drawn.latents, "steps").images.shape == (2, 3, 8, 8)
        result = client.invert(PNG, "steps", steps=1)
        assert client.decode(result, "steps").images.shape == (1, 3, 8, 8)
        with pytest.raises(SpecError, match='found one of "steps"'):
            client.decode(result, "b")


def test_latents_of_another_generator_are_refused(where: str, tmp_path: Path, engine: FakeEngine) -> None:
    path = tmp_path / "latents.safetensors"
    latents = {"z": np.zeros((1, 3), np.float32)}
    save_latents(path, latents, generator="steps", space="z", weights_sha256="0" * 64)
    with Client(where) as client:
        assert client.decode(path, "steps").images.shape == (1, 3, 8, 8)
        assert client.decode(path).images.shape == (1, 3, 8, 8)
        assert client.invert(PNG, "steps", steps=1, start=path).steps == 1
        given = engine.submitted[-1].initialiser  # type: ignore[union-attr]
        assert isinstance(given, Given)
        np.testing.assert_array_equal(given.latents["z"], latents["z"])
        assert client.invert(PNG, steps=1, start=path).generator == "steps"
        assert client.jobs.create(PNG, steps=1, start=path).generator == "steps"
        save_latents(path, latents, generator="steps", space="z", weights_sha256="f" * 64)
        with pytest.raises(LatentsError):
            client.decode(path, "steps")
        with pytest.raises(LatentsError):
            client.invert(PNG, "steps", steps=1, start=path)

    async def the_same() -> None:
        async with AsyncClient(where) as client:
            with pytest.raises(LatentsError):
                await client.decode(path, "steps")
            save_latents(path, latents, generator="steps", space="z", weights_sha256="0" * 64)
            assert (await client.decode(path)).images.shape == (1, 3, 8, 8)
            assert (await client.invert(PNG, steps=1, start=path)).generator == "steps"
            assert (await client.jobs.create(PNG, steps=1, start=path)).generator == "steps"

    asyncio.run(the_same())


def test_no_server() -> None:
    where = f"127.0.0.1:{closed_port()}"
    with Client(where) as client:
        for call in (client.generators, client.healthy, lambda: client.invert(PNG), lambda: client.sample(1)):
            with pytest.raises(UnavailableError) as caught:
                call()  # type: ignore[operator]
            assert str(caught.value) == f"no server answers at {where}; start one with: latent-inv serve"
            assert caught.value.__cause__ is None
            assert caught.value.__suppress_context__, "one sentence, no trace of gRPC"

    async def the_same() -> None:
        async with AsyncClient(where) as client:
            with pytest.raises(UnavailableError, match="no server answers"):
                await client.healthy()
            with pytest.raises(UnavailableError, match="no server answers"):
                await client.invert(PNG)

    asyncio.run(the_same())


def test_errors_name_the_argument(where: str, engine: FakeEngine) -> None:
    engine.error = LimitError("too much", field="losses", retry_after=2.5)
    with Client(where) as client:
        with pytest.raises(SpecError) as spec:
            client.invert(PNG, "unknown")
        assert spec.value.field == "generator"
        with pytest.raises(LimitError) as limit:
            client.invert(PNG, "fails", losses=(Pixel(),))
        assert (limit.value.field, limit.value.message, limit.value.retry_after) == ("losses", "too much", 2.5)
        with pytest.raises(SpecError, match='did you mean "seed"') as name:
            client.invert(PNG, "steps", sead=1)
        assert name.value.field == "sead"
        engine.error = UnsupportedError("it has none")
        with pytest.raises(UnsupportedError, match="it has none"):
            client.encode(PNG, "fails")


def test_timeouts(where: str, engine: FakeEngine) -> None:
    with Client(where, timeout=0.2) as client:
        engine.gate.clear()
        with pytest.raises(DeadlineError, match="timeout"):
            client.sample(1, "blocked")
        with pytest.raises(DeadlineError, match="timeout"):
            client.invert(PNG, "forever", timeout=0.1)
        engine.gate.set()
        # The timeout of the client is for calls without progress.
        assert client.invert(PNG, "steps", steps=2).steps == 2


def test_callbacks_that_raise_cancel_the_job(where: str, engine: FakeEngine) -> None:
    def raising(_: Progress) -> None:
        raise ZeroDivisionError

    with Client(where) as client:
        with pytest.raises(ZeroDivisionError):
            client.invert(PNG, "forever", on_progress=raising)
        end = time.monotonic() + 20
        while not engine.cancelled or engine.running:
            assert time.monotonic() < end
            time.sleep(0.01)
    assert len(engine.cancelled) == 1
