"""Equal to the original packages, on value and gradient, with the same weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from latent_inv import perceptual
from latent_inv.assets import fetch
from latent_inv.perceptual import METRICS, PerceptualMetric, load_metric
from tests.perceptual.helpers import original_lpips, original_stlpips, pair, torchvision_names

SIZES = ((64, 64), (96, 96), (70, 101))


def value_and_gradient(metric: nn.Module | PerceptualMetric, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    images = images.clone().requires_grad_()
    value = metric(images, targets).flatten()
    return value.detach(), torch.autograd.grad(value.sum(), images)[0]


def check_equal(ours: PerceptualMetric, original: nn.Module, size: tuple[int, int]) -> None:
    images, targets = pair(*size, seed=sum(size), dtype=torch.float32)
    value, gradient = value_and_gradient(ours, images, targets)
    expected, expected_gradient = value_and_gradient(original, images, targets)
    # 1e-5 is what is promised; both sides are float32. Gradients are about 1e-4, so theirs is relative.
    assert (value - expected).abs().max() <= 1e-5 * expected.max()
    assert (gradient - expected_gradient).norm() <= 1e-5 * expected_gradient.norm()
    assert expected.min() > 1e-3  # or all of this says nothing


@pytest.mark.parametrize("net", ["alex", "squeeze", "vgg"])
def test_lpips(net: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = original_lpips(net)
    backbone_asset = METRICS[f"lpips-{net}"].assets[0]
    torch.save(torchvision_names(original.net), tmp_path / "backbone.pth")
    monkeypatch.setattr(perceptual, "_loaded", {})
    monkeypatch.setattr(
        perceptual,
        "fetch",
        lambda name, progress=None: tmp_path / "backbone.pth" if name == backbone_asset else fetch(name),
    )
    ours = load_metric(f"lpips-{net}")
    for size in SIZES:
        check_equal(ours, original, size)


@pytest.mark.slow
@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_stlpips(net: str, tmp_path: Path) -> None:
    original = original_stlpips(net, tmp_path)
    ours = load_metric(f"stlpips-{net}")
    for size in SIZES:
        check_equal(ours, original, size)
