"""Solvers by settings class."""

from __future__ import annotations

from typing import Any

from latent_inv import spec
from latent_inv.settings import Settings

from .adam import Adam
from .base import Evaluate, Evaluation, NormalEquations, Solver, Verdict
from .gauss_newton import GaussNewton
from .levenberg_marquardt import LevenbergMarquardt

SOLVERS: dict[type[Settings], type[Solver[Any]]] = {
    spec.Adam: Adam,
    spec.LevenbergMarquardt: LevenbergMarquardt,
    spec.GaussNewton: GaussNewton,
}

__all__ = ["SOLVERS", "Evaluate", "Evaluation", "NormalEquations", "Solver", "Verdict"]
