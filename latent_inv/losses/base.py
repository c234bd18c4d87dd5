"""The contract of a loss: one number a row, never reduced over rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

import torch
from torch import Tensor

from latent_inv.errors import ShapeError
from latent_inv.perceptual import PerceptualMetric
from latent_inv.settings import Settings
from latent_inv.spaces import LatentSpace
from latent_inv.types import Latents, number_rows

S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Target:
    """What was observed, by row.

    Attributes:
        image: [R, 3, H, W] in [-1, 1]; 0 (mid-grey) where nothing was seen, so hidden colours have no influence.
        weight: [R, 1, H, W] in [0, 1], or None where everything was seen.
        features: the metric's features of `image`, computed once; None if the job needs none.
        feature_weight: `weight` at the resolution of each feature, or None.
    """

    image: Tensor
    weight: Tensor | None
    features: list[Tensor] | None
    feature_weight: list[Tensor] | None

    @cached_property
    def pixel_weight(self) -> Tensor | None:
        """`weight` scaled so that its mean over the picture is 1 in each row."""
        return None if self.weight is None else self.weight / self.weight.mean(dim=(1, 2, 3), keepdim=True)


class Candidate:
    """What a loss may look at: latents, the decoded picture, what would be observed, and its features.

    The features are computed when first asked for, and shared by all losses and the report.
    """

    def __init__(
        self, latents: Latents, images: Tensor, observed: Tensor, target: Target, metric: PerceptualMetric
    ) -> None:
        self.latents, self.images, self.observed = latents, images, observed
        self._target, self._metric = target, metric

    @cached_property
    def features(self) -> list[Tensor]:
        """The metric's features of the visible part of `observed`."""
        weight = self._target.weight
        return self._metric.features(self.observed if weight is None else self.observed * weight)

    @cached_property
    def perceptual(self) -> Tensor:
        """The metric's distance to the target, [R]."""
        if self._target.features is None:
            raise ShapeError("the target has no features; this job was built without a perceptual term")
        return self._metric.distance(self.features, self._target.features, self._target.feature_weight)

    @cached_property
    def squared_error(self) -> Tensor:
        """Mean squared difference over the visible pixels on the [-1, 1] scale, [R]."""
        return weighted_mean((self.observed - self._target.image).square(), self._target)

    def perceptual_residual(self) -> list[Tensor]:
        """Blocks [R, n] whose squares sum to `perceptual`."""
        if self._target.features is None:
            raise ShapeError("the target has no features; this job was built without a perceptual term")
        return self._metric.residual(self.features, self._target.features, self._target.feature_weight)


class Loss(ABC, Generic[S]):
    """One term of the sum. Data terms and priors alike.

    Numbers of the settings (weight, delta, …) come as `rows`, [R] each, since rows of different jobs may
    share a call; names and switches are structure, and are read from `self.settings`.
    """

    needs_perceptual = False

    def __init__(self, settings: S) -> None:
        self.settings = settings

    def check(self, space: LatentSpace) -> None:
        """Refuse a space in which the term has no meaning, before anything is computed.

        Raises:
            UnsupportedError: what it needs.
        """

    @abstractmethod
    def value(self, candidate: Candidate, target: Target, space: LatentSpace, rows: Mapping[str, Tensor]) -> Tensor:
        """The unweighted term, [R]."""

    def residual(
        self, candidate: Candidate, target: Target, space: LatentSpace, rows: Mapping[str, Tensor]
    ) -> list[Tensor] | None:
        """Blocks [R, n] whose squares sum to `value`, for second-order solvers; None where there are none."""
        return None

    def __call__(self, candidate: Candidate, target: Target, space: LatentSpace, rows: Mapping[str, Tensor]) -> Tensor:
        """The weighted term, [R], with its shape enforced.

        Raises:
            ShapeError: `value` gave anything but one number a row.
        """
        value = self.value(candidate, target, space, rows)
        expected = candidate.images.shape[:1]
        if value.shape != expected:
            found = list(value.shape)
            raise ShapeError(f"{type(self).__name__} must give one number a row, {list(expected)}; it gave {found}")
        return value * rows["weight"]

    def rows(self, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
        """The numbers of the settings as one row, name -> [1]."""
        return number_rows(self.settings, dtype, device)


def weighted_mean(values: Tensor, target: Target) -> Tensor:
    """Mean over channels and visible pixels: [R, 3, H, W] -> [R]."""
    weight = target.pixel_weight
    return (values if weight is None else values * weight).mean(dim=(1, 2, 3))
