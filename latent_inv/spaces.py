"""Latent spaces: named parts, each with a shape, a prior and the set that it must stay in."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .constraints import Constraint, Free, Standardised
from .errors import LatentsError, ShapeError, unknown_name
from .types import Latents, by_row, pulled

# ---- priors ------------------------------------------------------------------------------------


class Prior(ABC):
    """The distribution that the generator was trained on, for one part."""

    name: str
    #: what its classes are called, where it has classes
    labels: tuple[str, ...] = ()

    @abstractmethod
    def sample(self, shape: tuple[int, ...], stream: torch.Generator) -> Tensor:
        """One draw, [*shape], float32 on the CPU."""

    @abstractmethod
    def mean(self, shape: tuple[int, ...]) -> Tensor:
        """The mean, [*shape], float32 on the CPU."""

    @abstractmethod
    def energy(self, latents: Tensor) -> Tensor:
        """Negative log density per dimension, 0 at the mode: [R, …] -> [R]."""

    @abstractmethod
    def typicality(self, latents: Tensor) -> Tensor:
        """Share of draws that lie nearer to the mean, [R] in [0, 1]; 0.5 is typical, near 1 is far out."""

    def energy_residual(self, latents: Tensor) -> Tensor | None:
        """[R, n] whose squares sum to `energy`; None where there is none."""
        return None

    def reach(self, latents: Tensor) -> Tensor:
        """How far from the mean a search that begins at `latents` may explore, in its own measure: [R, …] -> [R].

        As far as draws usually lie, or as the start lies.
        """
        return latents.new_full(latents.shape[:1], math.inf)

    def within(self, latents: Tensor, reach: Tensor) -> Tensor:
        """The nearest point that is no further from the mean than `reach`, [R]: [R, …] -> [R, …]."""
        return latents

    def near(self, latents: Tensor, anchor: Tensor, radius: Tensor) -> Tensor:
        """The nearest point whose difference to `anchor`, root of the mean square in deviations, is at most `radius`.

        Args:
            latents, anchor: [R, …].
            radius: [R].
        """
        size = (latents - anchor).flatten(1).square().mean(dim=1).sqrt() / self.scale
        return pulled(latents, anchor, size, radius)

    @property
    def scale(self) -> float:
        """Standard deviation of one coordinate; the unit in which a start is moved."""
        return 1.0


class Normal(Prior):
    """Independent standard normal coordinates."""

    name = "normal"

    def sample(self, shape: tuple[int, ...], stream: torch.Generator) -> Tensor:
        return torch.randn(shape, generator=stream)

    def mean(self, shape: tuple[int, ...]) -> Tensor:
        return torch.zeros(shape)

    def energy(self, latents: Tensor) -> Tensor:
        return latents.flatten(1).square().mean(dim=1) / 2

    def energy_residual(self, latents: Tensor) -> Tensor:
        flat = latents.flatten(1)
        return flat / math.sqrt(2 * flat.shape[1])

    def reach(self, latents: Tensor) -> Tensor:
        # In high dimensions nearly all draws lie in a thin shell of radius √d.
        flat = latents.flatten(1)
        return flat.norm(dim=1).clamp_min(math.sqrt(flat.shape[1]))

    def within(self, latents: Tensor, reach: Tensor) -> Tensor:
        norm = latents.flatten(1).norm(dim=1)
        return latents * by_row((reach / norm.clamp_min(torch.finfo(norm.dtype).tiny)).clamp_max(1), latents)

    def typicality(self, latents: Tensor) -> Tensor:
        # ‖z‖² is χ² with d degrees of freedom; its distribution function is the regularised Γ(d/2, ‖z‖²/2).
        flat = latents.flatten(1).double()
        return torch.special.gammainc(torch.full_like(flat[:, 0], flat.shape[1] / 2), flat.square().sum(dim=1) / 2)


class NoiseMap(Normal):
    """A map of noise that a generator adds to its activations, [H, W]: what is in it should not be a picture."""

    name = "noise_map"

    def sample(self, shape: tuple[int, ...], stream: torch.Generator) -> Tensor:
        return Standardised()(super().sample(shape, stream)[None])[0]


class Uniform(Prior):
    """Independent coordinates, uniform on [low, high]."""

    name = "uniform"

    def __init__(self, low: float = -1.0, high: float = 1.0) -> None:
        self.low, self.high = low, high

    def sample(self, shape: tuple[int, ...], stream: torch.Generator) -> Tensor:
        return self.low + (self.high - self.low) * torch.rand(shape, generator=stream)

    def mean(self, shape: tuple[int, ...]) -> Tensor:
        return torch.full(shape, (self.low + self.high) / 2)

    def energy(self, latents: Tensor) -> Tensor:
        return latents.flatten(1).mean(dim=1) * 0

    def typicality(self, latents: Tensor) -> Tensor:
        # Each coordinate's own distance to the centre is uniform on [0, 1]; by the central limit theorem
        # their mean is normal, which is exact enough for the dimensions that occur.
        flat = latents.flatten(1).double()
        centre, half = (self.low + self.high) / 2, (self.high - self.low) / 2
        distance = ((flat - centre).abs() / half).mean(dim=1)
        return torch.special.ndtr((distance - 0.5) * math.sqrt(12 * flat.shape[1]))

    @property
    def scale(self) -> float:
        return (self.high - self.low) / math.sqrt(12)


class Categorical(Prior):
    """One of n classes with equal odds, as a one-hot vector; the relaxation is the simplex.

    Args:
        labels: what the classes are called, in order; empty: they have numbers only.
    """

    name = "categorical"

    def __init__(self, labels: tuple[str, ...] = ()) -> None:
        self.labels = labels

    def index(self, label: str, count: int) -> int:
        """The class called `label`, or whose number it is.

        Raises:
            SpecError: there is none.
        """
        if label in self.labels:
            return self.labels.index(label)
        if label.isdecimal() and int(label) < count:
            return int(label)
        raise unknown_name("class", label, list(self.labels) or [f"0 to {count - 1}"], field="conditions")

    def label(self, index: int) -> str:
        """What a class is called."""
        return self.labels[index] if self.labels else str(index)

    def sample(self, shape: tuple[int, ...], stream: torch.Generator) -> Tensor:
        index = int(torch.randint(shape[-1], (1,), generator=stream))
        return torch.nn.functional.one_hot(torch.tensor(index), shape[-1]).float()

    def mean(self, shape: tuple[int, ...]) -> Tensor:
        return torch.full(shape, 1 / shape[-1])

    def energy(self, latents: Tensor) -> Tensor:
        # 0 at the corners (a real class), 1 in the middle: the corners are where the generator was trained.
        count = latents.shape[-1]
        return (1 - latents.flatten(1).square().sum(dim=1)) * count / (count - 1)

    def typicality(self, latents: Tensor) -> Tensor:
        return self.energy(latents.double()).clamp(0, 1)


# ---- spaces ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """One named part of a space.

    Attributes:
        shape: shape for one picture; negative entries −k mean "picture side ÷ k", height before width.
        role: "searched" is optimised; "fixed" is drawn or given, and stays.
    """

    shape: tuple[int, ...]
    prior: Prior
    constraint: Constraint = Free()
    role: str = "searched"

    def shape_for(self, size: tuple[int, int]) -> tuple[int, ...]:
        """The shape for a picture of `size` = (height, width)."""
        sides = iter(size)
        return tuple(entry if entry >= 0 else next(sides) // -entry for entry in self.shape)


@dataclass(frozen=True)
class LatentSpace:
    """Parts by name; their names tell the generator which space the latents are from."""

    parts: Mapping[str, Part]

    @property
    def searched(self) -> tuple[str, ...]:
        """Names of the parts that are optimised."""
        return tuple(name for name, part in self.parts.items() if part.role == "searched")

    def shapes(self, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        """Shape of every part for one picture of `size`."""
        return {name: part.shape_for(size) for name, part in self.parts.items()}

    def sample(self, size: tuple[int, int], stream: torch.Generator) -> dict[str, Tensor]:
        """One draw from the prior: part -> [1, …], float32 on the CPU."""
        return {name: part.prior.sample(part.shape_for(size), stream)[None] for name, part in self.parts.items()}

    def mean(self, size: tuple[int, int]) -> dict[str, Tensor]:
        """The prior's mean: part -> [1, …]."""
        return {name: part.prior.mean(part.shape_for(size))[None] for name, part in self.parts.items()}

    def beside(self, latents: Latents, draw: Latents, amount: float) -> dict[str, Tensor]:
        """Parts moved by `amount` times what `draw`, from the prior, is off its mean, and put back into their sets."""
        moved = {}
        for name, tensor in latents.items():
            mean = self.parts[name].prior.mean(tuple(tensor.shape[1:]))[None]
            moved[name] = tensor + amount * (draw[name] - mean).to(tensor)
        return self.retract(moved)

    def retract(self, latents: Latents) -> dict[str, Tensor]:
        """Put every part back into its set."""
        return {name: self.parts[name].constraint(tensor) for name, tensor in latents.items()}

    def reach(self, latents: Latents) -> dict[str, Tensor]:
        """How far each part may explore from a start, see `Prior.reach`: part -> [R]."""
        return {name: self.parts[name].prior.reach(tensor) for name, tensor in latents.items()}

    def keep_typical(self, latents: Latents, reach: Mapping[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
        """Put `rows`, [R] of bool, back within their reach of the mean."""
        return {
            name: torch.where(by_row(rows, x), self.parts[name].prior.within(x, reach[name]), x)
            for name, x in latents.items()
        }

    def keep_near(self, latents: Latents, anchors: Latents, radius: Tensor) -> dict[str, Tensor]:
        """Put every part back into the ball of `radius`, [R], around its anchor, see `Prior.near`."""
        return {name: self.parts[name].prior.near(x, anchors[name], radius) for name, x in latents.items()}

    def check_dimensions(self, latents: Latents) -> None:
        """Refuse parts with another number of dimensions; after this, their sides may be looked at.

        Raises:
            ShapeError: the part and what was found.
        """
        for name, part in self.parts.items():
            if latents[name].dim() != len(part.shape) + 1:
                found = _text(latents[name].shape)
                raise ShapeError(f"expected {len(part.shape) + 1} dimensions, rows first, found [{found}]", field=name)

    def check(self, latents: Latents, size: tuple[int, int]) -> None:
        """Refuse latents that are not of this space.

        Raises:
            LatentsError: parts are missing or unknown.
            ShapeError: a shape differs, or the parts have different numbers of rows.
        """
        if set(latents) != set(self.parts):
            raise LatentsError(f"the parts are {', '.join(self.parts)}; found {', '.join(sorted(latents)) or 'none'}")
        rows = {tensor.shape[0] if tensor.dim() else 0 for tensor in latents.values()}
        for name, shape in self.shapes(size).items():
            found = tuple(latents[name].shape[1:])
            if found != shape:
                raise ShapeError(f"expected [rows, {_text(shape)}], found [{_text(latents[name].shape)}]", field=name)
        if len(rows) != 1:
            raise ShapeError(f"all parts need the same number of rows, found {sorted(rows)}", field="latents")

    def describe(self) -> dict[str, dict[str, Any]]:
        """Plain values for `GeneratorInfo.spaces`."""
        return {
            name: {
                "shape": list(part.shape),
                "prior": part.prior.name,
                "constraint": part.constraint.name,
                "role": part.role,
                **({"labels": list(part.prior.labels)} if part.prior.labels else {}),
            }
            for name, part in self.parts.items()
        }


def _text(shape: tuple[int, ...] | torch.Size) -> str:
    return ", ".join(str(side) for side in shape)
