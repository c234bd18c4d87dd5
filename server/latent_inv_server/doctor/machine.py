"""Versions of packages, and devices that are tried, not only asked for. No torch in this process."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from .finding import Finding, fail, ok, warn

_PACKAGE = "latent-inv"
#: a cold disk takes a minute for torch alone
_TRIAL_SECONDS = 180.0


def packages(package: str = _PACKAGE) -> list[Finding]:
    """This Python and every package that is needed, against the versions that are asked for."""
    found = [ok("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")]
    try:
        asked = [Requirement(line) for line in requires(package) or []]
    except PackageNotFoundError:
        text = "is not installed, so nothing says which versions it needs"
        return [*found, warn("packages", f"{package} {text}", "install it with pip, or go on at your own risk")]
    needed = [each for each in asked if each.marker is None or each.marker.evaluate({"extra": ""})]
    wrong = [line for each in needed if (line := _wrong(each))]
    found += [
        fail("packages", f"{name} {there}, needed is {name}{wanted}", f"pip install '{name}{wanted}'")
        for name, there, wanted in wrong
    ]
    if not wrong:
        found.append(ok("packages", f"{package} {version(package)}, and the {len(needed)} that it needs"))
    return found


def _wrong(asked: Requirement) -> tuple[str, str, str] | None:
    """(name, what is there, what is wanted); None if it fits."""
    wanted = str(asked.specifier)
    try:
        there = version(asked.name)
    except PackageNotFoundError:
        return asked.name, "is not here", wanted
    return None if asked.specifier.contains(there, prereleases=True) else (asked.name, f"is {there}", wanted)


def devices(names: Sequence[str], cpu_threads: int | None) -> list[Finding]:
    """Each device: can it be used, and does it compute rightly? A generator whose weights are here is tried, too."""
    return [finding for name in names for finding in _device(name, cpu_threads)]


def _device(name: str, cpu_threads: int | None) -> list[Finding]:
    about = f"device {name}"
    command = [sys.executable, "-m", "latent_inv_server.doctor.trial", name, str(cpu_threads or 0)]
    # In a process of its own: a torch for another processor ends the process, and a broken driver never answers.
    # Python's own switches are not handed on by themselves, the search path is.
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    try:
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, timeout=_TRIAL_SECONDS, check=False, env=environ
        )
    except subprocess.TimeoutExpired:
        text = f"no answer within {_TRIAL_SECONDS:.0f} s"
        return [fail(about, text, "try another device; a driver that hangs needs a restart of the machine")]
    return read_trial(about, done.returncode, done.stdout)


def read_trial(about: str, code: int, output: str) -> list[Finding]:
    """What the trial of a device said.

    Args:
        code: how its process ended; negative: by a signal.
        output: its last line is the report.
    """
    if code < 0:
        name = signal.Signals(-code).name
        hint = {"SIGILL": "this torch is built for another processor: install one for this", "SIGKILL": "free memory"}
        return [fail(about, f"torch ended its process by {name}", hint.get(name, "install torch again"))]
    lines = output.strip().splitlines()
    try:
        said = json.loads(lines[-1])
    except (IndexError, ValueError):
        return [fail(about, f"torch cannot be used (exit code {code})", 'run: python -c "import torch"')]
    if said["problem"]:
        return [fail(about, said["problem"], said["advice"])]
    found = [ok(about, said["found"])]
    if said["decode"]:
        found.append(ok(f"decode on {said['device']}", said["decode"]))
    return found


def threads(names: Sequence[str], cpu_threads: int | None) -> list[Finding]:
    """More workers' threads than processors make all of them slow."""
    processors = _processors()
    wanted = sum(name.split(":")[0] in ("cpu", "auto") for name in names) * (cpu_threads or 1)
    if wanted > processors:
        text = f"{wanted} threads compute on {processors} processors"
        return [warn("threads", text, f"set threads to at most {max(1, processors // len(names))}")]
    return [ok("threads", f"{processors} processors, {cpu_threads or 'as many as torch likes'} threads a worker")]


def _processors() -> int:
    # Fewer than the machine's, where a container or a service has some of them only.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
