"""How many rows of a job step in each of its stages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .initialisers import INITIALISERS, Initialiser
from .policy import Picked


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
        most, left: that step at its begin, and at its end.
        joining: the start of which all but the first join the one row that gets here; None: none do.
        joiners: how many these are.
        rungs: see `Initialiser.rungs`.
    """

    most: int
    left: int
    joining: Initialiser[Any] | None
    joiners: int
    rungs: tuple[tuple[int, int], ...]


def rows_of(picked: Picked) -> Iterator[Rows]:
    """How many rows each stage has."""
    rows, rungs = start_rows(picked.initialiser), INITIALISERS[type(picked.initialiser)](picked.initialiser).rungs
    for stage in picked.stages:
        most, joining, joiners = rows, None, 0
        if stage.joined_by is not None and rows == 1:  # several starts need no more
            joining, joiners = INITIALISERS[type(stage.joined_by)](stage.joined_by), stage.joined_by.count - 1
            if stage.only is None:
                most, rungs = 1 + joiners, joining.rungs
        left = min([most, *(keep for step, keep in rungs if stage.steps is None or step < stage.steps)])
        yield Rows(most, left, joining, joiners, rungs)
        rungs = ()
        # Whoever takes a side branch ends there, and the others are as many as before it.
        rows = rows if stage.only is not None else left
