"""How many rows of a job share a call in each of its stages."""

from __future__ import annotations

from . import spec as specs
from .device import Placement
from .outline import lane_width
from .policy import Picked
from .solvers import SOLVERS
from .stage_rows import rows_of


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
