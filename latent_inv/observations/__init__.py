"""Observation operators by settings class."""

from __future__ import annotations

from typing import Any

from latent_inv import spec
from latent_inv.settings import Settings

from .base import Observation
from .identity import Identity

OBSERVATIONS: dict[type[Settings], type[Observation[Any]]] = {
    spec.Identity: Identity,
}

__all__ = ["OBSERVATIONS", "Observation"]
