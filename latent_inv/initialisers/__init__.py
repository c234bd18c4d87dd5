"""Initialisers by settings class."""

from __future__ import annotations

from typing import Any

from latent_inv import spec
from latent_inv.settings import Settings

from .base import Encode, Initialiser
from .encoded import Encoder, Halving
from .starts import BestOf, Given, PriorMean, Seeds

INITIALISERS: dict[type[Settings], type[Initialiser[Any]]] = {
    spec.Seeds: Seeds,
    spec.PriorMean: PriorMean,
    spec.BestOf: BestOf,
    spec.Given: Given,
    spec.Encoder: Encoder,
    spec.Halving: Halving,
}

__all__ = ["INITIALISERS", "Encode", "Initialiser"]
