"""The only place that calls autograd."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

import torch
from torch import Tensor
from torch.func import jvp, vmap

from latent_inv.objective import Constants, Objective, Values, sum_in_order
from latent_inv.solvers import Evaluation, NormalEquations
from latent_inv.types import Latents, joined, parted, take_row


def evaluate(
    objective: Objective, searched: Latents, constants: Constants, needs: str = "gradient", count: int | None = None
) -> Evaluation:
    """Objective, metrics and whatever else a solver `needs`, of each row.

    Args:
        searched: part -> [R, …]; R is the lane's width.
        needs: see `Solver.needs`.
        count: rows from this one on are copies of the first; None: there are none.
    """
    evaluation = EVALUATIONS[needs](objective, searched, constants)
    if evaluation.normal is None or count is None:
        return evaluation
    return replace(evaluation, normal=partial(_with_copies, evaluation.normal, count))


def _with_value(objective: Objective, searched: Latents, constants: Constants) -> Evaluation:
    with torch.no_grad():
        return _plain(objective(searched, constants))


def _with_gradient(objective: Objective, searched: Latents, constants: Constants) -> Evaluation:
    """One forward and one backward pass."""
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in searched.items()}
    with torch.enable_grad():
        values = objective(leaves, constants)
        return replace(_plain(values), gradient=_gradient(values.loss, leaves))


def _with_normal_equations(objective: Objective, searched: Latents, constants: Constants) -> Evaluation:
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
        normal=lambda wanted: _normal_equations(objective, point, constants, wanted.tolist()),
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
        _meet_the_first_warning()
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


def _normal_equations(
    objective: Objective, searched: Latents, constants: Constants, wanted: list[bool]
) -> NormalEquations:
    """Row by row, which is quicker than several at once, and the same whatever the neighbours are."""
    flat = joined(searched)
    width, dimensions = flat.shape
    gram, slope = flat.new_zeros(width, dimensions, dimensions), torch.zeros_like(flat)
    for row, want in enumerate(wanted):
        if want:
            one = Constants.from_tree(take_row(constants.tree(), row))
            gram[row], slope[row] = _normal_equations_of_row(objective, take_row(searched, row), one)
    return NormalEquations(gram, slope)


def _with_copies(normal: Callable[[Tensor], NormalEquations], count: int, wanted: Tensor) -> NormalEquations:
    """As `normal`, with row 0 for the rows from `count` on."""
    rows = torch.arange(len(wanted), device=wanted.device)
    found = normal(wanted & (rows < count))
    source = torch.where(rows < count, rows, 0)
    return NormalEquations(found.gram[source], found.slope[source])


def _normal_equations_of_row(objective: Objective, searched: Latents, constants: Constants) -> tuple[Tensor, Tensor]:
    """JᵀJ [d, d] and Jᵀr [d] of one row, by forward mode, some columns of J at a time."""
    _meet_the_first_warning()
    point = joined(searched)

    def residual(vector: Tensor) -> list[Tensor]:
        return objective.residual(parted(vector, searched), constants)

    def push(tangent: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        blocks, columns = jvp(residual, (point,), (tangent[None],))[:2]
        return [block[0] for block in blocks], [column[0] for column in columns]

    directions = torch.eye(point.shape[1], dtype=point.dtype, device=point.device)
    with torch.no_grad():
        # The residual is the same for all tangents, so only these get a dimension.
        push_some = vmap(push, out_dims=(None, 0))  # type: ignore[arg-type]
        chunks = [push_some(some) for some in directions.split(objective.tangent_chunk)]
        gram, slope = torch.zeros_like(directions), torch.zeros_like(directions[0])
        for index, block in enumerate(chunks[0][0]):
            columns = torch.cat([tangents[index] for _, tangents in chunks])
            gram, slope = gram + columns @ columns.T, slope + columns @ block
            for _, tangents in chunks:
                tangents[index] = block  # what was added up is not kept
    return gram, slope


@cache
def _meet_the_first_warning() -> None:
    """At the first `jvp` of a process, torch warns of its own use of `torch.jit.script`; nobody else has to know."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated")
        jvp(torch.sin, (torch.zeros(1),), (torch.ones(1),))


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
    "normal_equations": _with_normal_equations,
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
