"""Adam, a row at a time.

`torch.optim.Adam` keeps one step counter a tensor, so rows that join later would be corrected for the
wrong number of steps; here every number has a row.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from latent_inv import spec
from latent_inv.seeding import stream
from latent_inv.settings import numbers
from latent_inv.types import Latents, Tree, by_row

from .base import Evaluate, Solver

#: of the schedule `ramps`: shares of the budget in which the rate rises and falls, and in which noise goes
_RISE, _FALL, _NOISY = 0.05, 0.25, 0.75


class Adam(Solver[spec.Adam]):
    """Source: Kingma and Ba (2015), Algorithm 1; cosine schedule of Loshchilov and Hutter (2017), one cycle.

    Annealed noise and the schedule `ramps`: Karras et al. (2020), "Analyzing and improving the image quality of
    StyleGAN", appendix D. What is scored are the noisy latents; steps are of the ones beneath.
    """

    def init(self, latents: Latents, keys: Tensor) -> Tree:
        first = next(iter(latents.values()))
        rows = {name: first.new_full((first.shape[0],), value) for name, value in numbers(self.settings).items()}
        noise = {"key": keys, "noise": {n: torch.zeros_like(x) for n, x in latents.items()}}
        return {
            **rows,
            **(noise if self.settings.exploration else {}),
            "t": first.new_zeros(first.shape[0]),
            "m": {name: torch.zeros_like(tensor) for name, tensor in latents.items()},
            "v": {name: torch.zeros_like(tensor) for name, tensor in latents.items()},
        }

    def stays_typical(self, state: Tree, progress: Tensor) -> Tensor:
        return progress < state["typical"]

    def step(
        self, latents: Latents, evaluate: Evaluate, state: Tree, progress: Tensor
    ) -> tuple[dict[str, Tensor], Tree]:
        gradient = evaluate(latents).gradient
        t = state["t"] + 1
        beta1, beta2 = state["beta1"], state["beta2"]
        rate = state["learning_rate"] * (t / (state["warmup_steps"] + 1)).clamp_max(1)
        if self.settings.schedule == "cosine":
            rate = rate * cosine(progress)
        elif self.settings.schedule == "ramps":
            rate = rate * (progress / _RISE).clamp_max(1) * cosine(((progress - 1) / _FALL + 1).clamp_min(0))
        decays = (beta1, beta2, state["epsilon"])
        moved, means, squares = {}, {}, {}
        for name, x in latents.items():
            moments = (state["m"][name], state["v"][name])
            under = x - state["noise"][name] if "noise" in state else x
            moved[name], means[name], squares[name] = adam_step(under, gradient[name], moments, decays, t, rate)
        new = {**state, "t": t, "m": means, "v": squares}
        if "noise" in state:
            new["noise"] = noise(
                state["key"], t, state["exploration"] * (1 - progress / _NOISY).clamp_min(0) ** 2, moved
            )
            moved = {name: x + new["noise"][name] for name, x in moved.items()}
        return moved, new


def cosine(share: Tensor) -> Tensor:
    """From 1 to 0 as `share` goes from 0 to 1."""
    return (1 + torch.cos(math.pi * share)) / 2


def noise(keys: Tensor, t: Tensor, deviation: Tensor, latents: Latents) -> dict[str, Tensor]:
    """Draws of step `t` with `deviation` [R], which depend on the row's key and `t` alone; part -> [R, …]."""
    streams = [stream(key, "explore", int(step)) for key, step in zip(keys.tolist(), t.tolist(), strict=True)]
    found = {}
    for name, x in latents.items():
        draws = [torch.randn(x.shape[1:], generator=each, dtype=torch.float32) for each in streams]
        found[name] = by_row(deviation, x) * torch.stack(draws).to(x)
    return found


def adam_step(
    x: Tensor,
    gradient: Tensor,
    moments: tuple[Tensor, Tensor],
    decays: tuple[Tensor, Tensor, Tensor],
    t: Tensor,
    rate: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """One step of Algorithm 1, each row at its own time.

    Args:
        x, gradient: [R, …].
        moments: running means of gradients and of their squares, as `x`.
        decays: β₁, β₂ and ε, [R] each.
        t: [R], which step this is, from 1.
        rate: [R], the learning rate.
    Returns:
        The new point and moments.
    """
    beta1, beta2, epsilon = decays
    b1, b2 = by_row(beta1, x), by_row(beta2, x)
    # Products and sums are separate calls on purpose: fused ones (lerp, addcmul) may round differently
    # in the vector body and in its tail, that is, by the row's place in the batch.
    m = b1 * moments[0] + (1 - b1) * gradient
    v = b2 * moments[1] + (1 - b2) * (gradient * gradient)
    size = (v / by_row(1 - beta2**t, x)).sqrt() + by_row(epsilon, x)
    return x - by_row(rate / (1 - beta1**t), x) * (m / size), m, v
