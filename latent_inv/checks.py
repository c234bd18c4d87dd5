"""Can this solver work on this objective? Asked before anything is computed."""

from __future__ import annotations

from typing import Any

from . import spec as specs
from .errors import LimitError, UnsupportedError
from .objective import Constants, Objective
from .policy import MAX_JACOBIAN_BYTES
from .solvers import SOLVERS, Solver
from .types import Latents

#: what solvers may need that is computed in forward mode, of residuals
FORWARD_MODE = ("model", "curvature")


def check_solver(objective: Objective, solver: Solver[Any], start: Latents, target: Constants) -> None:
    """Refuse a solver that cannot work here, before anything is computed.

    Raises:
        UnsupportedError: there is no gradient or forward mode, or a term is no sum of squares.
        LimitError: the Jacobian is too large.
    """
    generator, needs = objective.generator, solver.needs
    if needs != "value" and not objective.differentiable:
        others = " or ".join(
            name for name, kind in specs.SOLVERS.items() if kind in SOLVERS and SOLVERS[kind].needs == "value"
        )
        text = f"{generator.name} gives no gradient, and this solver needs one; {others} works without"
        raise UnsupportedError(text, field="solver")
    if needs not in FORWARD_MODE:
        return
    if generator.is_half:
        text = f"this solver goes on to digits that {generator.precision} has not"
        text += '; take precision float32, or "adam" or "l_bfgs"'
        raise UnsupportedError(text, field="solver")
    if not generator.forward_mode:
        text = f'{generator.name} has no forward mode, which this solver needs; "adam" and "l_bfgs" do without'
        raise UnsupportedError(text, field="solver")
    entries = objective.residual_entries(start, target)
    size = jacobian_bytes(objective, start, entries)
    if needs == "model" and size > MAX_JACOBIAN_BYTES:
        most = MAX_JACOBIAN_BYTES // 2**20
        found = f"the Jacobian of {entries} residuals would take {size // 2**20} MiB, at most {most} are accepted"
        raise LimitError(f'{found}; "gauss_newton" does without it', field="solver")


def jacobian_bytes(objective: Objective, start: Latents, entries: int) -> int:
    """Memory of the Jacobian of one row, with its products; `entries` as from `Objective.residual_entries`."""
    dimensions = sum(start[name][0].numel() for name in objective.space.searched)
    return dimensions * (entries + dimensions) * start[objective.space.searched[0]].element_size()
