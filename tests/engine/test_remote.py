"""The seam: one behaviour, whether the engine is here, in a thread, or in a process."""

from __future__ import annotations

import gc
import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from latent_inv.device import place
from latent_inv.engine.engine import Engine
from latent_inv.engine.remote import ProcessEngine, RemoteEngine, ThreadEngine
from latent_inv.engine.seam import EngineSeam
from latent_inv.errors import (
    AlreadyExistsError,
    CancelledError,
    InternalError,
    LatentInvError,
    SpecError,
    UnavailableError,
    UnsupportedError,
)
from latent_inv.result import Checkpoint, Event, Finished, JobResult, Lost, Outcome, Preview, Progress
from latent_inv.spec import Budget, DecodeSpec, DescribeSpec, Given, Reporting, SampleSpec
from tests.engine.awkward import STEP_SECONDS, TABLE
from tests.engine.helpers import job

CATALOGUE = "tests.engine.awkward:TABLE"
#: seconds after which a test is taken to hang
PATIENCE = 30.0

_MAKERS: dict[str, Callable[[], EngineSeam]] = {
    "here": lambda: Engine(TABLE, place("cpu")),
    "thread": lambda: ThreadEngine("cpu", catalogue=CATALOGUE),
    "process": lambda: ProcessEngine("cpu", catalogue=CATALOGUE),
}


@pytest.fixture(scope="module", params=list(_MAKERS))
def engine(request: pytest.FixtureRequest) -> Iterator[EngineSeam]:
    made = _MAKERS[request.param]()
    yield made
    made.close()


@pytest.fixture(scope="module")
def here() -> Iterator[EngineSeam]:
    made = _MAKERS["here"]()
    yield made
    made.close()


@pytest.fixture
def thread() -> Iterator[ThreadEngine]:
    made = ThreadEngine("cpu", catalogue=CATALOGUE)
    yield made
    made.close()


def events_until(engine: EngineSeam, enough: Callable[[list[Event]], bool]) -> list[Event]:
    events: list[Event] = []
    end = time.monotonic() + PATIENCE
    while not enough(events):
        assert time.monotonic() < end, f"hangs after {len(events)} events"
        events += engine.poll(0.01)
    return events


def until_finished(engine: EngineSeam, *ids: str) -> list[Event]:
    return events_until(engine, lambda events: set(ids) <= {e.job_id for e in events if isinstance(e, Finished)})


def finished(events: list[Event], job_id: str) -> Finished:
    (only,) = (event for event in events if isinstance(event, Finished) and event.job_id == job_id)
    return only


def result(events: list[Event], job_id: str) -> JobResult:
    end = finished(events, job_id)
    assert end.error is None, end.error
    assert isinstance(end.result, JobResult)
    return end.result


def run(engine: EngineSeam, spec: Any, job_id: str = "job") -> Any:
    engine.submit(job_id, spec)
    end = finished(until_finished(engine, job_id), job_id)
    if end.error is not None:
        raise end.error
    return end.result


def same(first: JobResult, second: JobResult) -> bool:
    """Equal in every bit, but for the seconds."""
    arrays = (first.image, second.image), *((first.latents[name], second.latents[name]) for name in first.latents)
    steps = [[(step.step, step.loss, step.terms, step.metrics) for step in one.history] for one in (first, second)]
    return all(np.array_equal(one, two) for one, two in arrays) and steps[0] == steps[1]


# ---- one behaviour -----------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 4])
def test_a_result_is_bit_equal_wherever_the_engine_is(engine: EngineSeam, here: EngineSeam, width: int) -> None:
    spec = job(seed=5, lane_width=width, picture_seed=2)
    assert same(run(engine, spec), run(here, spec))
    assert not same(run(engine, spec), run(here, job(seed=6, lane_width=width, picture_seed=2)))


def test_events_are_numbered_and_in_order(engine: EngineSeam) -> None:
    engine.submit("a", job(steps=12, reporting=Reporting(preview_steps=5)))
    engine.submit("b", job(steps=7, seed=1))
    events = until_finished(engine, "a", "b")
    for name, steps in (("a", 12), ("b", 7)):
        own = [event for event in events if event.job_id == name]
        assert [event.sequence for event in own] == list(range(1, len(own) + 1))
        assert isinstance(own[-1], Finished)
        assert [event.latest.step for event in own if isinstance(event, Progress)] == list(range(steps + 1))
    assert len([event for event in events if isinstance(event, Preview)]) == 3


def test_a_refused_job_is_a_typed_error_and_leaves_nothing(engine: EngineSeam) -> None:
    with pytest.raises(SpecError, match=r'unknown generator "smoth".*did you mean "smooth"') as caught:
        engine.submit("a", job("smoth"))
    assert caught.value.field == "generator"
    assert run(engine, job(steps=2), "a").outcome is Outcome.step_limit, "the id is free again"
    assert engine.poll(0.05) == []


def test_an_id_is_taken_until_its_job_is_over(engine: EngineSeam) -> None:
    engine.submit("a", job(steps=30))
    with pytest.raises(AlreadyExistsError):
        engine.submit("a", job(steps=1))
    assert result(until_finished(engine, "a"), "a").steps == 30
    assert run(engine, job(steps=1), "a").steps == 1


def test_a_cancelled_job_gives_the_best_so_far(engine: EngineSeam) -> None:
    engine.submit("a", job("slow", steps=10_000))
    seen = events_until(engine, lambda events: len(events) >= 3)
    engine.cancel("a")
    engine.cancel("a")
    engine.cancel("never heard of")
    began = time.monotonic()
    rest = until_finished(engine, "a")
    found = result(rest, "a")
    assert found.outcome is Outcome.cancelled
    # The step that was going on when the order came, and one that may have begun while it travelled.
    assert found.steps <= seen[-1].sequence + 2
    assert time.monotonic() - began < 1 + 3 * STEP_SECONDS
    assert found.loss == min(step.loss for step in found.history)
    assert engine.poll(0.05) == [], "a job ends once"


def test_a_job_cancelled_before_its_first_step_has_no_result(engine: EngineSeam) -> None:
    if not isinstance(engine, RemoteEngine):
        engine.submit("a", job())
        engine.cancel("a")
    else:
        # The order is on its way before the worker is back from loading.
        with ThreadPoolExecutor(1) as pool:
            submitted = pool.submit(engine.submit, "a", job("slow_to_load", dtype="float64"))
            time.sleep(0.2)
            engine.cancel("a")
            submitted.result(PATIENCE)
    events = until_finished(engine, "a")
    assert isinstance(finished(events, "a").error, CancelledError)
    assert len(events) == 1


def test_a_job_goes_on_from_its_checkpoint(engine: EngineSeam, here: EngineSeam) -> None:
    spec = job(steps=20, seed=3, reporting=Reporting(checkpoint_steps=7))
    engine.submit("a", spec)
    events = until_finished(engine, "a")
    (seven, fourteen) = (event for event in events if isinstance(event, Checkpoint))
    assert (seven.step, fourteen.step) == (7, 14)
    engine.submit("b", spec, fourteen.data)
    again = until_finished(engine, "b")
    assert same(result(again, "b"), run(here, spec)), "as if it had never stopped"
    assert min(event.latest.step for event in again if isinstance(event, Progress)) >= 14
    with pytest.raises(LatentInvError, match="checkpoint is damaged") as caught:
        engine.submit("c", spec, seven.data[:-9])
    assert caught.value.field == "checkpoint"


def test_a_checkpoint_can_be_asked_for(engine: EngineSeam, here: EngineSeam) -> None:
    spec = job("slow", steps=8, seed=3)
    engine.submit("a", spec)
    engine.checkpoint("a")
    engine.checkpoint("unknown")
    events = until_finished(engine, "a")
    (asked,) = (event for event in events if isinstance(event, Checkpoint))
    assert asked.step < 8
    numbers = [event.sequence for event in events]
    assert numbers == sorted(set(numbers))
    engine.submit("b", spec, asked.data)
    assert same(result(until_finished(engine, "b"), "b"), run(here, spec))


def test_a_request_that_waits_can_be_cancelled(engine: EngineSeam) -> None:
    spec = SampleSpec(generator="slow", seeds=tuple(range(64)))  # eight calls of the generator
    engine.submit("first", spec)
    if isinstance(engine, RemoteEngine):
        # Both orders are on their way while the worker is busy with the first request.
        with ThreadPoolExecutor(1) as pool:
            submitted = pool.submit(engine.submit, "second", spec)
            time.sleep(3 * STEP_SECONDS)
            engine.cancel("second")
            submitted.result(PATIENCE)
    else:
        engine.submit("second", spec)
        engine.cancel("second")
    events = until_finished(engine, "first", "second")
    assert finished(events, "first").error is None
    assert isinstance(finished(events, "second").error, CancelledError)


def test_requests_without_a_loop(engine: EngineSeam, here: EngineSeam) -> None:
    sampled = run(engine, SampleSpec(generator="toy", seeds=(1, 2**62), height=32, width=40))
    expected = run(here, SampleSpec(generator="toy", seeds=(1, 2**62), height=32, width=40))
    assert sampled.images.shape == (2, 3, 32, 40)
    assert np.array_equal(sampled.images, expected.images)
    decoded = run(engine, DecodeSpec(generator="toy", latents=sampled.latents))
    assert np.array_equal(decoded.images, sampled.images)
    assert run(engine, DescribeSpec(generator="toy")).generators == (TABLE["toy"].info(),)


def test_a_failing_generator_ends_its_job_and_hides_its_text(engine: EngineSeam) -> None:
    with pytest.raises(InternalError, match=r"incident [0-9a-f]{8}") as caught:
        run(engine, job("raises"))
    assert "secret" not in str(caught.value)
    assert run(engine, job(steps=1)).steps == 1


def test_latents_that_are_not_finite_are_refused(engine: EngineSeam) -> None:
    run(engine, job(steps=0), "loads")  # before, a worker takes the order and finds out later
    latents = np.zeros((1, 12), np.float32)
    latents[0, 4] = np.nan
    with pytest.raises(LatentInvError, match=r"\[0, 4\]"):
        engine.submit("a", job(initialiser=Given(latents={"z": latents})))


# ---- closing and starting ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["here", "thread"])
def test_close_can_be_repeated(kind: str) -> None:
    made = _MAKERS[kind]()
    made.submit("a", job("slow", steps=10_000))
    made.close()
    made.close()
    if isinstance(made, RemoteEngine):
        assert not made.alive
        with pytest.raises(UnavailableError, match="closed"):
            made.submit("b", job())
        made.cancel("a")
        assert isinstance(finished(made.poll(1.0), "a").error, UnavailableError), "no job is left without an end"


def test_close_while_a_submit_is_on_its_way() -> None:
    made = ThreadEngine("cpu", catalogue=CATALOGUE)
    with ThreadPoolExecutor(4) as pool:
        submits = [pool.submit(made.submit, f"job {n}", job("slow_to_load")) for n in range(4)]
        time.sleep(0.2)
        made.close()
        for submit in submits:
            error = submit.exception(PATIENCE)
            assert error is None or isinstance(error, UnavailableError), error


@pytest.mark.parametrize("kind", [ThreadEngine, ProcessEngine])
def test_a_worker_that_cannot_start_says_why(kind: type[RemoteEngine]) -> None:
    with pytest.raises(SpecError, match='found "tpu"') as caught:
        kind("tpu")
    assert caught.value.field == "device"


def test_a_device_that_is_not_here() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(UnsupportedError, match='no usable "cuda"'):
        ThreadEngine("cuda")


@pytest.mark.parametrize("catalogue", ["tests.no_such_module:TABLE", "tests.toy:NO_SUCH_TABLE", ""])
def test_a_bad_catalogue_does_not_hang(catalogue: str) -> None:
    with pytest.raises(InternalError, match="incident"):
        ThreadEngine("cpu", catalogue=catalogue)


def test_nothing_is_left_behind() -> None:
    def descriptors() -> int:
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir()))

    if not Path("/proc/self/fd").exists():
        pytest.skip("this system does not list open files")
    ThreadEngine("cpu", catalogue=CATALOGUE).close()
    threads, files = threading.active_count(), descriptors()
    for _ in range(5):
        ThreadEngine("cpu", catalogue=CATALOGUE).close()
        with pytest.raises(SpecError):
            ThreadEngine("tpu")
    assert threading.active_count() <= threads
    assert descriptors() <= files


# ---- several callers ---------------------------------------------------------------------------


def test_many_threads_may_submit(thread: ThreadEngine) -> None:
    names = [f"job {n}" for n in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: thread.submit(name, job(steps=3)), names))
    ends = [event.job_id for event in until_finished(thread, *names) if isinstance(event, Finished)]
    assert sorted(ends) == sorted(names)


def test_of_equal_ids_one_wins(thread: ThreadEngine) -> None:
    run(thread, job("slow", steps=0))  # loaded, so that the one that wins has a step behind it

    def attempt(n: int) -> str:
        try:
            # Every second one would be refused anyway, and must not take the id from the others.
            thread.submit("one", job("slow", steps=50) if n % 2 else job("no such"))
        except LatentInvError as error:
            return type(error).__name__
        return "taken"

    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(attempt, range(20)))
    assert said.count("taken") == 1
    assert said.count("AlreadyExistsError") + said.count("SpecError") == 19
    thread.cancel("one")
    assert result(until_finished(thread, "one"), "one").outcome is Outcome.cancelled


def test_what_cannot_travel_is_a_typed_error(thread: ThreadEngine) -> None:
    with pytest.raises(InternalError):
        thread.submit("a", job(initialiser=Given(latents={"z": threading.Lock()})))  # type: ignore[dict-item]
    assert run(thread, job(steps=1), "a").steps == 1


# ---- a worker that dies ------------------------------------------------------------------------


def test_a_killed_worker_ends_its_jobs_and_is_replaced(here: EngineSeam) -> None:
    engine = ProcessEngine("cpu", catalogue=CATALOGUE)
    try:
        spec = job(steps=12, seed=8, reporting=Reporting(checkpoint_steps=5))
        engine.submit("quick", spec)
        events = until_finished(engine, "quick")
        checkpoint = next(event for event in events if isinstance(event, Checkpoint))
        engine.submit("a", job("slow", budget=Budget(steps=10_000)))
        engine.submit("b", job("slow", budget=Budget(steps=10_000), seed=1))
        first = engine.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        events = until_finished(engine, "a", "b")
        for name in ("a", "b"):
            error = finished(events, name).error
            assert isinstance(error, UnavailableError)
            assert error.retry_after is not None
            end = finished(events, name)
            assert isinstance(end, Lost)
            assert not end.suspect, "it was killed from outside"
        assert not any(event.job_id == "quick" for event in events), "a job that is over does not end again"
        assert not engine.alive
        engine.cancel("a")

        # The next order starts a new worker, from where the old one was if it is told so.
        engine.submit("again", spec, checkpoint.data)
        assert engine.alive
        assert engine.pid != first
        assert same(result(until_finished(engine, "again"), "again"), run(here, spec))

        # One that dies of an order: it was taken, and is under suspicion.
        engine.submit("fatal", job("dies"))
        end = finished(until_finished(engine, "fatal"), "fatal")
        assert isinstance(end, Lost)
        assert end.suspect
        assert isinstance(end.error, UnavailableError)
    finally:
        engine.close()
    assert {first, engine.pid}.isdisjoint({child.pid for child in multiprocessing.active_children()})


def test_whatever_dies_a_job_that_was_taken_ends_once(thread: ThreadEngine) -> None:
    """Callers submit and cancel while the worker is ended again and again."""
    accepted: list[str] = []
    over = threading.Event()

    def caller(number: int) -> None:
        rng = random.Random(number)
        for n in range(40):
            name = f"{number}.{n}"
            try:
                thread.submit(name, job(steps=rng.randrange(1, 30), seed=n))
            except UnavailableError:
                continue
            accepted.append(name)
            if rng.random() < 0.3:
                thread.cancel(name)

    def reaper() -> None:
        rng = random.Random(0)
        while not over.is_set():
            pipe = thread._pipe
            if pipe is not None:
                thread._send(pipe, ("nonsense",))
            time.sleep(rng.uniform(0, 0.05))

    ends: list[str] = []
    with ThreadPoolExecutor(5) as pool:
        reaping = pool.submit(reaper)
        calling = [pool.submit(caller, number) for number in range(4)]
        for call in calling:
            call.result(PATIENCE)
        over.set()
        reaping.result(PATIENCE)
    thread.submit("last", job(steps=1))
    end = time.monotonic() + PATIENCE
    while set(ends) != {*accepted, "last"}:
        assert time.monotonic() < end, f"without an end: {sorted({*accepted} - set(ends))}"
        ends += [event.job_id for event in thread.poll(0.05) if isinstance(event, Finished)]
    assert len(ends) == len(set(ends)), "no job ends twice"
    assert len(accepted) > 20
    assert not thread._live
    assert not thread._replies


def test_an_order_for_a_dead_worker_does_not_reach_the_next(
    thread: ThreadEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    send = thread._send

    def send_late(pipe: Any, message: tuple[Any, ...]) -> None:
        monkeypatch.setattr(thread, "_send", send)
        pipe.send(("nonsense",))  # ends the worker
        while thread._pipe is not None:
            time.sleep(0.01)
        thread.submit("other", job("slow", steps=10_000))  # starts the next one
        send(pipe, message)
        seen.extend(events_until(thread, lambda events: len(events) >= 3))

    seen: list[Event] = []
    monkeypatch.setattr(thread, "_send", send_late)
    thread.submit("late", job())
    assert thread.alive
    thread.cancel("other")
    events = until_finished(thread, "other")
    (late,) = (event for event in (*seen, *events) if event.job_id == "late")
    assert isinstance(late, Lost)
    assert not late.suspect
    assert result(events, "other").outcome is Outcome.cancelled
    assert "the worker stops" in caplog.text
