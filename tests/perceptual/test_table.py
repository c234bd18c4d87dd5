"""Metrics by name: what is loaded, and what is said where it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from latent_inv import perceptual
from latent_inv.assets import ASSETS
from latent_inv.errors import AssetError, ShapeError, SpecError
from latent_inv.perceptual import METRICS, load_metric, metric_hash
from latent_inv.perceptual.backbones import BACKBONES, build_backbone
from latent_inv.spec import PERCEPTUAL_METRICS
from tests.perceptual.helpers import default_metric, pair


def test_the_table_is_what_a_job_may_name() -> None:
    assert set(METRICS) == set(PERCEPTUAL_METRICS)
    assert {recipe.backbone for recipe in METRICS.values()} == set(BACKBONES)
    assert all(asset in ASSETS for recipe in METRICS.values() for asset in recipe.assets)
    assert len({metric_hash(name) for name in METRICS}) == len(METRICS)


def test_unknown_names_get_a_hint() -> None:
    with pytest.raises(SpecError, match='did you mean "lpips-vgg"') as caught:
        load_metric("lpips-vgg16")
    assert caught.value.field == "perceptual"


@pytest.mark.parametrize("name", [name for name in METRICS if name.startswith("lpips")])
def test_a_missing_backbone_says_how_to_get_it(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perceptual, "_loaded", {})
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("LATENT_INV_CACHE", str(tmp_path))
    with pytest.raises(AssetError, match=rf"{name}, is missing.*run: python -c .*download\.pytorch\.org"):
        load_metric(name)


def test_one_copy_serves_a_process() -> None:
    metric = default_metric()
    assert load_metric("stlpips-alex") is metric
    assert load_metric("stlpips-alex", device=torch.device("cpu")) is metric
    assert load_metric("stlpips-alex", dtype=torch.float64) is not metric
    assert metric.weights_sha256 == ASSETS["stlpips-alex"].sha256
    assert (metric.name, metric.dtype, metric.device.type) == ("stlpips-alex", torch.float32, "cpu")


def test_loading_draws_no_random_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    default_metric()
    monkeypatch.setattr(perceptual, "_loaded", {})
    state = torch.random.get_rng_state()
    load_metric("stlpips-alex")
    assert torch.equal(torch.random.get_rng_state(), state)


def test_flat_pictures_have_finite_gradients() -> None:
    metric = default_metric()
    for level in (-1.0, 0.0, 1.0):
        flat = torch.full((1, 3, 32, 32), level, requires_grad=True)
        _, other = pair(32, 32, rows=1, dtype=torch.float32)
        for target in (flat.detach(), other):
            (gradient,) = torch.autograd.grad(metric(flat, target).sum(), flat)
            assert gradient.isfinite().all()


@pytest.mark.parametrize("name", BACKBONES)
def test_the_minimum_side_is_the_smallest_that_goes_through(name: str) -> None:
    with torch.device("meta"):
        backbone = BACKBONES[name]()
        side = backbone.minimum_side
        for height, width in ((side, side), (side, side + 3), (side + 1, side)):
            assert all(min(x.shape) > 0 for x in backbone(torch.zeros(1, 3, height, width)))
        for height, width in ((side - 1, side), (side, side - 1)):
            with pytest.raises((RuntimeError, ValueError)):
                backbone(torch.zeros(1, 3, height, width))


def test_the_default_names_its_minimum() -> None:
    with pytest.raises(ShapeError, match="stlpips-alex takes pictures of at least 21 × 21 pixels, found 20 × 64"):
        default_metric().features(torch.zeros(1, 3, 20, 64))


def test_weights_of_another_network_are_listed() -> None:
    weights = {
        name: torch.empty_like(value, device="cpu") for name, value in BACKBONES["alexnet"]().state_dict().items()
    }
    build_backbone("alexnet", weights)
    missing = {name: value for name, value in weights.items() if name != "slice2.3.bias"}
    with pytest.raises(AssetError, match=r"Missing key.*slice2\.3\.bias"):
        build_backbone("alexnet", missing)
    with pytest.raises(AssetError, match=r"Unexpected key.*slice2\.4\.bias"):
        build_backbone("alexnet", {**weights, "slice2.4.bias": torch.zeros(1)})
    with pytest.raises(AssetError, match=r"size mismatch.*slice1\.0\.bias"):
        build_backbone("alexnet", {**weights, "slice1.0.bias": torch.zeros(1)})
