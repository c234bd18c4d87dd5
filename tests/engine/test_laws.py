"""The laws of the engine, each with a test that can fail."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from latent_inv.errors import AlreadyExistsError, InternalError, LatentInvError, SpecError
from latent_inv.perceptual import PerceptualMetric
from latent_inv.result import Checkpoint, Finished, JobResult, Outcome, Preview, Progress
from latent_inv.spec import (
    Adam,
    BestOf,
    Budget,
    Given,
    Halving,
    LatentPrior,
    Perceptual,
    Pixel,
    PriorMean,
    Reporting,
    SampleSpec,
    Seeds,
)
from tests.conftest import make_picture
from tests.engine.helpers import drain, job, result_of, resumptions, toy_engine


def latents(result: Any) -> dict[str, np.ndarray]:
    assert isinstance(result, JobResult)
    return dict(result.latents)


def same(first: Any, second: Any) -> bool:
    return all(np.array_equal(array, latents(second)[name]) for name, array in latents(first).items())


# ---- 1: neighbours -----------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 4, 8])
def test_a_result_does_not_depend_on_the_neighbours(width: int) -> None:
    """Jobs that come and go at random steps, each bit-equal to the same job alone at the same width."""
    rng = random.Random(width)
    specs = {
        f"job {n}": job(
            picture_seed=n,
            seed=n,
            steps=rng.randrange(5, 30),
            lane_width=width,
            solver=Adam(learning_rate=rng.choice([0.02, 0.1]), warmup_steps=rng.randrange(5)),
            losses=(Pixel(weight=rng.uniform(0.5, 2)), LatentPrior(weight=rng.uniform(0, 0.1))),
        )
        for n in range(11)
    }
    alone = {name: result_of(spec) for name, spec in specs.items()}
    engine = toy_engine()
    waiting = list(specs)
    rng.shuffle(waiting)
    done: dict[str, Finished] = {}
    while waiting or not engine.idle:
        while waiting and rng.random() < 0.3:
            name = waiting.pop()
            engine.submit(name, specs[name])
        if rng.random() < 0.1:
            engine.submit(f"leaves {rng.random()}", job(seed=99, lane_width=width, steps=3))
        done.update({event.job_id: event for event in engine.poll() if isinstance(event, Finished)})
    for name, expected in alone.items():
        assert same(expected, done[name].result), f"{name} differs at width {width}"


def test_rows_of_a_job_share_calls_with_those_of_others() -> None:
    """A job without a lane width runs the rows that it keeps to the end side by side, in lanes like those of others."""
    own, bulk = job(seed=7, initialiser=Seeds(count=3)), job(seed=1, picture_seed=3, priority="bulk")
    alone, other = result_of(own), result_of(bulk)
    assert [stage["lane_width"] for stage in alone.picked["stages"]] == [4]
    engine = toy_engine()
    engine.submit("other", bulk)
    engine.submit("one", own)
    engine.poll()
    engine.poll()
    assert (engine.load.rows, engine.load.lanes) == (4, 1)
    done, _ = drain(engine, {"one", "other"})
    assert same(alone, done["one"].result)
    assert same(other, done["other"].result)


def test_a_cancelled_neighbour_changes_nothing() -> None:
    alone = result_of(job(seed=7, lane_width=4))
    engine = toy_engine()
    engine.submit("other", job(seed=1, picture_seed=3, lane_width=4))
    engine.submit("one", job(seed=7, lane_width=4))
    for _ in range(5):
        engine.poll()
    engine.cancel("other")
    done, _ = drain(engine, {"one", "other"})
    assert same(alone, done["one"].result)


def test_a_bad_row_does_not_hurt_its_neighbour() -> None:
    alone = result_of(job(seed=7, lane_width=4))
    engine = toy_engine()
    engine.submit("wild", job(seed=1, lane_width=4, solver=Adam(learning_rate=1e4), losses=(Pixel(weight=1e6),)))
    engine.submit("one", job(seed=7, lane_width=4))
    done, _ = drain(engine, {"one", "wild"})
    assert same(alone, done["one"].result)


def test_starts_do_not_depend_on_the_width() -> None:
    narrow, wide = result_of(job(seed=7, steps=0)), result_of(job(seed=7, steps=0, lane_width=8))
    assert same(narrow, wide)


def test_converged_results_agree_across_widths() -> None:
    """Different kernels round differently; at a minimum that has no effect left: 1e-4 is law 1's figure."""
    target = result_of(job(seed=3, steps=0)).image
    picture = make_picture(32, 32)
    spec: dict[str, Any] = {"steps": 400, "picture": type(picture)(target, None), "initialiser": PriorMean(), "seed": 5}
    narrow, wide = result_of(job(**spec)), result_of(job(**spec, lane_width=8))
    assert narrow.metrics.psnr_db > 30
    np.testing.assert_allclose(narrow.image, wide.image, atol=1e-4)


# ---- 3: the best iterate -----------------------------------------------------------------------


def test_the_best_iterate_is_returned_and_scores_as_reported() -> None:
    result = result_of(job(steps=40, solver=Adam(learning_rate=0.5, schedule="constant")))
    losses = [step.loss for step in result.history]
    assert result.loss == min(losses)
    assert result.best_step == losses.index(min(losses))
    assert len(result.history) == result.steps + 1
    again = result_of(job(steps=0, initialiser=Given(latents=result.latents)))
    assert again.loss == pytest.approx(result.loss, rel=1e-5)
    mse = float(np.square((result.image - result.target.pixels) / 2).mean())
    assert result.metrics.mse == pytest.approx(mse, rel=1e-5)
    assert result.metrics.psnr_db == pytest.approx(-10 * np.log10(mse), abs=1e-3)


# ---- 4: randomness -------------------------------------------------------------------------------


def test_randomness_belongs_to_the_seed() -> None:
    first = result_of(job(seed=7))
    torch.manual_seed(123)
    torch.rand(17)
    assert same(first, result_of(job(seed=7)))
    assert not same(first, result_of(job(seed=8)))


def test_rows_of_one_job_start_apart_and_in_order() -> None:
    one = result_of(job(seed=7, steps=0))
    engine = toy_engine()
    engine.submit("many", job(seed=7, steps=0, initialiser=Seeds(count=5)))
    best = drain(engine, {"many"})[0]["many"].result
    assert isinstance(best, JobResult)
    assert best.loss < one.loss, "five draws are better than the first of them, for this seed"


def test_the_start_is_not_the_sample_of_the_same_seed() -> None:
    engine = toy_engine()
    engine.submit("s", SampleSpec(generator="smooth", seeds=(7,)))
    drawn = drain(engine, {"s"})[0]["s"].result
    start = result_of(job(seed=7, steps=0))
    assert not np.allclose(drawn.latents["z"], start.latents["z"])  # type: ignore[union-attr]


# ---- 5 and 7: what goes wrong, row by row ---------------------------------------------------------


def test_a_loss_that_is_no_number_fails_with_the_reason() -> None:
    with pytest.raises(InternalError, match="not a finite number at the start"):
        result_of(job("broken"))


def test_an_unforeseen_error_names_an_incident_and_no_path(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InternalError) as caught:
        result_of(job("raises"))
    assert "secret" not in str(caught.value)
    incident = str(caught.value).split()[-1]
    assert incident in caplog.text
    assert "secret" in caplog.text, "the log has the details"


def test_the_engine_goes_on_after_a_failed_job() -> None:
    engine = toy_engine()
    engine.submit("bad", job("raises"))
    engine.submit("good", job())
    done, _ = drain(engine, {"bad", "good"})
    assert isinstance(done["bad"].error, InternalError)
    assert isinstance(done["good"].result, JobResult)


def test_a_dead_start_is_moved() -> None:
    result = result_of(job("dead", initialiser=PriorMean()))
    assert result.outcome is Outcome.step_limit
    assert result.loss < result.history[0].loss
    assert any("start was moved" in warning for warning in result.warnings)


def test_a_generator_without_effect_is_stuck() -> None:
    result = result_of(job("blind"))
    assert result.outcome is Outcome.stuck
    assert not result.outcome.good
    assert result.steps == 0


def test_divergence_returns_the_best_and_names_the_step() -> None:
    far = Adam(learning_rate=100, schedule="constant", warmup_steps=0)
    result = result_of(job(steps=60, solver=far, losses=(Pixel(), LatentPrior(weight=1e-4))))
    assert result.outcome is Outcome.diverged
    assert "at step 60" in result.message, "it is not far enough away for an earlier end"
    assert result.loss <= result.history[0].loss
    assert np.isfinite(result.latents["z"]).all()


def test_a_runaway_loss_stops_the_row_and_keeps_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss that spikes to a million at step 60 of 100."""
    from latent_inv.losses.pixel import Pixel as PixelLoss

    calls = iter(range(10_000))
    honest = PixelLoss.value
    monkeypatch.setattr(PixelLoss, "value", lambda self, *a: honest(self, *a) + (1e6 if next(calls) == 60 else 0))
    result = result_of(job(steps=100))
    assert result.outcome is Outcome.diverged
    assert "step 60" in result.message
    assert result.loss == min(step.loss for step in result.history)
    assert result.steps == 60


def test_a_hair_above_a_start_where_nothing_pays_is_no_divergence() -> None:
    """Three steps from where two hundred have led: a start of which not even a first step makes more."""
    best = result_of(job(steps=200))
    short = result_of(job(steps=3, initialiser=Given(latents=best.latents)))
    assert short.history[-1].loss > short.history[0].loss > 0.1
    assert short.outcome is Outcome.step_limit
    assert short.loss == short.history[0].loss


def test_exact_latents_are_noticed() -> None:
    made = result_of(job(seed=3, steps=0))
    picture = type(made.target)(made.image, None)
    result = result_of(job(picture=picture, initialiser=Given(latents=made.latents)))
    assert result.outcome is Outcome.converged
    assert result.metrics.psnr_db == 200


def test_a_good_start_that_is_left_a_little_is_no_divergence() -> None:
    made = result_of(job(seed=3, steps=0))
    picture = type(made.target)(np.clip(made.image + 0.002, -1, 1), None)
    solver = Adam(learning_rate=0.05, schedule="constant", warmup_steps=0)
    result = result_of(job(picture=picture, steps=2, solver=solver, initialiser=Given(latents=made.latents)))
    assert result.history[-1].loss > result.loss
    assert result.outcome is Outcome.step_limit


def test_patience() -> None:
    result = result_of(job(budget=Budget(steps=5000, patience=10), solver=Adam(learning_rate=1e-5)))
    assert result.outcome is Outcome.converged
    assert result.steps == 10


def test_targets_stop_as_soon_as_they_are_met() -> None:
    far = result_of(job(steps=100))
    wanted = (far.history[0].metrics.psnr_db + far.metrics.psnr_db) / 2
    result = result_of(job(budget=Budget(steps=100, target_psnr_db=wanted)))
    assert result.outcome is Outcome.target_reached
    assert result.metrics.psnr_db >= wanted
    assert result.history[-2].metrics.psnr_db < wanted
    assert result.best_step == result.steps < 100


# ---- 8: time -------------------------------------------------------------------------------------


class Clock:
    """Goes on by a fixed amount at each look."""

    def __init__(self, tick: float) -> None:
        self.now, self.tick = 0.0, tick

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


def test_a_step_is_not_begun_when_it_would_pass_the_deadline() -> None:
    clock = Clock(0.01)
    engine = toy_engine(clock=clock)
    result = result_of(job(budget=Budget(seconds=2)), engine)
    assert result.outcome is Outcome.deadline
    assert 1.5 < clock.now < 2.1
    assert result.budget == "time"
    assert result.steps > 10


def test_one_step_is_always_done() -> None:
    result = result_of(job(budget=Budget(seconds=1e-9)))
    assert result.outcome is Outcome.deadline
    assert result.steps == 0
    assert np.isfinite(result.latents["z"]).all()


def test_rows_that_were_never_scored_stop_in_time_too() -> None:
    clock = Clock(0.01)
    engine = toy_engine(clock=clock)
    result = result_of(job(budget=Budget(seconds=1), initialiser=BestOf(count=500)), engine)
    assert result.outcome is Outcome.deadline
    assert clock.now < 1.1
    assert np.isfinite(result.latents["z"]).all()


def test_a_late_neighbour_leaves_the_others_running() -> None:
    """Two lanes; when the late rows of one are gone, all that are left fit into the other."""
    clock = Clock(0.001)
    engine = toy_engine(clock=clock)
    late, endless = Budget(seconds=0.2), Budget(steps=60)
    names = {"a1": late, "a2": late, "a3": endless, "a4": late, "b1": endless, "b2": endless}
    for name, budget in names.items():
        engine.submit(name, job(budget=budget, lane_width=4, seed=2))
    done, _ = drain(engine, set(names))
    assert [name for name in names if done[name].error] == []
    alone = result_of(job(budget=endless, lane_width=4, seed=2))
    assert all(same(alone, done[name].result) for name in ("a3", "b1", "b2"))


# ---- jobs of many rows -----------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 4])
def test_best_of_goes_on_with_the_best_alone(width: int) -> None:
    engine = toy_engine()
    engine.submit("one", job(seed=2, initialiser=BestOf(count=9), lane_width=width))
    done, events = drain(engine, {"one"})
    result = done["one"].result
    assert isinstance(result, JobResult)
    starts = [
        result_of(job(seed=2, steps=0, initialiser=Seeds(count=9), lane_width=width)).loss,
        result.history[0].loss,
    ]
    assert starts[0] == starts[1], "the row that went on is the best draw"
    rows = [event.rows for event in events if isinstance(event, Progress)]
    assert set(rows[1:-1]) == {1}
    assert result.loss < starts[0]


def test_best_of_without_steps_is_the_best_draw() -> None:
    result = result_of(job(seed=2, steps=0, initialiser=BestOf(count=6)))
    assert result.loss == result_of(job(seed=2, steps=0, initialiser=Seeds(count=6))).loss


def test_one_row_at_its_target_ends_the_job() -> None:
    made = result_of(job(seed=9, steps=0))
    picture = type(made.target)(made.image, None)
    start = result_of(job(picture=picture, steps=0, initialiser=Seeds(count=4)))
    engine = toy_engine()
    budget = Budget(steps=300, target_psnr_db=start.metrics.psnr_db + 3)
    engine.submit("one", job(picture=picture, budget=budget, initialiser=Seeds(count=4)))
    done, events = drain(engine, {"one"})
    result = done["one"].result
    assert isinstance(result, JobResult)
    assert result.outcome is Outcome.target_reached
    assert max(event.latest.step for event in events if isinstance(event, Progress)) <= result.steps + 1 < 300


def test_rows_share_one_target() -> None:
    """The features of a target are computed once, however many rows a job has."""
    calls = []
    honest = PerceptualMetric.features
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PerceptualMetric, "features", lambda self, x: calls.append(len(x)) or honest(self, x))
        toy_engine().submit("one", job(losses=(Perceptual(),), initialiser=Seeds(count=7)))
    assert calls == [1]


# ---- events ------------------------------------------------------------------------------------


def test_events_are_counted_and_never_go_back() -> None:
    engine = toy_engine()
    reporting = Reporting(progress_steps=2, preview_steps=5)
    engine.submit("one", job(steps=20, reporting=reporting, initialiser=Seeds(count=3)))
    _, events = drain(engine, {"one"})
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    steps = [event.latest.step for event in events if isinstance(event, Progress)]
    assert steps == list(range(0, 21, 2))
    previews = [event for event in events if isinstance(event, Preview)]
    assert len(previews) == 5
    assert previews[0].image.shape == (32, 32, 3)
    assert previews[0].image.dtype == np.uint8
    assert isinstance(events[-1], Finished)


def test_cancel_before_the_start_during_and_twice() -> None:
    engine = toy_engine()
    engine.submit("early", job(steps=10_000))
    engine.cancel("early")
    done, _ = drain(engine, {"early"})
    assert done["early"].error is not None
    assert done["early"].error.status == "CANCELLED"
    engine.submit("late", job(steps=10_000))
    for _ in range(4):
        engine.poll()
    engine.cancel("late")
    engine.cancel("late")
    engine.cancel("unknown")
    done, _events = drain(engine, {"late"})
    result = done["late"].result
    assert isinstance(result, JobResult)
    assert result.outcome is Outcome.cancelled
    assert result.steps == 3
    assert result.loss == min(step.loss for step in result.history)
    assert engine.idle


def test_an_id_runs_once() -> None:
    engine = toy_engine()
    engine.submit("one", job())
    with pytest.raises(AlreadyExistsError):
        engine.submit("one", job())


# ---- checkpoints -------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize("initialiser", [Seeds(count=1), Seeds(count=3), BestOf(count=4)])
def test_a_job_goes_on_from_a_checkpoint_bit_equally(width: int, initialiser: Any) -> None:
    spec = job(seed=5, steps=25, lane_width=width, initialiser=initialiser, reporting=Reporting(checkpoint_steps=7))
    assert [checkpoint.step for checkpoint, _, _ in resumptions(spec)] == [7, 14, 21]


@pytest.mark.parametrize("polls", [0, 1, 2, 9])
@pytest.mark.parametrize("initialiser", [Seeds(count=3), Halving(count=4, rung=3)])
def test_a_checkpoint_that_is_asked_for_is_one_like_others(polls: int, initialiser: Any) -> None:
    spec = job(seed=5, steps=25, lane_width=4, initialiser=initialiser)
    expected = result_of(spec)
    engine = toy_engine()
    engine.submit("one", spec)
    for _ in range(polls):
        engine.poll()
    engine.checkpoint("one")
    engine.checkpoint("unknown")
    checkpoint = next(event for event in engine.poll() if isinstance(event, Checkpoint))
    other = toy_engine()
    other.submit("again", spec, checkpoint.data)
    for name, done in (("one", drain(engine, {"one"})), ("again", drain(other, {"again"}))):
        result = done[0][name].result
        assert isinstance(result, JobResult)
        np.testing.assert_array_equal(result.latents["z"], expected.latents["z"])
        assert [step.loss for step in result.history] == [step.loss for step in expected.history]
    engine.checkpoint("one")
    assert engine.poll() == [], "it is over"


def test_a_checkpoint_of_another_job_is_refused() -> None:
    engine = toy_engine()
    engine.submit("one", job(steps=9, reporting=Reporting(checkpoint_steps=4)))
    _, events = drain(engine, {"one"})
    data = next(event.data for event in events if isinstance(event, Checkpoint))
    for other in (job(steps=9, seed=1), job(steps=9, picture_seed=2), job(steps=8)):
        with pytest.raises(LatentInvError, match="another job"):
            toy_engine().submit("two", other, data)


def test_a_long_history_is_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latent_inv.engine.run.MAX_HISTORY", 50)
    result = result_of(job(steps=333))
    steps = [step.step for step in result.history]
    assert len(steps) <= 52
    assert steps == sorted(set(steps))
    assert {0, result.best_step, 333} <= set(steps)
    assert result.steps == 333


@pytest.mark.parametrize("data", [b"", b"\0" * 100, b"not a checkpoint at all, but long enough to have a header"])
def test_a_damaged_checkpoint_is_refused(data: bytes) -> None:
    with pytest.raises(LatentInvError, match="damaged"):
        toy_engine().submit("one", job(), data)


# ---- 6 and isolation ---------------------------------------------------------------------------


def test_a_job_changes_no_weights_and_no_statistics() -> None:
    engine = toy_engine()
    generator = engine.catalogue.load("smooth", "float32")
    before = {name: value.clone() for name, value in generator.network.state_dict().items()}
    result_of(job(), engine)
    assert not generator.network.training
    assert all(torch.equal(value, before[name]) for name, value in generator.network.state_dict().items())


def test_a_decoded_row_does_not_depend_on_its_batch() -> None:
    """Batch normalisation in training mode would differ by tenths; 1e-5 leaves room for other kernels only."""
    generator = toy_engine().catalogue.load("smooth", "float32")
    z = generator.sample(range(4))
    together = generator(z)[:1]
    alone = generator({"z": z["z"][:1]})
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_the_result_decodes_to_its_picture() -> None:
    result = result_of(job())
    generator = toy_engine().catalogue.load("smooth", "float32")
    with torch.no_grad():
        image = generator({"z": torch.from_numpy(result.latents["z"])})[0].numpy()
    np.testing.assert_allclose(image, result.image, atol=1e-6)


def test_hidden_pixels_have_no_influence() -> None:
    weight = np.ones((32, 32), np.float32)
    weight[:, :13] = 0
    first = make_picture(32, 32, 1, weight)
    pixels = first.pixels.copy()
    pixels[:, :, :13] = 0.9
    second = type(first)(pixels, weight)
    assert same(result_of(job(picture=first)), result_of(job(picture=second)))
    assert not same(result_of(job(picture=first)), result_of(job(picture=make_picture(32, 32, 1))))


def test_any_size_is_padded_and_cropped_back() -> None:
    result = result_of(job("toy", picture=make_picture(21, 35)))
    assert result.image.shape == (3, 21, 35)
    assert result.target.pixels.shape == (3, 21, 35)
    assert result.latents["code"].shape == (1, 4, 3, 5)
    assert np.abs(result.latents["code"]).max() <= 1, "the box"


def test_fixed_parts_stay_and_searched_classes_stay_on_the_simplex() -> None:
    fixed = result_of(job("toy", seed=4))
    assert np.sort(fixed.latents["class"]).tolist() == [[0, 0, 0, 0, 1]]
    searched = result_of(job("toy", seed=4, space="code+class", solver=Adam(learning_rate=0.5)))
    classes = searched.latents["class"]
    assert classes.sum() == pytest.approx(1, abs=1e-6)
    assert (classes >= 0).all()
    assert not np.array_equal(classes, fixed.latents["class"])


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"generator": "fases"}, "generator"),
        ({"space": "w"}, "space"),
        ({"initialiser": Given(latents={"z": np.zeros((1, 13), np.float32)})}, "initialiser.latents"),
        ({"initialiser": Given(latents={"z": np.full((1, 12), 1e300)})}, "initialiser.latents"),
        ({"lane_width": 200}, "lane_width"),
        ({"crop": (0, 0, 99, 5)}, "crop"),
        ({"generator": "frozen"}, "solver"),
    ],
)
def test_bad_input_is_refused_before_anything_is_queued(settings: dict[str, Any], field: str) -> None:
    engine = toy_engine()
    with pytest.raises(LatentInvError) as caught:
        engine.submit("one", job(**settings))
    assert caught.value.field.startswith(field)
    assert engine.idle


def test_unknown_names_get_a_hint() -> None:
    with pytest.raises(SpecError, match='did you mean "smooth"'):
        toy_engine().submit("one", job("smoth"))
