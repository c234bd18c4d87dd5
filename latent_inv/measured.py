"""A prior that is measured: the activations inside a generator have no distribution that could be written down."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from .errors import InternalError
from .spaces import LatentSpace, Prior
from .types import pulled

#: share of a channel's mean variance in the variance of each of its coordinates, which alone rests on few draws
_SHRINKAGE = 0.1
#: no variance is taken for less than this share of the mean one: a unit that is always off would be infinitely far away
_LEAST_VARIANCE = 0.01


@dataclass(frozen=True)
class Statistics:
    """What some draws of a part look like.

    Attributes:
        mean, scale: mean and standard deviation, of the part's shape, or [C, 1, 1] where a channel has one of each.
        distances: [n], ascending: root of the mean square of (x − mean) / scale, of draws that were not measured.
    """

    mean: Tensor
    scale: Tensor
    distances: Tensor


class Measured(Prior):
    """Independent normal coordinates whose mean and deviation are those of draws that went through earlier stages.

    Args:
        by: "coordinate": each one has its own; "channel": all places of a channel share one, for parts of any size.
        source: gives the statistics when they are first needed; None: the weights are not loaded.
    """

    name = "measured"

    def __init__(self, by: str = "coordinate", source: Callable[[], Statistics] | None = None) -> None:
        self.by, self._source = by, source
        self._copies: dict[tuple[torch.dtype, torch.device], tuple[Tensor, Tensor]] = {}

    def bound(self, source: Callable[[], Statistics]) -> Measured:
        """The same, of a generator whose weights are loaded."""
        return Measured(self.by, source)

    @cached_property
    def statistics(self) -> Statistics:
        """Measured once.

        Raises:
            InternalError: the weights are not loaded.
        """
        if self._source is None:
            raise InternalError("the prior of a layer is known only once the generator's weights are loaded")
        return self._source()

    def sample(self, shape: tuple[int, ...], stream: torch.Generator) -> Tensor:
        return self.statistics.mean + self.statistics.scale * torch.randn(shape, generator=stream)

    def mean(self, shape: tuple[int, ...]) -> Tensor:
        return self.statistics.mean.expand(shape).clone()

    def energy(self, latents: Tensor) -> Tensor:
        return self._units(latents).square().mean(dim=1) / 2

    def energy_residual(self, latents: Tensor) -> Tensor:
        units = self._units(latents)
        return units / math.sqrt(2 * units.shape[1])

    def distance(self, latents: Tensor) -> Tensor:
        """Root of the mean square of (x − mean) / deviation, [R, …] -> [R]; draws have about 1."""
        return self._units(latents).square().mean(dim=1).sqrt()

    def typicality(self, latents: Tensor) -> Tensor:
        # Coordinates depend on each other, so the distances of draws spread far more than a χ² would have it.
        distances = self.statistics.distances.to(latents.device)
        nearer = (distances < self.distance(latents.double())[:, None]).sum(dim=1)
        return nearer.double() / len(distances)

    def reach(self, latents: Tensor) -> Tensor:
        return self.distance(latents).clamp_min(1)

    def within(self, latents: Tensor, reach: Tensor) -> Tensor:
        return pulled(latents, self._placed(latents)[0], self.distance(latents), reach)

    def near(self, latents: Tensor, anchor: Tensor, radius: Tensor) -> Tensor:
        size = ((latents - anchor) / self._placed(latents)[1]).flatten(1).square().mean(dim=1).sqrt()
        return pulled(latents, anchor, size, radius)

    @property
    def scale(self) -> float:
        return float(self.statistics.scale.square().mean().sqrt())

    def _units(self, latents: Tensor) -> Tensor:
        mean, scale = self._placed(latents)
        return ((latents - mean) / scale).flatten(1)

    def _placed(self, like: Tensor) -> tuple[Tensor, Tensor]:
        where = (like.dtype, like.device)
        if where not in self._copies:
            self._copies[where] = (self.statistics.mean.to(like), self.statistics.scale.to(like))
        return self._copies[where]


@dataclass(frozen=True)
class LayerSpace(LatentSpace):
    """A space inside a generator. What is drawn there went through the stages before it.

    Attributes:
        draw: (size of the picture, stream) -> part -> [1, …], float32 on the CPU; None: the weights are not loaded.
    """

    draw: Callable[[tuple[int, int], torch.Generator], dict[str, Tensor]] | None = field(default=None, compare=False)

    def sample(self, size: tuple[int, int], stream: torch.Generator) -> dict[str, Tensor]:
        if self.draw is None:
            raise InternalError("a layer can be drawn from only once the generator's weights are loaded")
        return self.draw(size, stream)


def measure(
    draws: Iterable[dict[str, Tensor]], others: Iterable[dict[str, Tensor]], by: dict[str, str]
) -> dict[str, Statistics]:
    """Statistics of parts, from two sets of draws that are never held in memory as a whole.

    Args:
        draws: parts -> [n, …], some at a time; their mean and deviation are taken.
        others: the same of others, whose distances are.
        by: part -> see `Measured`.
    """
    count = 0
    totals: dict[str, Tensor] = {}
    for some in draws:
        count += len(next(iter(some.values())))
        for name in by:
            x = some[name].double()
            stacked = torch.stack([x.sum(dim=0), x.square().sum(dim=0)])
            totals[name] = totals[name] + stacked if name in totals else stacked
    found = {name: _moments(totals[name] / count, kind) for name, kind in by.items()}
    distances: dict[str, list[Tensor]] = {name: [] for name in by}
    for some in others:
        for name, (mean, scale) in found.items():
            units = (some[name].double() - mean) / scale
            distances[name].append(units.flatten(1).square().mean(dim=1).sqrt())
    return {
        name: Statistics(mean.float(), scale.float(), torch.cat(distances[name]).sort().values)
        for name, (mean, scale) in found.items()
    }


def _moments(both: Tensor, by: str) -> tuple[Tensor, Tensor]:
    """Mean and deviation from the means of x and of x², [2, C, …]."""
    places: Sequence[int] = tuple(range(1, both[0].dim()))
    if by == "channel" and places:
        both = both.mean(dim=[side + 1 for side in places], keepdim=True)
    mean = both[0]
    variance = (both[1] - mean.square()).clamp_min(0)
    if places:
        variance = (1 - _SHRINKAGE) * variance + _SHRINKAGE * variance.mean(dim=list(places), keepdim=True)
    # A layer that never changes has no scale at all.
    least = _LEAST_VARIANCE * variance.mean()
    return mean, variance.clamp_min(float(least) or 1.0).sqrt()
