"""Rows at their starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from latent_inv.build import Job, Stage, split
from latent_inv.seeding import key, stream

from .batch import LaneBatch, RowTensors
from .run import MAX_MOVES, Row


def first_tensors(job: Job) -> list[RowTensors]:
    """The rows of a job at their starts; they share one target, and its features, which are computed once."""
    space = job.objective.space
    rows = []
    with torch.no_grad():
        for index, start in enumerate(job.starts):
            searched, fixed = split(space.retract(start), space.searched)
            best = {name: tensor.clone() for name, tensor in searched.items()}
            state = job.stages[job.entries[index]].solver.init(searched, solver_key(job, index))
            constants = replace(job.target, fixed=fixed, reach=space.reach(searched))
            rows.append(RowTensors(searched, state, best, constants))
    return rows


def moved_start(job: Job, row: Row, latents: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`latents` [1, …] a small random step away, of `row.moves` tenths of a deviation of the prior."""
    noise = stream(job.spec.seed, "move", row.index * (MAX_MOVES + 1) + row.moves)
    space, moved = job.objective.space, {}
    for name, start in latents.items():
        prior, shape = space.parts[name].prior, tuple(start.shape[1:])
        draw = prior.sample(shape, noise)[None].to(start)
        moved[name] = start + 0.1 * row.moves * (draw - prior.mean(shape)[None].to(start))
    return space.retract(moved)


def warm_up(job: Job, stage: Stage) -> None:
    """Take a first step of a stage and forget it: the first call of a kernel takes seconds that are no job's."""
    row = first_tensors(job)[0]
    state = stage.solver.init(row.latents, solver_key(job, 0))
    LaneBatch(stage, [replace(row, state=state)], job.width).advance([0.0])


def solver_key(job: Job, row: int) -> Tensor:
    """The randomness of one row's solver, [1] int64."""
    return torch.tensor([key(job.spec.seed, "solver", row)])
