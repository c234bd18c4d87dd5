"""How good a method was at which time, for methods of this library and for others."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from latent_inv import spec
from latent_inv.engine.engine import Engine
from latent_inv.engine.run import metrics
from latent_inv.images import Picture
from latent_inv.result import Finished, JobResult, Metrics, Progress
from latent_inv.spec import Budget, JobSpec


@dataclass(frozen=True)
class Point:
    """Quality after `seconds`; `lpips` is None where it was not computed."""

    seconds: float
    psnr_db: float
    lpips: float | None


@dataclass(frozen=True)
class Trace:
    """One run of a method on one picture.

    Attributes:
        points: by time, from the moment at which the picture was there; the last one is the result.
        image: the result, [3, H, W] float32 in [-1, 1].
    """

    points: tuple[Point, ...]
    image: np.ndarray

    @property
    def final(self) -> Point:
        """The result, at the end of the run."""
        return self.points[-1]

    @property
    def final_lpips(self) -> float:
        """Distance of the result."""
        if self.final.lpips is None:
            raise RuntimeError("a result without its perceptual distance")
        return self.final.lpips

    def first(self, psnr_db: float, lpips: float | None = None) -> float | None:
        """Seconds until both were reached at once; None: never."""
        for point in self.points:
            close = lpips is None or (point.lpips is not None and point.lpips <= lpips)
            if point.psnr_db >= psnr_db and close:
                return point.seconds
        return None


def psnr_of(squared_error: float) -> float:
    """From the mean squared error on the [-1, 1] scale, as the engine has it."""
    return metrics(squared_error, None).psnr_db


#: name -> what a job is asked for beside picture and seed; nothing at all is what the library does by itself
METHODS: dict[str, dict[str, Any]] = {
    "adam-random": {"solver": spec.Adam(), "initialiser": spec.Seeds(), "budget": Budget(steps=200)},
    "hybrid-cma": {"solver": spec.HybridCMA(), "initialiser": spec.Seeds(), "budget": Budget(steps=1000)},
    "encoder": {"initialiser": spec.Encoder(), "solver": spec.Adam(), "budget": Budget(steps=0)},
    "encoder+adam": {"initialiser": spec.Encoder(), "solver": spec.Adam(), "budget": Budget(steps=200)},
    "encoder+l-bfgs": {"initialiser": spec.Encoder(), "solver": spec.LBFGS(), "budget": Budget(steps=200)},
    "encoder+levenberg-marquardt": {
        "initialiser": spec.Encoder(),
        "solver": spec.LevenbergMarquardt(),
        "budget": Budget(steps=40),
    },
    "encoder+gauss-newton": {
        "initialiser": spec.Encoder(),
        "solver": spec.GaussNewton(),
        "budget": Budget(steps=40),
    },
    "auto": {},
}


def asked(method: str, *, quick: bool) -> dict[str, Any]:
    """The settings of `METHODS`, with three steps where only that it works is to be seen."""
    settings = dict(METHODS[method])
    if quick:
        budget = settings.get("budget", Budget())
        settings["budget"] = replace(budget, steps=min(3, 3 if budget.steps is None else budget.steps))
    return settings


def run_traced(engine: Engine, pictures: Sequence[Picture], seed: int, **settings: Any) -> list[Trace]:
    """Run a job a picture side by side, with the quality of the best iterate after each step.

    Times begin before the jobs are built, so they hold all that the library does, but no loading of weights.

    Raises:
        LatentInvError: a job was refused, or could not be done.
    """
    began = time.perf_counter()
    points: list[list[Point]] = [[] for _ in pictures]
    images: dict[int, np.ndarray] = {}

    def note(index: int, values: Metrics) -> None:
        points[index].append(Point(time.perf_counter() - began, values.psnr_db, values.lpips))

    try:
        for index, picture in enumerate(pictures):
            engine.submit(f"{index}", JobSpec(picture=picture, generator="faces", seed=seed + index, **settings))
        while not engine.idle:
            for event in engine.poll():
                if isinstance(event, Progress):
                    note(int(event.job_id), event.best)
                elif isinstance(event, Finished):
                    if not isinstance(event.result, JobResult):
                        raise event.error or RuntimeError("a job without a result")
                    note(int(event.job_id), event.result.metrics)
                    images[int(event.job_id)] = event.result.image
    except BaseException:
        engine.close()
        raise
    return [Trace(tuple(points[index]), images[index]) for index in range(len(pictures))]
