"""Losses by settings class. To add one: settings in `spec.py`, a file here, a line here and a message."""

from __future__ import annotations

from typing import Any

from latent_inv import spec
from latent_inv.settings import Settings

from .base import Candidate, Loss, Target
from .latent_prior import LatentPrior
from .noise_correlation import NoiseCorrelation
from .perceptual import Perceptual
from .pixel import Pixel
from .total_variation import TotalVariation

LOSSES: dict[type[Settings], type[Loss[Any]]] = {
    spec.Pixel: Pixel,
    spec.Perceptual: Perceptual,
    spec.LatentPrior: LatentPrior,
    spec.TotalVariation: TotalVariation,
    spec.NoiseCorrelation: NoiseCorrelation,
}

__all__ = ["LOSSES", "Candidate", "Loss", "Target"]
