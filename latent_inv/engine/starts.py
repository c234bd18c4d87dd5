"""Rows at their starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from latent_inv.build import Job, Stage, blank, split
from latent_inv.seeding import key, stream

from .batch import LaneBatch, RowTensors
from .run import MAX_MOVES, Row


def first_tensors(job: Job) -> list[RowTensors]:
    """The rows of a job at their starts; they share one target, and its features, which are computed once."""
    rows = []
    with torch.no_grad():
        for index, start in enumerate(job.starts):
            stage = job.stages[job.entries[index]]
            rows.append(_at(job, stage, index, stage.objective.space.retract(start)))
    return rows


def entering(job: Job, stage: Stage, index: int, owned: RowTensors) -> RowTensors:
    """Row `index` where it begins a stage: at its best iterate, lifted into the stage's space, with a fresh state."""
    generator, space = stage.objective.generator, stage.objective.space
    latents = {**owned.constants.fixed, **owned.best}
    with torch.no_grad():
        if set(latents) != set(space.parts):
            latents = space.retract(generator.lift(latents, stage.space))
        begun = _at(job, stage, index, latents)
    if begun.best.keys() == owned.best.keys():  # the same space: where it may explore was said by its start
        begun = replace(begun, constants=replace(begun.constants, reach=owned.constants.reach))
    return begun


def in_stage(job: Job, stage: Stage) -> RowTensors:
    """The first row as it would begin a stage if all stages before it did nothing."""
    return entering(job, stage, 0, first_tensors(job)[0])


def like_in(job: Job, stage: Stage) -> RowTensors:
    """A row in a stage as far as shapes go."""
    return _at(job, stage, 0, blank(stage.objective, (job.picture.height, job.picture.width)))


def _at(job: Job, stage: Stage, index: int, latents: Mapping[str, Tensor]) -> RowTensors:
    """Row `index` at the begin of a stage, at `latents` [1, …], all parts."""
    space = stage.objective.space
    searched, fixed = split(latents, space.searched)
    near: dict[str, Any] = {}
    if stage.radius is not None:
        first = next(iter(searched.values()))
        anchor = {name: tensor.clone() for name, tensor in searched.items()}
        near = {"anchor": anchor, "radius": first.new_full((1,), stage.radius)}
    return RowTensors(
        latents={name: tensor.clone() for name, tensor in searched.items()},
        state=stage.solver.init(searched, solver_key(job, index)),
        best={name: tensor.clone() for name, tensor in searched.items()},
        constants=replace(job.target, fixed=fixed, reach=space.reach(searched), near=near),
    )


def moved_start(job: Job, row: Row, latents: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`latents` [1, …] a small random step away, of `row.moves` tenths of a deviation of the prior."""
    noise = stream(job.spec.seed, "move", row.index * (MAX_MOVES + 1) + row.moves)
    space = job.stages[row.stage].objective.space
    draw = {
        name: space.parts[name].prior.sample(tuple(start.shape[1:]), noise)[None] for name, start in latents.items()
    }
    return space.beside(latents, draw, 0.1 * row.moves)


def warm_up(job: Job, stage: Stage) -> None:
    """Take a first step of a stage and forget it: the first call of a kernel takes seconds that are no job's."""
    LaneBatch(stage, [in_stage(job, stage)], stage.width).advance([0.0])


def solver_key(job: Job, row: int) -> Tensor:
    """The randomness of one row's solver, [1] int64."""
    return torch.tensor([key(job.spec.seed, "solver", row)])
