"""`latent-inv train-encoder` on a toy: what it leaves, that it goes on, and that `invert` takes the file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from latent_inv.cli import app
from latent_inv.encoders import read_encoder
from latent_inv.encoders.publish import FILES
from latent_inv.encoders.training import CHECKPOINT_FILE, Training
from latent_inv.generators import GENERATORS
from tests.toy import TOYS

runner = CliRunner()

#: about a second, with a network that is quick
QUICK = ("-g", "smooth", "--set", "batch=4", "--set", "width=8,most=16", "--set", "perceptual_rows=1")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(GENERATORS, "smooth", TOYS["smooth"])
    monkeypatch.setitem(GENERATORS, "dead", TOYS["dead"])


def call(*arguments: Any) -> Any:
    return runner.invoke(app, [str(argument) for argument in arguments])


def train(*arguments: Any, minutes: float = 0.01) -> Any:
    return call("train-encoder", *QUICK, "--minutes", minutes, *arguments)


def test_a_training_leaves_an_encoder_with_its_card_and_goes_on() -> None:
    done = train("-o", "here", minutes=0.02)
    assert done.exit_code == 0, done.output
    folder = Path("here")
    assert sorted(path.name for path in folder.iterdir()) == sorted([*FILES.values(), CHECKPOINT_FILE])
    assert "psnr_db after 1 pass" in done.stdout
    assert "here/encoder.safetensors" in done.stdout
    text = (folder / FILES["card"]).read_text()
    # As it decides the weights, in one form, and without a folder of this machine.
    command = f"latent-inv train-encoder --generator smooth --minutes 0.02 {' '.join(QUICK[2:])}"
    for said in (
        command,
        "1" * 64,
        "`smooth`",
        "32 × 32",
        "space `z`",
        "psnr_db after 2 passes",
        "made here",
        "no data",
    ):
        assert said in text
    assert "/some/where" not in text
    network, card = read_encoder(folder / FILES["encoder"])
    assert network.shape.widths == (8, 16, 16)
    assert card.command == command
    assert card.minutes >= 0.02
    assert card.samples >= 4
    assert card.scores
    for name in ("curves", "samples"):
        with Image.open(folder / FILES[name]) as shown:
            assert shown.size[0] > 100

    longer = train("-o", "here", "--json", minutes=0.04)
    assert longer.exit_code == 0, longer.output
    told = json.loads(longer.stdout)
    assert told["samples"] > card.samples
    assert told["minutes"] >= 0.04
    assert told == json.loads(json.dumps(read_encoder(folder / FILES["encoder"])[1].to_json()))

    # With no time left, the same files are written again.
    again = json.loads(train("-o", "here", "--json", minutes=0.04).stdout)
    assert (again["samples"], again["scores"]) == (told["samples"], told["scores"])

    fresh = json.loads(train("-o", "here", "--json", "--fresh", minutes=0.0001).stdout)
    assert 4 <= fresh["samples"] < told["samples"], "from the beginning, with hardly any time"

    other = train("-o", "here", "--set", "seed=3")
    assert other.exit_code == 2
    assert "another training" in other.stderr


def test_a_stop_keeps_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def at_once() -> Iterator[Any]:
        yield lambda: True

    with monkeypatch.context() as patch:
        patch.setattr(import_module("latent_inv.cli.train_encoder"), "stop_on_interrupt", at_once)
        done = train(minutes=500)
    assert done.exit_code == 130
    assert "the same command goes on" in done.stderr
    folder = Path("out/encoders/smooth")
    assert read_encoder(folder / FILES["encoder"])[1].samples == 4
    assert (folder / CHECKPOINT_FILE).exists()
    assert json.loads(train("--json").stdout)["samples"] > 4


def test_quiet_is_quiet() -> None:
    done = train("-q")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")


def test_the_settings_are_listed() -> None:
    done = call("train-encoder", "--set", "help")
    assert done.exit_code == 0
    for item in fields(Training):
        assert item.name in done.stdout
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["-g", "facs"], 2, 'did you mean "faces"'),
        (["--set", "widht=3"], 2, 'did you mean "width"'),
        (["--set", "batch=0"], 2, "set.training.batch: must be ≥ 1"),
        (["--set", "batch"], 2, "expected batch=value"),
        (["--minutes", "0"], 2, "set.training.minutes: must be > 0"),
        (["--minutes", "nan"], 2, "finite"),
        (["--set", "minutes=3"], 2, "given twice"),
        (["--perceptual", "lpips"], 2, "lpips-alex"),
        (["--space", "w"], 2, "accepted: z"),
        (["--device", "gpu"], 2, "device: must be"),
        (["--out", "file"], 2, '"file" is a file'),
    ],
)
def test_what_makes_no_sense_is_one_line(arguments: list[str], code: int, said: str) -> None:
    Path("file").write_text("")
    done = call("train-encoder", "-g", "smooth", *arguments)
    assert done.exit_code == code, done.output
    assert said in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.strip()]) == 1
    assert [path.name for path in Path().iterdir()] == ["file"], "something was left behind"


def test_invert_takes_the_encoder() -> None:
    assert train("-o", "here").exit_code == 0
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    Image.fromarray(pixels).save("photo.png")
    # A solver that refuses bad points: whether a bold step pays would depend on how far the training came.
    asked = ("invert", "photo.png", "--loss", "pixel", "--steps", 1, "--solver", "levenberg_marquardt", "--json")
    asked += ("--encoder", "here/encoder.safetensors")
    done = call(*asked, "-g", "smooth")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["picked"]["start"]["type"] == "Encoder"
    named = call(*asked, "-g", "smooth", "--start", "encoder:passes=1")
    assert json.loads(named.stdout)["picked"]["start"] == {"type": "Encoder", "passes": 1, "count": 1, "spread": 0.6}
    planned = call(*asked, "-g", "smooth", "--dry-run")
    assert json.loads(planned.stdout)["start"].startswith("Encoder(")
    without = call("invert", "photo.png", "--loss", "pixel", "--start", "encoder", "-g", "smooth")
    assert (without.exit_code, "train-encoder" in without.stderr) == (2, True)
    other = call(*asked, "-g", "dead")
    assert "the encoder was trained for generator smooth, this is dead" in other.stderr
    assert other.exit_code == 3
    served = call(*asked, "-g", "smooth", "--server", "127.0.0.1:1")
    assert served.exit_code == 2
    assert "leave it out with --server" in served.stderr
