"""The last word of a solver on a row. No torch, so that the bookkeeping can read it."""

from __future__ import annotations

from enum import IntEnum


class Verdict(IntEnum):
    """What a solver says of one of its rows."""

    go_on = 0
    #: no step is left that would pay, and the gradient says that this is a minimum
    converged = 1
    #: no step is left that would pay, though this is no minimum
    exhausted = 2
