"""What the mapping makes, as a distribution.

Source: Zhu et al. (2020), "Improved StyleGAN embedding: where are the good latents?": before its last leaky ReLU, w is
close to a normal distribution, so it is measured there and whitened.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from latent_inv.spaces import Normal, Prior
from latent_inv.types import by_row


class Styles(Prior):
    """w = leaky(mean + factor · e) with e standard normal. Of several rows of w, a draw has the same in all.

    Args:
        mean: [d], before the leaky ReLU. factor: [d, d] lower triangle, its product with its transpose is the
            covariance there. centre: [d], the mean of w itself.
    """

    name = "styles"

    def __init__(self, mean: Tensor, factor: Tensor, centre: Tensor) -> None:
        self._mean, self._factor, self._centre = mean, factor, centre

    def sample(self, shape: tuple[int, ...], stream: torch.Generator) -> Tensor:
        drawn = torch.randn(shape[-1:], generator=stream)
        return _bent(self._mean + self._factor @ drawn, 0.2).expand(shape).clone()

    def mean(self, shape: tuple[int, ...]) -> Tensor:
        return self._centre.expand(shape).clone()

    def energy(self, latents: Tensor) -> Tensor:
        return self._white(latents).square().mean(dim=1) / 2

    def energy_residual(self, latents: Tensor) -> Tensor:
        white = self._white(latents)
        return white / math.sqrt(2 * white.shape[1])

    def reach(self, latents: Tensor) -> Tensor:
        white = self._white(latents)
        return white.norm(dim=1).clamp_min(math.sqrt(white.shape[1]))

    def within(self, latents: Tensor, reach: Tensor) -> Tensor:
        white = self._white(latents)
        norm = white.norm(dim=1)
        shrink = (reach / norm.clamp_min(torch.finfo(norm.dtype).tiny)).clamp_max(1)
        mean = self._mean.to(latents)
        pulled = _bent(mean + (_bent(latents, 5.0) - mean) * by_row(shrink, latents), 0.2)
        return torch.where(by_row(norm <= reach, latents), latents, pulled)

    def typicality(self, latents: Tensor) -> Tensor:
        white = self._white(latents.double())
        half = torch.full_like(white[:, 0], white.shape[1] / 2)
        return torch.special.gammainc(half, white.square().sum(dim=1) / 2)

    @property
    def scale(self) -> float:
        return float(self._factor.square().sum(dim=1).mean().sqrt())

    def _white(self, latents: Tensor) -> Tensor:
        """[R, …, d] -> [R, n], standard normal for draws."""
        straight = _bent(latents, 5.0) - self._mean.to(latents)
        rows = straight.reshape(-1, straight.shape[-1])
        white = torch.linalg.solve_triangular(self._factor.to(latents), rows.t(), upper=False).t()
        return white.reshape(latents.shape[0], -1)


class Spread(Prior):
    """Independent normal coordinates, each with its own mean and deviation, [d]."""

    name = "spread"

    def __init__(self, mean: Tensor, deviation: Tensor) -> None:
        self._mean, self._deviation = mean, deviation

    def sample(self, shape: tuple[int, ...], stream: torch.Generator) -> Tensor:
        return self._mean + self._deviation * torch.randn(shape, generator=stream)

    def mean(self, shape: tuple[int, ...]) -> Tensor:
        return self._mean.expand(shape).clone()

    def energy(self, latents: Tensor) -> Tensor:
        return NORMAL.energy(self._white(latents))

    def energy_residual(self, latents: Tensor) -> Tensor:
        return NORMAL.energy_residual(self._white(latents))

    def reach(self, latents: Tensor) -> Tensor:
        return NORMAL.reach(self._white(latents))

    def within(self, latents: Tensor, reach: Tensor) -> Tensor:
        white = self._white(latents)
        pulled = NORMAL.within(white, reach) * self._deviation.to(latents) + self._mean.to(latents)
        return torch.where(by_row(white.norm(dim=1) <= reach, latents), latents, pulled)

    def typicality(self, latents: Tensor) -> Tensor:
        return NORMAL.typicality(self._white(latents))

    @property
    def scale(self) -> float:
        return float(self._deviation.square().mean().sqrt())

    def _white(self, latents: Tensor) -> Tensor:
        return (latents - self._mean.to(latents)) / self._deviation.to(latents)


NORMAL = Normal()


def _bent(x: Tensor, slope: float) -> Tensor:
    return torch.where(x < 0, x * slope, x)


def statistics(w: Tensor) -> dict[str, Tensor]:
    """`mean`, `factor` and `centre` of `Styles` from draws of w, [n, d]."""
    straight = _bent(w.double(), 5.0)
    mean = straight.mean(dim=0)
    difference = straight - mean
    covariance = difference.t() @ difference / max(1, len(w) - 1)
    # Some directions hardly vary; whitening must not make mountains of their rounding.
    floor = 1e-6 * covariance.diagonal().mean() + 1e-12
    factor = torch.linalg.cholesky(covariance + floor * torch.eye(len(mean), dtype=torch.float64))
    return {"mean": mean.float(), "factor": factor.float(), "centre": w.double().mean(dim=0).float()}
