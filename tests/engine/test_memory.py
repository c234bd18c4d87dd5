"""Memory: what jobs are estimated to need, who is let in, and what is done when it was too little after all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from latent_inv.build import build_job
from latent_inv.device import place
from latent_inv.engine.engine import Engine
from latent_inv.engine.footprint import Footprint, Footprints, default_limit, kept_bytes, tree_bytes
from latent_inv.engine.starts import first_tensors, in_stage
from latent_inv.errors import LatentInvError, LimitError, UnsupportedError
from latent_inv.incidents import as_typed, is_out_of_memory
from latent_inv.objective import Constants
from latent_inv.outline import fit_job
from latent_inv.result import Checkpoint, Finished, JobResult, Outcome
from latent_inv.spec import (
    CMAES,
    LBFGS,
    Adam,
    Auto,
    BestOf,
    Budget,
    GaussNewton,
    Given,
    JobSpec,
    LevenbergMarquardt,
    Perceptual,
    Pixel,
    Reporting,
    SampleSpec,
    Seeds,
)
from latent_inv.types import join_rows
from tests.conftest import make_picture
from tests.engine.awkward import TABLE, Greedy
from tests.engine.helpers import drain, job

MIB = 2**20
Appetite = Callable[[Callable[[int, int], bool]], None]


def engine_of(width: int = 4, **settings: Any) -> Engine:
    return Engine(TABLE, place("cpu", lane_width=width), **settings)


def bulk(generator: str = "greedy", **settings: Any) -> JobSpec:
    return job(generator, priority="bulk", **settings)


def end_of(spec: JobSpec, engine: Engine | None = None) -> Finished:
    engine = engine or engine_of()
    engine.submit("one", spec)
    return drain(engine, {"one"})[0]["one"]


def result_of(spec: JobSpec, engine: Engine | None = None) -> JobResult:
    end = end_of(spec, engine)
    assert isinstance(end.result, JobResult), end.error
    return end.result


@pytest.fixture
def appetite(monkeypatch: pytest.MonkeyPatch) -> Appetite:
    """Say which calls of `greedy` want too much."""

    def choose(wants: Callable[[int, int], bool]) -> None:
        monkeypatch.setattr(Greedy, "appetite", staticmethod(wants))
        monkeypatch.setattr(Greedy, "calls", 0)

    choose(lambda call, rows: rows > 2)
    return choose


# ---- too little after all ----------------------------------------------------------------------


def test_a_lane_for_which_memory_was_too_little_is_halved_once(appetite: Appetite) -> None:
    found = result_of(bulk(steps=15))
    assert (found.lane_width, found.outcome, found.steps) == (2, Outcome.step_limit, 15)
    (warning,) = found.warnings
    assert "memory was too little for lanes of 4 rows" in warning
    assert "from step 0 on they had 2" in warning
    asked = result_of(job("greedy", steps=15, lane_width=2))
    assert np.array_equal(found.latents["z"], asked.latents["z"]), "as if it had been asked for"
    assert [step.loss for step in found.history] == [step.loss for step in asked.history]
    assert not asked.warnings


def test_it_is_halved_only_once(appetite: Appetite) -> None:
    appetite(lambda call, rows: rows > 1)
    error = end_of(bulk()).error
    assert isinstance(error, LimitError)
    assert (error.field, error.retry_after) == ("lane_width", None)
    assert "too little memory" in str(error)


@pytest.mark.parametrize("spec", [job("greedy", lane_width=4), bulk(lane_width=4)])
def test_a_width_that_was_asked_for_is_kept_to(appetite: Appetite, spec: JobSpec) -> None:
    error = end_of(spec).error
    assert isinstance(error, LimitError)
    assert error.field == "lane_width"


def test_those_who_share_the_lane_have_each_their_own_end(appetite: Appetite) -> None:
    engine = engine_of()
    engine.submit("chosen", bulk(steps=12, seed=1))
    engine.submit("asked", job("greedy", steps=12, seed=2, lane_width=4))
    engine.submit("other", bulk(steps=12, seed=3))
    engine.submit("beside", job(steps=12, seed=4))
    done = drain(engine, {"chosen", "asked", "other", "beside"})[0]
    assert isinstance(done["asked"].error, LimitError)
    for name, seed in (("chosen", 1), ("other", 3)):
        found = done[name].result
        assert isinstance(found, JobResult)
        alone = result_of(job("greedy", steps=12, seed=seed, lane_width=2))
        assert np.array_equal(found.latents["z"], alone.latents["z"])
    assert isinstance(done["beside"].result, JobResult)
    assert not done["beside"].result.warnings


@pytest.mark.parametrize("solver", [Adam(learning_rate=0.05, typical=0), LevenbergMarquardt(), GaussNewton()])
@pytest.mark.parametrize("count", [1, 4])
def test_the_step_is_taken_again_whenever_it_fails(appetite: Appetite, solver: Any, count: int) -> None:
    """Whichever call of a step it is: nothing is counted twice, and the best iterate stays."""
    for failing in range(1, 14):
        appetite(lambda call, rows, failing=failing: call == failing)  # type: ignore[misc]
        found = result_of(bulk(steps=6, solver=solver, initialiser=Seeds(count=count)))
        steps = [step.step for step in found.history]
        assert steps == sorted(set(steps)), failing
        # At another width the same point has other last digits.
        assert found.loss == pytest.approx(min(step.loss for step in found.history), rel=1e-5)
        assert found.lane_width == (2 if found.warnings else 4)
        if failing < 4:
            assert found.warnings


def test_a_narrowed_job_goes_on_from_its_checkpoint_bit_equally(appetite: Appetite) -> None:
    spec = bulk(steps=20, seed=4, reporting=Reporting(checkpoint_steps=4), initialiser=Seeds(count=3))
    appetite(lambda call, rows: rows == 4 and call > 6)
    engine = engine_of()
    engine.submit("one", spec)
    done, events = drain(engine, {"one"})
    expected = done["one"].result
    assert isinstance(expected, JobResult)
    assert expected.lane_width == 2
    checkpoints = [event for event in events if isinstance(event, Checkpoint)]
    assert [event.step for event in checkpoints] == [4, 8, 12, 16, 20]
    for checkpoint in checkpoints[1:]:
        # The next worker may be set to other lanes, and has memory enough.
        appetite(lambda call, rows: False)
        other = engine_of(width=8)
        other.submit("again", spec, checkpoint.data)
        again = drain(other, {"again"})[0]["again"].result
        assert isinstance(again, JobResult)
        assert (again.lane_width, again.warnings) == (2, expected.warnings)
        assert np.array_equal(again.latents["z"], expected.latents["z"])
        assert [step.loss for step in again.history] == [step.loss for step in expected.history]


CHECKPOINTS = Reporting(checkpoint_steps=5)


@pytest.mark.parametrize(
    ("spec", "width"),
    [
        (bulk("smooth", steps=12, reporting=CHECKPOINTS), 4),
        # Of a job that has no width of its own, each stage has one.
        (job("smooth", steps=12, reporting=CHECKPOINTS, initialiser=Seeds(count=3)), 1),
    ],
    ids=["bulk", "several starts"],
)
def test_a_job_keeps_the_width_at_which_it_began(spec: JobSpec, width: int) -> None:
    """Where the next worker is set to other lanes."""
    engine = engine_of()
    engine.submit("one", spec)
    done, events = drain(engine, {"one"})
    checkpoint = next(event for event in events if isinstance(event, Checkpoint))
    other = engine_of(width=2)
    other.submit("again", spec, checkpoint.data)
    first, again = done["one"].result, drain(other, {"again"})[0]["again"].result
    assert isinstance(first, JobResult)
    assert isinstance(again, JobResult)
    assert first.lane_width == again.lane_width == width
    assert [stage["lane_width"] for stage in first.picked["stages"]] == [4]
    assert again.picked == first.picked
    assert np.array_equal(first.latents["z"], again.latents["z"])


def test_rows_side_by_side_go_on_in_narrower_lanes(appetite: Appetite) -> None:
    appetite(lambda call, rows: rows == 4 and call > 6)
    found = result_of(job("greedy", steps=12, seed=3, initialiser=Seeds(count=3)), engine_of())
    assert "memory was too little for lanes of 4 rows" in found.warnings[0]
    assert [stage["lane_width"] for stage in found.picked["stages"]] == [2]
    assert found.lane_width == 1


def test_a_result_is_made_in_spite_of_it(appetite: Appetite) -> None:
    """The picture of the result is one more call."""
    appetite(lambda call, rows: call == 4)
    found = result_of(bulk(steps=2, initialiser=Seeds()))
    assert (found.lane_width, found.steps) == (2, 2)
    assert "from step 3 on" in found.warnings[0]
    appetite(lambda call, rows: call == 4)
    error = end_of(job("greedy", steps=2)).error
    assert isinstance(error, LimitError)


def test_previews_are_calls_too(appetite: Appetite) -> None:
    spec = bulk(steps=8, reporting=Reporting(preview_steps=1))
    expected = [step.step for step in result_of(bulk("smooth", steps=8)).history]
    for failing in range(1, 20):
        appetite(lambda call, rows, failing=failing: call == failing)  # type: ignore[misc]
        engine = engine_of()
        for name, seed in (("a", 1), ("b", 2)):
            more = {"initialiser": BestOf(count=2)} if name == "b" else {}
            engine.submit(name, bulk(steps=8, seed=seed, reporting=spec.reporting, **more))
        done = drain(engine, {"a", "b"}, polls=200)[0]
        for end in done.values():
            assert isinstance(end.result, JobResult), end.error
            assert [step.step for step in end.result.history] == expected


def test_requests_and_submits_say_it_too(appetite: Appetite) -> None:
    engine = engine_of()
    engine.submit("one", SampleSpec(generator="greedy", seeds=(1, 2, 3)))
    error = drain(engine, {"one"})[0]["one"].error
    assert isinstance(error, LimitError)
    assert "too little memory" in str(error)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        MemoryError(),
        RuntimeError("MPS backend out of memory"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_what_means_too_little_memory(error: Exception) -> None:
    assert is_out_of_memory(error)
    assert isinstance(as_typed(error, "a test"), LimitError)


def test_what_does_not() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert is_out_of_memory(caught.value), "what this torch says today"
    assert not is_out_of_memory(RuntimeError("secret /path/to/x"))
    assert not is_out_of_memory(ValueError("out of memory"))


# ---- estimates -----------------------------------------------------------------------------------


def footprint(spec: JobSpec, width: int = 4) -> Footprint:
    catalogue = engine_of(width).catalogue
    return Footprints(catalogue).of(spec, fit_job(spec, catalogue.find(spec.generator)))


def test_an_estimate_grows_with_what_is_asked_for() -> None:
    plain = footprint(job())
    assert plain.held > 0
    assert plain.step > 0
    assert footprint(job(dtype="float64")).step == pytest.approx(2 * plain.step, rel=0.02)
    assert footprint(job(lane_width=8)).step == pytest.approx(8 * plain.step, rel=0.02)
    assert footprint(job(initialiser=Seeds(count=50))).held > 20 * plain.held
    assert footprint(job(losses=(Pixel(), Perceptual()))).held > 2 * plain.held
    given = Given(latents={"z": np.zeros((50, 12), np.float32)})
    assert footprint(job(initialiser=given)).held == footprint(job(initialiser=Seeds(count=50))).held
    best_of = footprint(job(initialiser=BestOf(count=50)))
    assert best_of.held == footprint(job(initialiser=Seeds(count=50), lane_width=1)).held
    second = footprint(job(solver=LevenbergMarquardt()))
    assert second.step - plain.step > 12 * 3 * 32 * 32 * 4, "a Jacobian"
    assert footprint(job("frozen", solver=CMAES())).step > 0


def test_every_space_on_the_way_counts() -> None:
    """The ball holds its centre; L-BFGS holds pairs of all numbers of a layer."""
    asked = job("layered", space="layer:2", solver=Auto(), initialiser=Auto(), budget=Budget())
    found = footprint(asked)
    built = build_job(asked, engine_of().catalogue)
    last = in_stage(built, built.stages[-1])
    assert last.constants.near["anchor"]["layer:2"].shape == (1, 8, 16, 16)
    moving = tree_bytes([last.latents, last.state, last.best, last.constants.near])
    assert moving > 2 * LBFGS().memory * 8 * 16 * 16 * 4
    constants = tree_bytes(last.constants.tree())
    at_most = 2 * (moving + constants) + constants
    assert moving < found.held < 1.5 * at_most, "a row, and its copy in a lane"
    assert found.step >= footprint(job("layered", solver=Auto(), initialiser=Seeds(), budget=Budget())).step


@pytest.mark.parametrize("side", [32, 96, 200])
def test_what_is_scaled_is_what_is_there(side: int) -> None:
    """The toy makes pictures of any size; it is measured at 64 pixels."""
    spec = job("toy", picture=make_picture(side, side), lane_width=4, losses=(Pixel(), Perceptual()))
    if side < 64:
        spec = job("toy", picture=make_picture(side, side), lane_width=4)
    engine = engine_of()
    built = build_job(spec, engine.catalogue)
    row = first_tensors(built)[0]
    latents, trees = join_rows([row.latents] * 4), join_rows([row.constants.tree()] * 4)
    kept = kept_bytes(built.stages[0], latents, Constants.from_tree(trees))
    networks = sum(kept_bytes(built.stages[0], row.latents, row.constants)) * 4 - sum(kept)  # thrice
    there = sum(kept) - networks / 3
    assert footprint(spec).step == pytest.approx(2 * there, rel=0.25), "forward and backward"


def test_the_default_is_a_share_of_what_there_is() -> None:
    assert 64 * MIB < default_limit(place("cpu")) < 2**50


# ---- who is let in -------------------------------------------------------------------------------


def room_for(spec: JobSpec, jobs: float) -> Engine:
    one = footprint(spec)
    return engine_of(memory_bytes=int(one.step + jobs * one.held))


def test_who_does_not_fit_may_come_back() -> None:
    spec = job(steps=5, initialiser=Seeds(count=20))
    engine = room_for(spec, 2.5)
    engine.submit("a", spec)
    engine.submit("b", spec)
    assert engine.load.reserved_bytes <= engine.load.memory_bytes
    with pytest.raises(LimitError, match=r"needs about \d+ MiB.*try again later") as caught:
        engine.submit("c", spec)
    assert caught.value.retry_after is not None
    assert "c" not in engine
    engine.cancel("a")
    engine.submit("c", spec)
    drain(engine, {"a", "b", "c"})
    assert engine.load.reserved_bytes == 0


def test_who_will_never_fit_is_told_so() -> None:
    spec = job(steps=5, initialiser=Seeds(count=20))
    engine = room_for(spec, 0.5)
    with pytest.raises(LimitError, match="ask for fewer starts") as caught:
        engine.submit("a", spec)
    assert caught.value.retry_after is None
    assert result_of(job(steps=2), engine).steps == 2, "a smaller one is let in"


def test_who_is_refused_or_fails_takes_no_room() -> None:
    spec = job("raises", steps=5)
    engine = engine_of(memory_bytes=10**9)
    with pytest.raises(LatentInvError):
        engine.submit("a", spec)
    refused: list[JobSpec] = [
        job("backward", solver=LevenbergMarquardt()),
        job(initialiser=Given(latents={"z": np.full((1, 12), np.nan, np.float32)})),
        job("smoth"),
    ]
    for bad in refused:
        with pytest.raises(LatentInvError):
            engine.submit("a", bad)
        assert engine.load.reserved_bytes == 0
    engine.submit("a", job("broken"))
    assert engine.load.reserved_bytes > 0
    drain(engine, {"a"})
    assert engine.load.reserved_bytes == 0


def test_without_a_limit_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Footprints, "of", None)
    assert result_of(job(steps=2), engine_of()).steps == 2


def test_what_cannot_be_done_is_said_before_it_is_measured() -> None:
    with pytest.raises(UnsupportedError, match="no forward mode"):
        engine_of(memory_bytes=10**9).submit("a", job("backward", solver=LevenbergMarquardt(), budget=Budget(steps=1)))
