"""`latent-inv latents`: what is in a file, and files of other tools, on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from latent_inv.cli import app
from latent_inv.generators import GENERATORS
from latent_inv.latents import load_latents, save_latents
from tests.toy import LAYERS, STYLE, Layered, Scaled, Styled

runner = CliRunner()


@pytest.fixture(autouse=True)
def _toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for kind in (Styled, Scaled):
        monkeypatch.setitem(GENERATORS, kind.name, kind)


def call(*arguments: Any) -> Any:
    return runner.invoke(app, [str(argument) for argument in arguments])


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_a_projection_is_converted_shown_and_decoded() -> None:
    np.savez("projected_w.npz", w=numbers(1, LAYERS, STYLE))
    done = call("latents", "convert", "projected_w.npz", "w.safetensors", "-g", "styled")
    assert done.exit_code == 0, done.output
    assert done.stdout == "w.safetensors\n"
    shown = call("latents", "show", "w.safetensors").stdout
    for text in ("latent_inv", "styled", "w+", "[1, 3, 8] float32", "norm/√d", "not stated"):
        assert text in shown
    told = json.loads(call("latents", "show", "w.safetensors", "--json").stdout)
    assert told["parts"]["w+"]["norms"] == [pytest.approx(np.sqrt((numbers(1, LAYERS, STYLE) ** 2).mean()), rel=1e-5)]
    assert call("decode", "w.safetensors", "-o", "a.png").exit_code == 0
    # The tool's own file does as well.
    assert call("decode", "projected_w.npz", "-g", "styled", "-o", "b.png").exit_code == 0
    first, second = (np.asarray(Image.open(name)) for name in ("a.png", "b.png"))
    assert (first == second).all()


def test_an_inversion_starts_from_a_tools_file() -> None:
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save("photo.png")
    torch.save(torch.from_numpy(numbers(1, LAYERS, STYLE)), "0.pt")
    options = ("--loss", "pixel", "--steps", 0, "-g", "styled", "--from", "0.pt", "--json")
    refused = call("invert", "photo.png", *options)
    assert refused.exit_code == 2
    assert 'ask for the space "w+"' in refused.stderr
    done = call("invert", "photo.png", *options, "--space", "w+", "-o", "out")
    assert done.exit_code == 0, done.output
    found = load_file("out/latents.safetensors")["w+"]
    np.testing.assert_array_equal(found.numpy(), numbers(1, LAYERS, STYLE))


def test_scaled_and_raw_are_stated_where_the_file_does_not() -> None:
    raw = torch.from_numpy(numbers(1, 2, 8, 8))
    save_file({"latent_tensor": raw, "latent_format_version_0": torch.tensor([])}, "a.latent")
    torch.save(raw, "a.pt")
    unsaid = call("decode", "a.pt", "-g", "scaled")
    assert unsaid.exit_code == 2
    assert "--scaled or --raw" in unsaid.stderr
    for arguments in (("a.latent",), ("a.pt", "--raw")):
        assert call("decode", *arguments, "-g", "scaled", "-o", f"{arguments[0]}.png").exit_code == 0
    first, second = (np.asarray(Image.open(name)) for name in ("a.latent.png", "a.pt.png"))
    assert (first == second).all()
    assert call("decode", "a.latent", "--scaled", "-g", "scaled").exit_code == 2
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save("photo.png")
    options = ("invert", "photo.png", "--loss", "pixel", "--steps", 0, "-g", "scaled", "--from", "a.pt", "-q")
    assert call(*options).exit_code == 2
    assert call(*options, "--raw", "-o", "out").exit_code == 0
    # And out to ComfyUI again: raw, to the last half spacing.
    assert call("latents", "convert", "out/latents.safetensors", "b.latent").exit_code == 0
    np.testing.assert_allclose(load_file("b.latent")["latent_tensor"], raw, atol=1e-6)
    assert load_file("b.latent")["latent_format_version_0"].shape == (0,)


def test_files_are_joined_split_and_told_as_json() -> None:
    np.savez("a.npz", w=numbers(1, LAYERS, STYLE))
    done = call("latents", "convert", "a.npz", "a.npz", "latents.pt", "--json")
    assert json.loads(done.stdout) == {"files": ["latents.pt"], "rows": 2, "scaled": None, "warnings": []}
    assert torch.load("latents.pt", weights_only=True).shape == (2, LAYERS, STYLE)
    done = call("latents", "convert", "latents.pt", "w.npz", "--as", "nvidia", "--split")
    assert done.stdout.split() == ["w-0000.npz", "w-0001.npz"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("a.npz",), "one to write"),
        (("a.npz", "b.bin"), "tells no format"),
        (("a.npz", "b.npz", "--as", "comfy"), "comfyui"),
        (("a.npz", "b.npz", "--write", "both"), "scaled or raw"),
        (("a.npz", "b.latent"), "[n, channels, height, width]"),
        (("a.npz", "b.npz", "-g", "nobody"), "nobody"),
        (("a.npz", "b.latent", "--factor", 0, "--raw"), "factors other than 0"),
        (("missing.npz", "b.npz"), "no file"),
        (("a.npz", "nowhere/b.npz"), "cannot write"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(arguments: tuple[Any, ...], text: str) -> None:
    np.savez("a.npz", w=numbers(1, LAYERS, STYLE))
    done = call("latents", "convert", *arguments)
    assert done.exit_code == 2, done.output
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in Path().iterdir()] == ["a.npz"]


def ran() -> Any:
    raise AssertionError("the code that a file named was run")


def test_the_word_of_a_file_opens_nothing() -> None:
    """A reference to a Python entry runs code; latents come from anywhere."""
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save("photo.png")
    latents = {"w+": numbers(1, LAYERS, STYLE)}
    reference = f"python:{__name__}:ran"
    save_latents(Path("z.safetensors"), latents, generator=reference, space="w+", weights_sha256="")
    for command in (
        ("decode", "z.safetensors"),
        ("invert", "photo.png", "--from", "z.safetensors"),
        ("invert", "photo.png", "--from", "z.safetensors", "--dry-run"),
        ("batch", ".", "--out", "b", "--from", "z.safetensors"),
    ):
        done = call(*command)
        assert done.exit_code == 2, done.output
        assert reference in done.stderr.replace("\n", "")
    converted = call("latents", "convert", "z.safetensors", "b.npz")
    assert converted.exit_code == 0, converted.output


def test_an_inversion_goes_on_with_the_generator_of_its_start() -> None:
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save("photo.png")
    latents = {"w+": numbers(1, LAYERS, STYLE)}
    sha256 = Styled.info().weights_sha256
    save_latents(Path("w.safetensors"), latents, generator="styled", space="w+", weights_sha256=sha256)
    options = ("--loss", "pixel", "--steps", 0, "--space", "w+", "--from", "w.safetensors", "--json")
    done = call("invert", "photo.png", *options)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["generator"] == "styled"


def test_a_condition_is_read_from_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GENERATORS, Layered.name, Layered)
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save("photo.png")
    noise = numbers(8, 8)
    np.save("noise.npy", noise)
    np.savez("both.npz", noise=noise, text=numbers(3))
    for file in ("noise.npy", "both.npz"):
        options = ("-g", "layered", "--condition", f"noise=@{file}")
        done = call("invert", "photo.png", *options, "--loss", "pixel", "--steps", 1, "-q")
        assert done.exit_code == 0, done.output
        assert np.array_equal(load_latents("out/photo/latents.safetensors").latents["noise"], noise[None])
        assert call("sample", 1, *options, "-o", "drawn").exit_code == 0
        assert np.array_equal(load_latents("drawn/1.safetensors").latents["noise"], noise[None])


@pytest.mark.parametrize(
    ("conditions", "text"),
    [
        (["noise=@nowhere.npy"], "no file"),
        (["noise=@both.npz"], 'no "noise", found a, text'),
        (["noise=@noise.npy", "noise=@noise.npy"], "twice"),
        (["noise"], "PART=LABEL"),
        (["text=@noise.npy"], 'unknown condition "text", accepted: noise'),
    ],
)
def test_conditions_that_cannot_be(conditions: list[str], text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GENERATORS, Layered.name, Layered)
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save("photo.png")
    np.save("noise.npy", numbers(8, 8))
    np.savez("both.npz", a=numbers(8, 8), text=numbers(3))
    options = [piece for condition in conditions for piece in ("--condition", condition)]
    done = call("invert", "photo.png", "-g", "layered", "--loss", "pixel", "--steps", 1, *options)
    assert done.exit_code == 2, done.output
    assert text in done.stderr.replace("\n", "")


def test_numbers_that_are_not_finite_are_shown_as_such() -> None:
    np.savez("a.npz", w=np.array([[np.nan]]), e=np.zeros((0, 3)), s=np.float32(2))
    done = call("latents", "show", "a.npz")
    assert done.exit_code == 0, done.output
    assert done.stdout.count("not finite, or empty") == 2
    assert json.loads(call("latents", "show", "a.npz", "--json").stdout)["parts"]["w"]["least"] is None
