"""What only shows in a process of its own: what `--help` imports, and Ctrl-C."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from latent_inv.report.folder import FILES

LOOK = """
import sys
from latent_inv.cli import app
try:
    app({arguments}, prog_name="latent-inv")
except SystemExit as stop:
    code = stop.code or 0
names = {{"torch", "numpy", "grpc", "PIL", "matplotlib", "torchvision", "cryptography", "tomlkit"}}
heavy = sorted(names & set(sys.modules))
print("LOADED", code, heavy)
"""


@pytest.mark.parametrize(
    "command",
    [
        "",
        "invert",
        "batch",
        "decode",
        "sample",
        "generators",
        "serve",
        "tokens",
        "jobs",
        "jobs create",
        "jobs watch",
        "doctor",
        "health",
    ],
)
def test_help_loads_nothing_heavy(command: str) -> None:
    arguments = [*command.split(), "--help"]
    code = LOOK.format(arguments=arguments)
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert "Usage: latent-inv" in done.stdout
    assert done.stdout.splitlines()[-1] == "LOADED 0 []"
    assert done.stderr == ""


def test_help_says_the_exit_codes() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "latent_inv.cli", "--help"], capture_output=True, text=True, check=True
    )
    text = " ".join(done.stdout.split())
    for word in ("0 done", "2 wrong input", "3 weights missing", "4 server not reachable", "130 stopped"):
        assert word in text


@pytest.mark.slow
def test_ctrl_c_keeps_the_best_so_far(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "photo.png")
    # A terminal is not needed: the first report of progress is printed by the program itself.
    code = (
        "import sys, latent_inv.cli.shell as shell\n"
        "honest = shell.scores\n"
        "shell.scores = lambda event: (print('step', file=sys.stderr, flush=True), honest(event))[1]\n"
        "from latent_inv.cli import main\n"
        "main()\n"
    )
    arguments = ["invert", "photo.png", "--steps", "1000000", "--loss", "pixel", "--json", "-o", "out"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    watchdog = threading.Timer(180, process.kill)
    watchdog.start()
    try:
        for line in process.stderr:
            if line.strip() == "step":
                break
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=180)
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
    assert process.returncode == 130, errors
    told = json.loads(out)
    assert told["outcome"] == "cancelled"
    assert "Traceback" not in errors
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(FILES.values())
