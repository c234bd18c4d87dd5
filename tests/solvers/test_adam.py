"""Adam against torch's, and its schedule against the formula."""

from __future__ import annotations

import math

import pytest
import torch

from latent_inv import spec
from latent_inv.solvers import SOLVERS, Evaluation
from latent_inv.types import Latents


def evaluation(gradient: dict[str, torch.Tensor]) -> Evaluation:
    loss = torch.zeros(len(next(iter(gradient.values()))))
    return Evaluation(loss=loss, terms={}, squared_error=loss, perceptual=None, gradient=gradient)


def _keys(latents: Latents) -> torch.Tensor:
    return torch.arange(len(next(iter(latents.values()))))


@pytest.mark.parametrize("beta2", [0.9, 0.999])
def test_it_is_torchs_adam(beta2: float) -> None:
    """Constant rate, no warm-up, a bumpy function; 1e-6 relative over 50 steps is rounding."""
    start = torch.randn(1, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    settings = spec.Adam(learning_rate=0.05, schedule="constant", warmup_steps=0, beta1=0.8, beta2=beta2, epsilon=1e-6)
    theirs = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([theirs], lr=0.05, betas=(0.8, beta2), eps=1e-6)
    solver = SOLVERS[spec.Adam](settings)
    ours = {"z": start.clone()}
    state = solver.init(ours, _keys(ours))

    def gradient(latents: Latents) -> Evaluation:
        z = latents["z"]
        return evaluation({"z": torch.cos(3 * z) + 0.3 * z})

    for _ in range(50):
        optimiser.zero_grad()
        theirs.grad = torch.cos(3 * theirs.detach()) + 0.3 * theirs.detach()
        optimiser.step()
        ours, state = solver.step(ours, gradient, state, torch.zeros(1, dtype=torch.float64))
        torch.testing.assert_close(ours["z"], theirs.detach(), rtol=1e-6, atol=1e-9)
    assert (ours["z"] - start).abs().max() > 0.1, "nothing was compared"


def step_size(settings: spec.Adam, step: int, progress: float) -> float:
    """Of a constant gradient, for which Adam's step is the rate itself."""
    solver = SOLVERS[spec.Adam](settings)
    latents = {"z": torch.zeros(1, 1, dtype=torch.float64)}
    state = solver.init(latents, _keys(latents))
    for index in range(step + 1):
        before = latents["z"]
        latents, state = solver.step(
            latents,
            lambda at: evaluation({"z": torch.ones_like(at["z"])}),
            state,
            torch.tensor([progress if index == step else 0.0], dtype=torch.float64),
        )
    return float(before - latents["z"])


@pytest.mark.parametrize(
    ("step", "warmup", "share"), [(0, 0, 1), (0, 3, 0.25), (1, 3, 0.5), (3, 3, 1), (9, 3, 1), (0, 1, 0.5)]
)
def test_the_rate_rises_linearly(step: int, warmup: int, share: float) -> None:
    settings = spec.Adam(learning_rate=0.4, schedule="constant", warmup_steps=warmup, epsilon=1e-12)
    assert step_size(settings, step, 0.0) == pytest.approx(0.4 * share, rel=1e-6)


@pytest.mark.parametrize("progress", [0.0, 0.25, 0.5, 0.9, 1.0])
def test_the_rate_falls_as_a_cosine(progress: float) -> None:
    settings = spec.Adam(learning_rate=0.4, schedule="cosine", warmup_steps=0, epsilon=1e-12)
    expected = 0.4 * (1 + math.cos(math.pi * progress)) / 2
    assert step_size(settings, 2, progress) == pytest.approx(expected, rel=1e-6, abs=1e-12)
    constant = spec.Adam(learning_rate=0.4, schedule="constant", warmup_steps=0, epsilon=1e-12)
    assert step_size(constant, 2, progress) == pytest.approx(0.4, rel=1e-6)


def test_rows_have_their_own_numbers() -> None:
    """Two jobs with another rate in one lane: each as alone."""
    from latent_inv.types import join_rows

    slow, quick = (spec.Adam(learning_rate=rate, schedule="constant", warmup_steps=0) for rate in (0.1, 0.3))
    solver = SOLVERS[spec.Adam](slow)
    latents = {"z": torch.zeros(1, 2)}
    state = join_rows([SOLVERS[spec.Adam](settings).init(latents, _keys(latents)) for settings in (slow, quick)])
    moved, _ = solver.step(
        {"z": torch.zeros(2, 2)}, lambda at: evaluation({"z": torch.ones_like(at["z"])}), state, torch.zeros(2)
    )
    torch.testing.assert_close(moved["z"], torch.tensor([[-0.1] * 2, [-0.3] * 2]))


def test_a_zero_gradient_does_not_move() -> None:
    solver = SOLVERS[spec.Adam](spec.Adam(warmup_steps=0))
    latents = {"z": torch.ones(2, 3)}
    moved, _ = solver.step(
        latents,
        lambda at: evaluation({"z": torch.zeros_like(at["z"])}),
        solver.init(latents, _keys(latents)),
        torch.zeros(2),
    )
    assert torch.equal(moved["z"], latents["z"])
