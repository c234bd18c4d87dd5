"""The tensors of one lane: rows under each other, padded to the lane's width with copies of the first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from latent_inv.build import Stage
from latent_inv.objective import Constants
from latent_inv.solvers import Evaluation
from latent_inv.types import Latents, Tree, join_rows, take_row

from .run import Scored
from .runner import evaluate

#: (job id, index of the row in its job)
Member = tuple[str, int]
#: called as seen(latents, what was found there); says of each member whether it goes on
Seen = Callable[[dict[str, Tensor], Evaluation], list[bool]]


@dataclass
class RowTensors:
    """What one row owns, each tensor [1, …].

    Attributes:
        latents: searched parts, where the next step starts.
        state: of the solver.
        best: searched parts of the best iterate.
        constants: target, features, numbers, fixed parts.
    """

    latents: dict[str, Tensor]
    state: Tree
    best: dict[str, Tensor]
    constants: Constants


class LaneBatch:
    """The rows of a lane as tensors [width, …]; rebuilt only when members come or go."""

    def __init__(self, stage: Stage, rows: Sequence[RowTensors], width: int) -> None:
        self.objective, self.solver = stage.objective, stage.solver
        self.width, self.count = width, len(rows)
        padded = [*rows, *([rows[0]] * (width - len(rows)))]
        self.latents: dict[str, Tensor] = join_rows([row.latents for row in padded])
        self.state: Tree = join_rows([row.state for row in padded])
        self.best: dict[str, Tensor] = join_rows([row.best for row in padded])
        self.constants = Constants.from_tree(join_rows([row.constants.tree() for row in padded]))

    def advance(self, shares: Sequence[float], seen: Seen | None = None) -> None:
        """Let the solver take one step with all rows.

        Args:
            shares: how much of its budget each member has used, 0 … 1.
            seen: told of the point at which the objective was looked at, before the step is made.
        """
        first = next(iter(self.latents.values()))
        padded = [*shares, *([shares[0]] * (self.width - len(shares)))]
        progress = torch.tensor(padded, dtype=first.dtype, device=first.device)

        def look(latents: Latents) -> Evaluation:
            found = evaluate(self.objective, latents, self.constants, self.solver.needs, self.count)
            if seen is None:
                return found
            going = seen(dict(latents), found)
            padded = [*going, *([going[0]] * (self.width - len(going)))]
            return replace(found, going=torch.tensor(padded, device=first.device))

        with torch.no_grad():
            moved, self.state = self.solver.step(self.latents, look, self.state, progress)
            exploring = self.solver.stays_typical(self.state, progress)
            if exploring is not None:
                moved = self.objective.space.keep_typical(moved, self.constants.reach, exploring)
            if self.constants.near:
                near = self.constants.near
                moved = self.objective.space.keep_near(moved, near["anchor"], near["radius"])
            self.latents = self.objective.space.retract(moved)

    def take_back(self, row: int, latents: Latents, state: Tree) -> None:
        """Put row `row` where it was before a step, when all rows were at `latents` and `state`."""
        for name, tensor in latents.items():
            self.latents[name][row] = tensor[row]
        self.state = _with_row(self.state, row, take_row(state, row))

    def row(self, index: int, constants: Constants) -> RowTensors:
        """Row `index` as copies; its constants are given back as they came."""
        return RowTensors(
            latents=take_row(self.latents, index),
            state=take_row(self.state, index),
            best=take_row(self.best, index),
            constants=constants,
        )

    def keep_best(self, rows: Sequence[int], latents: dict[str, Tensor]) -> None:
        """Remember `latents` as the best iterate of these rows."""
        if len(rows) == self.count:
            self.best = {name: tensor.detach().clone() for name, tensor in latents.items()}
            return
        index = torch.tensor(list(rows), device=next(iter(latents.values())).device)
        for name, tensor in latents.items():
            self.best[name][index] = tensor.detach()[index]

    def restart(self, row: int, latents: dict[str, Tensor], key: Tensor) -> None:
        """Put row `row` at another start with a fresh state; latents [1, …]."""
        state = self.solver.init(latents, key)
        for name, tensor in latents.items():
            self.latents[name][row : row + 1] = tensor
        self.state = _with_row(self.state, row, state)


def _with_row(tree: Tree, row: int, replacement: Tree) -> Tree:
    if tree is None:
        return None
    if isinstance(tree, Tensor):
        changed = tree.clone()
        changed[row : row + 1] = replacement
        return changed
    if isinstance(tree, dict):
        return {name: _with_row(item, row, replacement[name]) for name, item in tree.items()}
    return [_with_row(item, row, replacement[index]) for index, item in enumerate(tree)]


class RowStore:
    """Where the tensors of each row are: with the row itself, or in the batch that steps it."""

    def __init__(self) -> None:
        self._own: dict[Member, RowTensors] = {}
        self._in_batch: dict[Member, tuple[LaneBatch, int]] = {}

    def put(self, member: Member, tensors: RowTensors) -> None:
        """Take over a new row."""
        self._own[member] = tensors

    def get(self, member: Member) -> RowTensors:
        """A row's tensors as they stand now, as copies if a batch holds them."""
        if member not in self._in_batch:
            return self._own[member]
        batch, place = self._in_batch[member]
        return batch.row(place, self._own[member].constants)

    def settle(self, member: Member) -> None:
        """Take a row out of its batch."""
        self._own[member] = self.get(member)
        self._in_batch.pop(member, None)

    def gather(self, members: Sequence[Member], stage: Stage, width: int) -> LaneBatch:
        """Put rows together, from wherever they are."""
        batch = LaneBatch(stage, [self.get(member) for member in members], width)
        for place, member in enumerate(members):
            self._in_batch[member] = (batch, place)
        return batch

    def forget(self, member: Member) -> None:
        """Drop a row; harmless if it is not there."""
        self._own.pop(member, None)
        self._in_batch.pop(member, None)


def read_rows(evaluation: Evaluation, count: int) -> list[Scored]:
    """An evaluation as plain numbers for its first `count` rows, in one transfer from the device."""
    sizes = [tensor.flatten(1).abs().sum(dim=1) for tensor in evaluation.gradient.values()]
    # Without a gradient nothing can be said about its size: 1 is neither dead nor infinite.
    gradient_size = torch.stack(sizes).sum(dim=0) if sizes else torch.ones_like(evaluation.loss)
    columns = [evaluation.loss, evaluation.squared_error, gradient_size]
    columns += list(evaluation.terms.values())
    if evaluation.perceptual is not None:
        columns.append(evaluation.perceptual)
    table = torch.stack(columns, dim=1)[:count].tolist()
    names = list(evaluation.terms)
    return [
        Scored(
            loss=line[0],
            squared_error=line[1],
            gradient_size=line[2],
            terms=dict(zip(names, line[3:], strict=False)),
            perceptual=None if evaluation.perceptual is None else line[-1],
        )
        for line in table
    ]
