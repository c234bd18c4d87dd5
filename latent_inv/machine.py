"""What this machine, or the container that this process is in, has of memory. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil

#: where Linux shows its control groups
_CGROUPS = Path("/sys/fs/cgroup")
#: control groups without a limit show a number near this or above
_UNLIMITED = 2**60


def resident_bytes() -> int:
    """Memory that this process holds now."""
    return int(psutil.Process().memory_info().rss)


def kills_for_memory(counters: Path = Path("/proc/vmstat")) -> int | None:
    """How many processes the kernel has ended for want of memory since it started; None: it does not tell."""
    try:
        lines = counters.read_text().splitlines()
    except OSError:  # not Linux
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)


def memory_bytes(groups: Path = _CGROUPS, own: Path = Path("/proc/self/cgroup")) -> int:
    """Memory that this process may use at most: all of the machine's, or the smallest limit of its control groups.

    Args:
        groups: where control groups are shown.
        own: the file that names those of this process.
    """
    return min([int(psutil.virtual_memory().total), *_limits(groups, own)])


def _limits(groups: Path, own: Path) -> Iterator[int]:
    try:
        lines = own.read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield from _limits_above(groups, path, "memory.max")
        elif "memory" in controllers.split(","):
            yield from _limits_above(groups / "memory", path, "memory.limit_in_bytes")


def _limits_above(root: Path, path: str, name: str) -> Iterator[int]:
    """The limits of a group and of those that it is in; each of them holds."""
    # Seen from inside a container, the path may lead out of what is mounted; what is mounted is the own group then.
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for depth in range(len(parts), -1, -1):
        try:
            text = root.joinpath(*parts[:depth], name).read_text().strip()
        except OSError:
            continue
        if text.isdigit() and int(text) < _UNLIMITED:
            yield int(text)
