"""Half precision beside float32: how far the pictures are apart, and what it saves. Times are of interleaved calls."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from latent_inv.device import place
from latent_inv.engine.engine import Engine
from latent_inv.generators import GENERATORS
from latent_inv.generators.base import Generator
from latent_inv.generators.diffusers_autoencoder import open_model
from latent_inv.generators.half import HALVES
from latent_inv.images import Picture
from latent_inv.solve import run as run_one
from latent_inv.spec import LBFGS, Adam, Budget, JobSpec
from latent_inv.types import Latents
from scripts.training.wallpapers import photographs

from .figures import Figure, Options
from .traces import psnr_of

#: pictures of a call: the width of interactive jobs, and of bulk ones on a CPU
WIDTHS = (1, 4)


def half(options: Options) -> list[Figure]:
    """Decoding and its gradient, and one job of each generator."""
    engine = Engine(GENERATORS, place("cpu"))
    faces, photos = (engine.catalogue.load(name, "float32") for name in ("faces", "photos"))
    pictures = [torch.from_numpy(pixels) for pixels in list(photographs().values())[:4]]
    with torch.no_grad():
        encoded = photos.encode(torch.stack(pictures)) or {}
        given = {"faces": (faces, faces.sample(range(options.seed, options.seed + 4))), "photos": (photos, encoded)}
        drawn = Picture(faces(faces.sample([options.seed]))[0].numpy())
    jobs: dict[str, dict[str, Any]] = {
        "faces": {"picture": drawn, "solver": Adam()},
        "photos": {"picture": Picture(pictures[0].numpy()), "solver": LBFGS()},
    }
    figures = []
    for name, (exact, latents) in given.items():
        for precision in HALVES:
            rounded = engine.catalogue.at(name, "float32", precision)
            figures.append(_error(name, exact, rounded, latents))
            if precision == "bfloat16":
                figures += _times(name, exact, rounded, latents, 3 if options.quick else 15)
        figures += _job(name, engine, jobs[name], 2 if options.quick else 100)
    return figures + _autoencoder(options)


def _autoencoder(options: Options) -> list[Figure]:
    """The layout of Stable Diffusion's autoencoder with random weights, 256 × 256: what its size costs."""
    import diffusers

    widths = (32, 32, 32, 32) if options.quick else (128, 256, 512, 512)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        model: Any = diffusers.AutoencoderKL(block_out_channels=widths, layers_per_block=2, **blocks)
        model.save_pretrained(folder)
        exact = open_model(folder, "autoencoder_kl").load(torch.device("cpu"), torch.float32)
    rounded = exact.rounded(torch.bfloat16)
    latents = exact.sample((options.seed,), "", (256, 256))
    return [
        _error("autoencoder_kl", exact, rounded, latents),
        *_times("autoencoder_kl", exact, rounded, latents, 2 if options.quick else 5, (1,)),
    ]


def _error(name: str, exact: Generator, rounded: Generator, latents: Latents) -> Figure:
    with torch.no_grad():
        errors = (rounded(latents) - exact(latents)).square().flatten(1).mean(dim=1)
    found = [psnr_of(float(error)) for error in errors]
    text = f"pictures in {rounded.precision} against those in float32, {min(found):.1f} to {max(found):.1f} dB"
    return Figure(f"{name}_{rounded.precision}_psnr_db", statistics.mean(found), "dB", text)


def _times(
    name: str, exact: Generator, rounded: Generator, latents: Latents, repeats: int, widths: Sequence[int] = WIDTHS
) -> list[Figure]:
    """Seconds in float32 over those in half precision, with the gradient as a job needs it."""
    figures = []
    for width in widths:
        some = {part: tensor[:width].clone() for part, tensor in latents.items()}
        wide, narrow = [], []
        for _ in range(repeats):
            wide.append(_seconds(exact, some))
            narrow.append(_seconds(rounded, some))
        before, after = statistics.median(wide[1:]), statistics.median(narrow[1:])
        text = f"picture and gradient of {width}: {before * 1e3:.1f} ms, {after * 1e3:.1f} ms, median of {repeats - 1}"
        figures.append(Figure(f"{name}_{rounded.precision}_speedup_w{width}", before / after, "×", text))
    return figures


def _seconds(generator: Generator, latents: Latents) -> float:
    leaves = {part: tensor.requires_grad_() for part, tensor in latents.items()}
    began = time.perf_counter()
    loss = generator(leaves).square().mean()
    torch.autograd.grad(loss, list(leaves.values()))
    return time.perf_counter() - began


def _job(name: str, engine: Engine, settings: dict[str, Any], steps: int) -> list[Figure]:
    """The same job in both, one after the other."""
    budget = Budget(steps=steps)
    wide, narrow = (
        run_one(engine, JobSpec(**settings, generator=name, budget=budget, precision=precision))
        for precision in ("float32", "bfloat16")
    )
    solver = type(settings["solver"]).__name__
    text = f"{steps} steps of {solver}: {narrow.metrics.psnr_db:.2f} dB in {narrow.seconds:.1f} s; in float32 "
    text += f"{wide.metrics.psnr_db:.2f} dB in {wide.seconds:.1f} s"
    return [Figure(f"{name}_bfloat16_job_gain_db", narrow.metrics.psnr_db - wide.metrics.psnr_db, "dB", text)]


PARTS: dict[str, Callable[[Options], list[Figure]]] = {"half": half}
