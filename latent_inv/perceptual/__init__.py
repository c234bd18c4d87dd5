"""Perceptual metrics by name, loaded once a process."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from threading import Lock

import torch

from latent_inv.assets import Progress, fetch, load_checkpoint, weights_hash
from latent_inv.errors import AssetError, unknown_name

from .backbones import build_backbone
from .metric import PerceptualMetric

__all__ = ["METRICS", "PerceptualMetric", "load_metric"]


@dataclass(frozen=True)
class Recipe:
    """What a metric is made of.

    Attributes:
        backbone: key of `BACKBONES`.
        assets: one file with everything, or the backbone's file and the heads' file.
    """

    backbone: str
    assets: tuple[str, ...]


METRICS: dict[str, Recipe] = {
    "stlpips-alex": Recipe("shift-tolerant-alexnet", ("stlpips-alex",)),
    "stlpips-vgg": Recipe("shift-tolerant-vgg16", ("stlpips-vgg",)),
    "lpips-alex": Recipe("alexnet", ("alexnet", "lpips-alex-heads")),
    "lpips-vgg": Recipe("vgg16", ("vgg16", "lpips-vgg-heads")),
    "lpips-squeeze": Recipe("squeezenet1_1", ("squeezenet1_1", "lpips-squeeze-heads")),
}

#: A metric has no state that a job could change, so one copy serves all jobs of a process.
_loaded: dict[tuple[str, str, torch.dtype], PerceptualMetric] = {}
_lock = Lock()


def load_metric(
    name: str,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: Progress | None = None,
) -> PerceptualMetric:
    """The metric `name` on `device`; the same object for the same arguments.

    Args:
        name: key of `METRICS`.
        device: where its pictures will be.
        dtype: float32, or float64 for checks.
        progress: called while weights are downloaded.
    Raises:
        SpecError: there is no such metric.
        AssetError: its weights cannot be had, and how to get them. No other metric takes its place.
    """
    if name not in METRICS:
        raise unknown_name("perceptual metric", name, list(METRICS), field="perceptual")
    key = (name, str(torch.device(device)), dtype)
    if key in _loaded:  # without the lock, which is held as long as another one is downloaded
        return _loaded[key]
    with _lock:
        if key not in _loaded:
            _loaded[key] = _build(name, torch.device(device), dtype, progress)
        return _loaded[key]


def metric_hash(name: str) -> str:
    """Which weights a metric has: the hash of its file, or the hash of the hashes of its files."""
    hashes = [weights_hash(asset) for asset in METRICS[name].assets]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _build(name: str, device: torch.device, dtype: torch.dtype, progress: Progress | None) -> PerceptualMetric:
    recipe = METRICS[name]
    files = [load_checkpoint(fetch(asset, progress=progress)) for asset in recipe.assets]
    weights = {key.removeprefix("net."): value for key, value in files[0].items()}
    backbone = build_backbone(recipe.backbone, weights).to(device=device, dtype=dtype)
    try:
        heads = [files[-1][f"lin{layer}.model.1.weight"].flatten() for layer in range(len(backbone.ends))]
    except KeyError as error:
        raise AssetError(f"the weights of {name} have no {error.args[0]}") from None
    return PerceptualMetric(name, backbone, heads, metric_hash(name))
