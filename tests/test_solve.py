"""`invert` and its companions in this process, on the real faces, with few steps."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import latent_inv
from latent_inv.engine.engine import Engine
from latent_inv.errors import ImageError, InputError, LatentInvError, LatentsError, ShapeError, SpecError
from latent_inv.images import encode_png, load, to_uint8
from latent_inv.latents import load_latents, save_latents
from latent_inv.report.folder import FILES
from latent_inv.result import JobResult, Outcome, Preview, Progress
from latent_inv.spec import Adam, Budget, Given, LatentPrior, Pixel, PriorMean, Reporting, Seeds, TotalVariation
from tests.conftest import make_picture

#: without the perceptual network and Jacobians, for what does not concern them
QUICK: dict[str, Any] = {"losses": [Pixel()], "solver": Adam(), "steps": 2}


@pytest.fixture(scope="module")
def png() -> bytes:
    """A face of the generator, as a file."""
    return encode_png(latent_inv.sample((5,)).images[0])


@pytest.fixture(scope="module")
def result(png: bytes) -> JobResult:
    return latent_inv.invert(png, "faces", steps=3, seed=7)


def same(first: JobResult, second: JobResult) -> bool:
    return np.array_equal(first.latents["z"], second.latents["z"]) and first.loss == second.loss


def test_a_result_is_whole(result: JobResult) -> None:
    assert result.outcome is Outcome.step_limit
    assert result.message == Outcome.step_limit.value
    assert (result.generator, result.space, result.steps, result.seed) == ("faces", "z", 3, 7)
    assert (result.lane_width, result.dtype, result.budget) == (1, "float32", "steps")
    assert result.latents["z"].shape == (1, 100)
    assert result.image.shape == result.target.pixels.shape == (3, 64, 64)
    assert result.image.dtype == np.float32
    assert [step.step for step in result.history] == [0, 1, 2, 3]
    assert set(result.history[0].terms) == {"pixel", "perceptual"}
    assert result.metrics.lpips is not None
    assert len(result.weights_sha256) == len(result.perceptual_sha256) == 64
    assert {"torch", "numpy", "python", "latent_inv"} <= set(result.versions)
    assert result.seconds > 0


def test_the_reported_numbers_are_those_of_the_picture(result: JobResult) -> None:
    mse = float(np.square((result.image - result.target.pixels).astype(np.float64) / 2).mean())
    assert result.metrics.mse == pytest.approx(mse, rel=1e-5)
    assert result.metrics.psnr_db == pytest.approx(-10 * np.log10(mse), abs=1e-3)
    assert result.loss == min(step.loss for step in result.history)


def test_twice_is_bit_equal(png: bytes, result: JobResult) -> None:
    torch.manual_seed(99)
    again = latent_inv.invert(png, "faces", steps=3, seed=7)
    assert same(again, result)
    assert np.array_equal(again.image, result.image)
    assert [step.loss for step in again.history] == [step.loss for step in result.history]
    first, other = (
        latent_inv.invert(png, "faces", steps=3, seed=seed, initialiser=latent_inv.Seeds()) for seed in (7, 8)
    )
    assert not same(first, other)


def every_form(png: bytes, folder: Path) -> Iterator[tuple[str, Any, Any]]:
    path = folder / "face.png"
    path.write_bytes(png)
    pixels = np.asarray(Image.open(io.BytesIO(png)))
    floats = load(png).pixels
    yield "path", path, None
    yield "text", str(path), None
    yield "PIL", Image.open(path), None
    yield "array [H, W, 3]", pixels, None
    yield "tensor", torch.from_numpy(pixels.copy()), None
    yield "floats", floats, (-1, 1)
    yield "float tensor", torch.from_numpy(floats.copy()), (-1, 1)
    yield "floats from 0 to 255", pixels.astype(np.float32), (0, 255)


def test_every_form_of_a_picture_gives_one_result(png: bytes, tmp_path: Path) -> None:
    expected = latent_inv.invert(png, "faces", **QUICK)
    for name, image, value_range in every_form(png, tmp_path):
        found = latent_inv.invert(image, "faces", value_range=value_range, **QUICK)
        assert np.allclose(found.target.pixels, expected.target.pixels, atol=1e-6), name
        # The target may differ in the last bit of float32, and so the latents in a few.
        assert np.allclose(found.latents["z"], expected.latents["z"], atol=1e-4), name
        if value_range is None:
            assert same(found, expected), name


def test_a_crop_is_the_picture_that_was_cut(png: bytes) -> None:
    pixels = np.asarray(Image.open(io.BytesIO(png)))
    framed = np.zeros((80, 90, 3), np.uint8)
    framed[10:74, 20:84] = pixels
    found = latent_inv.invert(framed, "faces", crop=(20, 10, 84, 74), **QUICK)
    assert same(found, latent_inv.invert(png, "faces", **QUICK))


def test_hidden_pixels_have_no_influence(png: bytes) -> None:
    pixels = np.asarray(Image.open(io.BytesIO(png))).copy()
    weight = np.ones((64, 64), np.float32)
    weight[:, :30] = 0
    painted = pixels.copy()
    painted[:, :30] = (255, 0, 90)
    chosen: dict[str, Any] = {"weight": weight, "solver": Adam(), "initialiser": Seeds(), "steps": 2}
    first, second = latent_inv.invert(pixels, "faces", **chosen), latent_inv.invert(painted, "faces", **chosen)
    assert same(first, second)
    assert first.metrics == second.metrics
    assert not same(first, latent_inv.invert(pixels, "faces", **{**chosen, "weight": None}))
    assert first.target.weight is not None


def test_a_weight_that_hides_nothing_is_none(png: bytes, result: JobResult) -> None:
    found = latent_inv.invert(png, "faces", weight=np.full((64, 64), 255, np.uint8), steps=3, seed=7)
    np.testing.assert_allclose(found.latents["z"], result.latents["z"], atol=1e-6)


# ---- going on ------------------------------------------------------------------------------------


def test_saved_and_reloaded_latents_are_the_picture(result: JobResult, tmp_path: Path) -> None:
    saved = result.save(tmp_path / "out")
    assert set(saved.files) == set(FILES)
    assert all((tmp_path / "out" / name).stat().st_size > 0 for name in saved.files.values())
    written = np.asarray(Image.open(tmp_path / "out" / saved.files["reconstruction"])).astype(int)
    decoded = latent_inv.decode(tmp_path / "out" / saved.files["latents"], "faces")
    assert decoded.images.shape == (1, 3, 64, 64)
    assert np.abs(to_uint8(decoded.images[0]).astype(int) - written).max() <= 1
    told = json.loads((tmp_path / "out" / "result.json").read_text())
    assert told == json.loads(json.dumps(saved.to_json()))
    wanted = {"outcome", "message", "generator", "space", "weights_sha256", "perceptual", "metrics", "steps"}
    assert wanted | {"best_step", "seconds", "seed", "files", "versions"} <= set(told)
    assert set(told["metrics"]) == {"psnr_db", "lpips", "mse"}


def test_a_start_goes_on_where_the_other_ended(png: bytes, result: JobResult, tmp_path: Path) -> None:
    saved = result.save(tmp_path / "out")
    file = tmp_path / "out" / saved.files["latents"]
    for start in (result, result.latents, file, str(file), file.read_bytes()):
        found = latent_inv.invert(png, "faces", start=start, steps=0)
        assert found.history[0].loss == pytest.approx(result.loss, rel=1e-5)
        assert np.array_equal(found.latents["z"], result.latents["z"])
    further = latent_inv.invert(png, "faces", start=file, steps=3)
    assert further.loss <= result.loss


def test_a_decoded_result_is_its_picture(result: JobResult) -> None:
    """1e-6: at width 1 both are one call."""
    np.testing.assert_allclose(latent_inv.decode(result, "faces").images[0], result.image, atol=1e-6)
    np.testing.assert_allclose(latent_inv.decode(result.latents, "faces").images[0], result.image, atol=1e-6)


def test_latents_say_which_generator_goes_on(png: bytes, result: JobResult, tmp_path: Path) -> None:
    """Nobody has to repeat what a result or its file says."""
    saved = result.save(tmp_path / "out")
    for start in (result, tmp_path / "out" / saved.files["latents"]):
        assert np.array_equal(latent_inv.decode(start).images, latent_inv.decode(start, "faces").images)
        assert latent_inv.invert(png, start=start, steps=0).generator == "faces"


@pytest.mark.parametrize("reference", ["python:tests.test_solve:ran", "exported:/tmp/x.pt2", "diffusers:some/model"])
def test_a_word_of_latents_opens_nothing(reference: str, png: bytes, result: JobResult, tmp_path: Path) -> None:
    path = tmp_path / "z.safetensors"
    save_latents(path, result.latents, generator=reference, space="z", weights_sha256="")
    data = path.read_bytes()
    for latents in (path, data, load_latents(path), dataclasses.replace(result, generator=reference)):
        for call in (
            lambda given=latents: latent_inv.decode(given),
            lambda given=latents: latent_inv.invert(png, start=given, steps=0),
        ):
            with pytest.raises(SpecError, match=reference) as caught:
                call()
            assert caught.value.field == "generator"


def ran() -> Any:
    raise AssertionError("the code that a file named was run")


def test_latents_of_something_else_are_refused(png: bytes, tmp_path: Path) -> None:
    def file(**said: Any) -> Path:
        path = tmp_path / "z.safetensors"
        whose = {"generator": "faces", "space": "z", "weights_sha256": "", **said}
        save_latents(path, {"z": np.zeros((1, 100), np.float32)}, **whose)
        return path

    with pytest.raises(LatentsError, match='latents of "eyes", asked for was "faces"'):
        latent_inv.invert(png, "faces", start=file(generator="eyes"), **QUICK)
    with pytest.raises(LatentsError, match="other weights"):
        latent_inv.invert(png, "faces", start=file(weights_sha256="f" * 64), **QUICK)
    with pytest.raises(LatentsError, match="other weights"):
        latent_inv.decode(file(weights_sha256="f" * 64), "faces")
    with pytest.raises(LatentsError, match=r"\[1, 99\]") as caught:
        latent_inv.invert(png, "faces", start={"z": np.zeros((1, 99), np.float32)}, **QUICK)
    assert caught.value.field == "initialiser.latents.z"
    with pytest.raises(LatentsError, match="no space of faces has the parts"):
        latent_inv.decode({"w": np.zeros((1, 100), np.float32)}, "faces")
    with pytest.raises(LatentsError, match="finite"):
        latent_inv.decode({"z": np.full((1, 100), np.nan, np.float32)}, "faces")


def test_a_result_of_another_generator_is_refused(png: bytes, result: JobResult) -> None:
    other = dataclasses.replace(result, generator="eyes")
    for call in (
        lambda: latent_inv.invert(png, "faces", start=other, **QUICK),
        lambda: latent_inv.decode(other, "faces"),
    ):
        with pytest.raises(InputError, match='"eyes"'):
            call()


def test_start_and_initialiser_exclude_each_other(png: bytes, result: JobResult) -> None:
    for initialiser in (Seeds(), PriorMean(), Given(latents=result.latents)):
        with pytest.raises(SpecError, match="exclude each other") as caught:
            latent_inv.invert(png, "faces", start=result, initialiser=initialiser)
        assert caught.value.field == "start"


# ---- bad and odd input ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "field", "said"),
    [
        ({"generator": "facs"}, SpecError, "generator", 'did you mean "faces"'),
        ({"perceptual": "lpips-alx"}, SpecError, "perceptual", 'did you mean "lpips-alex"'),
        ({"space": "w"}, SpecError, "space", "accepted: layer:1"),
        ({"device": "gpu"}, SpecError, "device", "cpu"),
        ({"threads": 0}, SpecError, "threads", "from 1"),
        ({"dtype": "bfloat16"}, SpecError, "dtype", "float32"),
        ({"seed": -1}, SpecError, "seed", "≥ 0"),
        ({"seed": 1.5}, SpecError, "seed", "whole"),
        ({"steps": -1}, SpecError, "steps", "≥ 0"),
        ({"seconds": 0}, SpecError, "seconds", "> 0"),
        ({"seconds": float("nan")}, SpecError, "seconds", "finite"),
        ({"target_psnr_db": -3}, SpecError, "target_psnr_db", "> 0"),
        ({"lane_width": 1000}, SpecError, "lane_width", "256"),
        ({"losses": ()}, SpecError, "losses", "at least one"),
        ({"losses": "pixel"}, SpecError, "losses", "found str"),
        ({"solver": Pixel()}, SpecError, "solver", "Adam"),
        ({"budget": 5}, SpecError, "budget", "found int"),
        ({"crop": (0, 0, 65, 64)}, ImageError, "crop", "64x64"),
        ({"crop": (5, 5, 5, 9)}, ImageError, "crop", "at least one pixel"),
        ({"crop": "0,0,9,9"}, ImageError, "crop", "four whole numbers"),
        ({"weight": np.zeros((64, 64), np.float32)}, ImageError, "weight", "hides every pixel"),
        ({"weight": np.ones((64, 63), np.float32)}, ShapeError, "weight", "63x64"),
        ({"weight": 3}, ImageError, "weight", "found int"),
        ({"start": "no such file"}, InputError, "latents", "no such file"),
        ({"start": b"rubbish"}, LatentsError, "latents", ""),
        ({"start": 5}, InputError, "latents", "found int"),
    ],
)
def test_bad_input_is_refused_by_name(
    png: bytes, arguments: dict[str, Any], error: type[LatentInvError], field: str, said: str
) -> None:
    with pytest.raises(error) as caught:
        latent_inv.invert(png, **{"generator": "faces", **arguments})
    assert caught.value.field == field
    assert said in caught.value.message


def test_what_can_be_checked_without_weights_is_checked_before_they_are_fetched(
    png: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LATENT_INV_OFFLINE", "1")
    monkeypatch.setenv("LATENT_INV_CACHE", str(tmp_path))
    for arguments, field in (({"space": "w"}, "space"), ({"crop": (0, 0, 99, 9)}, "crop"), ({"seed": -1}, "seed")):
        with pytest.raises(InputError) as caught:
            latent_inv.invert(png, **{"generator": "faces", **arguments})
        assert caught.value.field == field
    with pytest.raises(latent_inv.errors.AssetError, match="pip download"):
        latent_inv.invert(png, "faces")


@pytest.mark.parametrize("image", [None, 5, b"", b"not a picture", "no such file.png", object()])
def test_what_is_no_picture_is_refused(image: Any) -> None:
    with pytest.raises(InputError) as caught:
        latent_inv.invert(image, "faces")
    assert caught.value.field == "image"


@pytest.mark.parametrize("rate", [0, -0.1, float("nan"), float("inf"), -float("inf"), "fast", None, True])
def test_a_learning_rate_is_a_positive_number(rate: Any) -> None:
    with pytest.raises(SpecError) as caught:
        Adam(learning_rate=rate)
    assert caught.value.field == "learning_rate"


@pytest.mark.parametrize("level", [0, 128, 255])
def test_flat_pictures_end_with_finite_latents(level: int) -> None:
    losses = [Pixel(), latent_inv.Perceptual(), LatentPrior(), TotalVariation()]
    found = latent_inv.invert(np.full((64, 64, 3), level, np.uint8), "faces", steps=3, losses=losses)
    assert found.outcome is Outcome.step_limit
    assert np.isfinite(found.latents["z"]).all()
    assert found.loss < found.history[0].loss
    assert all(np.isfinite([step.loss, step.metrics.mse, step.metrics.psnr_db]).all() for step in found.history)


def test_short_budgets_override_the_long_one(png: bytes) -> None:
    found = latent_inv.invert(png, "faces", budget=Budget(steps=50, patience=7), losses=Pixel(), steps=1)
    assert found.steps == 1
    assert found.settings["budget"]["patience"] == 7


# ---- telling -------------------------------------------------------------------------------------


def test_progress_and_previews_are_told(png: bytes) -> None:
    steps: list[Progress] = []
    previews: list[Preview] = []
    latent_inv.invert(
        png, **QUICK, on_progress=steps.append, on_preview=previews.append, reporting=Reporting(preview_steps=1)
    )
    assert [event.latest.step for event in steps] == [0, 1, 2]
    assert [event.total_steps for event in steps] == [2, 2, 2]
    assert steps[-1].best_loss == min(event.latest.loss for event in steps)
    assert len(previews) == 3
    assert all(preview.image.shape == (64, 64, 3) for preview in previews)


def test_a_stop_returns_the_best_so_far(png: bytes) -> None:
    seen: list[Progress] = []
    chosen: dict[str, Any] = {**QUICK, "steps": 10_000}
    found = latent_inv.invert(png, "faces", **chosen, on_progress=seen.append, stop=lambda: len(seen) >= 4)
    assert found.outcome is Outcome.cancelled
    assert found.steps == 3
    assert found.loss == min(event.latest.loss for event in seen)


# ---- companions ----------------------------------------------------------------------------------


def test_samples_belong_to_their_seeds() -> None:
    many, one = latent_inv.sample(range(3)), latent_inv.sample(2)
    assert many.seeds == (0, 1, 2)
    assert many.images.shape == (3, 3, 64, 64)
    assert np.array_equal(many.latents["z"][2:], one.latents["z"])
    np.testing.assert_allclose(latent_inv.decode(many.latents, "faces").images, many.images, atol=1e-6)
    np.testing.assert_allclose(many.images[2], one.images[0], atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"seeds": ()}, "seeds"),
        ({"seeds": (-1,)}, "seeds"),
        ({"generator": "eys"}, "generator"),
        ({"space": "w"}, "space"),
        ({"height": 65}, "height"),
        ({"width": -1}, "width"),
        ({"dtype": "half"}, "dtype"),
    ],
)
def test_samples_that_cannot_be_drawn_are_refused(arguments: dict[str, Any], field: str) -> None:
    with pytest.raises(SpecError) as caught:
        latent_inv.sample(**arguments)
    assert caught.value.field == field


def test_generators_are_listed() -> None:
    infos = latent_inv.list_generators()
    assert "faces" in {info.name for info in infos}
    assert all(isinstance(info, latent_inv.result.GeneratorInfo) for info in infos)


def test_no_encoder_is_said(png: bytes) -> None:
    if not any(info.has_encoder for info in latent_inv.list_generators() if info.name == "faces"):
        with pytest.raises(LatentInvError, match="no encoder"):
            latent_inv.encode(png, "faces")


def test_latents_say_whose_they_are(result: JobResult, tmp_path: Path) -> None:
    result.save(tmp_path)
    file = load_latents(tmp_path / FILES["latents"])
    assert (file.generator, file.weights_sha256) == (result.generator, result.weights_sha256)


def test_the_engine_behind_is_the_one_of_all_else(monkeypatch: pytest.MonkeyPatch, png: bytes) -> None:
    """One loop in the whole library: without it, nothing runs."""

    def refuse(*_: Any, **__: Any) -> None:
        raise LatentInvError("asked for the loop")

    monkeypatch.setattr(Engine, "submit", refuse)
    for call in (
        lambda: latent_inv.invert(png, "faces"),
        lambda: latent_inv.sample(1),
        lambda: latent_inv.decode({"z": 1}, "faces"),
    ):
        with pytest.raises(LatentInvError, match="asked for the loop"):
            call()


def test_pictures_of_any_shape_are_taken() -> None:
    for height, width in ((64, 64), (31, 90), (200, 65), (1, 1)):
        pixels = make_picture(height, width).pixels
        found = latent_inv.invert(pixels, "faces", value_range=(-1, 1), losses=Pixel(), initialiser=Seeds(), steps=0)
        assert found.image.shape == (3, 64, 64)
        assert bool(found.warnings) == ((height, width) != (64, 64))
