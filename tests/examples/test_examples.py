"""The examples as they stand, against a server."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from latent_inv.engine.remote import ThreadEngine
from tests.batch.folders import awkward_folder, pictures
from tests.batch.test_on_server import Server

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(*arguments: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_folder_over_grpc(tmp_path: Path) -> None:
    awkward_folder(tmp_path)
    script = (EXAMPLES / "batch_over_grpc.py").read_text("utf-8")
    with Server(ThreadEngine(catalogue="tests.toy:TOYS")) as server:
        code = script.replace("(data, steps=50", '(data, "smooth", steps=3, solver=Adam()')
        code = code.replace("import sys\n", "import sys\nfrom latent_inv import Adam\n")
        assert code != script
        arguments = ("-c", code, "pictures", "out", server.address)
        told = run(*arguments, folder=tmp_path)
        done = [line for line in told.splitlines() if " succeeded " in line]
        assert len(done) == 5
        assert "empty.png refused: image: found an empty file" in told
        assert "text.png refused: image: found plain text" in told
        assert {path.name for path in (tmp_path / "out").iterdir()} >= {"good.jpg", "UPPER.JPG", "ünï 猫.png"}
        assert (tmp_path / "out" / "good.jpg" / "index.html").exists()
        assert sorted(run(*arguments, folder=tmp_path).splitlines()) == sorted(told.splitlines())
        assert server.states() == {"succeeded": 4}, "equal pictures share a job, and run again it finds them"


def test_the_call_of_the_readme(tmp_path: Path) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", (EXAMPLES / "README.md").read_text("utf-8"), re.M | re.S)
    pictures(tmp_path, 3).rename(tmp_path / "photos")
    with Server() as server:
        code = code.replace("127.0.0.1:50051", server.address).replace("steps=50", 'steps=2, generator="steps"')
        assert run("-c", code, folder=tmp_path) == "3 done, 0 failed, 0 skipped\n"


def test_every_example_is_in_the_list_and_run() -> None:
    text = (EXAMPLES / "README.md").read_text("utf-8")
    tests = [path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py")]
    names = [path.name for path in EXAMPLES.iterdir() if not path.name.startswith((".", "__"))]
    assert "batch_over_grpc.py" in names
    for name in names:
        if name != "README.md":
            assert f"({name})" in text
            assert any(f'"{name}"' in test for test in tests)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_examples_are_short(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= 40
