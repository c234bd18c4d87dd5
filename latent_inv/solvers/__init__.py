"""Solvers by settings class."""

from __future__ import annotations

from typing import Any

from latent_inv import spec
from latent_inv.settings import Settings

from .adam import Adam
from .base import Evaluate, Evaluation, LocalModel, Solver, Verdict
from .cma_es import CMAES
from .gauss_newton import GaussNewton
from .hybrid_cma import HybridCMA
from .l_bfgs import LBFGS
from .levenberg_marquardt import LevenbergMarquardt

SOLVERS: dict[type[Settings], type[Solver[Any]]] = {
    spec.Adam: Adam,
    spec.LevenbergMarquardt: LevenbergMarquardt,
    spec.GaussNewton: GaussNewton,
    spec.LBFGS: LBFGS,
    spec.CMAES: CMAES,
    spec.HybridCMA: HybridCMA,
}

__all__ = ["SOLVERS", "Evaluate", "Evaluation", "LocalModel", "Solver", "Verdict"]
