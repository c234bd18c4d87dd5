"""Initialisers by settings class."""

from __future__ import annotations

from typing import Any

from latent_inv import spec
from latent_inv.settings import Settings

from .base import Initialiser
from .starts import BestOf, Given, PriorMean, Seeds

INITIALISERS: dict[type[Settings], type[Initialiser[Any]]] = {
    spec.Seeds: Seeds,
    spec.PriorMean: PriorMean,
    spec.BestOf: BestOf,
    spec.Given: Given,
}

__all__ = ["INITIALISERS", "Initialiser"]
