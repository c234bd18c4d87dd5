"""An engine without torch that does what its spec's generator is called, and helpers to serve it."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import numpy as np

from latent_inv.client import AsyncClient
from latent_inv.errors import CancelledError, SpecError, UnavailableError
from latent_inv.images import Picture, encode_png
from latent_inv.result import (
    Checkpoint,
    Decoded,
    Described,
    Event,
    Finished,
    GeneratorInfo,
    JobResult,
    Lost,
    Metrics,
    Outcome,
    Preview,
    Progress,
    Sampled,
    Step,
)
from latent_inv.spec import DecodeSpec, DescribeSpec, JobSpec, SampleSpec, Spec
from latent_inv_server.app import Application, Store
from latent_inv_server.config import ServerConfig
from latent_inv_server.testing import running_server
from tests.server.memory_store import MemoryStore

PNG = encode_png(np.zeros((8, 8, 3), np.uint8))
QUALITY = Metrics(psnr_db=20.0, lpips=0.1, mse=0.01)


class UnprintableError(Exception):
    """An exception whose text cannot be made."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


def info(name: str) -> GeneratorInfo:
    part = {"shape": [3], "prior": "normal", "constraint": "free", "role": "searched"}
    return GeneratorInfo(
        *(name, "A fake", (8, 8), 1, {"z": {"z": part}}, "z", ()),
        *(True, False, False, "0" * 64, ("none", "none", "none"), "here"),
    )


def step(number: int) -> Step:
    return Step(number, 1 / (1 + number), {"pixel": 1 / (1 + number)}, QUALITY, number / 10)


def progress(job_id: str, number: int, total: int = 100) -> Progress:
    return Progress(job_id, number, step(number), total, number, 1 / (1 + number), QUALITY, 1, None)


def result(spec: JobSpec, outcome: Outcome, steps: int, side: int = 8) -> JobResult:
    return JobResult(
        *(outcome, outcome.value, spec.generator, "z", "0" * 64, spec.perceptual, "1" * 64),
        *(QUALITY, 0.5, steps, steps, 1.5, spec.seed, 1, "float32", "cpu", "steps"),
        latents={"z": np.arange(3, dtype=np.float32)[None]},
        image=np.full((3, side, side), 0.5, np.float32),
        target=spec.picture,
        history=tuple(step(number) for number in range(steps + 1)),
        settings={"solver": {"name": "adam"}},
        versions={"latent_inv": "0"},
        warnings=("a warning",),
    )


class FakeEngine:
    """Speaks the seam. Each poll takes one step of every job.

    A job's generator says what it does: "steps" ends after its budget; "forever" when it is cancelled; "flood" gives
    a thousand events at once and then goes on forever; "huge" ends with 3 MiB of picture; "fails" ends in `error`;
    "refused" is refused with `error`; "blocked" waits in `submit` until `gate` is set, then is like "forever"; "deadly"
    takes the worker with it at its third step. Checkpoints hold the number of the step, and jobs go on from there.
    """

    names = ("steps", "forever", "flood", "huge", "fails", "refused", "blocked", "deadly", "b")

    def __init__(self, error: Exception | None = None, pause: float = 0.001) -> None:
        self.error: Any = error
        self.alive = True
        self.started: Future[None] = Future()
        self.started.set_result(None)
        self.gate = threading.Event()
        self.pause = pause
        self.submitted: list[Spec] = []
        self.checkpoints: list[bytes | None] = []
        self.cancelled: list[str] = []
        self.closed = False
        self._news = threading.Condition(threading.RLock())
        self._ready: list[Event] = []
        self._jobs: dict[str, tuple[JobSpec, int]] = {}
        self._sequences: Counter[str] = Counter()

    @property
    def running(self) -> int:
        return len(self._jobs)

    @property
    def jobs(self) -> list[JobSpec]:
        """Of all that was submitted."""
        return [spec for spec in self.submitted if isinstance(spec, JobSpec)]

    def lose(self, suspect: bool = True) -> None:
        """The worker dies, and with it all of its jobs; another one comes when that is told."""
        with self._news:
            self.alive = False
            for job_id in self._jobs:
                error = UnavailableError("the worker stopped", retry_after=1)
                self._ready.append(Lost(job_id, 0, error=error, suspect=suspect))
            self._jobs.clear()
            self._news.notify()

    def submit(self, job_id: str, spec: Spec, checkpoint: bytes | None = None) -> None:
        if self.closed:
            raise UnavailableError("closed")
        self.submitted.append(spec)
        if isinstance(spec, JobSpec):
            self.checkpoints.append(checkpoint)
        name = getattr(spec, "generator", "")
        if name == "refused":
            raise self.error
        if name == "unknown":
            raise SpecError('unknown generator "unknown"', field="generator")
        if name == "blocked":
            self.gate.wait(120)  # longer than any test may take
        with self._news:
            self._take(job_id, spec, checkpoint)
            self._news.notify()

    def _take(self, job_id: str, spec: Spec, checkpoint: bytes | None) -> None:
        answer: Any
        if isinstance(spec, JobSpec):
            self._jobs[job_id] = (spec, 0 if checkpoint is None else int(checkpoint))
            self._sequences[job_id] = 0  # of this worker
            return
        if spec.generator == "fails":
            self._ready.append(Finished(job_id, 1, error=self.error))
            return
        if isinstance(spec, DescribeSpec):
            answer = Described(tuple(info(name) for name in ([spec.generator] if spec.generator else self.names)))
        elif isinstance(spec, SampleSpec):
            rows = len(spec.seeds)
            images = np.zeros((rows, 3, spec.height or 8, spec.width or 8), np.float32)
            latents = {"z": np.zeros((rows, 3), np.float32)}
            answer = Sampled(spec.generator, "z", "0" * 64, spec.seeds, latents, images)
        elif isinstance(spec, DecodeSpec):
            rows = len(spec.latents["z"])
            answer = Decoded(spec.generator, "0" * 64, np.zeros((rows, 3, 8, 8), np.float32))
        else:
            answer = None
        self._ready.append(Finished(job_id, 1, result=answer))

    def cancel(self, job_id: str) -> None:
        with self._news:
            self.cancelled.append(job_id)
            if job_id in self._jobs:
                spec, number = self._jobs.pop(job_id)
                error = CancelledError("the job was cancelled before its first step")
                best = None if number == 0 else result(spec, Outcome.cancelled, number)
                ended = Finished(job_id, self._next(job_id), result=best, error=error if best is None else None)
                self._ready.append(ended)
                self._news.notify()

    def checkpoint(self, job_id: str) -> None:
        with self._news:
            if job_id in self._jobs:
                self._ready.append(self._checkpoint(job_id, self._jobs[job_id][1]))
                self._news.notify()

    def _checkpoint(self, job_id: str, number: int) -> Checkpoint:
        return Checkpoint(job_id, self._next(job_id), number, str(number).encode())

    def _next(self, job_id: str) -> int:
        self._sequences[job_id] += 1
        return self._sequences[job_id]

    def poll(self, timeout: float = 0.0) -> list[Event]:
        with self._news:
            if not self._ready and not self._jobs:
                self._news.wait(min(timeout, 0.02))  # so that stopping is quick
            events, self._ready = self._ready, []
            self.alive = self.alive or any(isinstance(event, Lost) for event in events)
            for job_id in list(self._jobs):
                events += self._step(job_id)
        threading.Event().wait(self.pause)
        return events

    def _step(self, job_id: str) -> list[Event]:
        if job_id not in self._jobs:  # another one has taken the worker with it
            return []
        spec, number = self._jobs[job_id]
        number += 1
        self._jobs[job_id] = (spec, number)
        total = spec.budget.steps or 100
        if spec.generator == "fails":
            del self._jobs[job_id]
            return [Finished(job_id, self._next(job_id), error=self.error)]
        if spec.generator == "deadly" and number == 3:
            self.lose()
            return []
        if spec.generator == "flood" and number == 1:
            flood: list[Event] = []
            for each in range(1, 1001):
                flood.append(progress(job_id, 3 * each - 2))
                flood.append(Preview(job_id, 3 * each - 1, each, np.zeros((8, 8, 3), np.uint8)))
                flood.append(Checkpoint(job_id, 3 * each, each, bytes(1000)))
            self._jobs[job_id] = (spec, 3000)
            self._sequences[job_id] = 3000
            return flood
        if spec.generator in ("steps", "huge") and number > total:
            del self._jobs[job_id]
            side = 512 if spec.generator == "huge" else 8
            return [Finished(job_id, self._next(job_id), result=result(spec, Outcome.step_limit, total, side))]
        events: list[Event] = [replace(progress(job_id, number, total), sequence=self._next(job_id))]
        every = spec.reporting.checkpoint_steps
        if every is not None and number % every == 0:
            events.append(self._checkpoint(job_id, number))
        return events

    def close(self) -> None:
        self.closed = True
        self.gate.set()


Scenario = Callable[[Application, AsyncClient], Awaitable[None]]


def serve(
    engine: Any,
    scenario: Scenario,
    config: ServerConfig | None = None,
    seconds: float = 60,
    store: Store | None = None,
) -> None:
    """Run `scenario` against a real server on a free port; a hang fails after `seconds`."""
    kept = MemoryStore() if store is None else store

    async def run() -> None:
        async with running_server(engine, config, kept) as application, AsyncClient(address(application)) as client:
            await asyncio.wait_for(scenario(application, client), seconds)

    asyncio.run(run())


def address(application: Application) -> str:
    return f"127.0.0.1:{application.port}"


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for something that another thread or task brings about."""
    for _ in range(int(seconds / 0.005)):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("waited in vain")


def picture() -> Picture:
    return Picture(np.zeros((3, 8, 8), np.float32))
