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


@pytest.mark.parametrize(
    ("progress", "share"),
    [(0.0, 0.0), (0.025, 0.5), (0.05, 1.0), (0.4, 1.0), (0.75, 1.0), (0.875, 0.5), (1.0, 0.0)],
)
def test_ramps_rise_and_fall(progress: float, share: float) -> None:
    """Up over 5 % of the budget, down as a cosine over the last 25 %."""
    settings = spec.Adam(learning_rate=0.4, schedule="ramps", warmup_steps=0, epsilon=1e-12)
    assert step_size(settings, 2, progress) == pytest.approx(0.4 * share, rel=1e-6, abs=1e-12)


def explored(settings: spec.Adam, rows: int, progress: float, keys: torch.Tensor, steps: int = 1) -> torch.Tensor:
    """Where steps without a gradient lead: the noise alone."""
    solver = SOLVERS[spec.Adam](settings)
    latents: Latents = {"z": torch.zeros(rows, 400)}
    state = solver.init(latents, keys)
    for _ in range(steps):
        latents, state = solver.step(
            latents, lambda at: evaluation({"z": torch.zeros_like(at["z"])}), state, torch.full((rows,), progress)
        )
    return latents["z"]


@pytest.mark.parametrize("progress", [0.0, 0.25, 0.5, 0.75, 0.9])
def test_noise_is_annealed_and_does_not_add_up(progress: float) -> None:
    """Its deviation is that of the schedule after one step and after nine: each draw replaces the last one."""
    settings = spec.Adam(exploration=0.5)
    expected = 0.5 * max(0.0, 1 - progress / 0.75) ** 2
    for steps in (1, 9):
        found = explored(settings, 20, progress, torch.arange(20), steps)
        assert float(found.std()) == pytest.approx(expected, rel=0.03)
    assert explored(spec.Adam(), 2, progress, torch.arange(2)).abs().max() == 0


def test_noise_is_the_rows_own() -> None:
    """A row draws the same beside any neighbours, and another one at the next step."""
    settings = spec.Adam(exploration=0.5)
    alone, beside = explored(settings, 1, 0.1, torch.tensor([7])), explored(settings, 3, 0.1, torch.tensor([1, 7, 2]))
    assert torch.equal(alone[0], beside[1])
    assert not torch.equal(beside[0], beside[2])
    assert not torch.equal(alone, explored(settings, 1, 0.1, torch.tensor([7]), steps=2))


def test_noise_leaves_a_narrow_minimum() -> None:
    """A ripple on a bowl holds plain descent where it starts; with noise that is annealed the middle is found."""

    def height(x: torch.Tensor) -> torch.Tensor:
        return 0.5 * x**2 + 0.5 * (1 - torch.cos(8 * x))

    def end(settings: spec.Adam) -> torch.Tensor:
        solver = SOLVERS[spec.Adam](settings)
        latents: Latents = {"z": torch.full((16, 4), 2.3)}
        state = solver.init(latents, torch.arange(16))
        for step in range(400):
            latents, state = solver.step(
                latents,
                lambda at: evaluation({"z": at["z"] + 4 * torch.sin(8 * at["z"])}),
                state,
                torch.full((16,), step / 400),
            )
        return height(latents["z"]).mean()

    plain = spec.Adam(learning_rate=0.05, schedule="ramps", warmup_steps=0, beta2=0.999)
    noisy = spec.Adam(learning_rate=0.05, schedule="ramps", warmup_steps=0, beta2=0.999, exploration=1.0)
    assert end(noisy) < 0.2 * end(plain)
