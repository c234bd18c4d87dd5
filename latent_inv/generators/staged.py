"""Generators that are made of stages, and the latent spaces between these.

A layer space holds what one stage hands to the next. It reaches pictures that the latents in front cannot, at the price
of leaving what the generator learned: Daras et al. (2021), "Intermediate layer optimization for inverse problems using
deep generative models"; with deviations kept small, Dhar, Grover and Ermon (2018), "Modeling sparse deviations for
compressed sensing using generative models".
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from latent_inv.constraints import Constraint, Free
from latent_inv.measured import LayerSpace, Measured, Statistics, measure
from latent_inv.seeding import stream
from latent_inv.spaces import LatentSpace, Part
from latent_inv.types import Latents, join_rows

from .base import Generator

#: what the last segment calls its picture
PICTURE = "picture"
#: rows that go through the stages at once when a layer is measured
_MEASURED_ROWS = 8


def layer_spaces(
    shapes: Mapping[str, Mapping[str, tuple[int, ...]]], constraint: Constraint = Free(), by: str = "coordinate"
) -> dict[str, LayerSpace]:
    """Layer spaces whose parts all are searched and measured: stage -> part -> shape."""
    return {
        stage: LayerSpace({name: Part(shape, Measured(by), constraint) for name, shape in parts.items()})
        for stage, parts in shapes.items()
    }


def layer_routes(entry: Sequence[str], stages: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The `routes` of layer spaces: through the spaces of `entry`, then from stage to stage."""
    return {stage: (*entry, *stages[:index]) for index, stage in enumerate(stages)}


class Staged(Generator):
    """A generator that runs segment by segment; `stages` names the cuts between them, which are spaces, too.

    Segment 0 goes from the latents of `_enter` to `stages[0]`, segment i to `stages[i]`, the last one to the picture.

    Subclasses give `stages`, `spaces` with a `LayerSpace` for each of them (`layer_spaces`, or by hand where parts
    differ), `routes` (`layer_routes`), and `_segment`.
    """

    #: draws by which a layer is measured, and as many again for how far draws are from their mean
    measured_draws: ClassVar[int] = 128

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        # Priors of layers need weights, so those of the class are only described, and those of an object are measured.
        self.spaces = {name: self._bound(name) for name in self.spaces}

    @abstractmethod
    def _segment(self, index: int, latents: Latents) -> dict[str, Tensor]:
        """What segment `index` makes of the parts of the cut before it: the parts of the next cut, or `PICTURE`."""

    def _enter(self, latents: Latents, space: str) -> Latents:
        """Latents of `space`, which is no stage, as segment 0 takes them."""
        return latents

    def _decode(self, latents: Latents) -> Tensor:
        return self._run(latents, len(self.stages))[PICTURE]

    def _lift(self, latents: Latents, source: str, space: str) -> dict[str, Tensor]:
        return self._run(latents, self.stages.index(space))

    def _run(self, latents: Latents, last: int) -> dict[str, Tensor]:
        """Run all segments up to `last` that are ahead of these latents."""
        space = self.space_of(latents)
        first = self.stages.index(space) + 1 if space in self.stages else 0
        state = dict(latents if first else self._enter(latents, space))
        for index in range(first, last + 1):
            state = self._segment(index, state)
        return state

    # ---- what earlier stages make ------------------------------------------------------------------

    def _bound(self, name: str) -> LatentSpace:
        """The space called `name` with priors that are measured when they are first needed."""
        space = self.spaces[name]
        if not isinstance(space, LayerSpace):
            return space
        found: dict[str, Statistics] = {}

        def statistics(part: str) -> Statistics:
            if not found:
                found.update(self._measure(name))
            return found[part]

        parts = {
            part: replace(held, prior=held.prior.bound(partial(statistics, part)))
            if isinstance(held.prior, Measured)
            else held
            for part, held in space.parts.items()
        }
        return replace(space, parts=parts, draw=partial(self._draw, name))

    def _measure(self, name: str) -> dict[str, Statistics]:
        by = {part: held.prior.by for part, held in self.spaces[name].parts.items() if isinstance(held.prior, Measured)}
        count = self.measured_draws

        def draws(seeds: range) -> Iterator[dict[str, Tensor]]:
            for first in range(seeds.start, seeds.stop, _MEASURED_ROWS):
                some = range(first, min(first + _MEASURED_ROWS, seeds.stop))
                yield self._draws(name, self.resolve_size(0, 0), [stream(seed, "layer") for seed in some])

        return measure(draws(range(count)), draws(range(count, 2 * count)), by)

    def _draw(self, name: str, size: tuple[int, int], noise: torch.Generator) -> dict[str, Tensor]:
        return self._draws(name, size, [noise])

    def _draws(self, name: str, size: tuple[int, int], streams: Sequence[torch.Generator]) -> dict[str, Tensor]:
        """Draws of the first space on the way, as latents of the layer: part -> [n, …], float32 on the CPU.

        They are computed in float32 whatever the generator's own format, so that they are the same draws in all.
        """
        origin = self.routes[name][0]
        rows = join_rows([self.spaces[origin].sample(size, noise) for noise in streams])
        single = self._single()
        with torch.no_grad():
            lifted = single.lift({part: single.place(tensor) for part, tensor in rows.items()}, name)
        return {part: tensor.cpu() for part, tensor in lifted.items()}

    def _single(self) -> Staged:
        if self.dtype == torch.float32:
            return self
        single = copy.copy(self)
        single.network = copy.deepcopy(self.network).float()
        single.dtype = single.network_dtype = torch.float32
        return single
