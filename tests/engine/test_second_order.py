"""Normal equations and curvatures as the runner makes them, and the laws of the engine with solvers that use them."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from latent_inv import spec
from latent_inv.build import Job, build_job
from latent_inv.checks import jacobian_bytes
from latent_inv.device import place
from latent_inv.engine import runner
from latent_inv.engine.engine import Engine
from latent_inv.engine.runner import evaluate
from latent_inv.errors import LimitError, UnsupportedError
from latent_inv.generators import GENERATORS
from latent_inv.images import Picture
from latent_inv.objective import Constants
from latent_inv.result import Checkpoint, Finished, JobResult, Outcome
from latent_inv.solve import run
from latent_inv.solvers import LocalModel
from latent_inv.spec import Budget, Given, JobSpec, LatentPrior, Perceptual, Pixel, PriorMean, Reporting
from latent_inv.types import joined, parted
from tests.conftest import make_picture
from tests.contracts import loaded
from tests.engine.helpers import drain, job, result_of, toy_engine
from tests.test_objective import CATALOGUE, lane

SOLVERS: list[Any] = [spec.LevenbergMarquardt(), spec.GaussNewton()]
TERMS: dict[str, tuple[Any, ...]] = {
    "pixel": (Pixel(weight=2.0),),
    "perceptual": (Perceptual(weight=0.7),),
    "prior": (LatentPrior(weight=0.3),),
    "all": (Pixel(weight=2.0), Perceptual(weight=0.7), LatentPrior(weight=0.3)),
}


def built(solver: Any = SOLVERS[0], **settings: Any) -> Job:
    return build_job(job(solver=solver, **settings), CATALOGUE)


def differences(made: Job, point: dict[str, Tensor], constants: Constants) -> Tensor:
    """The Jacobian by central differences in float64, [R, n, d]: their error is about 1e-9 at this step."""
    flat, step, columns = joined(point), 1e-6, []
    for index in range(flat.shape[1]):
        moved = torch.zeros_like(flat)
        moved[:, index] = step
        ahead, behind = (
            torch.cat(made.objective.residual(parted(flat + sign * moved, point), constants), 1) for sign in (1, -1)
        )
        columns.append((ahead - behind) / (2 * step))
    return torch.stack(columns, dim=2)


# ---- derivatives -------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [128, 5])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("terms", TERMS)
def test_normal_equations_are_those_of_finite_differences(terms: str, masked: bool, chunk: int) -> None:
    weight = np.ones((32, 32), np.float32)
    weight[:, :9] = 0
    picture = make_picture(32, 32, weight=weight if masked else None)
    made = built(losses=TERMS[terms], dtype="float64", picture=picture)
    point, constants = lane(made, 3)
    found = evaluate(replace(made.objective, tangent_chunk=chunk), point, constants, "model")
    assert found.model is not None
    models = {row: found.model(row) for row in (0, 2)}
    with torch.no_grad():
        jacobian = differences(made, point, constants)
        residual = torch.cat(made.objective.residual(point, constants), 1)
    for row in (0, 2):
        gram, slope = jacobian[row].T @ jacobian[row], jacobian[row].T @ residual[row]
        assert gram.abs().max() > 0
        torch.testing.assert_close(models[row].gram, gram, rtol=1e-5, atol=1e-7 * float(gram.abs().max()))
        torch.testing.assert_close(models[row].slope, slope, rtol=1e-5, atol=1e-7 * float(slope.abs().max()))
        torch.testing.assert_close(found.gradient["z"][row], 2 * models[row].slope, rtol=1e-8, atol=1e-12)
    torch.testing.assert_close(found.squares, found.loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(residual.square().sum(1), found.loss, rtol=1e-10, atol=0)
    weights = sum(item.weight for item in TERMS[terms])
    assert found.scale is not None
    assert found.scale.tolist() == pytest.approx([weights] * 3)


@pytest.mark.parametrize("terms", TERMS)
def test_a_model_looks_at_other_points_with_its_own_jacobian(terms: str) -> None:
    made = built(losses=TERMS[terms], dtype="float64")
    point, constants = lane(made, 3)
    found = evaluate(made.objective, point, constants, "model")
    assert found.model is not None
    others = joined(point)[1] + torch.linspace(-0.5, 0.5, 60, dtype=torch.float64).reshape(5, 12)
    squares, slopes = found.model(1).look(others)
    with torch.no_grad():
        jacobian = differences(made, point, constants)[1]
        for index in range(5):
            here = {"z": others[index].expand(3, 12).contiguous()}
            residual = torch.cat(made.objective.residual(here, constants), 1)[1]
            torch.testing.assert_close(squares[index], residual.square().sum(), rtol=1e-9, atol=0)
            expected = jacobian.T @ residual
            torch.testing.assert_close(slopes[index], expected, rtol=1e-5, atol=1e-7 * float(expected.abs().max()))


def test_a_model_looks_at_points_where_the_constraint_puts_them() -> None:
    made = built(generator="toy", space="code+class", dtype="float64", picture=make_picture(32, 40))
    point, constants = lane(made, 1)
    model = evaluate(made.objective, point, constants, "model").model
    assert model is not None
    outside = joined(point) + 3
    inside = joined(made.objective.space.retract(parted(outside, point)))
    assert not torch.equal(outside, inside)
    assert torch.equal(model(0).look(outside)[0], model(0).look(inside)[0])


@pytest.mark.parametrize("terms", TERMS)
def test_products_with_the_curvature_are_those_of_finite_differences(terms: str) -> None:
    made = built(spec.GaussNewton(), losses=TERMS[terms], dtype="float64")
    point, constants = lane(made, 3)
    found = evaluate(made.objective, point, constants, "curvature")
    assert found.curvature is not None
    assert found.squares is not None
    vectors = torch.randn(3, 12, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    product = found.curvature({"z": vectors})["z"]
    with torch.no_grad():
        jacobian = differences(made, point, constants)
        residual = torch.cat(made.objective.residual(point, constants), 1)
    for row in range(3):
        expected = jacobian[row].T @ (jacobian[row] @ vectors[row])
        torch.testing.assert_close(product[row], expected, rtol=1e-5, atol=1e-7 * float(expected.abs().max()))
        slope = jacobian[row].T @ residual[row]
        torch.testing.assert_close(found.gradient["z"][row], 2 * slope, rtol=1e-5, atol=1e-7 * float(slope.abs().max()))
    assert not product.requires_grad
    again = found.curvature({"z": vectors})["z"]
    assert torch.equal(product, again), "a product uses nothing up"


def test_products_work_with_parts_of_any_shape() -> None:
    """Against the same product from the normal equations."""
    made = built(spec.GaussNewton(), generator="toy", space="code+class", dtype="float64", picture=make_picture(32, 40))
    point, constants = lane(made, 2)
    model = evaluate(made.objective, point, constants, "model").model
    curvature = evaluate(made.objective, point, constants, "curvature").curvature
    assert model is not None
    assert curvature is not None
    gram = torch.stack([model(row).gram for row in range(2)])
    vectors = {name: torch.cos(17 * tensor) for name, tensor in point.items()}
    expected = (gram @ joined(vectors)[:, :, None])[:, :, 0]
    torch.testing.assert_close(joined(curvature(vectors)), expected, rtol=1e-9, atol=1e-12)


def test_parts_of_any_shape_are_joined_in_order() -> None:
    made = built(generator="toy", space="code+class", dtype="float64", picture=make_picture(32, 40))
    point, constants = lane(made, 2)
    found = evaluate(made.objective, point, constants, "model")
    assert found.model is not None
    slope = parted(torch.stack([found.model(row).slope for row in range(2)]), point)
    for name, gradient in found.gradient.items():
        torch.testing.assert_close(gradient, 2 * slope[name], rtol=1e-8, atol=1e-12)


def test_a_model_of_pixels_has_the_slope_of_pixels() -> None:
    made = built(spec.LevenbergMarquardt(terms="pixel"), losses=TERMS["all"])
    alone = built(losses=TERMS["pixel"])
    point, constants = lane(made, 2)
    both, pixel = (
        evaluate(of.objective, point, held, "model") for of, held in ((made, constants), (alone, lane(alone, 2)[1]))
    )
    assert set(both.terms) == {"pixel", "perceptual", "latent_prior"}
    assert (both.loss > both.terms["pixel"]).all()
    assert both.squares is not None
    assert torch.equal(both.squares, both.terms["pixel"])
    torch.testing.assert_close(both.gradient["z"], pixel.gradient["z"])


def test_the_model_of_a_row_does_not_depend_on_its_place() -> None:
    """Bit-equal in every place."""
    made = built(losses=TERMS["all"])
    point, constants = lane(made, 4)

    def at(order: list[int]) -> list[LocalModel]:
        moved = {name: tensor[order] for name, tensor in point.items()}
        held = constants  # all rows of this lane have one target
        model = evaluate(made.objective, moved, held, "model").model
        assert model is not None
        return [model(row) for row in range(4)]

    for first, turned in zip(at([0, 1, 2, 3]), reversed(at([3, 2, 1, 0])), strict=True):
        assert torch.equal(first.gram, turned.gram)
        assert torch.equal(first.slope, turned.slope)
        elsewhere = torch.cat([joined(point), joined(point) + 0.1])
        for one, other in zip(first.look(elsewhere), turned.look(elsewhere), strict=True):
            assert torch.equal(one, other)


def test_the_copies_that_fill_a_lane_up_have_no_jacobian(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    honest = runner._model_of_row
    monkeypatch.setattr(runner, "_model_of_row", lambda *a: made.append(1) or honest(*a))
    result = result_of(job(steps=5, lane_width=4, solver=spec.LevenbergMarquardt()))
    assert 0 < len(made) <= result.steps + 1


def test_a_row_that_has_reached_its_target_has_no_further_jacobian(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    honest = runner._model_of_row
    monkeypatch.setattr(runner, "_model_of_row", lambda *a: made.append(1) or honest(*a))
    asked: dict[str, Any] = {"solver": spec.LevenbergMarquardt(chords=0), "initialiser": PriorMean()}
    whole = result_of(job(steps=20, **asked))
    enough = whole.metrics.psnr_db - 0.01
    made.clear()
    result = result_of(job(budget=Budget(steps=20, target_psnr_db=enough), **asked))
    assert result.outcome is Outcome.target_reached
    assert 0 < result.steps <= whole.steps
    assert len(made) <= result.steps


@pytest.mark.parametrize("solver", [type(solver).__name__ for solver in SOLVERS])
def test_the_first_tangent_of_a_process_warns_of_nothing(solver: str) -> None:
    code = (
        "import torch; from tests.engine.helpers import job, result_of; from latent_inv import spec;"
        f"result_of(job(steps=2, solver=spec.{solver}()))"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# ---- laws of the engine ------------------------------------------------------------------------


def same(first: Any, second: Any) -> bool:
    return all(np.array_equal(array, second.latents[name]) for name, array in first.latents.items())


@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: type(solver).__name__)
class TestLaws:
    def test_a_result_does_not_depend_on_the_neighbours(self, solver: Any, width: int) -> None:
        rng = random.Random(width)
        specs = {
            f"job {n}": job(
                picture_seed=n,
                seed=n,
                steps=rng.randrange(3, 15),
                lane_width=width,
                solver=replace(solver, damping=rng.choice([1e-6, 0.1, 3.0])),
                losses=(Pixel(weight=rng.uniform(0.5, 2)), LatentPrior(weight=rng.uniform(0.001, 0.1))),
            )
            for n in range(7)
        }
        alone = {name: result_of(each) for name, each in specs.items()}
        engine, waiting, done = toy_engine(), list(specs), {}
        while waiting or not engine.idle:
            if waiting and rng.random() < 0.3:
                name = waiting.pop()
                engine.submit(name, specs[name])
            done.update({event.job_id: event for event in engine.poll() if isinstance(event, Finished)})
        for name, expected in alone.items():
            assert expected.steps > 0
            assert same(expected, done[name].result), f"{name} differs at width {width}"

    def test_a_job_goes_on_from_a_checkpoint_bit_equally(self, solver: Any, width: int) -> None:
        """With refused steps on the way, since the damping starts much too small for so far a start."""
        far = 4 * np.random.default_rng(0).standard_normal((1, 12))
        asked = job(
            seed=5,
            steps=13,
            lane_width=width,
            initialiser=Given(latents={"z": far}),
            solver=replace(solver, damping=1e-7, tolerance=0),
            reporting=Reporting(checkpoint_steps=4),
        )
        engine = toy_engine()
        engine.submit("one", asked)
        done, events = drain(engine, {"one"})
        expected = done["one"].result
        assert isinstance(expected, JobResult)
        losses = [step.loss for step in expected.history]
        assert losses != sorted(losses, reverse=True), "nothing was refused"
        checkpoints = [event for event in events if isinstance(event, Checkpoint)]
        assert [event.step for event in checkpoints] == [step for step in (4, 8, 12) if step <= expected.steps] != []
        for checkpoint in checkpoints:
            other = toy_engine()
            other.submit("again", asked, checkpoint.data)
            result = drain(other, {"again"})[0]["again"].result
            assert isinstance(result, JobResult)
            assert same(expected, result)
            assert [step.loss for step in result.history] == losses

    def test_a_bad_row_does_not_hurt_its_neighbour(self, solver: Any, width: int) -> None:
        alone = result_of(job(seed=7, lane_width=width, solver=solver))
        engine = toy_engine()
        far = Given(latents={"z": np.full((1, 12), 1e30, np.float32)})
        engine.submit("wild", job(seed=1, lane_width=width, solver=solver, initialiser=far))
        engine.submit("one", job(seed=7, lane_width=width, solver=solver))
        done, _ = drain(engine, {"one", "wild"})
        assert same(alone, done["one"].result)

    def test_a_dead_start_is_moved(self, solver: Any, width: int) -> None:
        result = result_of(job("dead", initialiser=PriorMean(), solver=solver, lane_width=width))
        assert result.loss < result.history[0].loss
        assert any("start was moved" in warning for warning in result.warnings)

    def test_a_generator_without_effect_is_stuck(self, solver: Any, width: int) -> None:
        assert result_of(job("blind", solver=solver, lane_width=width)).outcome is Outcome.stuck

    def test_a_picture_of_the_generator_is_found_and_the_end_is_said(self, solver: Any, width: int) -> None:
        """From near by, to the rounding of float32 (above 110 dB), with the prior of no weight worth speaking of."""
        made = result_of(job(seed=3, steps=0))
        near = Given(latents={"z": made.latents["z"] + 0.2 * np.random.default_rng(0).standard_normal((1, 12))})
        picture = Picture(made.image, None)
        result = result_of(job(picture=picture, steps=60, initialiser=near, solver=solver, lane_width=width))
        assert result.outcome is Outcome.converged
        assert result.metrics.psnr_db > 110
        assert result.steps < 40

    def test_borders_are_kept(self, solver: Any, width: int) -> None:
        """As far down as 200 steps of Adam get, but for a tenth of the way; many coordinates end on the border."""
        asked = job("toy", space="code+class", steps=60, solver=solver, lane_width=width)
        result = result_of(asked)
        assert np.abs(result.latents["code"]).max() <= 1
        assert result.latents["class"].sum() == pytest.approx(1, abs=1e-6)
        assert result.outcome.good, result.message
        adam = result_of(replace(asked, solver=spec.Adam(learning_rate=0.05), budget=Budget(steps=200)))
        assert (np.abs(result.latents["code"]) == 1).any()
        assert result.loss - adam.loss < 0.1 * (result.history[0].loss - adam.loss)


@pytest.mark.parametrize(
    "solver",
    # A hundred latents take more than the ten conjugate gradients that a step has by default.
    [spec.LevenbergMarquardt(), pytest.param(spec.GaussNewton(), marks=pytest.mark.slow)],
    ids=lambda solver: type(solver).__name__,
)
def test_a_face_near_by_is_found(solver: Any) -> None:
    """From 0.3 deviations beside the latents of a sample: above 100 dB within 15 steps of pixels alone."""
    generator = loaded("faces")
    z = generator.sample([1])["z"]
    with torch.no_grad():
        image = generator({"z": z})[0].numpy()
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(1))
    asked = JobSpec(
        picture=Picture(image, None),
        generator="faces",
        losses=(Pixel(),),
        solver=solver,
        initialiser=Given(latents={"z": (z + 0.3 * noise).numpy()}),
        budget=Budget(steps=15, target_psnr_db=100.1),
    )
    result = run(Engine(GENERATORS, place("cpu")), asked)
    assert result.history[0].metrics.psnr_db < 25
    assert result.metrics.psnr_db > 100


# ---- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: type(solver).__name__)
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"losses": (Pixel(kind="l1"),)}, '"pixel".*l1.*no sum of squares.*"adam" and "l_bfgs"'),
        ({"losses": (Pixel(), spec.TotalVariation())}, '"total_variation".*no sum of squares'),
        ({"generator": "toy", "losses": (Pixel(), LatentPrior())}, '"latent_prior".*no sum of squares'),
        ({"generator": "backward"}, "backward has no forward mode"),
        ({"generator": "frozen"}, "gives no gradient"),
    ],
)
def test_what_is_no_sum_of_squares_is_refused(solver: Any, settings: dict[str, Any], said: str) -> None:
    engine = toy_engine()
    with pytest.raises(UnsupportedError, match=said) as caught:
        engine.submit("one", job(solver=solver, **settings))
    assert caught.value.field == "solver"
    assert engine.idle


def test_pixels_alone_can_be_modelled_beside_any_other_loss() -> None:
    pixel = spec.LevenbergMarquardt(terms="pixel")
    result = result_of(job(solver=pixel, losses=(Pixel(), spec.TotalVariation())))
    assert set(result.history[0].terms) == {"pixel", "total_variation"}
    for losses in ((Perceptual(),), (Pixel(kind="huber"), Perceptual())):
        with pytest.raises(UnsupportedError, match="pixel") as caught:
            built(pixel, losses=losses)
        assert caught.value.field == "solver"


def test_a_jacobian_that_is_too_large_is_refused() -> None:
    """A picture of 512 × 520: 16 640 latents, 798 720 residuals, 51 GiB."""
    asked: dict[str, Any] = {"generator": "toy", "picture": make_picture(512, 520)}
    with pytest.raises(LimitError, match=r'798720 residuals.* MiB, at most 1024.*"gauss_newton"') as caught:
        built(**asked)
    assert caught.value.field == "solver"
    assert built(spec.GaussNewton(), **asked).starts, "which does without it"
    small = built(generator="toy", picture=make_picture(32, 40))
    entries = small.objective.residual_entries(small.starts[0], small.target)
    assert entries == 3 * 32 * 40
    assert jacobian_bytes(small.objective, small.starts[0], entries) == 80 * (entries + 80) * 4
