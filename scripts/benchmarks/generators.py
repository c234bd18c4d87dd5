"""How good and how quick are the generators that come with the package?"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from latent_inv.device import place
from latent_inv.engine.engine import Engine
from latent_inv.generators import GENERATORS
from latent_inv.generators.photos import Photos
from latent_inv.images import Picture
from latent_inv.perceptual import PerceptualMetric, load_metric
from latent_inv.solve import run as run_one
from latent_inv.spec import EncodeSpec, JobSpec
from scripts.training.wallpapers import photographs

from .eyes import eyes
from .figures import Figure, Options, run_parts
from .half import PARTS as HALF
from .layers import layers
from .quality_table import METRIC
from .stylegan2 import PARTS as STYLEGAN2
from .traces import psnr_of

#: what one process does at 1024 × 1024; run by itself, so that its memory is its own
_LARGE = """
import json, resource, sys, time
import torch
from latent_inv.generators import GENERATORS
generator = GENERATORS["photos"].load(torch.device("cpu"), torch.float32)
image = torch.rand(1, 3, 1024, 1024) * 2 - 1
times = []
with torch.no_grad():
    for _ in range(4):
        began = time.perf_counter()
        generator(generator.encode(image))
        times.append(time.perf_counter() - began)
print(json.dumps([sorted(times[1:])[1], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


def run(options: Options) -> list[Figure]:
    """All figures, or those of the parts that were asked for."""
    return run_parts({name: partial(part, options) for name, part in PARTS.items()}, options)


def photos(options: Options) -> list[Figure]:
    """Four photographs that nobody trained on: encoded and decoded, and inverted from there."""
    engine, metric = Engine(GENERATORS, place("cpu")), load_metric(METRIC)
    encoded, inverted, ratios, steps, plain = [], [], [], [], []
    pictures = dict(list(photographs().items())[: 1 if options.quick else None])
    linear = transform_alone()
    for name, pixels in pictures.items():
        picture = Picture(pixels)
        first = run_one(engine, EncodeSpec(picture=picture, generator="photos")).image
        last = run_one(engine, JobSpec(picture=picture, generator="photos", seed=options.seed))
        image, _ = linear.place_picture(picture)
        bare = linear(linear.encode(image))[0].numpy()
        before, after = distance(metric, pixels, first), distance(metric, pixels, last.image)
        encoded.append(decibels(first, pixels))
        inverted.append(decibels(last.image, pixels))
        ratios.append(after / before)
        steps.append(blocks(pixels, first))
        plain.append(blocks(pixels, bare))
        print(
            f"    {name}: {encoded[-1]:.2f} dB, LPIPS {before:.4f}; inverted {inverted[-1]:.2f} dB, {after:.4f} in "
            f"{last.seconds:.0f} s; blocks {steps[-1]:.3f}; transform {decibels(bare, pixels):.2f} dB, {plain[-1]:.3f}",
            flush=True,
        )
    each = ", ".join(f"{name} {value:.2f}" for name, value in zip(pictures, encoded, strict=True))
    seconds, memory = large()
    return [
        Figure("photos_encode_psnr_db", statistics.mean(encoded), "dB", each),
        Figure("photos_invert_psnr_db", statistics.mean(inverted), "dB", "by auto, from the encoder"),
        Figure("photos_invert_lpips_ratio", statistics.mean(ratios), "", f"worst {max(ratios):.3f}"),
        Figure("photos_blocks", statistics.mean(steps), "", f"the transform alone: {statistics.mean(plain):.3f}"),
        Figure("photos_1024_s", seconds, "s", "encoded and decoded, median of 3"),
        Figure("photos_1024_rss_mb", memory, "MB", "largest of the whole process"),
    ]


def transform_alone() -> Photos:
    """The same without what was learnt."""
    linear = Photos.load(torch.device("cpu"), torch.float32)
    with torch.no_grad():
        for part in (linear.network.encoder, linear.network.decoder):
            for parameter in list(part.parameters())[-2:]:
                parameter.zero_()
    return linear


def large() -> tuple[float, float]:
    """Seconds and MB of a picture of 1024 × 1024, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", _LARGE], capture_output=True, text=True, check=True)
    seconds, memory = json.loads(done.stdout.splitlines()[-1])
    return seconds, memory


def distance(metric: PerceptualMetric, pixels: np.ndarray, image: np.ndarray) -> float:
    """LPIPS of two pictures, [3, H, W]."""
    with torch.no_grad():
        return float(metric(torch.from_numpy(image.copy())[None], torch.from_numpy(pixels.copy())[None]))


def decibels(image: np.ndarray, pixels: np.ndarray) -> float:
    """PSNR of two pictures in [-1, 1]."""
    return psnr_of(float(np.square(image - pixels).mean()))


def blocks(original: np.ndarray, decoded: np.ndarray) -> float:
    """How much blocks show: steps across borders of patches against steps elsewhere, decoded over original.

    Args:
        original, decoded: [3, H, W].
    """

    def ratio(image: np.ndarray) -> float:
        inside, across = [], []
        for axis in (1, 2):
            steps = np.abs(np.diff(image, axis=axis))
            border = np.arange(steps.shape[axis]) % 8 == 7
            across.append(np.compress(border, steps, axis=axis).mean())
            inside.append(np.compress(~border, steps, axis=axis).mean())
        return float(np.mean(across) / np.mean(inside))

    return ratio(decoded) / ratio(original)


PARTS: dict[str, Callable[[Options], list[Figure]]] = {
    "photos": photos,
    "eyes": eyes,
    "layers": layers,
    **STYLEGAN2,
    **HALF,
}
