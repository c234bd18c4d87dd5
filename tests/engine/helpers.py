"""Short ways to run jobs on toys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from latent_inv.device import place
from latent_inv.engine.engine import Engine
from latent_inv.result import Checkpoint, Event, Finished, JobResult
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


def resumptions(spec: JobSpec) -> Iterator[tuple[Checkpoint, JobResult, Engine]]:
    """A job to its end, then from each of its checkpoints in a new engine: each must end bit-equally.

    Yields:
        checkpoint, the undisturbed result, and the new engine before it goes on.
    """
    engine = toy_engine()
    engine.submit("one", spec)
    done, events = drain(engine, {"one"})
    expected = done["one"].result
    assert isinstance(expected, JobResult)
    for checkpoint in [event for event in events if isinstance(event, Checkpoint)]:
        other = toy_engine()
        other.submit("again", spec, checkpoint.data)
        yield checkpoint, expected, other
        result = drain(other, {"again"})[0]["again"].result
        assert isinstance(result, JobResult)
        assert all(np.array_equal(array, expected.latents[name]) for name, array in result.latents.items())
        assert [step.loss for step in result.history] == [step.loss for step in expected.history]
        assert (result.loss, result.best_step, result.steps) == (expected.loss, expected.best_step, expected.steps)
