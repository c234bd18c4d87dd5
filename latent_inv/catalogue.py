"""Generators that are loaded: which there are, who uses them, and which one goes when memory is short."""

from __future__ import annotations

import gc
import itertools
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from . import spec as specs
from .asset_table import ENCODERS
from .device import DTYPES, Placement
from .encoders import AmortisedEncoder, PictureEncoder, load_encoder
from .errors import LimitError, StateError
from .generators.base import Generator, LoadProgress
from .generators.half import HALVES
from .generators.table import GeneratorTable
from .outline import precision_of
from .residents import LoadedGenerator

#: seconds after which whoever found no room may try again
_RETRY_SECONDS = 5.0
_MIB = 2**20
#: what of a generator is loaded: itself in a number format, its network in half precision, its encoder
Part = tuple[str, ...]


@dataclass
class _Held:
    """A generator in all its formats, with its encoders; `used`: when, by count."""

    parts: dict[Part, Any] = field(default_factory=dict)
    size: int = 0
    used: int = 0


class Catalogue:
    """Generators by name, loaded when first needed and kept. Safe to use from several threads.

    Args:
        budget: bytes that loaded generators may take together: the least recently used one goes first, and never one
            that is in use; None: no limit.
    """

    def __init__(
        self,
        table: Mapping[str, type[Generator]],
        placement: Placement,
        encoders: Mapping[str, Path] | None = None,
        budget: int | None = None,
    ) -> None:
        self.table = table if isinstance(table, GeneratorTable) else GeneratorTable(table)
        self.placement, self.budget = placement, budget
        self._encoder_files = dict(encoders or {})
        self._lock = threading.RLock()
        self._held: dict[str, _Held] = {}
        self._users: dict[str, str] = {}
        self._sizes: dict[tuple[str, Part], int] = {}  # what each part came to when it was last made
        self._ticks = itertools.count()

    def find(self, name: str) -> type[Generator]:
        """The adapter called `name`; see `GeneratorTable.find`."""
        return self.table.find(name)

    def load(self, name: str, dtype: str, progress: LoadProgress | None = None) -> Generator:
        """The generator on the engine's device.

        Raises:
            SpecError: unknown name. AssetError: its weights cannot be had. UnsupportedError: not in this format.
            LimitError: it does not fit beside those in use (`retry_after` is set), or never will (it is not).
        """

        def make() -> Generator:
            kind = self.find(name)
            kind.check_dtype(dtype)
            return kind.load(self.placement.torch_device, DTYPES[dtype], progress)

        generator: Generator = self._kept(name, ("generator", dtype), make)
        return generator

    def precision_of(
        self, spec: specs.JobSpec | specs.DecodeSpec | specs.SampleSpec | specs.EncodeSpec | specs.ResidenceSpec
    ) -> str:
        """Number format in which the network of a request computes; see `outline.precision_of`."""
        return precision_of(spec, self.find(spec.generator), self.placement)

    def at(self, name: str, dtype: str, precision: str, progress: LoadProgress | None = None) -> Generator:
        """The generator with a network in `precision`, which `precision_of` gave; raises as `load`."""
        generator = self.load(name, dtype, progress)
        if precision not in HALVES:
            return generator
        half: Generator = self._kept(name, ("half", precision), lambda: generator.rounded(HALVES[precision]))
        return half

    def rounded(self, name: str, dtype: str) -> Generator | None:
        """The generator in a format that is quicker here, for Jacobians; None: there is none, or it is too coarse."""
        wanted, generator = self.placement.rounded, self.load(name, dtype)
        if wanted is None or not generator.roundable or generator.dtype != torch.float32:
            return None
        return self.at(name, dtype, str(wanted).removeprefix("torch."))

    def has_encoder(self, name: str) -> bool:
        """Can its latents be found in forward passes?"""
        return name in self._encoder_files or name in ENCODERS or self.find(name).has_encoder

    def encoder(self, name: str, dtype: str, precision: str = "") -> PictureEncoder | None:
        """The generator's encoder, on the engine's device; one given by hand comes before its own. None: it has none.

        Raises:
            AssetError: it is damaged, or of another generator. Else as `load`.
        """
        if not self.has_encoder(name):
            return None
        generator = self.at(name, dtype, precision)

        def make() -> PictureEncoder:
            return load_encoder(generator, self._encoder_files.get(name))

        encoder: PictureEncoder = self._kept(name, ("encoder", dtype, precision), make)
        return encoder

    # ---- who uses what ---------------------------------------------------------------------------

    def use(self, user: str, name: str) -> None:
        """Nothing of the generator goes while `user`, a job, has it; one generator a user."""
        with self._lock:
            self._users[user] = name

    def leave(self, user: str) -> None:
        """The inverse of `use`; harmless if it was not used."""
        with self._lock:
            self._users.pop(user, None)

    def holds(self, name: str, part: Part) -> bool:
        """Is this part of the generator loaded?"""
        with self._lock:
            return name in self._held and part in self._held[name].parts

    @property
    def loaded(self) -> tuple[LoadedGenerator, ...]:
        """What is loaded, the least recently used first."""
        with self._lock:
            ordered = sorted(self._held.items(), key=lambda item: item[1].used)
            return tuple(
                LoadedGenerator(
                    name=name,
                    memory_bytes=held.size,
                    formats=tuple(sorted({part[1] for part in held.parts if part[0] != "encoder"})),
                    users=self._count(name),
                    device=self.placement.device,
                )
                for name, held in ordered
            )

    def unload(self, name: str) -> int:
        """Let go of a generator; gives the bytes that it took, 0 if it was not loaded.

        Raises:
            SpecError: there is no such generator. StateError: it is in use.
        """
        if name not in self._held:
            self.find(name)
        with self._lock:
            users = self._count(name)
            if users:
                text = f"{name} is in use by {users} job{'s' if users > 1 else ''}; cancel them, or wait until they end"
                raise StateError(text, field="name")
            return self._drop(name)

    # ---- keeping ---------------------------------------------------------------------------------

    def _kept(self, name: str, part: Part, make: Callable[[], Any]) -> Any:
        """A part of a generator, made if it is not here."""
        with self._lock:
            held = self._held.get(name)
            if held is not None:
                held.used = next(self._ticks)
                if part in held.parts:
                    return held.parts[part]
            # Where its size is known, it is not made just to be dropped, and others go before it comes.
            self._make_room(name, self._sizes.get((name, part), 0))
        made = make()
        with self._lock:
            held = self._held.setdefault(name, _Held())
            kept = held.parts.setdefault(part, made)
            before, held.size = held.size, memory_of(held.parts.values())
            held.used, self._sizes[name, part] = next(self._ticks), held.size - before
            try:
                self._make_room(name, 0)
            except LimitError:
                del held.parts[part]
                held.size = memory_of(held.parts.values())
                if not held.parts:
                    del self._held[name]
                raise
            return kept

    def _make_room(self, name: str, more: int) -> None:
        """Drop others until `name` fits with `more` bytes."""
        if self.budget is None:
            return
        total = sum(held.size for held in self._held.values()) + more
        ordered = sorted(self._held, key=lambda other: self._held[other].used)
        idle = [other for other in ordered if other != name and not self._count(other)]
        # Nobody goes for nothing: first it is seen whether that would be enough.
        if total - sum(self._held[other].size for other in idle) <= self.budget:
            for other in idle:
                if total > self.budget:
                    total -= self._drop(other)
            return
        own = more + (self._held[name].size if name in self._held else 0)
        text = f"{name} needs {own / _MIB:.0f} MiB, and loaded generators may take {self.budget / _MIB:.0f} MiB here"
        if own > self.budget:
            raise LimitError(f"{text}; the server's generator_memory_mb says so", field="generator")
        raise LimitError(f"{text}; others are in use, try again later", retry_after=_RETRY_SECONDS, field="generator")

    def _count(self, name: str) -> int:
        return sum(used == name for used in self._users.values())

    def _drop(self, name: str) -> int:
        held = self._held.pop(name, None)
        if held is None:
            return 0
        size, held.parts = held.size, {}
        gc.collect()  # spaces of generators refer to the generator that they belong to
        if self.placement.torch_device.type == "cuda":
            torch.cuda.empty_cache()
        return size


def memory_of(parts: Iterable[Any]) -> int:
    """Bytes of networks of generators and encoders, each storage once."""
    found: dict[int, int] = {}
    more = 0
    for part in parts:
        network = part.network if isinstance(part, (Generator, AmortisedEncoder)) else None
        if isinstance(part, Generator):
            more += part.hidden_bytes
        if isinstance(network, nn.Module):
            for tensor in (*network.parameters(), *network.buffers()):
                storage = tensor.untyped_storage()
                found[storage.data_ptr()] = storage.nbytes()
    return sum(found.values()) + more
