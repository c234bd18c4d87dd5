"""What is lost when processes are killed? Jobs of a server whose worker, or the whole of it, dies at random moments."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from latent_inv.client.job import OVER
from latent_inv.device import place
from latent_inv.engine.engine import Engine
from latent_inv.errors import LatentInvError
from latent_inv.generators import GENERATORS
from latent_inv.images import Picture
from latent_inv.spec import Adam, Budget

from .disk_full import disk_full
from .figures import Figure, Options, run_parts
from .fuzz import fuzz
from .recovery import WIDTH, create_one, damaged, ended, same, undisturbed
from .serving import Server, kill_worker
from .spine import targets

#: quiet time before a kill: within a start, within a step, or after many
PAUSES = (0.05, 6.0)


def run(options: Options) -> list[Figure]:
    """All figures, or those of the parts that were asked for."""
    return run_parts({name: partial(part, options) for name, part in PARTS.items()}, options)


def kills(options: Options) -> list[Figure]:
    """kill -9 of the worker and of the whole server under queued jobs; each round has its own jobs."""
    wanted, jobs = (2, 4) if options.quick else (40, options.targets(30))
    settings: dict[str, Any] = {"solver": Adam(), "budget": Budget(steps=8 if options.quick else 60)}
    chance = random.Random(options.seed)
    done = rounds = lost = wrong = 0
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        server = Server(Path(name), "--checkpoint-steps", "10", "--lane-width", str(WIDTH), "--max-jobs", "16")
        while done < wanted:
            rounds += 1
            engine = Engine(GENERATORS, place("cpu", lane_width=WIDTH))
            pictures = targets(engine, jobs, options.seed + 1000 * rounds)
            expected = undisturbed(engine, pictures, settings)
            engine.close()
            server.start()
            ids = create(server, pictures, rounds, settings)
            while done < wanted and not all_over(server, ids):
                time.sleep(chance.uniform(*PAUSES))
                whole = chance.random() < 0.5
                if whole:
                    server.kill()
                    server.start(ready=chance.random() < 0.5)
                elif not kill_worker(server):
                    continue
                done += 1
                print(f"    {done:3}/{wanted}  the {'server' if whole else 'worker'} was killed", flush=True)
            found = ended(server, ids)
            server.stop()
            lost += sum(job is None or job.state != "succeeded" for job in found)
            wrong += sum(not same(job, result) for job, result in zip(found, expected, strict=True))
            broken = damaged(server.folder / "data")
            lost += broken
            print(f"    round {rounds}: {lost} lost, {wrong} wrong, {broken} damaged files", flush=True)
    detail = f"{rounds} rounds of {jobs} bulk jobs, worker or whole server after {PAUSES[0]:g} to {PAUSES[1]:g} s"
    return [
        Figure("kills", done, "", detail),
        Figure("jobs_lost", lost, "", "without exactly one good end, or a file whose hash is another"),
        Figure("jobs_wrong", wrong, "", "latents not bit-equal to those of an undisturbed run"),
    ]


def create(server: Server, pictures: list[Picture], round_: int, settings: dict[str, Any]) -> list[str]:
    """Queue a job a picture; their ids."""
    with server.client() as client:
        return [
            create_one(client, picture, index, f"round-{round_}-job-{index}", settings)
            for index, picture in enumerate(pictures)
        ]


def all_over(server: Server, ids: list[str]) -> bool:
    """Have all ended? A server that is away just now says no."""
    try:
        with server.client() as client:
            states = {job.job_id: job.state for job in client.jobs.list()}
    except LatentInvError:
        return False
    return all(states.get(job_id, "lost") in (*OVER, "lost") for job_id in ids)


PARTS: dict[str, Callable[[Options], list[Figure]]] = {"kills": kills, "diskfull": disk_full, "fuzz": fuzz}
