"""What jobs must be after a disturbance: there, at one good end, and equal to the last bit."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from latent_inv.client import Client
from latent_inv.client.job import Job
from latent_inv.engine.engine import Engine
from latent_inv.errors import NotFoundError
from latent_inv.images import Picture
from latent_inv.result import JobResult
from latent_inv.spec import JobSpec

from .serving import Server
from .spine import run_all

#: kernels are chosen by it, so a job has to run at the same one again
WIDTH = 4


def undisturbed(engine: Engine, pictures: list[Picture], settings: dict[str, Any]) -> list[JobResult]:
    """The same jobs in this process, with nobody near."""
    specs = {
        f"{index}": JobSpec(
            picture=picture, generator="faces", seed=index, priority="bulk", lane_width=WIDTH, **settings
        )
        for index, picture in enumerate(pictures)
    }
    results = run_all(engine, specs)
    return [results[name] for name in specs]


def create_one(client: Client, picture: Picture, index: int, request_id: str, settings: dict[str, Any]) -> str:
    """Queue the job that `undisturbed` did as number `index`; its id."""
    return client.jobs.create(
        picture.pixels,
        "faces",
        value_range=(-1, 1),
        seed=index,
        priority="bulk",
        lane_width=WIDTH,
        request_id=request_id,
        **settings,
    ).job_id


def ended(server: Server, ids: list[str]) -> list[Job | None]:
    """Every job at its end; None for one that is not there."""
    found: list[Job | None] = []
    with server.client() as client:
        for job_id in ids:
            try:
                found.append(client.jobs.wait(job_id))
            except NotFoundError:
                found.append(None)
    return found


def same(job: Job | None, expected: JobResult) -> bool:
    """Is its result that of the undisturbed run, to the last bit? One that was lost is counted elsewhere."""
    if job is None or job.result is None:
        return True
    return all(np.array_equal(array, job.result.latents[name]) for name, array in expected.latents.items())


def damaged(data: Path) -> int:
    """Files that are named by a hash and have another."""
    named = [path for path in data.rglob("*") if path.is_file() and len(path.name) == 64]
    return sum(hashlib.sha256(path.read_bytes()).hexdigest() != path.name for path in named)
