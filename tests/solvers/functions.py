"""Functions with known minima, a row each, and a way to run a solver on them that counts evaluations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from latent_inv.settings import Settings
from latent_inv.solvers import SOLVERS, Evaluation, Verdict
from latent_inv.types import Latents

#: [R, d] -> [R]
Function = Callable[[Tensor], Tensor]


def sphere(x: Tensor) -> Tensor:
    return x.square().sum(1)


def ellipsoid(x: Tensor) -> Tensor:
    """Condition number 1e6."""
    return (torch.logspace(0, 6, x.shape[1], dtype=x.dtype) * x.square()).sum(1)


def rosenbrock(x: Tensor) -> Tensor:
    """A bent valley; the minimum is 0 at (1, …, 1)."""
    return (100 * (x[:, 1:] - x[:, :-1].square()).square() + (1 - x[:, :-1]).square()).sum(1)


def rastrigin(x: Tensor) -> Tensor:
    """About 10^d local minima; the best is 0 at 0."""
    return (10 + x.square() - 10 * torch.cos(2 * torch.pi * x)).sum(1)


def evaluated(function: Function, latents: Latents) -> Evaluation:
    """Value and gradient at part "z"."""
    z = latents["z"].detach().requires_grad_()
    with torch.enable_grad():
        loss = function(z)
        (gradient,) = torch.autograd.grad(loss.sum(), z)
    loss = loss.detach()
    return Evaluation(loss=loss, terms={}, squared_error=loss, perceptual=None, gradient={"z": gradient})


class Run:
    """One solver on one function, a step at a time.

    Attributes:
        points, losses: every point that was scored, [R, d] and [R].
    """

    def __init__(self, settings: Settings, function: Function, start: Tensor, keys: Tensor | None = None) -> None:
        self.solver = SOLVERS[type(settings)](settings)
        self.function, self.latents = function, {"z": start}
        self.state: Any = self.solver.init(self.latents, torch.arange(len(start)) if keys is None else keys)
        self.points: list[Tensor] = []
        self.losses: list[Tensor] = []

    def step(self, progress: float = 0.0) -> None:
        def look(latents: Latents) -> Evaluation:
            found = evaluated(self.function, latents)
            self.points.append(latents["z"].clone())
            self.losses.append(found.loss)
            return found

        share = torch.full((len(self.latents["z"]),), progress, dtype=self.latents["z"].dtype)
        self.latents, self.state = self.solver.step(self.latents, look, self.state, share)

    def steps(self, count: int) -> Run:
        """So many steps, as a budget of them."""
        for step in range(count):
            self.step(step / count)
        return self

    @property
    def best(self) -> Tensor:
        """[R], the smallest loss so far."""
        return torch.stack(self.losses).nan_to_num(torch.inf).amin(0)

    @property
    def verdicts(self) -> list[Verdict]:
        found = self.solver.verdicts(self.state)
        assert found is not None
        return [Verdict(int(verdict)) for verdict in found]
