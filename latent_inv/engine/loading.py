"""Weights are loaded beside the loop: what a request needs, and threads that bring it while others go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from latent_inv import spec as specs
from latent_inv.asset_table import ASSETS
from latent_inv.assets import fetch
from latent_inv.catalogue import Catalogue
from latent_inv.device import DTYPES
from latent_inv.errors import LatentInvError, UnavailableError
from latent_inv.generators.base import LoadProgress
from latent_inv.generators.half import HALVES
from latent_inv.incidents import as_typed
from latent_inv.outline import fit_job, lane_width, wants_encoder
from latent_inv.perceptual import METRICS, load_metric

#: how long closing waits for threads that are told to stop, in seconds
_PATIENCE = 2.0


@dataclass(frozen=True)
class Need:
    """Something that must be loaded.

    Attributes:
        key: what tells it from others.
        title: for whoever looks at the worker.
        assets: names of files that are fetched first, as that takes longest and disturbs nobody.
        load: puts it on the device.
        here: is it still there, once it was loaded?
    """

    key: Hashable
    title: str
    assets: tuple[str, ...]
    load: Callable[[LoadProgress], object]
    here: Callable[[], bool] = lambda: True


def needs(spec: specs.Spec, catalogue: Catalogue) -> list[Need]:
    """What `spec` needs, in the order in which it must be loaded.

    Raises:
        SpecError: there is no such generator. UnsupportedError: its network cannot compute in that precision.
    """
    name = spec.generator
    if isinstance(spec, specs.DescribeSpec) or (isinstance(spec, specs.ResidenceSpec) and spec.action != "load"):
        return []
    dtype, precision = spec.dtype, catalogue.precision_of(spec)
    files = tuple(asset for asset in (name,) if asset in ASSETS)
    key = (name, dtype, precision)
    part = ("half", precision) if precision in HALVES else ("generator", dtype)
    found = [
        Need(
            ("generator", *key),
            name,
            files,
            lambda tell: catalogue.at(*key, tell),
            lambda: catalogue.holds(name, ("generator", dtype)) and catalogue.holds(name, part),
        )
    ]
    encoding = isinstance(spec, (specs.EncodeSpec, specs.ResidenceSpec))
    encodes = wants_encoder(spec) if isinstance(spec, specs.JobSpec) else encoding
    if encodes and catalogue.has_encoder(name):
        title = f"the encoder of {name}"
        encoder = ("encoder", dtype, precision)
        found.append(
            Need(
                ("encoder", *key), title, (), lambda _: catalogue.encoder(*key), lambda: catalogue.holds(name, encoder)
            )
        )
    if isinstance(spec, specs.JobSpec):
        metric, device = spec.perceptual, catalogue.placement.torch_device
        files = tuple(asset for asset in METRICS[metric].assets if asset in ASSETS)
        found.append(
            Need(
                ("metric", metric, dtype), metric, files, lambda tell: load_metric(metric, device, DTYPES[dtype], tell)
            )
        )
    return found


def uses_generator(spec: specs.Spec) -> bool:
    """Does it need a generator to be whole until it is over?"""
    if isinstance(spec, specs.ResidenceSpec):
        return spec.action == "load"
    return not isinstance(spec, specs.DescribeSpec)


def check(spec: specs.Spec, catalogue: Catalogue) -> None:
    """Refuse what can be seen to be wrong before anything is loaded.

    Raises:
        LatentInvError: the field, what was found, and what is accepted.
    """
    if isinstance(spec, specs.JobSpec):
        lane_width(spec, catalogue.placement)
        fit_job(spec, catalogue.find(spec.generator))


class Loader:
    """Brings what is needed, each need once, in threads of its own.

    Args:
        changed: called, in one of these threads, when something was loaded or could not be.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._lock = threading.Lock()
        # Networks are made one after the other: torch's random numbers, which their makers use, are global.
        self._making = threading.Lock()
        self._here: set[Hashable] = set()
        self._failed: dict[Hashable, LatentInvError] = {}
        self._threads: dict[Hashable, threading.Thread] = {}
        self._progress: dict[Hashable, str] = {}
        self._closed = False

    def has(self, wanted: list[Need]) -> bool:
        """Is everything here?"""
        return all(self._has(need) for need in wanted)

    def _has(self, need: Need) -> bool:
        return need.key in self._here and need.here()

    def begin(self, wanted: list[Need]) -> None:
        """Load what is missing and is not on its way yet; what others are made for comes first, files at once."""
        missing = [need for need in wanted if not self._has(need)]
        for place, need in enumerate(missing):
            if (place == 0 or need.assets) and need.key not in self._threads:
                self._start(need)

    def failures(self) -> dict[Hashable, LatentInvError]:
        """What could not be loaded since the last call, by key; whoever asks for it anew makes it be tried again."""
        with self._lock:
            failed, self._failed = self._failed, {}
        return failed

    @property
    def titles(self) -> tuple[str, ...]:
        """What is being loaded, with how far it is; safe to ask from another thread."""
        with self._lock:
            return tuple(self._progress.values())

    def close(self) -> None:
        """Stop downloads, as far as they listen; the rest ends with the process."""
        self._closed = True
        end = time.monotonic() + _PATIENCE
        for thread in list(self._threads.values()):
            thread.join(max(0.0, end - time.monotonic()))

    def _start(self, need: Need) -> None:
        thread = threading.Thread(target=self._load, args=(need,), name=f"loading {need.title}", daemon=True)
        with self._lock:
            self._threads[need.key] = thread
            self._progress[need.key] = need.title
        thread.start()

    def _load(self, need: Need) -> None:
        def tell(_what: str, done: int, total: int | None) -> None:
            if self._closed:
                raise UnavailableError("the engine was closed")
            of = "" if total is None else f" of {total / 1e6:.0f}"
            with self._lock:
                self._progress[need.key] = f"{need.title}, {done / 1e6:.0f}{of} MB"

        failed: LatentInvError | None = None
        try:
            for asset in need.assets:
                fetch(asset, progress=tell)
            with self._making:
                if not self._closed:
                    need.load(tell)
        except Exception as error:
            failed = as_typed(error, f"loading {need.title}")
        with self._lock:
            if failed is None:
                self._here.add(need.key)
            else:
                self._failed[need.key] = failed
            del self._threads[need.key], self._progress[need.key]
        self._changed()
