"""Short ways to run jobs on toys."""

from __future__ import annotations

from typing import Any

from latent_inv.device import place
from latent_inv.engine.engine import Engine
from latent_inv.result import Event, Finished, JobResult
from latent_inv.spec import Adam, Budget, JobSpec, Pixel, Seeds
from tests.conftest import make_picture
from tests.toy import TOYS

#: pixel loss alone: the laws do not need a perceptual network, and are quick without
PIXEL = (Pixel(),)


def toy_engine(**settings: Any) -> Engine:
    return Engine(TOYS, place("cpu"), **settings)


def job(generator: str = "smooth", **settings: Any) -> JobSpec:
    """A job on a toy; `picture` is made from `picture_seed` if it is not given."""
    seed = settings.pop("picture_seed", 0)
    steps = settings.pop("steps", 20)
    defaults: dict[str, Any] = {
        "picture": make_picture(32, 32, seed),
        "generator": generator,
        "losses": PIXEL,
        "solver": Adam(learning_rate=0.05, typical=0),
        "initialiser": Seeds(),
        "budget": Budget(steps=steps),
    }
    return JobSpec(**{**defaults, **settings})


def drain(engine: Any, wanted: set[str], polls: int = 100_000) -> tuple[dict[str, Finished], list[Event]]:
    """Poll until all of `wanted` have finished."""
    done: dict[str, Finished] = {}
    events: list[Event] = []
    for _ in range(polls):
        for event in engine.poll(0.01):
            events.append(event)
            if isinstance(event, Finished):
                assert event.job_id not in done, "a job ended twice"
                done[event.job_id] = event
        if wanted <= done.keys():
            return done, events
    raise AssertionError(f"not finished: {wanted - done.keys()}")


def result_of(spec: JobSpec, engine: Any = None) -> JobResult:
    """Run one job to its end."""
    engine = engine or toy_engine()
    engine.submit("one", spec)
    finished = drain(engine, {"one"})[0]["one"]
    if finished.error is not None:
        raise finished.error
    assert isinstance(finished.result, JobResult)
    return finished.result
