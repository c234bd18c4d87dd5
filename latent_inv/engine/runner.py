"""The only place that calls autograd."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.func import jvp, vmap

from latent_inv.forward_mode import meet_the_first_warning
from latent_inv.objective import Constants, Objective, Values, sum_in_order
from latent_inv.solvers import Evaluation, LocalModel
from latent_inv.types import Latents, joined, parted, repeat_row, take_row


def evaluate(
    objective: Objective, searched: Latents, constants: Constants, needs: str = "gradient", count: int | None = None
) -> Evaluation:
    """Objective, metrics and whatever else a solver `needs`, of each row.

    Args:
        searched: part -> [R, …]; R is the lane's width.
        needs: see `Solver.needs`.
        count: rows from this one on are copies of the first; None: there are none.
    """
    return replace(EVALUATIONS[needs](objective, searched, constants), members=count)


def _with_value(objective: Objective, searched: Latents, constants: Constants) -> Evaluation:
    with torch.no_grad():
        return _plain(objective(searched, constants))


def _with_gradient(objective: Objective, searched: Latents, constants: Constants) -> Evaluation:
    """One forward and one backward pass."""
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in searched.items()}
    with torch.enable_grad():
        values = objective(leaves, constants)
        return replace(_plain(values), gradient=_gradient(values.loss, leaves))


def _with_model(objective: Objective, searched: Latents, constants: Constants) -> Evaluation:
    """As `_with_gradient` of the terms that are modelled; the Jacobian of a row only when it is asked for."""
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in searched.items()}
    with torch.enable_grad():
        values = objective(leaves, constants)
        squares = sum_in_order([values.terms[name] for name in objective.modelled])
        gradient = _gradient(squares, leaves)
    point = {name: tensor.detach() for name, tensor in searched.items()}
    return replace(
        _plain(values),
        gradient=gradient,
        squares=squares.detach(),
        scale=sum_in_order([constants.losses[name]["weight"] for name in objective.modelled]),
        model=lambda row: _model_of_row(
            objective, take_row(point, row), Constants.from_tree(take_row(constants.tree(), row))
        ),
    )


def _with_curvature(objective: Objective, searched: Latents, constants: Constants) -> Evaluation:
    """As `_with_gradient` of the terms that are modelled, with products JᵀJ v: forward mode, then backward."""
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in searched.items()}
    with torch.enable_grad():
        values = objective(leaves, constants)
        blocks = objective.residual_of(values.candidate, constants)
        squares = sum_in_order([values.terms[name] for name in objective.modelled])
        gradient = _gradient(squares, leaves, keep=True)
    names = list(leaves)

    def residual(*parts: Tensor) -> tuple[Tensor, ...]:
        return tuple(objective.residual(dict(zip(names, parts, strict=True)), constants))

    def curvature(vectors: Latents) -> dict[str, Tensor]:
        meet_the_first_warning()
        with torch.no_grad():
            point = tuple(leaves[name].detach() for name in names)
            _, tangents = jvp(residual, point, tuple(vectors[name] for name in names))[:2]
        found = torch.autograd.grad(blocks, list(leaves.values()), tangents, retain_graph=True)
        return dict(zip(names, found, strict=True))

    return replace(
        _plain(values),
        gradient=gradient,
        squares=squares.detach(),
        scale=sum_in_order([constants.losses[name]["weight"] for name in objective.modelled]),
        curvature=curvature,
    )


def _model_of_row(objective: Objective, searched: Latents, constants: Constants) -> LocalModel:
    """The model of one row, [1, …]. Row by row is quicker than several at once, and no neighbour matters."""
    columns = _jacobian(objective, searched, constants)
    gram = sum_in_order([block @ block.T for block in columns])

    def look(points: Tensor) -> tuple[Tensor, Tensor]:
        count = len(points)
        several = Constants.from_tree(repeat_row(constants.tree(), count))
        with torch.no_grad():
            latents = objective.space.retract(parted(points, searched))
            blocks = objective.residual(latents, several)
            squares = sum_in_order([block.square().sum(dim=1) for block in blocks])
            slopes = sum_in_order([block @ column.T for block, column in zip(blocks, columns, strict=True)])
        return squares, slopes

    return LocalModel(gram, look(joined(searched))[1][0], look)


def _jacobian(objective: Objective, searched: Latents, constants: Constants) -> list[Tensor]:
    """Jᵀ of one row by blocks of the residual, [d, n] each, by forward mode, some directions at a time."""
    meet_the_first_warning()
    point = joined(searched)

    def residual(vector: Tensor) -> list[Tensor]:
        return objective.residual(parted(vector, searched), constants, rounded=True)

    def push(tangent: Tensor) -> list[Tensor]:
        return [column[0] for column in jvp(residual, (point,), (tangent[None],))[1]]

    directions = torch.eye(point.shape[1], dtype=point.dtype, device=point.device)
    with torch.no_grad():
        chunks = [vmap(push)(some) for some in directions.split(objective.tangent_chunk)]
        return [torch.cat(tangents) if len(tangents) > 1 else tangents[0] for tangents in zip(*chunks, strict=True)]


def _gradient(loss: Tensor, leaves: dict[str, Tensor], *, keep: bool = False) -> dict[str, Tensor]:
    # Rows do not touch each other, so the gradient of the sum is the gradient of each.
    return dict(zip(leaves, torch.autograd.grad(loss.sum(), list(leaves.values()), retain_graph=keep), strict=True))


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
    "model": _with_model,
    "curvature": _with_curvature,
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
