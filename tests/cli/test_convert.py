"""`latent-inv convert stylegan2`: a good file, and what is refused in one line."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from latent_inv.cli import app
from tests.generators.stylegan2.making import CLASSES, SMALL, network, pickled, write

runner = CliRunner()


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def call(*arguments: Any) -> Any:
    return runner.invoke(app, [str(argument) for argument in arguments])


def test_a_checkpoint_becomes_a_generator() -> None:
    write(Path("network.pkl"), pickled(network(CLASSES)))
    done = call("convert", "stylegan2", "network.pkl", "network.safetensors")
    assert done.exit_code == 0, done.stderr
    assert "4 × 8, 3 classes" in done.stdout
    assert "stylegan2:network.safetensors" in done.stdout
    drawn = call("sample", 1, "-g", "stylegan2:network.safetensors", "-o", "drawn")
    assert drawn.exit_code == 0, drawn.stderr
    assert Path("drawn/1.safetensors").exists()


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, ("touch ran",)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("evil.pkl", pickle.dumps({"G_ema": Evil()}), "system"),
        ("half.pkl", pickle.dumps({"G_ema": [1.0] * 9})[:-9], "is the file whole?"),
        ("photo.png", b"\x89PNG\r\n\x1a\n" + bytes(50), "is the file whole?"),
        ("empty.pkl", b"", "is the file whole?"),
    ],
    ids=["a name that is called", "half a file", "a picture", "nothing"],
)
def test_anything_else_is_refused(name: str, content: bytes, said: str) -> None:
    Path(name).write_bytes(content)
    done = call("convert", "stylegan2", name, "out.safetensors")
    assert done.exit_code in (2, 3)
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert [path.name for path in Path().iterdir()] == [name], "nothing ran, nothing was written"


def test_what_is_missing_is_listed() -> None:
    made = network(SMALL)
    del made.synthesis.b8.conv1.noise_strength
    write(Path("network.pkl"), pickled(made))
    done = call("convert", "stylegan2", "network.pkl", "out.safetensors")
    assert done.exit_code in (2, 3)
    assert "noise_strength" in done.stderr
    assert not Path("out.safetensors").exists()
