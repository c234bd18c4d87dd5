"""How many rows of a job share a call in each of its stages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import spec as specs
from .device import Placement
from .initialisers import INITIALISERS, Initialiser
from .outline import lane_width
from .policy import Picked
from .solvers import SOLVERS


def widths(spec: specs.JobSpec, picked: Picked, placement: Placement) -> tuple[int, ...]:
    """Rows of a call in each stage.

    One width for all where the job has one. A job that has none, so that its steps are quick, still runs rows of its
    own side by side: in calls that are full to the end of the stage, since those that are not would be padded. Solvers
    with Jacobians do those row by row, and gain nothing.
    """
    own = lane_width(spec, placement)
    if own > 1 or spec.lane_width:
        return (own,) * len(picked.stages)
    found = []
    for rows, stage in zip(rows_of(picked), picked.stages, strict=True):
        side_by_side = SOLVERS[type(stage.solver)].needs in ("value", "gradient")
        full = 1 << max(0, rows.left - 1).bit_length()
        found.append(max(1, min(full, placement.lane_width)) if side_by_side else 1)
    return tuple(found)


def start_rows(start: Any) -> int:
    """Rows of a start; given latents are counted by their first part."""
    rows = int(getattr(start, "count", 1))
    for part in getattr(start, "latents", {}).values():
        rows = max(rows, len(part) if np.ndim(part) > 1 else 1)
    return rows


@dataclass(frozen=True)
class Rows:
    """Rows of a job in one stage.

    Attributes:
        most, left: at its begin, and at its end.
        joining: the start of which all but the first join the one row that gets here; None: none do.
        rungs: see `Initialiser.rungs`.
    """

    most: int
    left: int
    joining: Initialiser[Any] | None
    rungs: tuple[tuple[int, int], ...]


def rows_of(picked: Picked) -> Iterator[Rows]:
    """How many rows each stage has."""
    rows, rungs = start_rows(picked.initialiser), INITIALISERS[type(picked.initialiser)](picked.initialiser).rungs
    for stage in picked.stages:
        most, joining = rows, None
        if stage.joined_by is not None and rows == 1:  # several starts need no more
            most, joining = stage.joined_by.count, INITIALISERS[type(stage.joined_by)](stage.joined_by)
            rungs = joining.rungs
        left = min([most, *(keep for step, keep in rungs if stage.steps is None or step < stage.steps)])
        yield Rows(most, left, joining, rungs)
        rungs = ()
        # Whoever takes a side branch ends there, and the others are as many as before it.
        rows = rows if stage.only is not None else left
