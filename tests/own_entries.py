"""Entries as users may write them, right and wrong, for `python:tests.own_entries:NAME`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from latent_inv.generators.base import Generator, LoadProgress
from latent_inv.types import Latents
from tests.own import Vector, described_module, seeded
from tests.toy import Smooth


class Mine(Smooth):
    """A class is an entry by itself."""

    title = "Mine"


def make_class() -> type[Generator]:
    return Mine


make_module = described_module


class Failing(Mine):
    def _decode(self, latents: Latents) -> Tensor:
        raise ValueError("a shape\nof its own")


class Unloadable(Mine):
    @classmethod
    def load(cls, device: torch.device, dtype: torch.dtype, progress: LoadProgress | None = None) -> Smooth:
        raise KeyError("weight")


class Elder(Mine):
    """Does not make what it is asked for."""

    @classmethod
    def load(cls, device: torch.device, dtype: torch.dtype, progress: LoadProgress | None = None) -> Smooth:
        return Smooth.load(device, dtype, progress)


class Hungry(Mine):
    def _decode(self, latents: Latents) -> Tensor:
        raise MemoryError


class Wordless(Generator):
    """Says nothing of itself."""

    @classmethod
    def load(cls, device: torch.device, dtype: torch.dtype, progress: LoadProgress | None = None) -> Generator:
        raise NotImplementedError

    def _decode(self, latents: Latents) -> Tensor:
        raise NotImplementedError


class Abstract(Generator):
    title, spaces, default_space = "x", Mine.spaces, "z"


class Elsewhere(Mine):
    default_space = "w"


def raises() -> Any:
    raise RuntimeError("no weights here")


def number() -> int:
    return 3


def module_alone() -> nn.Module:
    return seeded(Vector)


def without_latents() -> tuple[nn.Module, dict[str, Any]]:
    return seeded(Vector), {"range": [-1, 1], "size": [24, 24]}


def without_size() -> tuple[nn.Module, dict[str, Any]]:
    return seeded(Vector), {"range": [-1, 1], "latents": {"z": {"shape": [6]}}}


def other_shape() -> tuple[nn.Module, dict[str, Any]]:
    return seeded(Vector), {"range": [-1, 1], "size": [24, 24], "latents": {"z": {"shape": [7]}}}


not_callable = {"range": [-1, 1]}
