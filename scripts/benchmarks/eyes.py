"""Samples of the conditional generator whose class nobody tells: is it found, and are the latents?"""

from __future__ import annotations

import statistics

import numpy as np

from latent_inv.device import place
from latent_inv.engine.engine import Engine
from latent_inv.generators import GENERATORS
from latent_inv.images import Picture
from latent_inv.solve import run as run_one
from latent_inv.spec import JobSpec, SampleSpec

from .figures import Figure, Options

#: PSNR from which on a picture counts as found, and not only come near to
EXACT_DB = 60.0


def eyes(options: Options) -> list[Figure]:
    """Unseen samples of random classes, each found by `auto` in the space in which the class is searched."""
    engine = Engine(GENERATORS, place("cpu"))
    count = options.targets(64)
    right, psnr, seconds = 0, [], []
    for index in range(count):
        drawn = run_one(engine, SampleSpec(seeds=(options.seed * 1000 + index,), generator="eyes"))
        picture = Picture(np.ascontiguousarray(drawn.images[0]))
        result = run_one(engine, JobSpec(picture=picture, generator="eyes", seed=options.seed + index))
        same = int(result.latents["class"].argmax()) == int(drawn.latents["class"].argmax())
        right += same
        psnr.append(result.metrics.psnr_db)
        seconds.append(result.seconds)
        print(
            f"    {index + 1:3}/{count}  {'right' if same else 'WRONG'} class, {psnr[-1]:.1f} dB, {seconds[-1]:.1f} s",
            flush=True,
        )
    exact = sum(value >= EXACT_DB for value in psnr)
    return [
        Figure("eyes_class_accuracy", right / count, "", f"{right} of {count}"),
        Figure("eyes_exact_share", exact / count, "", f"{exact} of {count} at {EXACT_DB:g} dB or above"),
        Figure("eyes_median_s", statistics.median(seconds), "s", f"median PSNR {statistics.median(psnr):.1f} dB"),
    ]
