"""Workers that are watched: started beside the server, replaced when they die or hang; what becomes of their jobs."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latent_inv.client import AsyncClient
from latent_inv.engine.remote import ProcessEngine
from latent_inv.errors import AlreadyExistsError, LimitError, SpecError, UnavailableError
from latent_inv.result import Checkpoint, Event, Finished, JobResult, Lost, Progress
from latent_inv.spec import Budget, DescribeSpec, JobSpec, Reporting, SampleSpec, Seeds
from latent_inv_server import fleet as fleet_module
from latent_inv_server.config import ServerConfig
from latent_inv_server.fleet import Fleet, open_fleet
from latent_inv_server.testing import running_server
from tests.conftest import make_picture
from tests.engine.awkward import GATE
from tests.engine.helpers import job, result_of
from tests.engine.test_memory import footprint

CATALOGUE = "tests.engine.awkward:TABLE"
LONG = Budget(steps=100_000)
#: seconds after which a test is taken to hang
PATIENCE = 60.0


@contextmanager
def fleet(*devices: str, ready: bool = True, **settings: Any) -> Iterator[Fleet]:
    made = Fleet(devices or ("cpu",), catalogue=CATALOGUE, **settings)
    try:
        if ready:
            made.started.result(PATIENCE)
        yield made
    finally:
        made.close(1)


def wait_until(true: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.02)


def events_until(made: Fleet, enough: Callable[[list[Event]], bool]) -> list[Event]:
    events: list[Event] = []
    end = time.monotonic() + PATIENCE
    while not enough(events):
        assert time.monotonic() < end, f"hangs after {len(events)} events"
        events += made.poll(0.05)
    return events


def ends_of(made: Fleet, *ids: str) -> dict[str, Finished]:
    events = events_until(made, lambda events: set(ids) <= {e.job_id for e in events if isinstance(e, Finished)})
    ends = [event for event in events if isinstance(event, Finished)]
    assert len(ends) == len({end.job_id for end in ends}), "a job ended twice"
    return {end.job_id: end for end in ends}


def steps_of(end: Finished) -> int:
    assert isinstance(end.result, JobResult), end.error
    return end.result.steps


# ---- starting ----------------------------------------------------------------------------------


def test_it_is_there_before_its_workers() -> None:
    began = time.monotonic()
    with fleet(ready=False) as made:
        assert time.monotonic() - began < 1
        assert not made.alive
        assert made.health[0].health.state in ("gone", "starting")
        assert made.poll() == []
        made.cancel("unknown")
        made.checkpoint("unknown")
        made.submit("a", job(steps=3))  # waits
        assert made.started.done()
        assert made.alive
        assert steps_of(ends_of(made, "a")["a"]) == 3
        (device,) = made.health
        assert (device.device, device.jobs, device.replaced, device.problem) == ("cpu", 0, 0, "")
        assert device.pid is not None
    assert not made.alive
    with pytest.raises(UnavailableError, match="closed"):
        made.submit("b", job())


def test_a_wait_has_an_end() -> None:
    with fleet(ready=False, wait_seconds=0.05) as made:
        with pytest.raises(UnavailableError, match="no worker is ready yet") as caught:
            made.submit("a", job())
        assert caught.value.retry_after is not None
        made.started.result(PATIENCE)
        made.submit("a", job(steps=1))
        assert steps_of(ends_of(made, "a")["a"]) == 1, "its id is free again"


def test_closing_does_not_wait_for_a_start() -> None:
    with fleet(ready=False) as made:
        wait_until(lambda: made.health[0].pid is not None, "a worker is starting")
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(made.submit, "a", job())
            began = time.monotonic()
            made.close()
            assert time.monotonic() - began < 5
            assert isinstance(waiting.exception(PATIENCE), UnavailableError)
        assert made.started.cancelled()
        pid = made.health[0].pid
    assert pid not in {child.pid for child in multiprocessing.active_children()}


def test_a_device_that_cannot_be_is_told() -> None:
    with fleet("tpu", ready=False) as made:
        with pytest.raises(SpecError, match='found "tpu"'):
            made.started.result(PATIENCE)
        with pytest.raises(UnavailableError, match=r'no worker can be started: device: .*found "tpu"') as caught:
            made.submit("a", job())
        assert caught.value.retry_after is not None
        assert caught.value.retry_after >= 1
        assert "tpu" in made.health[0].problem


def test_the_server_listens_before_a_worker_is_ready() -> None:
    with fleet(ready=False) as made:

        async def scenario() -> None:
            async with running_server(made) as application, AsyncClient(f"127.0.0.1:{application.port}") as client:
                assert not made.alive
                assert not await client.healthy()
                assert len((await client.sample(seeds=(1,), generator="smooth")).images) == 1
                end = time.monotonic() + PATIENCE
                while not await client.healthy():
                    assert time.monotonic() < end
                    await asyncio.sleep(0.05)

        asyncio.run(scenario())


def test_a_configuration_says_how_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(fleet_module, "Fleet", lambda *args, **more: seen.extend((args, more)))
    memory = {"memory_mb": 512, "generator_memory_mb": 64}
    more = {"precision": "bfloat16", "heartbeat_seconds": 9}
    open_fleet(ServerConfig(devices=("cuda:0", "cuda:1"), threads=3, lane_width=8, **memory, **more))  # type: ignore[arg-type]
    assert seen == [(("cuda:0", "cuda:1"), 3, 8), {**memory, **more, "aliases": ()}]


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"devices": ()}, "devices"),
        ({"devices": ("cpu", "cpu")}, "devices"),
        ({"memory_mb": 1}, "memory_mb"),
        ({"heartbeat_seconds": 0.5}, "heartbeat_seconds"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(SpecError) as caught:
        ServerConfig(**settings)
    assert caught.value.field == field


# ---- several devices ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair() -> Iterator[Fleet]:
    # More room than for one large job each, and less than for two.
    found = footprint(large())
    limit = 1 + int(found.step + 1.6 * found.held) // 2**20
    with fleet("cpu", "cpu", memory_mb=limit) as made:
        yield made


def large(**settings: Any) -> JobSpec:
    return job("toy", picture=make_picture(256, 256), budget=LONG, initialiser=Seeds(count=64), **settings)


def test_jobs_go_where_there_is_least_to_do(pair: Fleet) -> None:
    names = [f"job {n}" for n in range(6)]
    for name in names:
        pair.submit(name, job("slow", budget=LONG))
    assert [device.jobs for device in pair.health] == [3, 3]
    with pytest.raises(AlreadyExistsError):
        pair.submit(names[0], job())
    busy = pair._homes[names[0]]
    for name in names:
        if pair._homes[name] is busy:
            pair.cancel(name)
    ends_of(pair, *(name for name in names if pair._homes.get(name) is busy))
    pair.submit("new", job("slow", budget=LONG))
    assert pair._homes["new"] is busy
    left = [name for name in (*names, "new") if name in pair._homes]
    assert len(left) == 4
    for name in left:
        pair.cancel(name)
    ends_of(pair, *left)
    assert [device.jobs for device in pair.health] == [0, 0]


def test_a_worker_without_room_is_passed_over(pair: Fleet) -> None:
    for n in range(2):
        # All is loaded there, so that the worker can say at once whether there is room.
        pair.submit(f"load {n}", large(picture_seed=n))
    events_until(pair, lambda events: {"load 0", "load 1"} <= {event.job_id for event in events})
    with pytest.raises(LimitError) as caught:
        pair.submit("c", large())
    assert caught.value.retry_after is not None
    pair.cancel("load 0")
    ends_of(pair, "load 0")
    home = pair._homes["load 1"]
    events_until(pair, lambda events: len(events) > 5)
    for name in ("small", "too"):
        pair.submit(name, job("slow", budget=LONG))  # of equally many jobs, those with fewer rows count
        assert pair._homes[name] is not home
    pair.submit("again", large())
    assert pair._homes["again"] is not home, "the other has fewer jobs, and no room"
    with pytest.raises(LimitError) as caught:
        pair.submit("huge", job("toy", picture=make_picture(1024, 1024), initialiser=Seeds(count=64)))
    assert caught.value.retry_after is None
    for name in ("load 1", "small", "too", "again"):
        pair.cancel(name)
    ends_of(pair, "load 1", "small", "too", "again")


def test_one_device_goes_on_without_the_other(pair: Fleet) -> None:
    for name in ("a", "b"):
        pair.submit(name, job("slow", budget=LONG))
    events_until(pair, lambda events: {"a", "b"} <= {event.job_id for event in events})
    lost = pair._homes["a"]
    assert lost is not None
    index, first = pair._seats.index(lost), lost.engine.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    end = ends_of(pair, "a")["a"]
    assert isinstance(end, Lost)
    assert pair.alive
    pair.submit("a", job(steps=2))
    assert steps_of(ends_of(pair, "a")["a"]) == 2
    wait_until(lambda: pair.health[index].health.alive, "it is replaced")
    assert pair.health[index].pid != first
    assert [device.replaced for device in pair.health] == [int(seat is lost) for seat in pair._seats]
    pair.cancel("b")
    assert not isinstance(ends_of(pair, "b")["b"], Lost)


# ---- workers that die --------------------------------------------------------------------------


@pytest.mark.slow
def test_jobs_go_on_bit_equally_whatever_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill -9 at random moments; whoever is lost is submitted again from its newest checkpoint."""
    monkeypatch.setattr(fleet_module, "_FIRST_PAUSE", 0.05)
    specs = {
        f"job {n}": job("slow", steps=40, seed=n, lane_width=2, reporting=Reporting(checkpoint_steps=5))
        for n in range(4)
    }
    # On the same network without its pauses.
    expected = {name: result_of(replace(spec, generator="smooth")) for name, spec in specs.items()}
    rng, kills = random.Random(5), 0
    with fleet() as made:
        checkpoints: dict[str, bytes | None] = dict.fromkeys(specs)
        ends: dict[str, JobResult] = {}
        for name, spec in specs.items():
            made.submit(name, spec)
        next_kill, over = time.monotonic() + 2, time.monotonic() + PATIENCE
        while set(ends) != set(specs):
            assert time.monotonic() < over, f"without an end: {set(specs) - set(ends)}"
            if kills < 4 and time.monotonic() > next_kill and made.alive:
                pid = made.health[0].pid
                assert pid is not None
                os.kill(pid, signal.SIGKILL)
                kills, next_kill = kills + 1, time.monotonic() + rng.uniform(2.5, 5)
            for event in made.poll(0.02):
                if isinstance(event, Checkpoint):
                    checkpoints[event.job_id] = event.data
                if isinstance(event, Lost):
                    made.submit(event.job_id, specs[event.job_id], checkpoints[event.job_id])
                elif isinstance(event, Finished):
                    assert isinstance(event.result, JobResult), event.error
                    assert event.job_id not in ends, "a job ends once"
                    ends[event.job_id] = event.result
        assert kills >= 2
        assert made.health[0].replaced >= kills - 1
        for name, found in ends.items():
            assert np.array_equal(found.latents["z"], expected[name].latents["z"]), name
            assert [step.loss for step in found.history] == [step.loss for step in expected[name].history]


def test_a_worker_that_does_not_last_is_started_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    starts: list[float] = []

    class Short(ProcessEngine):
        """Never there for long."""

        alive = False  # type: ignore[assignment]

        def start(self) -> None:
            starts.append(time.monotonic())

    monkeypatch.setattr(fleet_module, "ProcessEngine", Short)
    monkeypatch.setattr(fleet_module, "_FIRST_PAUSE", 0.05)
    monkeypatch.setattr(fleet_module, "_LONGEST_PAUSE", 0.3)
    made = Fleet(("cpu",))
    wait_until(lambda: len(starts) >= 6, "it is tried again and again")
    made.close()
    pauses = np.diff(starts)
    for pause, expected in zip(pauses, (0.05, 0.1, 0.2, 0.3, 0.3), strict=False):
        assert pause >= expected
    made.close()


# ---- workers that hang -------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["hangs", "hangs_with_lock"])
def test_a_worker_that_hangs_is_replaced(how: str, caplog: pytest.LogCaptureFixture) -> None:
    with fleet(heartbeat_seconds=4.0) as made:
        first = made.health[0].pid
        made.submit("innocent", job("slow", budget=LONG))
        events_until(made, lambda events: any(isinstance(event, Progress) for event in events))
        made.submit("bad", job(how, lane_width=2))
        ends = ends_of(made, "innocent", "bad")
        for name, suspect in (("innocent", False), ("bad", True)):
            end = ends[name]
            assert isinstance(end, Lost)
            assert end.suspect is suspect
        assert "the worker of cpu hangs" in caplog.text
        made.submit("next", job(steps=2))
        assert steps_of(ends_of(made, "next")["next"]) == 2
        assert made.health[0].pid != first
        assert made.health[0].replaced == 1


def test_loading_is_no_hanging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = tmp_path / "gate"
    monkeypatch.setenv(GATE, str(gate))
    with fleet(heartbeat_seconds=2.0) as made:
        made.submit("a", job("gated", steps=2))
        wait_until(lambda: made.health[0].health.loading != (), "it is loading")
        time.sleep(3)
        assert made.health[0].health.state.startswith("loading gated")
        assert made.health[0].replaced == 0
        gate.write_text("open")
        assert steps_of(ends_of(made, "a")["a"]) == 2


def test_many_callers_at_once(pair: Fleet) -> None:
    names = [f"caller {n}" for n in range(32)]
    with ThreadPoolExecutor(16) as pool:
        for n, name in enumerate(names):
            pool.submit(
                pair.submit, name, job(steps=2, seed=n) if n % 3 else SampleSpec(generator="smooth", seeds=(n,))
            )
    ends = ends_of(pair, *names)
    assert all(end.error is None for end in ends.values())
    pair.submit("all", DescribeSpec())
    assert ends_of(pair, "all")["all"].error is None
    assert not pair._homes


def test_the_gateway_loads_no_torch() -> None:
    code = "import sys, latent_inv_server.main, latent_inv_server.fleet; print('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "False"
