"""A small metric with random weights, pictures, and the original packages with weights of our choice."""

from __future__ import annotations

import sys
import types
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from latent_inv.asset_table import ASSETS, Wheel
from latent_inv.downloads import download_wheel, run_command
from latent_inv.errors import AssetError
from latent_inv.perceptual import PerceptualMetric, load_metric
from latent_inv.perceptual.backbones import Backbone
from tests.conftest import require


def toy_metric(dtype: torch.dtype = torch.float64) -> PerceptualMetric:
    """Two layers of random weights; float64, so that laws hold to rounding."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        layers = [
            *(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(inplace=True)),
            *(nn.MaxPool2d(2), nn.Conv2d(6, 9, 3), nn.ReLU(inplace=True)),
        ]
        heads = [torch.rand(6), torch.rand(9)]
    return PerceptualMetric("toy", Backbone(layers, (2, 5), minimum_side=6).to(dtype), heads)


def pair(
    height: int = 16, width: int = 16, rows: int = 2, seed: int = 0, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    """Noise in [-1, 1], and something near it; [rows, 3, height, width] each."""
    random = torch.Generator().manual_seed(seed)
    first = torch.rand(rows, 3, height, width, generator=random, dtype=dtype) * 2 - 1
    noise = torch.randn(rows, 3, height, width, generator=random, dtype=dtype)
    return first, (first + 0.5 * noise).clamp(-1, 1)


def default_metric(dtype: torch.dtype = torch.float32) -> PerceptualMetric:
    """`stlpips-alex` with its real weights."""
    try:
        return load_metric("stlpips-alex", dtype=dtype)
    except AssetError as error:
        require("weights", False, str(error))
        raise


def original_lpips(net: str) -> nn.Module:
    """The lpips package's own metric: real heads, random backbone with features of ordinary size."""
    import lpips

    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")  # of its use of torchvision
        torch.manual_seed(7)
        metric = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
        for layer in metric.net.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.normal_(layer.bias, std=0.1)
    return metric


def torchvision_names(network: nn.Module) -> dict[str, Tensor]:
    """Weights of an original's backbone under the names of the file that torchvision downloads."""
    flat = {f"features.{name.partition('.')[2]}": value for name, value in network.state_dict().items()}
    return {**flat, "classifier.1.weight": torch.zeros(1)}


def original_stlpips(net: str, folder: Path) -> nn.Module:
    """The stlpips-pytorch package's own metric, from its wheel, without installing it or what it imports."""
    source = ASSETS[f"stlpips-{net}"].source
    assert isinstance(source, Wheel)
    try:
        wheel = download_wheel(source.requirement, folder, run_command, lambda _: None)
    except AssetError as error:
        require("registry", False, str(error))
        raise
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "package")
    before = set(sys.modules)
    sys.path.insert(0, str(folder / "package"))
    try:
        for name in ("IPython", "torchsummary"):
            stub: Any = types.ModuleType(name)
            stub.embed = stub.summary = None
            sys.modules.setdefault(name, stub)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from stlpips_pytorch import stlpips  # type: ignore[import-not-found]

            return stlpips.LPIPS(net=net, variant="shift_tolerant", verbose=False)
    finally:
        sys.path.remove(str(folder / "package"))
        for name in set(sys.modules) - before:
            if name.split(".")[0] in ("stlpips_pytorch", "IPython", "torchsummary"):
                del sys.modules[name]
