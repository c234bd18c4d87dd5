"""Generators that are slow, or end their process; workers find them as `tests.engine.awkward:TABLE`."""

from __future__ import annotations

import os
import time

import torch
from torch import Tensor

from latent_inv.generators.base import Generator, LoadProgress
from latent_inv.types import Latents
from tests.toy import TOYS, Smooth

#: seconds of one step of `slow`, long beside all else
STEP_SECONDS = 0.05


class Slow(Smooth):
    """Takes its time for each picture."""

    name = "slow"

    def _decode(self, latents: Latents) -> Tensor:
        time.sleep(STEP_SECONDS)
        return super()._decode(latents)


class SlowToLoad(Smooth):
    """Takes its time to load."""

    name = "slow_to_load"

    @classmethod
    def load(cls, device: torch.device, dtype: torch.dtype, progress: LoadProgress | None = None) -> Smooth:
        time.sleep(0.5)
        return super().load(device, dtype, progress)


class Dies(Smooth):
    """Ends the process that loads it, as a crash inside a kernel would."""

    name = "dies"

    @classmethod
    def load(cls, device: torch.device, dtype: torch.dtype, progress: LoadProgress | None = None) -> Smooth:
        os._exit(7)


TABLE: dict[str, type[Generator]] = {**TOYS, **{kind.name: kind for kind in (Slow, SlowToLoad, Dies)}}
