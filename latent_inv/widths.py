"""How many rows of a job share a call in each of its stages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from . import spec as specs
from .device import Placement
from .initialisers import INITIALISERS
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
    for left, stage in zip(_left(picked), picked.stages, strict=True):
        side_by_side = SOLVERS[type(stage.solver)].needs in ("value", "gradient")
        full = 1 << max(0, left - 1).bit_length()
        found.append(max(1, min(full, placement.lane_width)) if side_by_side else 1)
    return tuple(found)


def start_rows(start: Any) -> int:
    """Rows of a start; given latents are counted by their first part."""
    rows = int(getattr(start, "count", 1))
    for part in getattr(start, "latents", {}).values():
        rows = max(rows, len(part) if np.ndim(part) > 1 else 1)
    return rows


def _left(picked: Picked) -> Iterator[int]:
    """Rows that are left at the end of each stage."""
    start, rows = picked.initialiser, start_rows(picked.initialiser)
    rungs = INITIALISERS[type(start)](start).rungs
    for stage in picked.stages:
        if stage.joined_by is not None and rows == 1:
            rows = stage.joined_by.count
            rungs = INITIALISERS[type(stage.joined_by)](stage.joined_by).rungs
        rows = min([rows, *(keep for step, keep in rungs if stage.steps is None or step < stage.steps)])
        yield rows
        rungs = ()
