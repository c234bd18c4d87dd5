"""Shared by all tests: one thread (results must not depend on it, and two would fight), and toys."""

from __future__ import annotations

import os

# Set before torch is imported, so that workers that the tests start have it too.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latent_inv.images import Picture

_FOLDER_SECONDS: dict[str, float] = defaultdict(float)
_TEST_SECONDS: dict[str, float] = defaultdict(float)


def require(what: str, found: bool, how: str) -> None:
    """Skip a test for want of `what`, or fail it where LATENT_INV_REQUIRE lists it."""
    if not found:
        listed = os.environ.get("LATENT_INV_REQUIRE", "").replace(",", " ").split()
        (pytest.fail if what in listed or "all" in listed else pytest.skip)(f"{what} is missing: {how}")


@pytest.fixture
def picture() -> Picture:
    """32 × 32, smooth, all colours."""
    return make_picture(32, 32)


def make_picture(height: int, width: int, seed: int = 0, weight: np.ndarray | None = None) -> Picture:
    """A smooth picture that differs by seed."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width] / max(height, width)
    waves = [
        np.sin(2 * np.pi * (random.uniform(0.5, 2) * rows + random.uniform(0.5, 2) * columns + random.uniform()))
        for _ in range(3)
    ]
    return Picture(np.ascontiguousarray(0.8 * np.stack(waves), dtype=np.float32), weight)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Of set-up, test and tear-down, in whichever process the test ran."""
    folder = Path(report.nodeid.split("::")[0]).parent.as_posix()
    _FOLDER_SECONDS[folder] += report.duration
    _TEST_SECONDS[report.nodeid] += report.duration


def pytest_terminal_summary(terminalreporter: Any) -> None:
    terminalreporter.section("seconds per folder")
    for folder, seconds in sorted(_FOLDER_SECONDS.items(), key=lambda pair: -pair[1]):
        terminalreporter.write_line(f"{seconds:8.1f}  {folder}")
    terminalreporter.section("ten slowest tests")
    for name, seconds in sorted(_TEST_SECONDS.items(), key=lambda pair: -pair[1])[:10]:
        terminalreporter.write_line(f"{seconds:8.1f}  {name}")
