"""The only place that calls autograd."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from latent_inv.objective import Constants, Objective, Values
from latent_inv.solvers import Evaluation
from latent_inv.types import Latents


def evaluate(objective: Objective, searched: Latents, constants: Constants, needs: str = "gradient") -> Evaluation:
    """Objective, metrics and whatever else a solver `needs`, of each row.

    Args:
        searched: part -> [R, …]; R is the lane's width.
        needs: see `Solver.needs`.
    """
    return EVALUATIONS[needs](objective, searched, constants)


def _with_value(objective: Objective, searched: Latents, constants: Constants) -> Evaluation:
    with torch.no_grad():
        return _plain(objective(searched, constants))


def _with_gradient(objective: Objective, searched: Latents, constants: Constants) -> Evaluation:
    """One forward and one backward pass."""
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in searched.items()}
    with torch.enable_grad():
        values = objective(leaves, constants)
        # Rows do not touch each other, so the gradient of the sum is the gradient of each.
        gradients = torch.autograd.grad(values.loss.sum(), list(leaves.values()))
    return replace(_plain(values), gradient=dict(zip(leaves, gradients, strict=True)))


def _plain(values: Values) -> Evaluation:
    return Evaluation(
        loss=values.loss.detach(),
        terms={name: term.detach() for name, term in values.terms.items()},
        squared_error=values.candidate.squared_error.detach(),
        perceptual=None if values.perceptual is None else values.perceptual.detach(),
    )


#: by `Solver.needs`
EVALUATIONS: dict[str, Callable[[Objective, Latents, Constants], Evaluation]] = {
    "value": _with_value,
    "gradient": _with_gradient,
}


def decode_rows(objective: Objective, latents: Latents, width: int) -> Tensor:
    """Decode one row at the width at which it was optimised, so that the picture is the one that was scored.

    Args:
        latents: part -> [1, …], all parts.
        width: the lane width; the row is repeated to it.
    Returns:
        [1, 3, H, W].
    """
    repeated = {name: tensor.expand(width, *tensor.shape[1:]).contiguous() for name, tensor in latents.items()}
    with torch.no_grad():
        return objective.generator(repeated)[:1]
