"""Jobs and requests in half precision: float32 again where that is not enough, and it is said."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from latent_inv import spec as specs
from latent_inv.device import place
from latent_inv.engine.engine import Engine
from latent_inv.errors import InternalError, LatentsError, LimitError, SpecError, UnsupportedError
from latent_inv.generators import GENERATORS
from latent_inv.images import Picture
from latent_inv.outline import precision_of
from latent_inv.result import Checkpoint, Finished, JobResult
from latent_inv.solve import run
from latent_inv.spec import (
    LBFGS,
    Adam,
    Budget,
    DecodeSpec,
    EncodeSpec,
    GaussNewton,
    Given,
    LatentPrior,
    LevenbergMarquardt,
    Pixel,
    Reporting,
    SampleSpec,
    Seeds,
)
from tests.conftest import make_picture
from tests.contracts import loaded
from tests.engine.helpers import drain, job, result_of, toy_engine
from tests.toy import TOYS

QUIET, BEYOND = np.full((1, 12), 0.5, np.float32), np.full((1, 12), 3.5, np.float32)


def loud(precision: str = "float16", **settings: Any) -> specs.JobSpec:
    """From latents that float16 cannot hold."""
    start = Given(latents={"z": BEYOND})
    return job(**{"generator": "loud", "precision": precision, "initialiser": start, **settings})


def same(first: Any, second: Any) -> bool:
    return all(np.array_equal(array, second.latents[name]) for name, array in first.latents.items())


# ---- jobs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("solver", [Adam(), LBFGS()])
def test_a_job_gets_nearly_as_far(precision: str, solver: Any) -> None:
    picture = Picture(loaded("smooth")({"z": torch.full((1, 12), 0.4)})[0].numpy())
    exact = result_of(job(picture=picture, solver=solver, steps=60))
    found = result_of(job(picture=picture, solver=solver, steps=60, precision=precision))
    assert (found.precision, found.dtype, exact.precision) == (precision, "float32", "float32")
    assert found.to_json()["precision"] == precision
    assert not same(exact, found), "nothing was rounded"
    assert found.metrics.psnr_db > min(exact.metrics.psnr_db, 45) - 5
    assert all(array.dtype == np.float32 for array in (found.image, *found.latents.values()))
    assert found.warnings == ()
    again = loaded("smooth").rounded(getattr(torch, precision))({"z": torch.from_numpy(found.latents["z"])})
    np.testing.assert_array_equal(again[0].detach().numpy(), found.image), "the picture is the one that was scored"


@pytest.mark.parametrize("width", [1, 4])
def test_a_result_does_not_depend_on_the_neighbours(width: int) -> None:
    """bfloat16 and float32 side by side, jobs that come and go: each bit-equal to itself alone."""
    rng = random.Random(width)
    wanted = {
        f"job {n}": job(
            picture_seed=n,
            seed=n,
            steps=rng.randrange(5, 30),
            lane_width=width,
            precision=("bfloat16", "bfloat16", "float32")[n % 3],
            losses=(Pixel(weight=rng.uniform(0.5, 2)), LatentPrior(weight=rng.uniform(0, 0.1))),
        )
        for n in range(8)
    }
    alone = {name: result_of(spec) for name, spec in wanted.items()}
    engine, waiting, done = toy_engine(), list(wanted), {}
    while waiting or not engine.idle:
        while waiting and rng.random() < 0.3:
            name = waiting.pop()
            engine.submit(name, wanted[name])
        done.update({event.job_id: event.result for event in engine.poll() if isinstance(event, Finished)})
    for name, expected in alone.items():
        assert same(expected, done[name]), f"{name} differs at width {width}"


def test_precisions_share_no_lane() -> None:
    engine = toy_engine()
    for index, precision in enumerate(("float32", "bfloat16", "bfloat16", "float16", "auto")):
        engine.submit(f"{index}", job(seed=index, lane_width=4, precision=precision))
    assert engine.load.lanes == 3


def test_a_start_that_overflows_is_taken_again_in_float32() -> None:
    exact, found = result_of(loud("float32")), result_of(loud())
    assert same(exact, found), "it must be as if float32 had been asked for"
    assert (found.precision, found.settings["precision"]) == ("float32", "float16")
    assert found.warnings == (
        "float16 gave values that are not finite at step 0; from there on the network was in float32",
    )
    assert [step.step for step in found.history] == [step.step for step in exact.history]


def midway(**settings: Any) -> specs.JobSpec:
    """It begins where float16 is enough, and is drawn to a picture whose latents are beyond."""
    picture = Picture(loaded("loud")({"z": torch.tensor(BEYOND)})[0].numpy())
    start = Given(latents={"z": np.full((1, 12), 2.9, np.float32)})
    return loud(**{"picture": picture, "initialiser": start, "steps": 60, **settings})


def overflow_step(result: JobResult) -> int:
    (said,) = result.warnings
    return int(said.split("at step ")[1].split(";")[0])


@pytest.mark.parametrize("solver", [Adam(learning_rate=0.05, typical=0), LBFGS()])
def test_a_job_goes_on_from_where_it_overflowed(solver: Any) -> None:
    found = result_of(midway(solver=solver))
    assert found.precision == "float32"
    assert overflow_step(found) > 0, "the start was loud already, so this tests nothing"
    assert [step.step for step in found.history] == list(range(found.steps + 1)), "a step is missing or there twice"
    assert found.metrics.psnr_db > 30
    assert np.abs(found.latents["z"]).max() > 3


def test_an_overflow_hurts_no_neighbour() -> None:
    quiet = job(generator="loud", precision="float16", initialiser=Given(latents={"z": QUIET}), lane_width=4)
    alone, alone_midway = result_of(quiet), result_of(midway(lane_width=4))
    engine = toy_engine()
    for name, spec in {"loud": loud(lane_width=4), "quiet": quiet, "midway": midway(lane_width=4)}.items():
        engine.submit(name, spec)
    done, _ = drain(engine, {"loud", "quiet", "midway"})
    assert same(alone, done["quiet"].result)
    assert done["quiet"].result.precision == "float16"  # type: ignore[union-attr]
    assert same(alone_midway, done["midway"].result)


def test_all_rows_of_a_job_go_on_in_float32() -> None:
    several = np.concatenate([QUIET, BEYOND, 2 * QUIET])
    found = result_of(loud(initialiser=Given(latents={"z": several})))
    assert found.precision == "float32"
    assert len(found.warnings) == 1


def resumed(spec: specs.JobSpec) -> Iterator[tuple[Checkpoint, JobResult, JobResult]]:
    engine = toy_engine()
    engine.submit("one", spec)
    done, events = drain(engine, {"one"})
    for checkpoint in [event for event in events if isinstance(event, Checkpoint)]:
        other = toy_engine()
        other.submit("again", spec, checkpoint.data)
        again = drain(other, {"again"})[0]["again"].result
        assert isinstance(again, JobResult)
        expected = done["one"].result
        assert isinstance(expected, JobResult)
        yield checkpoint, expected, again


def test_a_job_goes_on_from_its_checkpoint_in_the_format_that_it_had_then() -> None:
    steps = []
    for checkpoint, expected, again in resumed(midway(reporting=Reporting(checkpoint_steps=5))):
        assert same(expected, again), f"from step {checkpoint.step}"
        assert (again.precision, again.warnings) == (expected.precision, expected.warnings)
        steps.append(checkpoint.step - overflow_step(expected))
    assert min(steps) < 0 < max(steps), "no checkpoint before, or none after"


def test_what_is_no_number_in_float32_either_is_an_error() -> None:
    with pytest.raises(InternalError, match="not a finite number at the start"):
        result_of(job(generator="broken", precision="bfloat16"))


def test_an_encoder_that_overflows_starts_in_float32() -> None:
    white = Picture(np.ones((3, 32, 32), np.float32))
    exact, found = (
        result_of(loud(precision, picture=white, initialiser=specs.Encoder())) for precision in ("float32", "float16")
    )
    assert same(exact, found)
    assert "float16 gave values that are not finite at the start" in found.warnings[0]


def test_float32_is_let_in_only_where_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The estimate was of half precision."""
    engine = toy_engine(memory_bytes=2**40)
    engine.submit("one", midway())
    monkeypatch.setattr(engine._admission, "limit", 1)
    done, _ = drain(engine, {"one"})
    assert isinstance(done["one"].error, LimitError)
    assert engine.idle
    assert engine._admission.reserved == 0


def test_a_layer_is_found_through_its_way() -> None:
    """Latents are lifted by the network in half precision, and stay float32."""
    asked = specs.JobSpec(
        picture=make_picture(64, 64),
        generator="faces",
        space="layer:1",
        losses=(Pixel(),),
        precision="bfloat16",
        budget=Budget(steps=6),
    )
    found = run(Engine(GENERATORS, place("cpu")), asked)
    assert (found.precision, found.space, found.warnings) == ("bfloat16", "layer:1", ())
    assert found.latents["layer:1"].dtype == np.float32
    assert found.metrics.psnr_db >= found.history[0].metrics.psnr_db


# ---- what cannot be ------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", [LevenbergMarquardt(), GaussNewton()])
def test_solvers_that_find_the_last_digits_want_them(solver: Any) -> None:
    with pytest.raises(UnsupportedError, match="digits that bfloat16 has not; take precision float32") as caught:
        result_of(job(solver=solver, precision="bfloat16"))
    assert caught.value.field == "solver"


def test_the_policy_takes_others() -> None:
    asked: dict[str, Any] = {"solver": specs.Auto(), "initialiser": specs.Auto()}
    exact, found = result_of(job(**asked, steps=3)), result_of(job(**asked, steps=3, precision="bfloat16"))
    assert "levenberg_marquardt" in str(exact.picked["why"])
    assert "adam, as bfloat16 has too few digits to find latents exactly" in str(found.picked["why"])


@pytest.mark.parametrize(
    "spec",
    [
        job("toy", precision="bfloat16"),
        SampleSpec(generator="toy", precision="bfloat16"),
        DecodeSpec(latents={}, generator="toy", precision="bfloat16"),
        EncodeSpec(picture=make_picture(8, 8), generator="toy", precision="bfloat16"),
    ],
    ids=lambda spec: type(spec).__name__,
)
def test_a_generator_that_has_none(spec: Any) -> None:
    with pytest.raises(UnsupportedError, match=r"computes in float32, found bfloat16|has no encoder"):
        toy_engine().submit("one", spec)


def test_many_digits_and_few_do_not_go_together() -> None:
    for precision in ("bfloat16", "float32"):
        with pytest.raises(SpecError, match=f"need a network in it: leave precision at auto, found {precision}"):
            SampleSpec(dtype="float64", precision=precision)
    found = result_of(job(dtype="float64", steps=2))
    assert (found.dtype, found.precision) == ("float64", "float64")
    with pytest.raises(SpecError, match="accepted: bfloat16, float16, float32"):
        place("cpu", precision="double")


# ---- requests ------------------------------------------------------------------------------------


def test_rows_that_overflow_are_decoded_again() -> None:
    z = np.concatenate([QUIET, BEYOND, 2 * QUIET, BEYOND])
    exact = run(toy_engine(), DecodeSpec(latents={"z": z}, generator="loud"))
    found = run(toy_engine(), DecodeSpec(latents={"z": z}, generator="loud", precision="float16"))
    assert found.precision == "float16"
    assert found.warnings == ("float16 gave values that are not finite, so decoded in float32: rows 1, 3",)
    np.testing.assert_allclose(found.images[[1, 3]], exact.images[[1, 3]], atol=1e-6)
    assert not np.array_equal(found.images[[0, 2]], exact.images[[0, 2]])
    assert (exact.precision, exact.warnings) == ("float32", ())
    with pytest.raises(LatentsError, match="not finite"):
        run(toy_engine(), DecodeSpec(latents={"z": QUIET}, generator="broken", precision="bfloat16"))


def test_draws_are_the_same_in_every_format() -> None:
    exact, found = (
        run(toy_engine(), SampleSpec(seeds=(1, 2), generator="smooth", precision=precision))
        for precision in ("float32", "bfloat16")
    )
    np.testing.assert_array_equal(exact.latents["z"], found.latents["z"])
    assert not np.array_equal(exact.images, found.images)
    assert (found.precision, found.images.dtype) == ("bfloat16", np.float32)


def test_an_encoder_that_overflows_looks_again() -> None:
    white = Picture(np.ones((3, 32, 32), np.float32))
    exact, found = (
        run(toy_engine(), EncodeSpec(picture=white, generator="loud", precision=precision))
        for precision in ("float32", "float16")
    )
    np.testing.assert_array_equal(exact.latents["z"], found.latents["z"])
    assert "looked again in float32" in found.warnings[0]
    assert "decoded in float32: rows 0" in found.warnings[1]


# ---- what auto means -----------------------------------------------------------------------------


def test_auto_is_what_the_server_says_where_that_can_be() -> None:
    here = place("cpu", precision="bfloat16")
    found = run(Engine(TOYS, here), SampleSpec(generator="smooth"))
    assert found.precision == "bfloat16"
    assert run(Engine(TOYS, here), SampleSpec(generator="smooth", precision="float32")).precision == "float32"
    assert run(Engine(TOYS, here), SampleSpec(generator="smooth", dtype="float64")).precision == "float64"
    assert run(Engine(TOYS, here), SampleSpec(generator="toy")).precision == "float32", "it has no other"
    assert run(toy_engine(), SampleSpec(generator="smooth")).precision == "float32"


def test_auto_keeps_jobs_exact_that_can_be() -> None:
    here, kind = place("cpu", precision="bfloat16"), TOYS["smooth"]
    for solver, expected in (
        (specs.Auto(), "float32"),  # few latents: the policy takes Levenberg and Marquardt's
        (LevenbergMarquardt(), "float32"),
        (Adam(), "bfloat16"),
    ):
        assert precision_of(job(solver=solver), kind, here) == expected
    many = job("photos", picture=make_picture(90, 100), solver=specs.Auto())
    assert precision_of(many, GENERATORS["photos"], here) == "bfloat16"
    assert result_of(job(initialiser=Seeds(), budget=Budget(steps=2)), Engine(TOYS, here)).precision == "bfloat16"
