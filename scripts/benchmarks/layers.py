"""What layers of a generator reach that its latents do not, and how far from its prior they have to go for that.

One photograph that the face generator cannot make, everything left to the library but the space.
"""

from __future__ import annotations

from typing import Any

import torch

from latent_inv.device import place
from latent_inv.engine.engine import Engine
from latent_inv.generators import GENERATORS, Faces
from latent_inv.images import load
from latent_inv.measured import Measured
from latent_inv.outline import fit_picture
from latent_inv.result import JobResult
from latent_inv.solve import run as run_one
from latent_inv.spec import Budget, JobSpec

from .figures import Figure, Options

#: a copy in which a person is recognised
ENOUGH_DB, ENOUGH_LPIPS = 24.0, 0.02


def layers(options: Options) -> list[Figure]:
    """The photograph in `z` and in every layer; the best layer is the first, so the nearest to z, that is enough."""
    from skimage.data import astronaut

    from scripts.demo import PHOTO_CROP

    picture = fit_picture(Faces, load(astronaut()), PHOTO_CROP)[0]
    engine = Engine(GENERATORS, place("cpu"))
    found: dict[str, JobResult] = {}
    lines: dict[str, str] = {}
    for space in ("z", *Faces.stages):
        settings: dict[str, Any] = {"budget": Budget(steps=4)} if options.quick else {}
        result: JobResult = run_one(
            engine, JobSpec(picture=picture, generator="faces", space=space, seed=options.seed, **settings)
        )
        found[space] = result
        lines[space] = f"{space} {_quality(result)}, {_prior(engine, result)}"
        print(f"    {lines[space]}, {result.steps} steps, {result.seconds:.1f} s", flush=True)
    highest = max(Faces.stages, key=lambda space: found[space].metrics.psnr_db)
    best = next((space for space in Faces.stages if _is_enough(found[space])), highest)
    others = "; ".join(line for space, line in lines.items() if space not in ("z", best))
    return [
        Figure("faces_photo_z_psnr_db", found["z"].metrics.psnr_db, "dB", lines["z"]),
        Figure("faces_photo_layer_psnr_db", found[best].metrics.psnr_db, "dB", f"{lines[best]}; {others}"),
        Figure("faces_photo_layer_lpips", _lpips(found[best]), found[best].perceptual, lines[best]),
    ]


def _is_enough(result: JobResult) -> bool:
    return result.metrics.psnr_db >= ENOUGH_DB and _lpips(result) <= ENOUGH_LPIPS


def _quality(result: JobResult) -> str:
    return f"{result.metrics.psnr_db:.1f} dB, LPIPS {_lpips(result):.4f}"


def _lpips(result: JobResult) -> float:
    if result.metrics.lpips is None:
        raise RuntimeError("a result without its perceptual distance")
    return result.metrics.lpips


def _prior(engine: Engine, result: JobResult) -> str:
    """How far from the prior's mean the latents are, where draws have about 1, and which share of draws is nearer."""
    space = engine.catalogue.load(result.generator, result.dtype).spaces[result.space]
    said = []
    for name, share in result.typicality.items():
        latents, prior = torch.from_numpy(result.latents[name].copy()), space.parts[name].prior
        distance = prior.distance(latents) if isinstance(prior, Measured) else latents.square().mean().sqrt()
        said.append(f"{float(distance):.2f} from the mean, {100 * share:.1f} % of draws are nearer")
    return ", ".join(said)
