"""The hybrid of CMA-ES and Adam: its order of work, and what the refinement is good for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from latent_inv import spec
from latent_inv.solvers.cma import candidates
from tests.solvers.functions import Run, rastrigin, sphere

D = 4


def new(steps: int = 0, **settings: float) -> Run:
    run = Run(spec.HybridCMA(population=3, inner_steps=2, **settings), sphere, torch.ones(1, D, dtype=torch.float64))
    for _ in range(steps):
        run.step()
    return run


def test_each_candidate_is_drawn_refined_and_then_ranked() -> None:
    run = new()
    drawn = [candidates(run.state["distribution"], torch.tensor([k])) for k in range(3)]
    mean = run.state["distribution"]["mean"]
    for _ in range(9):
        run.step()
    assert torch.equal(run.state["distribution"]["mean"], mean), "the last candidate has not been refined"
    assert torch.equal(run.points[0], torch.ones(1, D, dtype=torch.float64)), "the start comes first"
    for k, draw in enumerate(drawn):
        assert torch.equal(run.points[1 + 3 * k], draw)
    # Three points of one candidate: Adam's first steps are as long as the learning rate.
    for k in range(3):
        a, b = run.points[1 + 3 * k : 3 + 3 * k]
        torch.testing.assert_close((b - a).abs(), torch.full((1, D), 0.05).double(), rtol=1e-5, atol=0)
        assert run.losses[2 + 3 * k] < run.losses[1 + 3 * k]
    fitness = run.state["fitness"][0, :2]
    assert fitness.tolist() == [run.losses[3].item(), run.losses[6].item()]
    run.step()
    assert not torch.equal(run.state["distribution"]["mean"], mean)
    assert run.state["distribution"]["generation"].item() == 1


def test_after_its_share_of_the_budget_the_best_point_is_refined() -> None:
    run = new(25, outer_share=0.6)
    best = torch.stack(run.losses).argmin()
    run.step(progress=0.6)
    assert not torch.equal(run.points[-1], run.points[best])
    for step in range(60):
        run.step(progress=0.6 + 0.4 * step / 60)
    assert torch.equal(run.points[26], run.points[best]), "it goes on from the best one"
    assert run.state["alone"].item()
    assert run.state["distribution"]["generation"].item() == 2, "nothing more is drawn"
    moves = [(b - a).abs().max().item() for a, b in zip(run.points[26:], run.points[27:], strict=False)]
    assert moves[0] == pytest.approx(0.05, rel=1e-5)
    assert moves[-1] < 0.001, "the learning rate has fallen"


def test_draws_that_have_become_one_point_are_not_drawn_on() -> None:
    run = Run(spec.HybridCMA(population=6, inner_steps=0, sigma=0.01), sphere, torch.zeros(1, 3))
    run.step()
    assert not run.state["alone"].item()
    for _ in range(1500):
        run.step()
    assert run.state["alone"].item()


def test_it_leaves_local_minima_and_ends_in_one_exactly() -> None:
    """Rastrigin's function from (2.2, …), five rows of 4000 steps: Adam stays in the pit where it starts."""
    start = torch.full((5, D), 2.2, dtype=torch.float64)
    hybrid = Run(spec.HybridCMA(inner_steps=10, sigma=1.0), rastrigin, start).steps(4000)
    adam = Run(spec.Adam(learning_rate=0.05), rastrigin, start).steps(4000)
    assert (adam.best > 15).all()
    assert hybrid.best.median() < 3
    gradient = torch.func.grad(lambda x: rastrigin(x).sum())(hybrid.state["best"])
    assert gradient.abs().max() < 1e-3, "each is at the bottom of its pit"


def test_no_number_ends_a_candidate_and_nothing_else() -> None:
    def walled(x: Tensor) -> Tensor:
        return torch.where(x[:, 0] > 1.2, torch.nan, sphere(x))

    run = Run(spec.HybridCMA(population=4, inner_steps=3), walled, torch.ones(1, D, dtype=torch.float64)).steps(300)
    bad = [step for step, loss in enumerate(run.losses) if loss.isnan()]
    assert bad, "the wall was never tried"
    assert torch.isfinite(torch.cat(run.points)).all()
    assert (run.best < 1e-3).all()
