"""docs/your-own-generator.md: its blocks are run as they stand, one after the other, in an empty folder."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from latent_inv.generators.own import description, parts
from latent_inv.generators.own.operators import OPERATORS

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "your-own-generator.md").read_text(encoding="utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(python|toml|bash)\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Python in this process, as that is a third of the time; the commands in a shell."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    for number, (language, code) in enumerate(BLOCKS):
        if language == "toml":
            Path("blobs.toml").write_text(code, encoding="utf-8")
        elif language == "bash":
            done = subprocess.run(["bash", "-euc", code], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
        else:
            Path(f"block{number}.py").write_text(code, encoding="utf-8")
            runpy.run_path(f"block{number}.py", run_name="__main__")
    assert [language for language, _ in BLOCKS] == ["python", "toml", "bash", "python", "python"]
    assert Path("result/index.html").exists()
    said = capsys.readouterr().out
    decibels = re.match(r"(\d+) dB after \d+ steps", said)
    assert decibels is not None
    assert int(decibels.group(1)) > 40
    assert "JobResult" in said


def test_forty_lines() -> None:
    """Of what there is to write: code, text and commands of the first part."""
    first = [code for _, code in BLOCKS[:4]]
    assert len([line for code in first for line in code.splitlines() if line.strip()]) <= 40


def test_every_key_is_in_a_table() -> None:
    rows = "\n".join(line.split("|")[1] for line in TEXT.splitlines() if line.startswith("|"))
    named = set(re.findall(r"`(\w+)`", rows))
    assert named == (set(description._KEYS) | set(parts._KEYS)) - {"latents", "low", "high"}
    assert "`low` and `high`" in TEXT


def test_the_number_of_operators() -> None:
    assert f"about {round(len(OPERATORS), -1)}" in TEXT
