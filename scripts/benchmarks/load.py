"""Does a server that has far too much to do stay polite? Overload, many watchers, streams that are left, and lanes."""

from __future__ import annotations

import asyncio
import math
import random
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from latent_inv.client import Client
from latent_inv.client.job import OVER
from latent_inv.client.messages import create_request, typed
from latent_inv.device import place
from latent_inv.engine.engine import Engine
from latent_inv.errors import LatentInvError
from latent_inv.generators import GENERATORS
from latent_inv.images import encode_png, to_uint8
from latent_inv.spec import Adam, Encoder, Seeds
from latent_inv.v1 import job_service_pb2 as wire
from latent_inv.v1 import job_service_pb2_grpc as wire_grpc

from .figures import Figure, Options, run_parts
from .serving import Server
from .spine import targets
from .streams import streams

#: times what the server can do
OVERLOAD = 10
#: channels of the crowd: a channel each would measure connecting
CHANNELS = 8


def run(options: Options) -> list[Figure]:
    """All figures, or those of the parts that were asked for."""
    return run_parts({name: partial(part, options) for name, part in PARTS.items()}, options)


def pictures(count: int, seed: int) -> list[bytes]:
    """Samples of the face GAN as PNG files."""
    engine = Engine(GENERATORS, place("cpu"))
    found = [encode_png(to_uint8(picture.pixels)) for picture in targets(engine, count, seed)]
    engine.close()
    return found


@contextmanager
def serving(*flags: str) -> Iterator[Server]:
    """A server as a process of its own, with its worker ready."""
    with tempfile.TemporaryDirectory(prefix="load-") as name:
        server = Server(Path(name), *flags)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def request(picture: bytes, number: int, steps: int) -> wire.CreateJobRequest:
    """A job with an id that makes it another one than all others."""
    settings = job(number, steps, "bulk")
    generator = settings.pop("generator")
    return create_request(picture, generator, settings, request_id=f"load-{number}", labels=None)


# ---- far too many jobs ---------------------------------------------------------------------------


def overload(options: Options) -> list[Figure]:
    """Jobs come ten times as quickly as they can be done; whoever is refused is told when to come again."""
    seconds, steps = (5.0, 4) if options.quick else (60.0, 20)
    files = pictures(8, options.seed)
    with serving("--threads", "1", "--max-jobs", "8", "--max-queued", "40") as server:
        rate = capacity(server, files, steps, jobs=8 if options.quick else 40)
        before = server.process.memory_info().rss
        with probing(server, lambda client: client.healthy()) as waits:
            accepted, refused = asyncio.run(crowd(server.address, files, steps, OVERLOAD * rate, seconds))
        states = all_ended(server, accepted)
        after = server.process.memory_info().rss
    bad = {text: count for text, count in refused.items() if text != "RESOURCE_EXHAUSTED with RetryInfo"}
    turned_away = refused.total() - sum(bad.values())
    lost = sum(states.get(job_id) != "succeeded" for job_id in accepted)
    detail = f"{len(accepted) + refused.total()} jobs in {seconds:g} s, {rate:.1f} a second can be done"
    what = "; ".join(f"{count} × {text}" for text, count in bad.items()) or "none"
    return [
        Figure("overload_bad_codes", sum(bad.values()), "", f"{detail}; {turned_away} turned away; others: {what}"),
        Figure("overload_lost", lost, "", f"of {len(accepted)} that were taken"),
        Figure("overload_health_p99_ms", percentile(waits, 99), "ms", f"{len(waits)} health checks meanwhile"),
        Figure("overload_rss_growth", after / before, "×", f"gateway, from {before / 1e6:.0f} MB, all jobs over"),
    ]


def capacity(server: Server, files: list[bytes], steps: int, jobs: int) -> float:
    """Jobs a second that the server ends when it always has some."""
    with server.client() as client:
        began = time.perf_counter()
        ids = [
            client.jobs.create(files[number % len(files)], **job(number, steps, "bulk")).job_id
            for number in range(jobs)
        ]
        for job_id in ids:
            client.jobs.wait(job_id)
        return jobs / (time.perf_counter() - began)


async def crowd(
    address: str, files: list[bytes], steps: int, rate: float, seconds: float
) -> tuple[list[str], Counter[str]]:
    """Send `rate` jobs a second, whatever the answers; ids of those that were taken, and what the others heard."""
    accepted: list[str] = []
    refused: Counter[str] = Counter()
    channels = [grpc.aio.insecure_channel(address, options=[("grpc.channel_id", n)]) for n in range(CHANNELS)]
    stubs = [wire_grpc.JobServiceStub(channel) for channel in channels]

    async def ask(number: int) -> None:
        made = request(files[number % len(files)], number, steps)
        try:
            answer = await stubs[number % CHANNELS].CreateJob(made, timeout=30)
        except grpc.RpcError as error:
            told = typed(error, address)
            refused[f"{error.code().name}{' with RetryInfo' if told.retry_after is not None else ''}"] += 1
        else:
            accepted.append(answer.job.job_id)

    tasks, began = [], time.perf_counter()
    number = 0
    while (now := time.perf_counter() - began) < seconds:
        # As many as are due by now: a crowd does not wait because its members are slow.
        while number < rate * now:
            tasks.append(asyncio.create_task(ask(number)))
            number += 1
        await asyncio.sleep(0.005)
    await asyncio.gather(*tasks)
    for channel in channels:
        await channel.close(None)
    return accepted, refused


def all_ended(server: Server, ids: list[str]) -> dict[str, str]:
    """Job id -> state, once all are over."""
    wanted = set(ids)
    with server.client() as client:
        while True:
            states = {job.job_id: job.state for job in client.jobs.list()}
            if all(states.get(job_id, "succeeded") in OVER for job_id in wanted):
                return states
            time.sleep(0.5)


@contextmanager
def probing(server: Server, *calls: Callable[[Client], Any], pause: float = 0.05) -> Iterator[list[float]]:
    """Milliseconds of each of these calls, made over and over in a thread of their own."""
    waits: list[float] = []
    stop = threading.Event()

    def probe() -> None:
        with server.client() as client:
            while not stop.wait(pause):
                for call in calls:
                    began = time.perf_counter()
                    try:
                        call(client)
                        waits.append(1000 * (time.perf_counter() - began))
                    except LatentInvError:
                        waits.append(float("inf"))

    thread = threading.Thread(target=probe)
    thread.start()
    try:
        yield waits
    finally:
        stop.set()
        thread.join()


def percentile(values: list[float], share: float) -> float:
    """By the nearest value, so that a call that failed (infinite) is seen."""
    return float(np.percentile(values, share, method="higher"))


# ---- many watchers -------------------------------------------------------------------------------


def watch50(options: Options) -> list[Figure]:
    """Fifty watch one job; others ask for it and for the server's health meanwhile."""
    seconds, watchers = (3.0, 50) if options.quick else (20.0, 50)
    (file,) = pictures(1, options.seed)
    with serving("--threads", "1") as server, server.client() as client:
        arguments: dict[str, Any] = {"generator": "faces", "solver": Adam(), "initialiser": Seeds(), "steps": 1_000_000}
        job_id = client.jobs.create(file, **arguments).job_id
        seen = Counter[int]()

        async def watch(number: int, stub: wire_grpc.JobServiceStub) -> None:
            async for _ in stub.WatchJob(wire.WatchJobRequest(job_id=job_id)):
                seen[number] += 1

        async def all_watch() -> list[float]:
            channels = [grpc.aio.insecure_channel(server.address, options=[("grpc.channel_id", n)]) for n in range(10)]
            tasks = [
                asyncio.create_task(watch(number, wire_grpc.JobServiceStub(channels[number % 10])))
                for number in range(watchers)
            ]
            while len(seen) < watchers:
                await asyncio.sleep(0.05)
            with probing(server, lambda c: c.jobs.get(job_id), lambda c: c.healthy()) as waits:
                await asyncio.sleep(seconds)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for channel in channels:
                await channel.close(None)
            return waits

        waits = asyncio.run(all_watch())
        client.jobs.cancel(job_id)
        client.jobs.wait(job_id)
    detail = (
        f"{len(waits)} calls, median {statistics.median(waits):.1f} ms; {seen.total()} events to {watchers} watchers"
    )
    return [Figure("watch50_p95_ms", percentile(waits, 95), "ms", detail)]


# ---- lanes that fill while they run --------------------------------------------------------------


def batching(options: Options) -> list[Figure]:
    """Bulk jobs that come at random share lanes; against the same jobs one by one at width 1."""
    count, steps = (4, 10) if options.quick else (options.targets(32), 100)
    files = pictures(count, options.seed)
    chance = random.Random(options.seed)
    with serving("--max-jobs", "64") as server, server.client() as client:
        alone: list[float] = []
        client.jobs.wait(client.jobs.create(files[0], "faces", solver=Adam(), steps=2).job_id)
        client.jobs.wait(client.jobs.create(files[0], "faces", solver=Adam(), steps=2, priority="bulk").job_id)
        began = time.perf_counter()
        for number, file in enumerate(files):
            alone.append(done(client, client.jobs.create(file, **settled(number, steps, "interactive")).job_id))
        one_by_one = time.perf_counter() - began
        # All are there after a quarter of that time: they join lanes that run.
        arrivals = sorted(chance.uniform(0, one_by_one / 4) for _ in files)
        began, ids = time.perf_counter(), []
        for number, (file, when) in enumerate(zip(files, arrivals, strict=True)):
            time.sleep(max(0.0, began + when - time.perf_counter()))
            ids.append(client.jobs.create(file, **settled(number, steps, "bulk")).job_id)
        shared = [done(client, job_id) for job_id in ids]
        together = time.perf_counter() - began
    apart = statistics.median(shared) - statistics.median(alone)
    each = [one - other for one, other in zip(shared, alone, strict=True)]
    pairs = f"{statistics.mean(each):+.3f} ± {statistics.stdev(each) / math.sqrt(count):.3f} dB job by job"
    detail = f"{count} jobs of {steps} steps: {one_by_one:.0f} s and {together:.0f} s"
    return [
        Figure(
            "continuous_batching_gain", one_by_one / together, "×", f"{detail}, the last came at {arrivals[-1]:.0f} s"
        ),
        Figure(
            "continuous_batching_psnr_apart_db",
            abs(apart),
            "dB",
            f"medians, {statistics.median(alone):.2f} dB alone; together {pairs}",
        ),
    ]


def job(number: int, steps: int, priority: str) -> dict[str, Any]:
    """Arguments of one of the jobs."""
    settings: dict[str, Any] = {"solver": Adam(), "initialiser": Seeds(), "steps": steps}
    return {"generator": "faces", **settings, "seed": number, "priority": priority}


def settled(number: int, steps: int, priority: str) -> dict[str, Any]:
    """The same from the encoder, in steps that suit it. From a random start, or in steps as long as the prior is wide,
    rounding decides where it ends, and medians of 32 jobs lie up to half a decibel apart: no loss could be told.
    """
    near = {"initialiser": Encoder(), "solver": Adam(learning_rate=0.05)}
    return {**job(number, steps, priority), **near}


def done(client: Client, job_id: str) -> float:
    """PSNR of a job, once it is over."""
    ended = client.jobs.wait(job_id)
    if ended.result is None:
        raise RuntimeError(f"a job ended without a result: {ended.state}, {ended.error}")
    return ended.result.metrics.psnr_db


PARTS: dict[str, Callable[[Options], list[Figure]]] = {
    "overload": overload,
    "watch50": watch50,
    "streams": streams,
    "batching": batching,
}
