"""Jobs of several stages, starts that drop rows, and latents that stay typical for a while."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from latent_inv import build, outline, spec
from latent_inv.engine import batch as batch_module
from latent_inv.engine import engine as engine_module
from latent_inv.errors import InputError
from latent_inv.images import Picture
from latent_inv.policy import Picked, Quality, Stage
from latent_inv.result import Checkpoint, Finished, JobResult, Outcome, Progress
from latent_inv.solvers.adam import Adam as AdamSolver
from latent_inv.spaces import LatentSpace
from latent_inv.spec import (
    UNLIMITED_STEPS,
    Adam,
    Auto,
    Budget,
    Given,
    Halving,
    LatentPrior,
    LevenbergMarquardt,
    Perceptual,
    Pixel,
    Reporting,
    Seeds,
)
from tests.engine.helpers import drain, job, result_of, resumptions, toy_engine
from tests.engine.test_laws import Clock, same
from tests.test_objective import built

EXACT = LevenbergMarquardt(terms="pixel", tolerance=0.01)
GENTLE = Adam(learning_rate=0.01, warmup_steps=0, typical=0)
WILD = Adam(learning_rate=0.5, schedule="constant", warmup_steps=0, typical=0)

Choose = Callable[..., None]


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> Choose:
    """Say which stages the policy takes; the start is one draw."""

    def choose(*chosen: Stage) -> None:
        monkeypatch.setattr(
            outline, "pick", lambda asked, offers: Picked(asked.initialiser, chosen, ("as the test says",))
        )

    return choose


def losses(result: JobResult) -> list[float]:
    return [step.loss for step in result.history]


def own_picture(seed: int = 3) -> Picture:
    """One that the toy makes."""
    return Picture(result_of(job(seed=seed, steps=0)).image, None)


# ---- from one stage to the next --------------------------------------------------------------------


def test_the_next_stage_goes_on_from_the_best_iterate(stages: Choose) -> None:
    stages(Stage(WILD, steps=6), Stage(GENTLE))
    result = result_of(job(steps=30))
    found = losses(result)
    assert min(found[:7]) < found[6], "the last iterate is the best: nothing is tested"
    assert found[7] == min(found[:7]), "the stage has 6 steps, then its best iterate is scored again"
    assert [step.step for step in result.history] == list(range(31)), "steps count on"
    assert result.outcome is Outcome.step_limit
    assert result.loss == min(found) < found[7]
    assert found[:7] == losses(result_of(job(steps=30, solver=WILD)))[:7], "the first stage is as without a second"


def test_a_solver_that_stops_is_carried_on_by_the_next(stages: Choose) -> None:
    """A picture that the toy cannot make: second order ends long before its 40 steps, and Adam goes on."""
    everything = (Pixel(), LatentPrior(weight=0.3))
    alone = result_of(job(steps=40, solver=EXACT, losses=everything))
    assert alone.outcome is Outcome.converged
    assert alone.steps < 30
    stages(Stage(EXACT, steps=40), Stage(GENTLE))
    result = result_of(job(steps=60, losses=everything))
    found = losses(result)
    assert found[: alone.steps + 1] == losses(alone)
    assert found[alone.steps + 1] == alone.loss
    assert result.steps == 60
    assert result.outcome is Outcome.step_limit
    assert result.loss < 0.95 * alone.loss, "the pixels alone are not the sum"


def test_what_is_good_enough_needs_no_further_stage(stages: Choose) -> None:
    picture = own_picture()
    near = Given(latents={"z": result_of(job(seed=3, steps=0)).latents["z"] + 0.2})
    asked = job(picture=picture, steps=60, initialiser=near, losses=(Pixel(), Perceptual()))
    for enough, lpips, goes_on in (
        (26.0, 0.5, False),
        (26.0, -1.0, True),
        (199.0, 0.5, True),
        (None, 0.5, True),
    ):
        stages(Stage(EXACT, steps=40, enough=None if enough is None else Quality(enough, lpips)), Stage(GENTLE))
        result = result_of(asked)
        assert result.metrics.psnr_db > 60
        assert (result.steps == 60) is goes_on
        assert result.outcome is (Outcome.step_limit if goes_on else Outcome.converged)


def test_a_stage_at_its_last_step_may_be_enough_too(stages: Choose) -> None:
    stages(Stage(GENTLE, steps=5, enough=Quality(1.0, 9.0)), Stage(WILD))
    result = result_of(job(steps=30))
    assert result.metrics.psnr_db > 1
    assert (result.steps, result.outcome) == (5, Outcome.step_limit)


def test_three_stages_follow_each_other(stages: Choose) -> None:
    stages(Stage(WILD, steps=4), Stage(replace(EXACT, tolerance=0), steps=3), Stage(GENTLE))
    result = result_of(job(steps=20))
    found = losses(result)
    assert result.steps == 20
    assert found[5] == min(found[:5])
    assert found[9] == min(found[:9])


# ---- budgets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [0, 1, 3, 6, 7, 8])
def test_the_budget_caps_the_sum(stages: Choose, steps: int) -> None:
    stages(Stage(WILD, steps=6), Stage(GENTLE, steps=100))
    result = result_of(job(steps=steps))
    assert result.steps == steps
    assert result.outcome is Outcome.step_limit


def test_without_a_budget_the_stages_say_how_long(stages: Choose) -> None:
    stages(Stage(WILD, steps=6), Stage(GENTLE, steps=9))
    assert built(budget=Budget()).limit == 15
    assert result_of(job(budget=Budget())).steps == 15
    assert built(budget=Budget(steps=4)).limit == 4
    assert built(budget=Budget(seconds=1)).limit == UNLIMITED_STEPS
    stages(Stage(WILD, steps=6), Stage(GENTLE))
    assert built(budget=Budget()).limit == 6 + outline.DEFAULT_STEPS


@pytest.mark.parametrize("budget", [Budget(steps=50), Budget(seconds=1.0), Budget(steps=50, seconds=1.0)], ids=str)
def test_the_schedule_of_a_stage_is_over_what_is_left(
    budget: Budget, stages: Choose, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[float] = []
    honest = AdamSolver.step

    def step(self: Any, latents: Any, evaluate: Any, state: Any, progress: Any) -> Any:
        shares.append(float(progress[0]))
        return honest(self, latents, evaluate, state, progress)

    monkeypatch.setattr(AdamSolver, "step", step)
    stages(Stage(WILD, steps=20), Stage(GENTLE))
    result = result_of(job(budget=budget), toy_engine(clock=Clock(0.001)))
    warming = 0 if budget.seconds is None else 2  # a step of each stage meets its kernels before the time runs
    assert len(shares) == warming + result.steps + 1 > 40
    first, second = shares[warming : warming + 21], shares[warming + 21 :]
    for stage in (first, second):
        assert stage == sorted(stage)
        assert stage[0] < 0.05
        assert stage[-1] > 0.9
    assert result.outcome is (Outcome.step_limit if budget.seconds is None else result.outcome)


def test_kernels_are_met_once_and_not_in_the_time_of_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(0.001)
    met: list[object] = []

    def slow(job: Any, stage: Any) -> None:
        met.append(stage.key)
        clock.now += 100

    monkeypatch.setattr(engine_module, "warm_up", slow)
    engine = toy_engine(clock=clock)

    def run(**settings: Any) -> JobResult:
        return result_of(job(**settings), engine)

    run(steps=2)
    assert not met, "all the time it needs"
    assert run(budget=Budget(seconds=0.5)).seconds < 1
    assert not met, "it was run before"
    for _ in range(2):
        assert run(solver=Auto(), budget=Budget(seconds=0.5)).seconds < 1
        assert len(met) == 1, "the stage that is new, once"
    assert run(solver=Auto(), lane_width=2, budget=Budget(seconds=0.5)).seconds < 1
    assert len(met) == len(set(met)) == 3, "another width has kernels of its own"


def test_meeting_kernels_changes_no_result() -> None:
    spec = job(solver=Auto(), budget=Budget(steps=9, seconds=1000))
    first, second = toy_engine(), toy_engine()
    once, again = losses(result_of(spec, first)), losses(result_of(spec, first))
    second._warm_up = lambda _: False  # type: ignore[method-assign]
    assert once == again == losses(result_of(spec, second))


def test_seconds_end_the_job_in_its_second_stage() -> None:
    result = result_of(job(solver=Auto(), budget=Budget(seconds=2)), toy_engine(clock=Clock(0.002)))
    assert result.outcome is Outcome.deadline
    assert result.seconds < 2.1
    assert result.steps > 60, "second order alone has 40 at most"
    assert [step.step for step in result.history] == list(range(result.steps + 1))


# ---- checkpoints -----------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize("initialiser", [Seeds(), Seeds(count=3), Halving(count=4, rung=9)], ids=str)
def test_a_job_goes_on_in_its_stage_bit_equally(width: int, initialiser: Any, stages: Choose) -> None:
    """From every step on, those at the end of a stage and at a rung too."""
    slow = LevenbergMarquardt(chords=0, damping=100.0, decrease=1, tolerance=0)
    stages(Stage(GENTLE, steps=4), Stage(slow, steps=8), Stage(GENTLE))
    asked = job(
        seed=5,
        steps=24,
        lane_width=width,
        solver=Auto(),
        initialiser=initialiser,
        losses=(Pixel(), LatentPrior(weight=0.3)),
        reporting=Reporting(checkpoint_steps=1),
    )
    stages_seen, count = set(), 0
    for checkpoint, _, engine in resumptions(asked):
        count += 1
        if checkpoint.step < 24:
            stages_seen |= {row.stage for row in engine._jobs["again"].rows}
    assert count == 24
    assert stages_seen == {0, 1, 2}


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows[:1],
        lambda rows: [*rows, rows[0]],
        lambda rows: [rows[0], {**rows[1], "index": 5}],
        lambda rows: [rows[0], {**rows[1], "stage": 7}],
        lambda rows: [rows[0], {**rows[1], "stage": None}],
        lambda rows: [],
        lambda rows: None,
    ],
)
def test_rows_and_stages_of_a_checkpoint_are_those_of_the_job(change: Callable[[Any], Any]) -> None:
    """It may come from anywhere."""
    asked = job(steps=9, solver=Auto(), initialiser=Seeds(count=2), reporting=Reporting(checkpoint_steps=4))
    engine = toy_engine()
    engine.submit("one", asked)
    _, events = drain(engine, {"one"})
    tensors = load(next(event.data for event in events if isinstance(event, Checkpoint)))
    counters = json.loads(bytes(tensors["counters"].numpy()))
    changed = json.dumps({**counters, "rows": change(counters["rows"])}).encode()
    tensors["counters"] = torch.frombuffer(bytearray(changed), dtype=torch.uint8)
    other = toy_engine()
    with pytest.raises(InputError, match="damaged"):
        other.submit("again", asked, save(tensors))
    assert other.idle


# ---- law 1 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 4])
def test_stages_do_not_depend_on_the_neighbours(width: int) -> None:
    """Rows that change lanes at different steps, among jobs of one solver that come and go."""
    rng = random.Random(width)
    specs = {
        f"job {n}": job(
            picture_seed=n,
            seed=n,
            steps=rng.randrange(5, 45),
            lane_width=width,
            solver=Auto() if n % 3 else Adam(learning_rate=0.5, typical=rng.choice([0, 0.5, 1])),
            initialiser=rng.choice([Seeds(), Seeds(count=2), Halving(count=4, rung=3), Auto()]),
            losses=(Pixel(weight=rng.uniform(0.5, 2)), LatentPrior(weight=rng.uniform(0.1, 0.5))),
        )
        for n in range(10)
    }
    alone = {name: result_of(each) for name, each in specs.items()}
    engine, waiting, done = toy_engine(), list(specs), {}
    rng.shuffle(waiting)
    while waiting or not engine.idle:
        if waiting and rng.random() < 0.2:
            name = waiting.pop()
            engine.submit(name, specs[name])
        if waiting and rng.random() < 0.05:
            engine.submit(f"leaves {rng.random()}", job(seed=99, lane_width=width, steps=3, solver=Auto()))
        done.update({event.job_id: event for event in engine.poll() if isinstance(event, Finished)})
    for name, expected in alone.items():
        result = done[name].result
        assert same(expected, result), f"{name} differs at width {width}"
        assert isinstance(result, JobResult)
        assert losses(result) == losses(expected)


# ---- what the result says ----------------------------------------------------------------------------


def test_a_result_says_what_was_picked() -> None:
    asked = job(solver=Auto(), initialiser=Auto(), steps=3)
    made = build.build_job(asked, toy_engine().catalogue)
    result = result_of(asked)
    assert result.picked == made.told
    assert result.picked["start"]["type"] == "BestOf"
    assert result.to_json()["picked"] == result.picked
    assert result.settings["solver"] == {"type": "Auto"}, "what was asked for stays as it was"
    named = result_of(job(steps=3))
    assert [stage["solver"]["type"] for stage in named.picked["stages"]] == ["Adam"]
    assert named.picked["why"] == []


def test_typicality_is_the_share_of_draws_that_lie_nearer() -> None:
    """Against counting: 100 000 draws have a standard error of 0.0016 at most."""
    norms = np.linalg.norm(np.random.default_rng(0).standard_normal((100_000, 12)), axis=1)
    for length in (2.0, 3.4, 5.0, 40.0):
        z = np.full((1, 12), length / np.sqrt(12), np.float32)
        result = result_of(job(steps=0, initialiser=Given(latents={"z": z})))
        assert result.typicality == {"z": pytest.approx(float((norms < length).mean()), abs=0.008)}
        assert result.to_json()["typicality"] == result.typicality


def test_typicality_is_of_what_is_searched() -> None:
    assert result_of(job("toy", steps=1)).typicality.keys() == {"code"}
    both = result_of(job("toy", space="code+class", steps=1)).typicality
    assert both.keys() == {"code", "class"}
    assert all(0 <= share <= 1 for share in both.values())


# ---- halving -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_halving_keeps_the_better_half_until_one_is_left(seed: int, width: int) -> None:
    """Against the same rules done by hand, on eight jobs that run to the end."""
    rung, steps = 4, 30
    asked = job(seed=seed, steps=steps, lane_width=width, solver=WILD, initialiser=Halving(count=8, rung=rung))
    starts = [start["z"].numpy() for start in build.build_job(asked, toy_engine().catalogue).starts]
    alone = [
        result_of(job(seed=seed, steps=steps, lane_width=width, solver=WILD, initialiser=Given(latents={"z": z})))
        for z in starts
    ]
    left = list(range(8))
    for step, keep in ((4, 4), (8, 2), (16, 1)):
        left = sorted(left, key=lambda row, until=step: (min(losses(alone[row])[: until + 1]), row))[:keep]
    engine = toy_engine()
    engine.submit("one", asked)
    done, events = drain(engine, {"one"})
    result = done["one"].result
    assert isinstance(result, JobResult)
    assert losses(result) == losses(alone[left[0]])
    assert same(result, alone[left[0]])
    rows = {event.latest.step: event.rows for event in events if isinstance(event, Progress)}
    assert [rows[step] for step in (0, 5, 9, 17, 29)] == [8, 4, 2, 1, 1]


def test_halving_ends_with_the_budget_before_its_last_rung() -> None:
    result = result_of(job(steps=6, initialiser=Halving(count=8, rung=4)))
    assert (result.steps, result.outcome) == (6, Outcome.step_limit)


# ---- latents that stay typical -----------------------------------------------------------------------


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The norm of the first row of each evaluation."""
    norms: list[float] = []
    honest = batch_module.evaluate

    def evaluate(objective: Any, latents: Any, *rest: Any) -> Any:
        norms.append(float(latents["z"][0].norm()))
        return honest(objective, latents, *rest)

    monkeypatch.setattr(batch_module, "evaluate", evaluate)
    return norms


def outwards(length: float) -> np.ndarray:
    return np.full((1, 12), length / np.sqrt(12), np.float32)


def away(typical: float, **settings: Any) -> Any:
    """A search for latents that are far out."""
    target = Picture(result_of(job(steps=0, initialiser=Given(latents={"z": outwards(14)}))).image, None)
    solver = Adam(learning_rate=0.5, schedule="constant", warmup_steps=0, typical=typical)
    return job(**{"steps": 40, "solver": solver, "picture": target, **settings})


@pytest.mark.parametrize("length", [1.0, 3.0, 9.0])
def test_latents_stay_within_reach_for_their_share(length: float, looked_at: list[float]) -> None:
    """As far as draws are, √12, or as far as the start is; afterwards they leave."""
    reach = max(length, np.sqrt(12))
    asked = away(0.5, initialiser=Given(latents={"z": outwards(length)}))
    looked_at.clear()
    result_of(asked)
    assert len(looked_at) == 41
    # Step 19 is the last one that is made when less than half of the budget is used, and leads to iterate 20.
    assert max(looked_at[:21]) <= reach * (1 + 1e-6)
    assert max(looked_at[1:21]) > 0.999 * reach, "nothing held them back"
    assert looked_at[21] > reach * (1 + 1e-3)
    assert max(looked_at[21:]) > 1.05 * reach


def test_a_share_of_one_is_all_of_it_and_none_is_as_if_it_were_not_there(
    looked_at: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = away(1)
    looked_at.clear()
    result_of(asked)
    assert max(looked_at) <= max(looked_at[0], np.sqrt(12)) * (1 + 1e-6)
    never, half = result_of(away(0)), result_of(away(0.5))
    monkeypatch.setattr(LatentSpace, "keep_typical", lambda self, latents, reach, rows: dict(latents))
    assert same(never, result_of(away(0)))
    assert losses(never) == losses(result_of(away(0)))
    assert losses(half) != losses(result_of(away(0.5)))


def test_rows_of_one_lane_have_their_own_share() -> None:
    alone = {typical: result_of(away(typical, lane_width=4)) for typical in (0, 0.3, 1)}
    engine = toy_engine()
    for typical in alone:
        engine.submit(f"{typical}", away(typical, lane_width=4))
    done, _ = drain(engine, {f"{typical}" for typical in alone})
    assert all(same(expected, done[f"{typical}"].result) for typical, expected in alone.items())
    assert not same(alone[0], alone[1])


def test_second_order_and_bounded_spaces_know_no_reach() -> None:
    made = built(generator="toy", solver=Adam())
    (reach,) = made.objective.space.reach({"code": torch.zeros(2, 4, 4, 4)}).values()
    assert torch.isinf(reach).all()
    assert built(solver=spec.LevenbergMarquardt()).stages[0].solver.stays_typical({}, torch.zeros(1)) is None
