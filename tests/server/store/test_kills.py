"""kill -9 at any moment costs nothing that was acknowledged."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the writers are forked")
def test_what_was_acknowledged_survives_kills(tmp_path: Path, url: str) -> None:
    command = [sys.executable, "-W", "error", "-m", "tests.server.store.killing", str(tmp_path / "data"), url, "20"]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = re.fullmatch(r"20 kills, (\d+) while open, (\d+) steps\n", done.stdout)
    assert found, done.stdout
    opened, steps = int(found[1]), int(found[2])
    assert opened >= 16
    assert steps > opened, "nothing was written"
