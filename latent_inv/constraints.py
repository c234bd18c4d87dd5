"""The sets that parts of latents must stay in."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

_GOLDEN = (math.sqrt(5) - 1) / 2
#: differences of so many spacings of floating-point numbers are none
_SPACINGS = 4


class Constraint(ABC):
    """The set that a part must stay in. The loop applies it after each step, so no solver knows it."""

    name: str

    @abstractmethod
    def __call__(self, latents: Tensor) -> Tensor:
        """The nearest point of the set, row by row: [R, …] -> [R, …]."""


class Free(Constraint):
    """Everything is allowed."""

    name = "free"

    def __call__(self, latents: Tensor) -> Tensor:
        return latents


class Box(Constraint):
    """Coordinates in [low, high]."""

    def __init__(self, low: float = -1.0, high: float = 1.0) -> None:
        self.low, self.high = low, high
        self.name = f"box [{low:g}, {high:g}]"

    def __call__(self, latents: Tensor) -> Tensor:
        return latents.clamp(self.low, self.high)


class Sphere(Constraint):
    """Norm √d, where the draws of a normal prior of d dimensions lie."""

    name = "sphere"

    def __call__(self, latents: Tensor) -> Tensor:
        # The centre is equally far from all of the sphere and goes to the diagonal.
        flat = _scaled(latents, 1.0)
        return (flat * (math.sqrt(flat.shape[1]) / flat.norm(dim=1, keepdim=True))).reshape(latents.shape)


class Standardised(Constraint):
    """Mean 0 and mean square 1, as maps of noise have them."""

    name = "standardised"

    def __call__(self, latents: Tensor) -> Tensor:
        flat = _scaled(latents, 0.0)
        centred = flat - flat.mean(dim=1, keepdim=True)
        # All of the set is equally far from a flat map, which goes to a fixed pattern that looks like noise, multiples
        # of the golden ratio.
        steps = torch.arange(flat.shape[1], dtype=torch.float64)  # not every device has it
        pattern = ((steps * _GOLDEN) % 1).to(flat)
        is_flat = centred.abs().amax(dim=1, keepdim=True) <= _SPACINGS * torch.finfo(flat.dtype).eps
        centred = torch.where(is_flat, pattern - pattern.mean(), centred)
        unit = centred / centred.square().mean(dim=1, keepdim=True).sqrt()
        # Once more: what the first mean was rounded by has grown with the rest.
        return (unit - unit.mean(dim=1, keepdim=True)).reshape(latents.shape)


class Simplex(Constraint):
    """Coordinates ≥ 0 that sum to 1 along the last dimension.

    Source: Held, Wolfe and Crowder (1974); in this form Duchi et al. (2008), Algorithm 1.
    """

    name = "simplex"

    def __call__(self, latents: Tensor) -> Tensor:
        # The projection is the same for x and x + c; with 0 the largest, no sum below loses its last digits.
        latents = latents - latents.amax(dim=-1, keepdim=True)
        ordered = latents.sort(dim=-1, descending=True).values
        excess = ordered.cumsum(dim=-1) - 1
        rank = torch.arange(1, latents.shape[-1] + 1, device=latents.device, dtype=latents.dtype)
        support = (ordered * rank > excess).sum(dim=-1, keepdim=True).clamp_min(1)  # 0 for NaN
        threshold = excess.gather(-1, support - 1) / support
        return (latents - threshold).clamp_min(0)


def _scaled(latents: Tensor, empty: float) -> Tensor:
    """Rows [R, n] over their largest coordinate, so that no square overflows or vanishes; zeros become `empty`."""
    flat = latents.flatten(1)
    largest = flat.abs().amax(dim=1, keepdim=True)
    return torch.where(largest == 0, torch.full_like(flat, empty), flat / largest)
