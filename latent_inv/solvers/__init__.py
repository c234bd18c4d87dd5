"""Solvers by settings class."""

from __future__ import annotations

from typing import Any

from latent_inv import spec
from latent_inv.settings import Settings

from .adam import Adam
from .base import Evaluate, Evaluation, NormalEquations, Solver, Verdict
from .l_bfgs import LBFGS

SOLVERS: dict[type[Settings], type[Solver[Any]]] = {
    spec.Adam: Adam,
    spec.LBFGS: LBFGS,
}

__all__ = ["SOLVERS", "Evaluate", "Evaluation", "NormalEquations", "Solver", "Verdict"]
