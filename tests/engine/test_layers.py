"""Jobs that go through several spaces: from the latents in front of a generator into its layers."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from latent_inv import outline
from latent_inv.build import build_job
from latent_inv.engine.runner import decode_rows
from latent_inv.errors import LatentsError, UnsupportedError
from latent_inv.images import Picture
from latent_inv.policy import Picked, Stage
from latent_inv.result import Checkpoint, Finished, JobResult, Outcome
from latent_inv.spec import (
    Adam,
    Auto,
    BestOf,
    Budget,
    DecodeSpec,
    Given,
    Halving,
    LatentPrior,
    Lifted,
    Pixel,
    Reporting,
    Seeds,
)
from tests.contracts import loaded
from tests.engine.helpers import drain, job, result_of, resumptions, toy_engine
from tests.engine.test_laws import Clock, same

WILD = Adam(learning_rate=0.3, schedule="constant", warmup_steps=0, typical=0)
SMALL = Adam(learning_rate=0.02, schedule="constant", warmup_steps=0, typical=0)
PRIOR = (Pixel(), LatentPrior(weight=0.05))
#: z, then two layers
THREE = (Stage(WILD, steps=5, space="z"), Stage(SMALL, steps=6, space="layer:1", radius=0.3), Stage(SMALL))

Choose = Callable[..., None]


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> Choose:
    """Say which stages the policy takes; the start is what was asked for."""

    def choose(*chosen: Stage) -> None:
        monkeypatch.setattr(outline, "pick", lambda asked, _: Picked(asked.initialiser, chosen, ()))

    return choose


def layer_job(**settings: Any) -> Any:
    return job("layered", **{"space": "layer:2", "solver": Auto(), "losses": PRIOR, **settings})


def losses(result: JobResult) -> list[float]:
    return [step.loss for step in result.history]


def truth(result: JobResult) -> None:
    """The result's numbers are those of its latents, and these are of the space that was asked for."""
    generator = loaded("layered")
    assert set(result.latents) == set(generator.spaces[result.space].parts)
    latents = {name: torch.from_numpy(np.array(array)) for name, array in result.latents.items()}
    made = build_job(layer_job(), toy_engine().catalogue)
    image = decode_rows(made.objective, latents, result.lane_width)
    np.testing.assert_array_equal(image[0].clamp(-1, 1).numpy(), result.image)
    squared = float((image - torch.from_numpy(result.target.pixels.copy())).square().mean())
    assert result.metrics.mse == pytest.approx(squared / 4, rel=1e-5)
    space = generator.spaces[result.space]
    prior = sum(float(space.parts[name].prior.energy(latents[name])) for name in space.searched)
    assert result.loss == pytest.approx(squared + 0.05 * prior, rel=1e-4)


# ---- from one space to the next ----------------------------------------------------------------------


def test_each_space_goes_on_from_the_best_of_the_last(stages: Choose) -> None:
    stages(*THREE)
    result = result_of(layer_job(steps=40))
    assert result.space == "layer:2"
    assert set(result.latents) == {"layer:2", "skip:2"}
    truth(result)
    assert [step.step for step in result.history] == list(range(41))
    pixels = [step.terms["pixel"] for step in result.history]
    best_in_z = min(range(6), key=lambda step: result.history[step].loss)
    assert pixels[6] == pytest.approx(pixels[best_in_z], rel=1e-4), "the same picture, lifted"
    assert result.history[6].loss != pytest.approx(result.history[best_in_z].loss, rel=1e-3), "with another prior"
    assert pixels[-1] < 0.9 * pixels[6], "layers reach what z does not"
    assert result.typicality.keys() == result.latents.keys()


def test_fixed_parts_go_along(stages: Choose) -> None:
    """`noise` is fixed in z and in layer:1, and the picture needs it."""
    stages(Stage(WILD, steps=5, space="z"), Stage(SMALL))
    through = result_of(layer_job(space="layer:1", steps=20, seed=3))
    truth(through)
    direct = result_of(job("layered", steps=0, seed=3, initialiser=Seeds()))
    np.testing.assert_array_equal(through.latents["noise"], direct.latents["noise"])


def test_a_prior_of_another_space_does_not_decide_what_is_best(stages: Choose) -> None:
    """Mean latents have no prior term in z, and a large one once they are lifted: the last space has the last word."""
    losses_ = (Pixel(), LatentPrior(weight=5.0))
    stages(Stage(SMALL, steps=3, space="z"), Stage(SMALL))
    mean = Given(latents={"z": np.zeros((1, 12))})
    result = result_of(layer_job(steps=25, losses=losses_, initialiser=mean))
    found = losses(result)
    assert min(found[:4]) < min(found[4:]), "nothing is tested"
    assert result.loss == min(found[4:])
    assert result.best_step > 3


def test_a_layer_stays_in_its_ball(stages: Choose) -> None:
    for radius in (0.05, 0.2):
        stages(Stage(WILD, steps=5, space="z"), Stage(WILD, radius=radius))
        asked = layer_job(space="layer:1", steps=30, losses=(Pixel(),))
        result = result_of(asked)
        start = result_of(replace(asked, budget=Budget(steps=5)))
        prior = loaded("layered").spaces["layer:1"].parts["layer:1"].prior
        moved = (result.latents["layer:1"] - start.latents["layer:1"]) / prior.statistics.scale.numpy()  # type: ignore[attr-defined]
        size = float(np.sqrt(np.square(moved).mean()))
        assert size <= radius * (1 + 1e-5)
        assert size > 0.9 * radius, "it is where the ball ends"


def test_rows_that_join_a_stage_are_drawn_in_its_space(stages: Choose) -> None:
    stages(Stage(WILD, steps=3, space="z"), Stage(SMALL, steps=12, joined_by=Halving(count=4, rung=2)), Stage(SMALL))
    asked = layer_job(steps=25)
    made = build_job(asked, toy_engine().catalogue)
    assert [set(start) for start in made.starts] == [{"z", "noise"}] + 3 * [{"layer:2", "skip:2"}]
    assert made.entries == (0, 1, 1, 1)
    truth(result_of(asked))


# ---- ends on the way ----------------------------------------------------------------------------------


def test_what_ends_on_the_way_is_in_the_space_that_was_asked_for(stages: Choose) -> None:
    stages(*THREE)
    for steps in (0, 2, 5, 6, 8, 12):
        result = result_of(layer_job(steps=steps))
        assert (result.steps, result.space) == (steps, "layer:2")
        truth(result)


def test_a_target_that_is_reached_in_z_needs_no_layer(stages: Choose) -> None:
    stages(*THREE)
    picture = Picture(result_of(job("layered", seed=3, steps=0)).image, None)
    near = Given(latents=result_of(job("layered", seed=3, steps=0)).latents)
    result = result_of(
        layer_job(picture=picture, initialiser=near, budget=Budget(steps=40, target_psnr_db=60), losses=(Pixel(),))
    )
    assert result.outcome is Outcome.target_reached
    assert result.steps == 0
    assert set(result.latents) == {"layer:2", "skip:2"}
    assert result.metrics.psnr_db > 100


def test_cancelled_at_any_moment(stages: Choose) -> None:
    stages(*THREE)
    for polls in (1, 5, 6, 7, 11, 12, 13):
        engine = toy_engine()
        engine.submit("one", layer_job(steps=40))
        for _ in range(polls):
            engine.poll()
        engine.cancel("one")
        result = drain(engine, {"one"})[0]["one"].result
        assert isinstance(result, JobResult)
        assert result.outcome is Outcome.cancelled
        truth(result)


def test_a_deadline_on_the_way(stages: Choose) -> None:
    stages(*THREE)
    for seconds in (0.02, 0.1, 0.3):
        result = result_of(layer_job(budget=Budget(seconds=seconds)), toy_engine(clock=Clock(0.002)))
        assert result.outcome is Outcome.deadline
        truth(result)


# ---- checkpoints and neighbours -----------------------------------------------------------------------


@pytest.mark.parametrize("initialiser", [Seeds(), Halving(count=3, rung=7)], ids=str)
def test_a_job_goes_on_in_its_space_bit_equally(initialiser: Any, stages: Choose) -> None:
    """From every step on, those at which a space ends too."""
    stages(*THREE)
    asked = layer_job(seed=5, steps=18, lane_width=2, initialiser=initialiser, reporting=Reporting(checkpoint_steps=1))
    spaces, count = set(), 0
    for checkpoint, _, engine in resumptions(asked):
        count += 1
        if checkpoint.step < 18:
            run = engine._jobs["again"]
            spaces |= {run.job.stages[row.stage].space for row in run.rows}
    assert count == 18
    assert spaces == {"z", "layer:1", "layer:2"}


def test_a_checkpoint_of_another_way_is_refused(stages: Choose) -> None:
    stages(*THREE)
    engine = toy_engine()
    asked = layer_job(steps=9, reporting=Reporting(checkpoint_steps=4))
    engine.submit("one", asked)
    data = next(event.data for event in drain(engine, {"one"})[1] if isinstance(event, Checkpoint))
    stages(*THREE[:2], Stage(SMALL, radius=1.0))
    with pytest.raises(Exception, match="another job"):
        toy_engine().submit("two", asked, data)


@pytest.mark.parametrize("width", [1, 4])
def test_spaces_do_not_depend_on_the_neighbours(width: int, stages: Choose) -> None:
    """Rows that change lanes and spaces at different steps, among others that stay in theirs."""
    rng = random.Random(width)
    stages(*THREE)
    specs = {
        f"job {n}": layer_job(
            picture_seed=n,
            seed=n,
            steps=rng.randrange(4, 24),
            lane_width=width,
            initialiser=rng.choice([Seeds(), Seeds(count=2), BestOf(count=3)]),
        )
        for n in range(8)
    }
    alone = {name: result_of(each) for name, each in specs.items()}
    engine, waiting, done = toy_engine(), list(specs), {}
    rng.shuffle(waiting)
    while waiting or not engine.idle:
        if waiting and rng.random() < 0.3:
            name = waiting.pop()
            engine.submit(name, specs[name])
        done.update({event.job_id: event for event in engine.poll() if isinstance(event, Finished)})
    for name, expected in alone.items():
        result = done[name].result
        assert same(expected, result), f"{name} differs at width {width}"
        assert isinstance(result, JobResult)
        assert losses(result) == losses(expected)


# ---- starts --------------------------------------------------------------------------------------------


def test_given_latents_of_an_earlier_space_are_lifted(stages: Choose) -> None:
    stages(Stage(SMALL))
    earlier = result_of(job("layered", seed=7, steps=0)).latents
    layer = result_of(layer_job(steps=0, initialiser=Given(latents=earlier)))
    image = result_of(job("layered", seed=7, steps=0)).image
    np.testing.assert_allclose(layer.image, image, atol=1e-6)
    own = result_of(layer_job(steps=0, initialiser=Given(latents=layer.latents)))
    np.testing.assert_array_equal(own.image, layer.image)
    with pytest.raises(LatentsError, match="missing"):
        result_of(layer_job(steps=0, initialiser=Given(latents={"layer:2": layer.latents["layer:2"]})))


def test_draws_of_a_layer_are_of_the_seed(stages: Choose) -> None:
    stages(Stage(SMALL))
    results = [result_of(layer_job(steps=0, seed=seed, initialiser=Seeds())) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(results[0].latents["layer:2"], results[1].latents["layer:2"])
    assert not np.array_equal(results[0].latents["layer:2"], results[2].latents["layer:2"])
    assert results[0].typicality["layer:2"] < 1, "a draw is no stranger"


def test_where_nothing_can_be_lifted_from_is_said() -> None:
    with pytest.raises(UnsupportedError, match="no other space leads to this one"):
        result_of(job(initialiser=Lifted()))


# ---- by itself -----------------------------------------------------------------------------------------


def test_auto_goes_through_all_spaces_and_decodes_after_that() -> None:
    asked = layer_job(initialiser=Auto(), losses=(Pixel(),), steps=60)
    tight = result_of(replace(asked, initialiser=Lifted(radius=0.01)))
    engine = toy_engine()
    result = result_of(asked, engine)
    seen = [stage["space"] for stage in result.picked["stages"]]
    assert list(dict.fromkeys(seen)) == ["z", "layer:1", ""]
    flat = result_of(job("layered", initialiser=Auto(), solver=Auto(), losses=(Pixel(),), steps=60), engine)
    assert result.metrics.psnr_db > tight.metrics.psnr_db + 0.1
    assert result.metrics.psnr_db > flat.metrics.psnr_db
    engine.submit("again", DecodeSpec(latents=result.latents, generator="layered"))
    decoded = drain(engine, {"again"})[0]["again"].result
    np.testing.assert_allclose(decoded.images[0], result.image, atol=1e-5)  # type: ignore[union-attr]
