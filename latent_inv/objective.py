"""The one equation: Σ wᵢ · lossᵢ(A(G(z)), y) + Σ priorⱼ(z), a number a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .errors import UnsupportedError
from .generators.base import Generator
from .images import Picture
from .losses import Candidate, Loss, Target
from .observations import Observation
from .perceptual import PerceptualMetric
from .spaces import LatentSpace
from .types import Latents, by_row


@dataclass(frozen=True)
class Constants:
    """What stays the same for a row during a job; every tensor has a leading row dimension.

    Attributes:
        fixed: parts that are not searched.
        reach: searched part -> [R], how far from the prior's mean it may explore.
        near: {"anchor": searched part -> [R, …], "radius": [R]}, the ball that it must stay in; empty: there is none.
        losses: loss name -> number name -> [R].
        observation: number name -> [R].
    """

    target: Target
    fixed: Latents
    reach: Mapping[str, Tensor]
    losses: Mapping[str, Mapping[str, Tensor]]
    observation: Mapping[str, Tensor]
    near: Mapping[str, Any] = field(default_factory=dict)

    def tree(self) -> dict[str, Any]:
        """As a tree, for cutting and joining rows."""
        target = self.target
        return {
            "image": target.image,
            "weight": target.weight,
            "features": target.features,
            "feature_weight": target.feature_weight,
            "fixed": dict(self.fixed),
            "reach": dict(self.reach),
            "losses": {name: dict(rows) for name, rows in self.losses.items()},
            "observation": dict(self.observation),
            "near": dict(self.near),
        }

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> Constants:
        """The inverse of `tree`."""
        target = Target(tree["image"], tree["weight"], tree["features"], tree["feature_weight"])
        return cls(target, tree["fixed"], tree["reach"], tree["losses"], tree["observation"], tree["near"])


@dataclass(frozen=True)
class Values:
    """The objective at one point, with its graph: `loss` and `terms` [R], `candidate` what was looked at."""

    loss: Tensor
    terms: dict[str, Tensor]
    candidate: Candidate
    perceptual: Tensor | None


@dataclass(frozen=True)
class Objective:
    """Frozen structure of the sum; all numbers and targets come by row, in `Constants`.

    Attributes:
        losses: name -> loss, in the order in which they are summed.
        watch_perceptual: compute the metric at each step though no loss needs it (a target is set on it).
        modelled: names of the losses whose residuals a second-order solver works with.
        tangent_chunk: directions of a Jacobian that are computed at once.
        rounded: the generator in a quicker format, for Jacobians; None: they are made with the generator itself.
    """

    generator: Generator
    space: LatentSpace
    observation: Observation[Any]
    losses: Mapping[str, Loss[Any]]
    metric: PerceptualMetric
    watch_perceptual: bool
    modelled: tuple[str, ...] = ()
    tangent_chunk: int = 128
    rounded: Generator | None = None

    @property
    def needs_perceptual(self) -> bool:
        """Is the metric computed at each step?"""
        return self.watch_perceptual or any(loss.needs_perceptual for loss in self.losses.values())

    @property
    def differentiable(self) -> bool:
        """Can a gradient be had?"""
        return self.generator.differentiable and self.observation.differentiable

    def prepare(self, picture: Picture, start: Latents) -> Constants:
        """Put one row's target on the device and compute its features, once.

        Args:
            picture: of the size that the generator makes.
            start: part -> [1, …], all parts; those that are not searched stay, the others say how far one may explore.
        """
        image, weight = self.generator.place_picture(picture)
        if weight is not None:
            image = torch.where(weight > 0, image, torch.zeros_like(image))
        features, feature_weight = None, None
        if self.needs_perceptual:
            with torch.no_grad():
                features = list(self.metric.features(image if weight is None else image * weight))
            if weight is not None:
                feature_weight = list(self.metric.layer_weights(weight, features))
        dtype, device = self.generator.dtype, self.generator.device
        return Constants(
            target=Target(image, weight, features, feature_weight),
            fixed={name: tensor for name, tensor in start.items() if name not in self.space.searched},
            reach=self.space.reach({name: start[name] for name in self.space.searched if name in start}),
            losses={name: loss.rows(dtype, device) for name, loss in self.losses.items()},
            observation=self.observation.rows(dtype, device),
        )

    def __call__(self, searched: Latents, constants: Constants) -> Values:
        """Evaluate at `searched`, part -> [R, …]; carries the graph of whoever asks for gradients."""
        candidate = self._candidate(searched, constants)
        terms = {
            name: loss(candidate, constants.target, self.space, constants.losses[name])
            for name, loss in self.losses.items()
        }
        total = sum_in_order(list(terms.values()))
        return Values(total, terms, candidate, candidate.perceptual if self.needs_perceptual else None)

    def residual(self, searched: Latents, constants: Constants, *, rounded: bool = False) -> list[Tensor]:
        """Blocks [R, n] whose squares sum to the weighted terms that are `modelled`; carries the graph.

        Args:
            rounded: by the generator's quicker format, if there is one.
        Raises:
            UnsupportedError: one of them is no sum of squares.
        """
        generator = self.rounded if rounded and self.rounded is not None else self.generator
        return self.residual_of(self._candidate(searched, constants, generator), constants)

    def residual_of(self, candidate: Candidate, constants: Constants) -> list[Tensor]:
        """As `residual`, of a picture that is there already."""
        blocks = []
        for name in self.modelled:
            if name not in self.losses:
                text = f'the solver is asked to model "{name}", and the losses are {", ".join(self.losses)}'
                raise UnsupportedError(text, field="solver")
            rows = constants.losses[name]
            found = self.losses[name].residual(candidate, constants.target, self.space, rows)
            if found is None:
                settings = repr(self.losses[name].settings)
                text = f'"{name}" as it is set here, {settings}, is no sum of squares, which this solver needs'
                raise UnsupportedError(f'{text}; "adam" and "l_bfgs" take every loss', field="solver")
            blocks += [block * by_row(rows["weight"].sqrt(), block) for block in found]
        return blocks

    def residual_entries(self, start: Latents, constants: Constants) -> int:
        """Numbers in the residual of one row; the generator is not asked.

        Args:
            start: part -> [1, …], all parts.
        Raises:
            UnsupportedError: as `residual`.
        """
        with torch.no_grad():
            images = torch.zeros_like(constants.target.image)
            observed = self.observation(images, constants.observation)
            candidate = Candidate(start, images, observed, constants.target, self.metric)
            return sum(block.shape[1] for block in self.residual_of(candidate, constants))

    def _candidate(self, searched: Latents, constants: Constants, generator: Generator | None = None) -> Candidate:
        latents = {**constants.fixed, **searched}
        images = (generator or self.generator)(latents)
        observed = self.observation(images, constants.observation)
        return Candidate(latents, images, observed, constants.target, self.metric)

    def score(self, images: Tensor, picture: Picture) -> tuple[float, float]:
        """(squared error on the [-1, 1] scale, perceptual distance) of one decoded picture [1, 3, H, W]."""
        watching = Objective(self.generator, self.space, self.observation, self.losses, self.metric, True)
        constants = watching.prepare(picture, {})
        with torch.no_grad():
            observed = self.observation(images, constants.observation)
            candidate = Candidate({}, images, observed, constants.target, self.metric)
            return float(candidate.squared_error), float(candidate.perceptual)


def sum_in_order(terms: Sequence[Tensor]) -> Tensor:
    """Their sum, always in the same order, since floating-point sums are not associative."""
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
