"""Starts that look at the picture first."""

from __future__ import annotations

from torch import Tensor

from latent_inv import spec
from latent_inv.errors import UnsupportedError
from latent_inv.spaces import LatentSpace
from latent_inv.types import Latents

from .base import Encode, Initialiser, Streams


class Encoder(Initialiser[spec.Encoder]):
    """What an amortised encoder says, and points around it; parts that are not searched are drawn."""

    def starts(
        self, space: LatentSpace, size: tuple[int, int], streams: Streams, encode: Encode | None = None
    ) -> list[dict[str, Tensor]]:
        if encode is None:
            text = "this generator has no encoder; `latent-inv train-encoder` makes one, and seeds or best_of need none"
            raise UnsupportedError(text)
        passes, spread = self.settings.passes, self.settings.spread
        draws = [space.sample(size, streams(row)) for row in range(self.settings.count)]
        starts = [_encoded(space, draw, encode, passes) for draw in draws]
        for start, draw in zip(starts[1:], draws[1:], strict=True):
            start.update(space.beside({name: start[name] for name in space.searched}, draw, spread))
        return starts


class Halving(Initialiser[spec.Halving]):
    """The encoder's answer where there is one, and draws from the prior.

    Source: Jamieson and Talwalkar (2016), "Non-stochastic best arm identification", algorithm 1, with rungs that are
    twice as far apart each time.
    """

    @property
    def rungs(self) -> tuple[tuple[int, int], ...]:
        found, step, keep = [], self.settings.rung, self.settings.count
        while keep > 1:
            keep = (keep + 1) // 2
            found.append((step, keep))
            step = 2 * step + (step == 0)
        return tuple(found)

    def starts(
        self, space: LatentSpace, size: tuple[int, int], streams: Streams, encode: Encode | None = None
    ) -> list[dict[str, Tensor]]:
        rows = [space.sample(size, streams(row)) for row in range(self.settings.count)]
        if encode is not None:
            rows[0] = _encoded(space, rows[0], encode, spec.Encoder().passes)
        return rows


def _encoded(space: LatentSpace, draw: Latents, encode: Encode, passes: int) -> dict[str, Tensor]:
    """What an encoder sees, beside the parts of a draw that are not searched."""
    fixed = {name: tensor for name, tensor in draw.items() if name not in space.searched}
    return {**fixed, **encode(passes, fixed)}
