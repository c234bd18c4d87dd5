"""Stages for rows that are near to their picture by then: those end there, and others pass by."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from latent_inv import policy
from latent_inv.build import build_job
from latent_inv.images import Picture
from latent_inv.outline import step_limit, ways
from latent_inv.policy import Picked, Quality, Stage
from latent_inv.result import JobResult, Outcome, Progress
from latent_inv.spec import (
    Adam,
    Auto,
    Budget,
    Encoder,
    Halving,
    LatentPrior,
    LevenbergMarquardt,
    Perceptual,
    Pixel,
    Reporting,
    Seeds,
)
from tests.engine.helpers import drain, job, result_of, resumptions, toy_engine
from tests.engine.test_laws import Clock
from tests.engine.test_stages import Choose, stages

__all__ = ["stages"]  # a fixture

GENTLE = Adam(learning_rate=0.01, warmup_steps=0, typical=0)
QUICK = Adam(learning_rate=0.1, warmup_steps=0, typical=0)
EXACT = LevenbergMarquardt(terms="pixel", tolerance=0.01)
#: what any picture is, and none
ANY, NONE = Quality(0.0, 1e9), Quality(150.0, 0.0)
THREE = Halving(count=3, rung=1000)
FOUR = Halving(count=4, rung=1000)


def told(spec: Any) -> tuple[JobResult, list[int]]:
    """The result, and how many rows were under way at each report."""
    engine = toy_engine()
    engine.submit("one", replace(spec, reporting=Reporting(progress_steps=1)))
    done, events = drain(engine, {"one"})
    result = done["one"].result
    assert isinstance(result, JobResult)
    return result, [event.rows for event in events if isinstance(event, Progress)]


def branched(
    choose: Choose, only: Quality, joined_by: Halving | None = THREE, enough: Quality | None = None, solver: Any = QUICK
) -> None:
    branch = Stage(solver, steps=6, enough=enough, only=only, joined_by=joined_by)
    choose(Stage(GENTLE, steps=4), branch, Stage(GENTLE, steps=9, joined_by=FOUR), Stage(GENTLE))


def turns(spec: Any) -> dict[int, tuple[int, int]]:
    """First and last step of each row that had any."""
    engine = toy_engine()
    engine.submit("one", spec)
    run = engine._jobs["one"]
    drain(engine, {"one"})
    return {row.index: (row.history[0].step, row.history[-1].step) for row in run.rows if row.history}


def test_rows_that_are_near_enough_take_the_branch_and_end_there(stages: Choose) -> None:
    branched(stages, ANY)
    result, rows = told(job(steps=40))
    assert result.outcome is Outcome.step_limit
    assert max(rows) == 1
    assert result.loss <= min(step.loss for step in result_of(job(steps=4)).history)


def test_its_rows_take_turns_until_one_has_enough(stages: Choose) -> None:
    """4 steps, then 6 of each after it was scored once; steps count on."""
    branched(stages, ANY)
    assert turns(job(steps=40)) == {0: (0, 11), 1: (12, 18), 2: (19, 25)}
    branched(stages, ANY, enough=ANY)
    assert turns(job(steps=40)) == {0: (0, 11)}
    branched(stages, ANY)
    for steps in (3, 4, 5, 11, 12, 13, 18, 20):
        found = turns(job(steps=steps))
        assert max(last for _, last in found.values()) == steps, "the budget is that of the job"
        assert result_of(job(steps=steps)).outcome is Outcome.step_limit


def test_the_best_of_all_turns_is_the_result(stages: Choose) -> None:
    branched(stages, ANY, Halving(count=5, rung=1000))
    picture = Picture(result_of(job(seed=5, steps=0)).image, None)
    for seed in range(4):
        engine = toy_engine()
        engine.submit("one", job(picture=picture, seed=seed, steps=60))
        run = engine._jobs["one"]
        result = drain(engine, {"one"})[0]["one"].result
        assert isinstance(result, JobResult)
        losses = [row.best_loss for row in run.rows if row.history]
        assert len(losses) == 5
        assert result.loss == min(losses)


def test_a_row_that_breaks_leaves_its_turn_to_the_next(stages: Choose) -> None:
    branched(stages, ANY, solver=Adam(learning_rate=100, warmup_steps=0, typical=0, schedule="constant"))
    engine = toy_engine()
    engine.submit("one", job(steps=40, losses=(Pixel(), LatentPrior(weight=1))))
    run = engine._jobs["one"]
    drain(engine, {"one"})
    assert [row.outcome for row in run.rows[:3]] == 3 * [Outcome.diverged]
    assert run.rows[2].history[-1].step < 25, "the last would have its sixth step then"


@pytest.mark.parametrize("how", ["cancelled", "deadline", "target_reached"])
def test_a_job_that_is_over_has_no_further_turns(how: str, stages: Choose) -> None:
    branched(stages, ANY)
    budget = Budget(steps=40)
    if how == "deadline":
        budget = Budget(steps=40, seconds=1.0)
    if how == "target_reached":
        reached = max(step.metrics.psnr_db for step in result_of(job(steps=9)).history)
        budget = Budget(steps=40, target_psnr_db=reached)
    engine = toy_engine(clock=Clock(0.01))
    engine.submit("one", job(budget=budget))
    run = engine._jobs["one"]
    while engine._jobs:
        if how == "cancelled" and run.rows[0].stage == 1:
            engine.cancel("one")
        engine.poll()
    *_, last = began = [row for row in run.rows if row.history]
    assert last.outcome is Outcome[how]
    assert len(began) == (2 if how == "deadline" else 1), "three would be all"


def test_others_pass_it_by(stages: Choose) -> None:
    branched(stages, NONE)
    result, rows = told(job(steps=40))
    assert result.steps == 40
    assert max(rows) == 4
    stages(Stage(GENTLE, steps=4), Stage(GENTLE, steps=9, joined_by=FOUR), Stage(GENTLE))
    straight = result_of(job(steps=40))
    assert len(straight.history) == len(result.history)
    assert [step.loss for step in straight.history[:5]] == [step.loss for step in result.history[:5]]


def test_a_branch_that_is_last_is_no_must(stages: Choose) -> None:
    for only, steps in ((NONE, 4), (ANY, 11)):
        stages(Stage(GENTLE, steps=4), Stage(QUICK, steps=6, only=only))
        assert result_of(job(steps=40)).steps == steps


@pytest.mark.parametrize(
    ("psnr_db", "lpips", "taken"), [(1.0, 9.0, True), (99.0, 9.0, False), (1.0, 0.0, False), (99.0, 0.0, False)]
)
def test_near_is_both_in_decibels_and_in_distance(psnr_db: float, lpips: float, taken: bool, stages: Choose) -> None:
    branched(stages, Quality(psnr_db, lpips), None)
    asked = job(steps=40, losses=(Pixel(), Perceptual()))
    assert (result_of(asked).steps == 11) is taken
    # Jobs that do not look at the distance are judged by the pixels alone.
    assert (result_of(job(steps=40)).steps == 11) is (psnr_db == 1.0)


def test_each_joined_stage_has_rows_of_its_own(stages: Choose) -> None:
    branched(stages, ANY)
    made = build_job(job(seed=4), toy_engine().catalogue)
    assert made.entries == (0, 1, 1, 2, 2, 2)
    starts = {tuple(start["z"].flatten().tolist()) for start in made.starts}
    assert len(starts) == 6
    several = build_job(job(seed=4, initialiser=Seeds(count=2)), toy_engine().catalogue)
    assert several.entries == (0, 0), "rows of several starts are not joined by more"


@pytest.mark.parametrize("only", [ANY, NONE], ids=["taken", "passed by"])
@pytest.mark.parametrize("width", [1, 4])
def test_a_job_goes_on_from_a_branch_bit_equally(width: int, only: Quality, stages: Choose) -> None:
    branched(stages, only)
    asked = job(seed=5, steps=24, lane_width=width, reporting=Reporting(checkpoint_steps=1))
    seen: set[int] = set()
    for _, _, engine in resumptions(asked):
        seen |= {row.stage for row in engine._jobs["again"].rows if row.history} if "again" in engine else set()
    assert {0, 1} <= seen if only is ANY else {0, 2, 3} <= seen


# ---- what `auto` makes of it ---------------------------------------------------------------------


def noisy(deviation: float) -> Picture:
    """A sample of the toy that has an encoder, with noise that no latents make."""
    clean = result_of(job("loud", seed=3, steps=0, initialiser=Seeds())).image
    noise = np.random.default_rng(1).normal(0, deviation, clean.shape)
    return Picture((clean + noise).clip(-1, 1).astype(np.float32), None)


@pytest.mark.parametrize(
    ("deviation", "rows", "beside"),
    [(0.0, 1, 1), (0.03, policy.AGAIN_STARTS, 1), (0.6, policy.WIDE_STARTS, policy.WIDE_STARTS)],
    ids=["found", "in range", "out of range"],
)
def test_auto_tries_again_around_the_encoders_answer_what_is_in_range_and_not_found(
    deviation: float, rows: int, beside: int
) -> None:
    asked = job("loud", picture=noisy(deviation), solver=Auto(), initialiser=Auto(), budget=Budget())
    result, under_way = told(asked)
    assert max(under_way) == beside
    assert len(turns(asked)) == rows
    if deviation < 0.1:
        assert result.metrics.psnr_db > policy.IN_RANGE.psnr_db
        assert (result.metrics.psnr_db > policy.FOUND.psnr_db) is (deviation == 0)
    again = result.picked["stages"][1]
    assert again["only"] == {"psnr_db": policy.IN_RANGE.psnr_db, "lpips": policy.IN_RANGE.lpips}
    assert again["joined_by"] == {"type": "Encoder", "passes": 3, "count": policy.AGAIN_STARTS, "spread": 0.6}


def test_several_starts_around_the_encoders_answer_can_be_asked_for() -> None:
    """The first one is what there would be alone, so the result is never worse."""
    starts = (Encoder(), Encoder(count=5, spread=0.3))
    (one, alone), (many, together) = (told(job("loud", initialiser=start, solver=EXACT, steps=6)) for start in starts)
    assert (max(alone), max(together)) == (1, 5)
    assert many.loss <= one.loss


def test_ways_go_past_all_branches_or_into_one() -> None:
    main, branch = Stage(GENTLE, steps=10), Stage(GENTLE, steps=100, only=ANY)
    assert ways([main]) == [[0]]
    assert ways([main, branch, main, branch]) == [[0, 2], [0, 1], [0, 2, 3]]
    several = replace(branch, steps=5, joined_by=FOUR)
    for chosen, limit in (((main, branch, main), 110), ((main, several, main), 30), ((main, several, main, main), 30)):
        assert step_limit(job(budget=Budget()), Picked(Seeds(), chosen)) == limit
