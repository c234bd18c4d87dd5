"""Generators of one's own in the engine: found by reference or by a server's alias, searched with what they can do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from latent_inv.device import place
from latent_inv.engine.engine import Engine
from latent_inv.errors import UnsupportedError
from latent_inv.generators import FAMILIES, GeneratorTable
from latent_inv.images import Picture
from latent_inv.result import JobResult
from latent_inv.solve import run
from latent_inv.spec import Auto, Budget, DecodeSpec, JobSpec, Pixel, SampleSpec
from tests import own
from tests.engine.helpers import drain


def engine_of(path: Path, **settings: Any) -> Engine:
    """An engine whose clients know the file as `mine`."""
    family = {".pt2": "exported", ".onnx": "onnx"}[path.suffix]
    return Engine(GeneratorTable({}, FAMILIES, {"mine": f"{family}:{path}"}), place("cpu"), **settings)


def picture_of(engine: Engine, seed: int) -> Picture:
    images: np.ndarray = run(engine, SampleSpec(seeds=(seed,), generator="mine")).images
    return Picture(np.ascontiguousarray(images[0]))


def spec_of(picture: Picture, **settings: Any) -> JobSpec:
    plain: dict[str, Any] = {"losses": (Pixel(),), "budget": Budget(steps=40), "solver": Auto()}
    return JobSpec(picture=picture, generator="mine", **{**plain, **settings})


def test_a_program_is_searched_as_any_generator(tmp_path: Path) -> None:
    engine = engine_of(own.export_vector(tmp_path / "a.pt2"))
    result: JobResult = run(engine, spec_of(picture_of(engine, 3), budget=Budget(steps=60)))
    assert any("levenberg_marquardt" in why for why in result.picked["why"])
    assert result.metrics.psnr_db > 40
    again = run(engine, DecodeSpec(latents=dict(result.latents), generator="mine"))
    np.testing.assert_allclose(again.images[0], result.image, atol=1e-5)


def test_a_model_without_gradients_is_searched_without(tmp_path: Path) -> None:
    """With a perceptual term, in lanes wider than a call of the model, and counted for memory."""
    engine = engine_of(own.write_onnx(tmp_path / "a.onnx", 2), memory_bytes=2**31)
    picture = picture_of(engine, 3)
    spec = spec_of(picture, budget=Budget(steps=600), lane_width=4, initialiser=Auto())
    result: JobResult = run(engine, spec)
    assert "solver: cma_es, as the generator gives no gradient" in result.picked["why"]
    history = [point.metrics.psnr_db for point in result.history]
    assert result.metrics.psnr_db > history[0] + 6
    with pytest.raises(UnsupportedError, match="computes in float32, found float64"):
        run(engine, spec_of(picture, dtype="float64"))


def test_a_fixed_batch_is_no_matter_for_neighbours(tmp_path: Path) -> None:
    """Law 1 of the engine where the lane is wider than a call of the program."""
    engine = engine_of(own.export_vector(tmp_path / "a.pt2", 3))
    picture = picture_of(engine, 3)
    spec = spec_of(picture, budget=Budget(steps=5), lane_width=4)
    alone: JobResult = run(engine, spec)
    others = [spec_of(picture_of(engine, seed), budget=Budget(steps=5), lane_width=4, seed=seed) for seed in (4, 5)]
    for name, one in (("before", others[0]), ("it", spec), ("after", others[1])):
        engine.submit(name, one)
    finished = drain(engine, {"before", "it", "after"})[0]["it"]
    assert finished.error is None
    assert np.array_equal(finished.result.latents["z"], alone.latents["z"])


def test_any_size_takes_any_picture(tmp_path: Path) -> None:
    engine = engine_of(own.export_any_size(tmp_path / "a.pt2"))
    picture = Picture(np.zeros((3, 20, 27), np.float32))
    result: JobResult = run(engine, spec_of(picture, budget=Budget(steps=5)))
    assert result.image.shape == (3, 20, 27)
    assert result.latents["code"].shape == (1, 4, 3, 4)


def test_rows_of_an_onnx_model_keep_out_of_autograd(tmp_path: Path) -> None:
    generator = own.opened("onnx", own.write_onnx(tmp_path / "a.onnx")).load(torch.device("cpu"), torch.float32)
    images = generator({"z": torch.zeros(2, 6, requires_grad=True)})
    assert not images.requires_grad
