"""The spine: is it good, is a job alone in its lane, and what does everything around the two networks cost?"""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latent_inv.device import place
from latent_inv.engine.engine import Engine
from latent_inv.generators import GENERATORS
from latent_inv.images import Picture
from latent_inv.result import Finished, JobResult
from latent_inv.solve import run as run_one
from latent_inv.spec import MAX_SAMPLES, Adam, Budget, JobSpec, Perceptual, Pixel, Reporting, SampleSpec, Seeds

from .figures import Figure, Options, run_parts


def run(options: Options) -> list[Figure]:
    """All figures of the spine."""
    engine = Engine(GENERATORS, place("cpu"))
    parts = {part.__name__: partial(part, engine, options) for part in PARTS}
    return run_parts(parts, options)


def targets(engine: Engine, count: int, seed: int) -> list[Picture]:
    """Samples of the generator as pictures, from seeds that no start uses."""
    seeds = [seed * 1000 + index for index in range(count)]
    found = []
    for first in range(0, count, MAX_SAMPLES):
        drawn = run_one(engine, SampleSpec(seeds=tuple(seeds[first : first + MAX_SAMPLES])))
        found += [Picture(np.ascontiguousarray(image), None) for image in drawn.images]
    return found


def plain_job(**settings: Any) -> JobSpec:
    """A job of the default Adam from one draw: what the spine is measured with, whatever the policy would pick."""
    return JobSpec(generator="faces", solver=Adam(), initialiser=Seeds(), **settings)


def run_all(engine: Engine, specs: dict[str, JobSpec]) -> dict[str, JobResult]:
    """Run jobs side by side to their ends."""
    for name, spec in specs.items():
        engine.submit(name, spec)
    results: dict[str, JobResult] = {}
    while not engine.idle:
        for event in engine.poll():
            if isinstance(event, Finished):
                if not isinstance(event.result, JobResult):
                    raise RuntimeError(f"{event.job_id}: {event.error}")
                results[event.job_id] = event.result
    return results


def quality(engine: Engine, options: Options) -> list[Figure]:
    """200 Adam steps from seeds, 8 in-range targets, two parts of pixels to one of LPIPS.

    These weights are those with which Adam is best in range; the default has fewer pixels, for pictures from outside.
    """
    steps, count = (10, 2) if options.quick else (200, 8)
    specs = {
        f"{index}": plain_job(
            picture=picture,
            seed=options.seed + index,
            losses=(Pixel(weight=2), Perceptual()),
            budget=Budget(steps=steps),
            priority="bulk",
        )
        for index, picture in enumerate(targets(engine, count, options.seed))
    }
    results = list(run_all(engine, specs).values())
    psnr = [result.metrics.psnr_db for result in results]
    lpips = [result.metrics.lpips or 0.0 for result in results]
    detail = f"mean of {count} targets, {steps} steps, from {min(psnr):.1f} to {max(psnr):.1f} dB"
    return [
        Figure("inrange_adam200_psnr_db", statistics.mean(psnr), "dB", detail),
        Figure(
            "inrange_adam200_lpips",
            statistics.mean(lpips),
            results[0].perceptual,
            f"from {min(lpips):.4f} to {max(lpips):.4f}",
        ),
    ]


def law1(engine: Engine, options: Options) -> list[Figure]:
    """Jobs that join and leave at random, against each of them alone at the same width."""
    width, steps, count = (4, 8, 3) if options.quick else (4, 200, 6)
    rng = random.Random(options.seed)
    pictures = targets(engine, count, options.seed + 1)
    specs = {
        f"{index}": plain_job(picture=picture, seed=rng.randrange(2**31), lane_width=width, budget=Budget(steps=steps))
        for index, picture in enumerate(pictures)
    }
    alone = {name: run_all(engine, {name: spec})[name] for name, spec in specs.items()}
    waiting, joins, leaves = list(specs), 0, 0
    together: dict[str, Any] = {}
    guests: list[str] = []
    while waiting or not engine.idle:
        if waiting and rng.random() < 0.05:
            name = waiting.pop(rng.randrange(len(waiting)))
            engine.submit(name, specs[name])
            joins += 1
        if len(guests) < 40 and rng.random() < 0.1:
            guests.append(f"guest {len(guests)}")
            engine.submit(guests[-1], plain_job(picture=pictures[0], seed=rng.randrange(2**31), lane_width=width))
            joins += 1
        if guests and rng.random() < 0.1:
            engine.cancel(rng.choice(guests))
            leaves += 1
        if not waiting and len(together) == count:
            for guest in guests:
                engine.cancel(guest)
        for event in engine.poll():
            if isinstance(event, Finished) and event.job_id in specs:
                together[event.job_id] = event.result
    worst = max(float(np.abs(alone[name].latents["z"] - together[name].latents["z"]).max()) for name in specs)
    return [
        Figure(
            "law1_max_diff", worst, "z", f"{count} jobs, width {width}, {steps} steps, {joins} joins, {leaves} leaves"
        )
    ]


def interleaved(first: Callable[[], Any], second: Callable[[], Any], times: int) -> tuple[list[float], list[float]]:
    """Seconds of each, one after the other, so that both meet the same machine."""
    durations: tuple[list[float], list[float]] = ([], [])
    for _ in range(times):
        for index, function in enumerate((first, second)):
            began = time.perf_counter()
            function()
            durations[index].append(time.perf_counter() - began)
    return durations


def step_overhead(engine: Engine, options: Options) -> list[Figure]:
    """The engine's step with everything on, against autograd alone through the same two networks."""
    figures = []
    times = 3 if options.quick else 30
    for width in (1, 8):
        pictures = targets(engine, width, options.seed + 2)
        for index, picture in enumerate(pictures):
            engine.submit(
                f"{index}", plain_job(picture=picture, lane_width=width, seed=index, budget=Budget(steps=100_000))
            )
        bare = bare_step(engine, pictures)
        for _ in range(3):
            engine.poll()
            bare()
        ours, theirs = interleaved(engine.poll, bare, times)
        for index in range(width):
            engine.cancel(f"{index}")
        while not engine.idle:
            engine.poll()
        ratio = statistics.median(ours) / statistics.median(theirs)
        milliseconds = [1e3 * statistics.median(durations) for durations in (ours, theirs)]
        detail = f"median of {times}: engine {milliseconds[0]:.1f} ms, bare {milliseconds[1]:.1f} ms"
        figures.append(Figure(f"step_overhead_ratio_w{width}", ratio, "", detail))
    return figures


def bare_step(engine: Engine, pictures: list[Picture]) -> Callable[[], Any]:
    """One forward and backward pass through generator and perceptual network, target features cached."""
    from latent_inv.perceptual import load_metric

    generator = engine.catalogue.load("faces", "float32").network
    metric = load_metric("stlpips-alex")
    target = torch.stack([torch.from_numpy(picture.pixels.copy()) for picture in pictures])
    with torch.no_grad():
        cached = metric.features(target)
    z = torch.randn(len(pictures), 100, 1, 1, requires_grad=True)

    def step() -> Any:
        images = generator(z)
        distance = metric.distance(metric.features(images), cached)
        loss = ((images - target) ** 2).mean(dim=(1, 2, 3)) + distance
        return torch.autograd.grad(loss.sum(), z)

    return step


def grpc_overhead(engine: Engine, options: Options) -> list[Figure]:
    """A 200-step job over gRPC, with progress at each step, against the same job in this process."""
    from latent_inv.client import Client
    from scripts.demo import server

    steps, times = (10, 1) if options.quick else (200, 3)
    picture = targets(engine, 1, options.seed + 3)[0]
    png = _png(picture)
    budget, reporting = Budget(steps=steps), Reporting(progress_steps=1)

    def here() -> JobResult:
        from latent_inv.images import load

        return run_all(engine, {"job": plain_job(picture=load(png), budget=budget, reporting=reporting)})["job"]

    with server() as address, Client(address) as client:

        def there() -> JobResult:
            seen: list[Any] = []
            return client.invert(
                png,
                "faces",
                solver=Adam(),
                initialiser=Seeds(),
                budget=budget,
                reporting=reporting,
                on_progress=seen.append,
            )

        here()
        there()
        local, remote = interleaved(here, there, times)
    ratio = statistics.median(remote) / statistics.median(local)
    detail = f"median of {times}: {statistics.median(remote):.2f} s over gRPC, {statistics.median(local):.2f} s here"
    return [Figure("grpc_overhead_ratio", ratio, "", detail)]


def _png(picture: Picture) -> bytes:
    from latent_inv.images import encode_png

    return encode_png(picture.pixels)


BARE_TYPER = """
import typer
app = typer.Typer()
@app.command()
def a(name: str = typer.Option("x", help="y")) -> None: "does a"
@app.command()
def b() -> None: "does b"
app()
"""


def help_time(_engine: Engine, options: Options) -> list[Figure]:
    """`latent-inv --help` against a typer app with two commands."""
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "bare.py"
        bare.write_text(BARE_TYPER)

        def call(*command: str) -> Callable[[], Any]:
            return lambda: subprocess.run([sys.executable, *command, "--help"], capture_output=True, check=True)

        ours_call = call("-c", "from latent_inv.cli import main; main()")
        for function in (ours_call, call(str(bare))):
            function()
        ours, theirs = interleaved(ours_call, call(str(bare)), 3 if options.quick else 15)
    ratio = statistics.median(ours) / statistics.median(theirs)
    detail = f"{1e3 * statistics.median(ours):.0f} ms against {1e3 * statistics.median(theirs):.0f} ms"
    return [Figure("cli_help_ratio", ratio, "", detail)]


PARTS: tuple[Callable[[Engine, Options], list[Figure]], ...] = (
    quality,
    law1,
    step_overhead,
    grpc_overhead,
    help_time,
)
