"""What a worker says of itself, what it does while weights are loaded, and what becomes of its jobs when it is lost."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from latent_inv.engine import worker as worker_module
from latent_inv.engine.durations import STEP_SECONDS
from latent_inv.engine.health import LOADING_PATIENCE, Health, Load
from latent_inv.engine.remote import ProcessEngine, RemoteEngine, ThreadEngine
from latent_inv.errors import (
    AlreadyExistsError,
    AssetError,
    CancelledError,
    LatentInvError,
    LimitError,
    UnavailableError,
)
from latent_inv.result import Checkpoint, Lost, Outcome, Progress
from latent_inv.spec import Budget, DescribeSpec, Reporting, SampleSpec, Seeds
from tests.conftest import make_picture
from tests.engine.awkward import GATE
from tests.engine.helpers import job
from tests.engine.test_memory import footprint
from tests.engine.test_remote import CATALOGUE, PATIENCE, events_until, finished, result, run, until_finished

LONG = Budget(steps=100_000)
Open = Callable[[str], None]


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Lets `gated` be loaded, or not; for workers that start after this."""
    path = tmp_path / "gate"
    monkeypatch.setenv(GATE, str(path))

    def decide(text: str) -> None:
        part = tmp_path / "part"
        part.write_text(text)
        part.replace(path)

    return decide


@pytest.fixture
def thread(gate: Open) -> Iterator[ThreadEngine]:
    made = ThreadEngine("cpu", catalogue=CATALOGUE)
    yield made
    gate("open")
    made.close()


def wait_until(true: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.01)


# ---- health ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ThreadEngine, ProcessEngine])
def test_health_says_what_it_does(kind: type[RemoteEngine]) -> None:
    engine = kind("cpu", catalogue=CATALOGUE, memory_mb=4096)
    try:
        wait_until(lambda: engine.health.state == "idle", "a sign of life")
        health = engine.health
        assert health.alive
        assert health.resident_bytes > 10_000_000
        assert (health.turn_seconds, health.waiting, health.loading) == (0, 0, ())
        assert health.load == Load(memory_bytes=4096 * 2**20, step_counts=(0,) * (len(STEP_SECONDS) + 1))
        engine.submit("a", job("slow", budget=LONG, initialiser=Seeds(count=3)))
        engine.submit("b", job("slow", budget=LONG, lane_width=2))
        events_until(engine, lambda events: {event.job_id for event in events} == {"a", "b"})
        steps = engine.health.load.steps
        wait_until(lambda: engine.health.load.steps > steps, "steps are counted")
        load = engine.health.load
        assert (load.jobs, load.rows, load.lanes) == (2, 4, 2)
        assert 0 < load.reserved_bytes < load.memory_bytes
        assert engine.health.silent_seconds < 5
        assert not engine.health.hangs(10)
        engine.cancel("a")
        engine.cancel("b")
        until_finished(engine, "a", "b")
        wait_until(lambda: engine.health.state == "idle", "it has nothing to do")
        wait_until(lambda: engine.health.load.jobs == 0, "nothing is left")
    finally:
        engine.close()
    assert engine.health.state == "gone"
    assert not engine.health.alive


def test_what_hangs() -> None:
    well = Health(alive=True, state="step", turn_seconds=3, silent_seconds=0.5)
    assert not well.hangs(3)
    assert well.hangs(2.9), "the loop does not turn"
    assert Health(alive=True, silent_seconds=4).hangs(3), "nothing is heard"
    loading = Health(alive=True, turn_seconds=4, loading=("faces",))
    assert not loading.hangs(3), "unpacking may hold up everything"
    assert loading.hangs(4 / LOADING_PATIENCE - 0.01), "but not for ever"
    assert not Health(alive=False, turn_seconds=99, silent_seconds=99).hangs(1), "it is gone already"


# ---- loading -----------------------------------------------------------------------------------


def test_others_go_on_while_something_is_loaded(thread: ThreadEngine, gate: Open) -> None:
    run(thread, job(steps=0))
    thread.submit("slow", job("slow", budget=LONG))
    events_until(thread, lambda events: len(events) >= 2)
    thread.submit("gated", job("gated", steps=3))
    wait_until(lambda: thread.health.waiting == 1, "it waits")

    def loads() -> bool:
        return any(name.startswith("gated, ") and name.endswith(" of 50 MB") for name in thread.health.loading)

    wait_until(loads, "it is loaded, and how far that is is told")
    seen = events_until(thread, lambda events: len(events) >= 10)
    assert all(isinstance(event, Progress) and event.job_id == "slow" for event in seen)
    assert run(thread, job("smooth", steps=2), "new").steps == 2, "others are let in"
    gate("open")
    assert result(until_finished(thread, "gated"), "gated").steps == 3
    thread.cancel("slow")
    until_finished(thread, "slow")
    wait_until(lambda: thread.health.loading == (), "health is told a few times a second")


def test_all_that_wait_for_one_thing_get_it(thread: ThreadEngine, gate: Open) -> None:
    names = [f"job {n}" for n in range(5)]
    for name in names:
        thread.submit(name, job("gated", steps=2))
    thread.submit("sampled", SampleSpec(generator="gated", seeds=(1, 2)))
    # Counted apart: the last order may be taken in before the load begins, and other weights may come first.
    wait_until(lambda: thread.health.waiting == 6, "all wait")
    wait_until(lambda: thread.health.state.startswith("loading gated"), "what they wait for is loaded")
    with pytest.raises(AlreadyExistsError):
        thread.submit(names[0], job("gated"))
    gate("open")
    events = until_finished(thread, *names, "sampled")
    assert all(result(events, name).steps == 2 for name in names)
    assert finished(events, "sampled").error is None


def test_what_cannot_be_loaded_is_told_to_all_and_tried_again(thread: ThreadEngine, gate: Open) -> None:
    for name in ("a", "b"):
        thread.submit(name, job("gated"))
    wait_until(lambda: thread.health.waiting == 2, "both wait")
    gate("fail")
    events = until_finished(thread, "a", "b")
    for name in ("a", "b"):
        end = finished(events, name)
        assert isinstance(end.error, AssetError)
        assert not isinstance(end, Lost)
    gate("open")
    assert run(thread, job("gated", steps=1), "a").steps == 1


def test_what_can_be_seen_without_weights_is_refused_at_once(thread: ThreadEngine) -> None:
    for wrong, field in (
        (job("gated", space="w"), "space"),
        (job("gated", crop=(0, 0, 999, 999)), "crop"),
        (job("gated", lane_width=17), "lane_width"),
        (job("gatet"), "generator"),
    ):
        with pytest.raises(LatentInvError) as caught:
            thread.submit("a", wrong)
        assert caught.value.field == field
    assert thread.health.loading == ()


def test_jobs_that_wait_can_be_cancelled(thread: ThreadEngine, gate: Open) -> None:
    for name in ("a", "b"):
        thread.submit(name, job("gated", steps=2))
    thread.cancel("a")
    thread.checkpoint("a")
    events = until_finished(thread, "a")
    assert isinstance(finished(events, "a").error, CancelledError)
    thread.submit("a", job("gated", steps=4))
    gate("open")
    events = until_finished(thread, "a", "b")
    assert (result(events, "a").steps, result(events, "b").steps) == (4, 2)


@pytest.mark.parametrize("kind", [ThreadEngine, ProcessEngine])
def test_close_does_not_wait_for_what_is_loaded(kind: type[RemoteEngine], gate: Open) -> None:
    engine = kind("cpu", catalogue=CATALOGUE)
    try:
        engine.submit("a", job("gated"))
        engine.submit("b", SampleSpec(generator="gated"))
        wait_until(lambda: engine.health.waiting == 2, "both wait")
        began = time.monotonic()
        engine.close()
        assert time.monotonic() - began < 5
        events = until_finished(engine, "a", "b")
        for name in ("a", "b"):
            end = finished(events, name)
            assert isinstance(end, Lost)
            assert not end.suspect, "nobody is to blame for a close"
    finally:
        gate("open")


def test_who_was_taken_waits_for_memory(gate: Open) -> None:
    spec = job("toy", picture=make_picture(256, 256), budget=LONG, initialiser=Seeds(count=64))
    found = footprint(spec)
    engine = ThreadEngine("cpu", catalogue=CATALOGUE, memory_mb=1 + (found.held + found.step) // 2**20)
    try:
        engine.submit("first", spec)
        events_until(engine, lambda events: bool(events))
        with pytest.raises(LimitError) as caught:
            engine.submit("second", spec)
        assert caught.value.retry_after is not None
        # This one is taken, as what it needs is not loaded; then there is no room for it.
        engine.submit("parked", job("gated", steps=2, dtype="float64", initialiser=Seeds(count=64)))
        gate("open")
        wait_until(lambda: engine.health.loading == (), "it is loaded")
        events_until(engine, lambda events: len(events) >= 3)
        assert engine.health.waiting == 1
        engine.cancel("first")
        assert result(until_finished(engine, "first", "parked"), "parked").steps == 2
        with pytest.raises(LimitError) as caught:
            engine.submit("huge", job("toy", picture=make_picture(512, 512), initialiser=Seeds(count=64)))
        assert caught.value.retry_after is None
    finally:
        gate("open")
        engine.close()


# ---- orders ------------------------------------------------------------------------------------


def test_orders_come_through_while_others_are_let_in_and_stepped() -> None:
    """Many submits at once, to a worker whose steps are slow: steps go on, and cancels are heard."""
    engine = ProcessEngine("cpu", catalogue=CATALOGUE)
    try:
        run(engine, job("slow", steps=0))
        engine.submit("long", job("slow", budget=LONG))
        events_until(engine, lambda events: len(events) >= 2)
        names = [f"job {n}" for n in range(40)]
        with ThreadPoolExecutor(16) as pool:
            submits = [pool.submit(engine.submit, name, job(steps=1, seed=n)) for n, name in enumerate(names)]
            events = until_finished(engine, *names)
            for submit in submits:
                submit.result(PATIENCE)
        assert all(result(events, name).steps == 1 for name in names)
        assert any(event.job_id == "long" for event in events), "its steps went on"
        engine.cancel("long")
        assert result(until_finished(engine, "long"), "long").outcome is Outcome.cancelled
    finally:
        engine.close()


def test_a_checkpoint_asked_of_a_job_that_waits_comes_when_there_is_one(thread: ThreadEngine, gate: Open) -> None:
    spec = job("gated", steps=5)
    thread.submit("a", spec)
    thread.checkpoint("a")
    gate("open")
    events = until_finished(thread, "a")
    (asked,) = (event for event in events if isinstance(event, Checkpoint))
    assert asked.step == 0
    thread.submit("b", spec, asked.data)
    again = result(until_finished(thread, "b"), "b")
    assert np.array_equal(again.latents["z"], result(events, "a").latents["z"])


# ---- lost --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ThreadEngine, ProcessEngine])
def test_a_worker_that_hangs_can_be_ended(kind: type[RemoteEngine]) -> None:
    engine = kind("cpu", catalogue=CATALOGUE)
    try:
        spec = job("smooth", steps=30, seed=7, reporting=Reporting(checkpoint_steps=5))
        expected = run(engine, spec)
        engine.submit("innocent", job("slow", budget=LONG))
        events_until(engine, lambda events: bool(events))
        engine.submit("hangs", job("hangs", steps=1, lane_width=2))
        wait_until(lambda: engine.health.turn_seconds > 0.5, "its loop hangs")
        assert engine.health.hangs(0.5)
        assert engine.alive
        engine.kill()
        assert not engine.alive
        events = until_finished(engine, "innocent", "hangs")
        for name, suspect in (("innocent", False), ("hangs", True)):
            end = finished(events, name)
            assert isinstance(end, Lost)
            assert end.suspect is suspect, name
            assert (end.sequence, end.result) == (0, None)
            assert isinstance(end.error, UnavailableError)
            assert end.error.retry_after is not None
        engine.kill()
        again = run(engine, spec)
        assert np.array_equal(again.latents["z"], expected.latents["z"]), "another worker goes on"
        assert engine.poll(0.05) == []
    finally:
        engine.close(1)


def test_an_order_that_ends_the_worker_is_under_suspicion() -> None:
    engine = ProcessEngine("cpu", catalogue=CATALOGUE)
    try:
        run(engine, job("slow", steps=0))
        engine.submit("long", job("slow", budget=LONG))
        engine.submit("dies", job("dies"))
        events = until_finished(engine, "long", "dies")
        dies, long = finished(events, "dies"), finished(events, "long")
        assert isinstance(dies, Lost)
        assert dies.suspect, "it was being loaded"
        assert isinstance(long, Lost)
    finally:
        engine.close()


def test_a_submit_during_which_the_worker_dies_is_an_end_like_others() -> None:
    engine = ProcessEngine("cpu", catalogue=CATALOGUE, by_hand=True)
    try:
        with pytest.raises(UnavailableError):
            engine.submit("a", job())
        assert engine.health.state == "gone"
        engine.start()
        engine.start()
        run(engine, job("slow", steps=0))
        engine.submit("long", job("hangs"))
        wait_until(lambda: engine.health.turn_seconds > 0.5, "its loop hangs")
        with ThreadPoolExecutor(1) as pool:
            submitted = pool.submit(engine.submit, "late", job())
            time.sleep(0.2)
            assert not submitted.done()
            assert engine.pid is not None
            os.kill(engine.pid, signal.SIGKILL)
            submitted.result(PATIENCE)
        events = until_finished(engine, "late", "long")
        late = finished(events, "late")
        assert isinstance(late, Lost)
        assert not late.suspect, "the worker had not looked at it"
        with pytest.raises(UnavailableError):
            engine.submit("next", job())
        assert engine.poll(0.05) == []
    finally:
        engine.close()


def test_a_worker_ends_itself_when_nobody_gives_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is killed while the loop hangs, so that the loop cannot notice."""
    ended = threading.Event()
    monkeypatch.setattr(worker_module, "_ORPHAN_SECONDS", 0.3)
    monkeypatch.setattr(worker_module.os, "_exit", lambda code: ended.set())
    near, far = multiprocessing.Pipe()
    settings = worker_module.WorkerSettings("cpu", None, None, None, CATALOGUE)
    serving = threading.Thread(
        target=worker_module.serve_pipe, args=(far, settings), kwargs={"own_process": True}, daemon=True
    )
    serving.start()
    assert near.recv() == ("ready", None)
    near.send(("submit", 1, "hangs", job("hangs"), None))
    while near.recv() != ("reply", 1, None):
        pass
    time.sleep(1)
    near.close()
    assert ended.wait(PATIENCE)


def test_a_process_that_forgets_to_close_is_not_held_up(tmp_path: Path) -> None:
    script = tmp_path / "forgets.py"
    script.write_text(
        "from latent_inv.engine.remote import ProcessEngine\n"
        "from tests.engine.helpers import job\n"
        "if __name__ == '__main__':\n"
        f"    engine = ProcessEngine('cpu', catalogue={CATALOGUE!r})\n"
        "    engine.submit('a', job('slow', steps=100_000))\n"
        "    print(engine.pid)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    pid = int(done.stdout)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the worker ends, too")


def test_a_worker_heeds_neither_ctrl_c_nor_sigterm() -> None:
    engine = ProcessEngine("cpu", catalogue=CATALOGUE)
    try:
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGTERM)
        os.kill(engine.pid, signal.SIGINT)
        assert run(engine, DescribeSpec(generator="toy")).generators
        assert isinstance(run(engine, job(steps=1)).steps, int)
    finally:
        engine.close()


def test_a_kill_by_the_kernel_for_memory_is_the_jobs_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same signal as one from outside; only the kernel's count tells them apart."""
    count = itertools.count()
    monkeypatch.setattr("latent_inv.engine.remote.kills_for_memory", lambda: next(count))
    engine = ProcessEngine("cpu", catalogue=CATALOGUE)
    try:
        engine.submit("long", job("slow", budget=LONG))
        events_until(engine, lambda events: any(isinstance(event, Progress) for event in events))
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGKILL)
        end = finished(until_finished(engine, "long"), "long")
        assert isinstance(end, Lost)
        assert end.suspect
    finally:
        engine.close()
