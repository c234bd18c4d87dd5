"""Generators that are slow, or end their process; workers find them as `tests.engine.awkward:TABLE`."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from latent_inv.errors import AssetError
from latent_inv.generators.base import Generator, LoadProgress
from latent_inv.types import Latents
from tests.toy import TOYS, Smooth

#: environment variable that names the file that `gated` waits for
GATE = "LATENT_INV_TEST_GATE"
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


class Gated(Smooth):
    """Loads once the file that the environment names is there; does not at all if it says so."""

    name = "gated"

    @classmethod
    def load(cls, device: torch.device, dtype: torch.dtype, progress: LoadProgress | None = None) -> Smooth:
        gate, done = Path(os.environ[GATE]), 0
        while not gate.exists():
            time.sleep(0.02)
            done += 1_000_000
            if progress is not None:
                progress(cls.name, done, 50_000_000)
        if gate.read_text() == "fail":
            raise AssetError("these weights cannot be had")
        return super().load(device, dtype, progress)


class Breaks(Smooth):
    """Has a bug."""

    name = "breaks"

    def _decode(self, latents: Latents) -> Tensor:
        raise KeyError("secret /path/to/x")


class Hangs(Smooth):
    """Never comes back from a picture."""

    name = "hangs"

    def _decode(self, latents: Latents) -> Tensor:
        time.sleep(3600)
        raise AssertionError


class HangsWithLock(Smooth):
    """Never comes back from a picture, and holds Python's lock, as an extension with a bug would."""

    name = "hangs_with_lock"

    def _decode(self, latents: Latents) -> Tensor:
        ctypes.PyDLL(None).sleep(3600)
        raise AssertionError


class Greedy(Smooth):
    """Wants more memory than there is, at the calls for which `appetite` says so."""

    name = "greedy"
    #: (number of the call, rows) -> is it too much?
    appetite: ClassVar[Callable[[int, int], bool]] = staticmethod(lambda call, rows: rows > 2)
    calls: ClassVar[int] = 0

    def _decode(self, latents: Latents) -> Tensor:
        Greedy.calls += 1
        if Greedy.appetite(Greedy.calls, latents["z"].shape[0]):
            torch.empty(2**60)
        return super()._decode(latents)


_ALL = (Slow, SlowToLoad, Dies, Gated, Breaks, Hangs, HangsWithLock, Greedy)
TABLE: dict[str, type[Generator]] = {**TOYS, **{kind.name: kind for kind in _ALL}}
