"""Every solver but the default within the engine: alone in its lane, over a checkpoint, without a gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from latent_inv.errors import UnsupportedError
from latent_inv.generators.base import Generator
from latent_inv.result import Finished, Outcome
from latent_inv.settings import Settings
from latent_inv.spec import CMAES, LBFGS, Budget, Given, HybridCMA, Reporting
from tests.engine.helpers import drain, job, result_of, resumptions, toy_engine
from tests.engine.test_laws import same
from tests.toy import TOYS

#: small populations and few inner steps, so that thirty steps go over generations
SOLVERS = [LBFGS(), CMAES(population=6), HybridCMA(population=3, inner_steps=2)]
NAMES = [type(solver).__name__ for solver in SOLVERS]


@pytest.mark.parametrize("solver", SOLVERS, ids=NAMES)
class TestEverySolver:
    @pytest.mark.parametrize("width", [1, 4])
    def test_a_job_goes_on_from_a_checkpoint_bit_equally(self, solver: Settings, width: int) -> None:
        spec = job(seed=5, steps=30, lane_width=width, solver=solver, reporting=Reporting(checkpoint_steps=3))
        steps = [(checkpoint.step, expected.steps) for checkpoint, expected, _ in resumptions(spec)]
        assert len(steps) == steps[0][1] // 3 >= 2

    def test_a_result_does_not_depend_on_the_neighbours(self, solver: Settings) -> None:
        alone = result_of(job(seed=7, steps=40, lane_width=4, solver=solver))
        engine = toy_engine()
        for n in range(3):
            engine.submit(f"other {n}", job(seed=n, picture_seed=n, steps=9 + 8 * n, lane_width=4, solver=solver))
            engine.poll()
        engine.submit("one", job(seed=7, steps=40, lane_width=4, solver=solver))
        done, _ = drain(engine, {"one", *(f"other {n}" for n in range(3))})
        assert same(alone, done["one"].result)

    def test_a_step_is_one_evaluation(self, solver: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        """So that cancelling and deadlines are heard within one."""
        engine, calls = toy_engine(), []
        kind: Any = TOYS["smooth"]
        honest = kind._decode
        monkeypatch.setattr(kind, "_decode", lambda self, latents: calls.append(1) or honest(self, latents))
        engine.submit("one", job(steps=100, solver=solver))
        polls = 0
        while not any(isinstance(event, Finished) for event in engine.poll()):
            polls += 1
            assert len(calls) == polls
        assert polls >= 5

    def test_randomness_belongs_to_the_seed(self, solver: Settings) -> None:
        assert same(result_of(job(seed=3, solver=solver)), result_of(job(seed=3, solver=solver)))
        assert not same(result_of(job(seed=3, solver=solver)), result_of(job(seed=4, solver=solver)))


@pytest.mark.parametrize(("solver", "steps"), [(LBFGS(), 100), (CMAES(), 1500), (HybridCMA(), 1500)], ids=NAMES)
def test_it_finds_the_latents_of_a_picture(solver: Settings, steps: int) -> None:
    """Of one that the generator made, from a start nearby; 60 dB is a mean error below a grey level of 256."""
    made = result_of(job(seed=3, steps=0))
    picture = type(made.target)(made.image, None)
    start = Given(latents={"z": made.latents["z"] + 0.3})
    result = result_of(job(picture=picture, solver=solver, steps=steps, initialiser=start))
    assert result.metrics.psnr_db > 60, result.message
    assert result.outcome.good
    np.testing.assert_allclose(result.latents["z"], made.latents["z"], atol=0.02)


def test_a_generator_without_a_gradient_works_with_cma_es() -> None:
    result = result_of(job("frozen", solver=CMAES(), steps=300))
    assert result.outcome is Outcome.step_limit
    # The picture is none that the toy can make: L-BFGS ends at this loss too.
    assert result.loss == pytest.approx(result_of(job("smooth", solver=LBFGS(), steps=100)).loss, rel=1e-3)
    assert result.loss < 0.996 * result.history[0].loss
    for solver in (LBFGS(), HybridCMA()):
        with pytest.raises(UnsupportedError, match="cma_es works without"):
            result_of(job("frozen", solver=solver))


def test_frozen_gives_indeed_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    kind: type[Generator] = TOYS["frozen"]
    monkeypatch.setattr(kind, "differentiable", True)
    with pytest.raises(Exception, match="incident"):
        result_of(job("frozen"))


def test_cma_es_gives_up_where_nothing_has_an_effect() -> None:
    result = result_of(job("blind", solver=CMAES(), budget=Budget(steps=500)))
    assert result.outcome is Outcome.failed
    assert result.steps < 20
