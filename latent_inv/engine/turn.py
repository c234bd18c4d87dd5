"""One step of one lane: what was found at the point where its rows stood, row by row."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from latent_inv.result import Outcome
from latent_inv.solvers import Evaluation

from .batch import LaneBatch, read_rows
from .job import JobRun
from .run import MAX_MOVES, Row

#: searched part -> [R, …]
Point = dict[str, torch.Tensor]


class Turn:
    """A step of the rows in `batch`; `runs` and `rows` are theirs, in order.

    Attributes:
        dead: place -> its point, of rows at a start with a zero gradient, to be moved.
        lost: places of rows with values that half precision could not hold; they stand where they stood before.
    """

    def __init__(self, batch: LaneBatch, runs: Sequence[JobRun], rows: Sequence[Row]) -> None:
        self.batch, self.runs, self.rows = batch, runs, rows
        self.dead: dict[int, Point] = {}
        self.lost: set[int] = set()

    @property
    def done(self) -> list[int]:
        """Places of rows whose step counts."""
        return [place for place in range(len(self.rows)) if place not in self.lost]

    def take(self, shares: Sequence[float]) -> None:
        """Let the solver take the step; `shares` as in `LaneBatch.advance`."""
        latents, state = self.batch.latents, self.batch.state
        self.batch.advance(shares, self._record)
        for place in self.lost:
            self.batch.take_back(place, latents, state)

    def _record(self, point: Point, at: Evaluation) -> list[bool]:
        """Take in what was found, as soon as it was; says who goes on from there."""
        better = []
        scores = read_rows(at, len(self.rows))
        for place, (run, row, scored) in enumerate(zip(self.runs, self.rows, scores, strict=True)):
            if run.in_half and not scored.finite:
                self.lost.add(place)
                continue
            flat = row.step == 0 and scored.finite and scored.gradient_size == 0 and scored.loss > 0
            if flat and row.moves < MAX_MOVES and run.job.limit > 0:
                self.dead[place] = {name: tensor[place : place + 1] for name, tensor in point.items()}
                continue
            if row.record(scored, run.job.spec, run.elapsed(), run.job.limit, guarded=self.batch.solver.guarded):
                better.append(place)
            if flat and row.active:
                row.end(Outcome.stuck)
        if better:
            self.batch.keep_best(better, point)
        resting = self.lost | self.dead.keys()
        return [row.active and place not in resting for place, row in enumerate(self.rows)]
