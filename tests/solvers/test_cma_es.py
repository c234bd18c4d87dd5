"""CMA-ES against the package `cma` (pycma), its tables, and what it does where nothing can be had."""

from __future__ import annotations

import statistics
from typing import Any

import cma as pycma
import numpy as np
import pytest
import torch
from torch import Tensor

from latent_inv import spec
from latent_inv.solvers import Verdict
from latent_inv.solvers.cma import SEPARABLE, begin, learn, population, rates, spread
from latent_inv.types import take_row
from tests.solvers.functions import Function, Run, ellipsoid, rosenbrock, sphere

SEEDS, TARGET = 7, 1e-9


def evaluations(losses: Tensor) -> list[int]:
    """[steps, R] → how many it took each row to the target; all of them and one if it did not."""
    hit = torch.cat([losses < TARGET, torch.ones(1, losses.shape[1], dtype=torch.bool)])
    return [int(count) + 1 for count in hit.int().argmax(0)]


@pytest.mark.parametrize(
    ("function", "start", "most"), [(sphere, 0.7, 2500), (ellipsoid, 0.7, 7000), (rosenbrock, 0.0, 9000)]
)
def test_it_makes_the_progress_of_pycma(function: Function, start: float, most: int) -> None:
    """Evaluations to 1e-9 in ten dimensions, medians over seven seeds: within a factor of 1.5 either way."""
    x = torch.full((SEEDS, 10), start, dtype=torch.float64)
    ours = evaluations(torch.stack(Run(spec.CMAES(), function, x).steps(most).losses))
    theirs = []
    for seed in range(1, SEEDS + 1):
        options = {"verbose": -9, "seed": seed, "ftarget": TARGET, "maxfevals": most}
        strategy = pycma.CMAEvolutionStrategy(x[0].numpy(), 0.5, options)
        strategy.optimize(lambda point: function(torch.from_numpy(np.asarray(point))[None]).item())
        theirs.append(strategy.result.evaluations if strategy.result.fbest < TARGET else most + 1)
    assert statistics.median(ours) < most
    assert 1 / 1.5 < statistics.median(ours) / statistics.median(theirs) < 1.5, (ours, theirs)


@pytest.mark.parametrize(("d", "count"), [(2, 6), (10, 10), (100, 17), (100, 60)])
def test_the_rates_are_those_of_pycma(d: int, count: int) -> None:
    """Weights, path and step-size rates; c₁ and c_μ are within the small changes that pycma made since 2016."""
    ours = rates(d, count)
    theirs = pycma.CMAEvolutionStrategy(d * [0.0], 1, {"verbose": -9, "popsize": count})
    weights: Any = theirs.sp.weights
    positive = ours.weights > 0
    np.testing.assert_allclose(ours.weights[positive], np.asarray(weights)[: int(positive.sum())], rtol=1e-6)
    assert ours.weights.clamp_min(0).sum().item() == pytest.approx(1)
    assert ours.weights[~positive].sum().item() == pytest.approx(sum(w for w in weights if w < 0), rel=0.15)
    assert ours.mu_eff == pytest.approx(weights.mueff)
    assert ours.c_1 == pytest.approx(theirs.sp.c1, rel=0.1)
    assert ours.c_mu == pytest.approx(theirs.sp.cmu, rel=0.3)
    assert ours.c_c == pytest.approx(theirs.sp.cc, rel=0.1)


def test_the_population_follows_from_the_dimension() -> None:
    assert [population(d, 0) for d in (1, 10, 100)] == [4, 10, 17]
    assert [population(10, asked) for asked in (1, 2, 50)] == [2, 2, 50]


def test_the_covariance_stays_positive_definite() -> None:
    """Under rankings that come from nowhere, in which negative weights do most harm."""
    noise = torch.Generator().manual_seed(0)
    row = begin(torch.zeros(1, 8, dtype=torch.float64), 0.5, 40, key=1)
    for _ in range(200):
        row = learn(row, torch.rand(1, 40, generator=noise, dtype=torch.float64), key=1)
        assert torch.linalg.eigvalsh(row["covariance"][0]).min() > 0
    assert torch.equal(row["covariance"], row["covariance"].mT)


def test_many_dimensions_keep_a_diagonal() -> None:
    """An ellipsoid along the axes: pycma comes to 87 and 108 with a diagonal, and to 369 and 485 with a full matrix."""
    d = SEPARABLE + 40

    def axes(x: Tensor) -> Tensor:
        return (torch.logspace(0, 3, d, dtype=x.dtype) * x.square()).sum(1)

    run = Run(spec.CMAES(), axes, torch.full((1, d), 0.5, dtype=torch.float64)).steps(10_000)
    assert run.state["distribution"]["covariance"].shape == (1, d)
    variances = run.state["distribution"]["covariance"][0]
    assert variances[:40].mean() > 5 * variances[-40:].mean(), "narrow where the loss is steep"
    assert run.best.item() < 150
    full = Run(spec.CMAES(), sphere, torch.zeros(1, SEPARABLE))
    assert full.state["distribution"]["covariance"].shape == (1, SEPARABLE, SEPARABLE)


def test_draws_follow_from_key_and_generation() -> None:
    start = torch.zeros(3, 5, dtype=torch.float64)
    run = Run(spec.CMAES(population=6), sphere, start, torch.tensor([4, 9, 4]))
    seen = []
    for _ in range(3):
        draws = run.state["distribution"]["draws"]
        assert torch.equal(draws[0], draws[2])
        assert not torch.equal(draws[0], draws[1])
        seen.append(draws[0])
        run.steps(7 if len(seen) == 1 else 6)
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[1], seen[2])


def test_candidates_spread_as_asked() -> None:
    run = Run(spec.CMAES(sigma=0.2, population=500), sphere, torch.full((1, 4), 3.0, dtype=torch.float64)).steps(501)
    assert torch.equal(run.points[0], torch.full((1, 4), 3.0, dtype=torch.float64)), "the first is the start"
    drawn = torch.cat(run.points[1:])
    torch.testing.assert_close(drawn.std(0), torch.full((4,), 0.2).double(), rtol=0.1, atol=0)


def test_losses_that_are_no_numbers_rank_last() -> None:
    def walled(x: Tensor) -> Tensor:
        return torch.where(x[:, 0] > 0, torch.nan, sphere(x))

    run = Run(spec.CMAES(), walled, torch.full((1, 4), -1.0, dtype=torch.float64)).steps(1200)
    assert any(loss.isnan() for loss in run.losses), "the wall was never tried"
    assert (run.best < 1e-6).all()


def test_a_generation_without_a_number_is_drawn_narrower() -> None:
    row = begin(torch.zeros(1, 3, dtype=torch.float64), 0.5, 4, key=1)
    narrower = learn(row, torch.full((1, 4), torch.inf, dtype=torch.float64), key=1)
    assert spread(narrower).item() == spread(row).item() / 2
    assert torch.equal(narrower["mean"], row["mean"])
    assert not torch.equal(narrower["draws"], row["draws"])


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: sphere(x) + 1, Verdict.converged),
        (sphere, Verdict.converged),
        (lambda x: 0 * sphere(x) + 1, Verdict.exhausted),
        (lambda x: sphere(x) * torch.nan, Verdict.exhausted),
    ],
    ids=["minimum", "minimum of 0", "flat", "no number"],
)
def test_it_says_when_it_can_do_no_more(function: Function, expected: Verdict) -> None:
    run = Run(spec.CMAES(), function, torch.full((1, 3), 0.5))
    assert run.verdicts == [Verdict.go_on]
    for _ in range(1500):
        run.step()
        if Verdict.go_on not in run.verdicts:
            break
    assert run.verdicts == [expected]


def test_rows_learn_at_their_own_time() -> None:
    """Two rows in different places of their generations."""
    from latent_inv.types import join_rows

    early, late = (Run(spec.CMAES(population=5), sphere, torch.ones(1, 3)) for _ in range(2))
    early.steps(4)
    both = Run(spec.CMAES(population=5), sphere, torch.ones(2, 3))
    both.latents = join_rows([early.latents, late.latents])
    both.state = join_rows([early.state, late.state])
    both.steps(10)
    early.steps(10)
    late.steps(10)
    for row, alone in enumerate((early, late)):
        here, there = take_row(both.state, row)["distribution"], alone.state["distribution"]
        assert here["generation"].item() == (2, 1)[row]
        assert all(torch.equal(here[name], there[name]) for name in here)
