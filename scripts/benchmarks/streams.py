"""Streams that are opened and left, in every way: what is still there afterwards?"""

from __future__ import annotations

import asyncio
import gc
import random
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc
import psutil

from latent_inv.client.messages import create_request
from latent_inv.engine.remote import ProcessEngine
from latent_inv.spec import Adam, Seeds
from latent_inv.v1 import artifact_service_pb2 as files
from latent_inv.v1 import artifact_service_pb2_grpc as files_grpc
from latent_inv.v1 import inversion_service_pb2 as inversions
from latent_inv.v1 import inversion_service_pb2_grpc as inversions_grpc
from latent_inv.v1 import job_service_pb2 as jobs
from latent_inv.v1 import job_service_pb2_grpc as jobs_grpc
from latent_inv_server.app import Application
from latent_inv_server.config import ServerConfig
from latent_inv_server.store.folder import open_store
from latent_inv_server.testing import running_server

from .figures import Figure, Options

#: open at a time
AT_ONCE = 20
#: bytes of what is downloaded, and of what is uploaded by halves
SIZE = 2**20

Way = Callable[[], Awaitable[None]]


def streams(options: Options) -> list[Figure]:
    """Watches, inversions, uploads and downloads that are cancelled at random moments."""
    return asyncio.run(_streams(options))


async def _streams(options: Options) -> list[Figure]:
    wanted = 60 if options.quick else 2000
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="load-") as name:
        config = ServerConfig(port=0, grace_seconds=0, max_jobs=64)
        engine = await asyncio.to_thread(ProcessEngine, "cpu", 1, catalogue="latent_inv.generators:GENERATORS")
        async with running_server(engine, config, open_store(Path(name))) as application:
            address = f"127.0.0.1:{application.port}"
            async with grpc.aio.insecure_channel(address) as channel:
                ways = await _ways(channel, options.seed)
                # Pools of threads and connections fill first, and allocators take what they will keep.
                await fill_pools(channel)
                await _burst(ways)
                await _cancel(ways, chance, wanted // 4)
                await _quiet(application)
                before = _now()
                await _cancel(ways, chance, wanted)
                await _quiet(application)
                after = _now()
    leaks = sum(max(0, late - early) for early, late in zip(before[:3], after[:3], strict=True))
    detail = ", ".join(
        f"{what} {early} → {late}"
        for what, early, late in zip(("tasks", "threads", "descriptors"), before, after, strict=False)
    )
    return [
        Figure("streams_cancelled", wanted, "", f"{AT_ONCE} at once: watches, inversions, uploads, downloads"),
        Figure("stream_leaks", leaks, "", detail),
        Figure("stream_rss_growth", after[3] / before[3], "×", f"gateway and client, from {before[3] / 1e6:.0f} MB"),
    ]


async def fill_pools(channel: grpc.aio.Channel) -> None:
    """So many short calls at once that a server has all the threads and connections that it will ever have."""
    stub, loop = jobs_grpc.JobServiceStub(channel), asyncio.get_running_loop()
    for _ in range(5):
        await asyncio.gather(*(stub.ListJobs(jobs.ListJobsRequest()) for _ in range(200)))
    # The loop is the server's too: whatever it gives to its own threads, it has them now.
    await asyncio.gather(*(loop.run_in_executor(None, time.sleep, 0.1) for _ in range(100)))


async def _ways(channel: grpc.aio.Channel, seed: int) -> list[Callable[[], grpc.aio.Call]]:
    """Streams to open. There is one job that runs for ever, and one file to download."""
    import numpy as np

    from latent_inv.images import encode_png

    jobs_stub, files_stub = jobs_grpc.JobServiceStub(channel), files_grpc.ArtifactServiceStub(channel)
    invert_stub = inversions_grpc.InversionServiceStub(channel)
    picture = encode_png(np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    settings = {"solver": Adam(), "initialiser": Seeds(), "steps": 1_000_000}
    made = create_request(picture, "faces", settings, request_id="", labels=None)
    job_id = (await jobs_stub.CreateJob(made)).job.job_id
    content = np.random.default_rng(seed).bytes(SIZE)
    sha256 = _hash(content)

    async def upload(sha: str, parts: int) -> AsyncIterator[files.UploadArtifactRequest]:
        yield files.UploadArtifactRequest(header=files.UploadArtifactHeader(sha256=sha, size=SIZE))
        step = SIZE // 4
        for part in range(parts):
            yield files.UploadArtifactRequest(chunk=content[part * step : (part + 1) * step])
        if parts < 4:
            await asyncio.sleep(60)

    await files_stub.UploadArtifact(upload(sha256, 4))
    inversion = inversions.InvertRequest(spec=made.spec)
    return [
        lambda: jobs_stub.WatchJob(jobs.WatchJobRequest(job_id=job_id)),
        lambda: invert_stub.Invert(inversion),
        lambda: files_stub.DownloadArtifact(files.DownloadArtifactRequest(sha256=sha256)),
        lambda: files_stub.UploadArtifact(upload("ab" * 32, 2)),
    ]


async def _burst(ways: list[Callable[[], grpc.aio.Call]]) -> None:
    """Many of each at once, for as long as the server takes to order them all."""
    calls = [way() for way in ways for _ in range(3 * AT_ONCE)]
    await asyncio.sleep(3)
    for call in calls:
        call.cancel()
    await asyncio.gather(*(call.code() for call in calls))


async def _cancel(ways: list[Callable[[], grpc.aio.Call]], chance: random.Random, count: int) -> None:
    left = iter(range(count))

    async def some() -> None:
        for number in left:
            call = ways[number % len(ways)]()
            await asyncio.sleep(chance.choice((0.0, 0.001, 0.02, 0.1)))
            if hasattr(call, "read") and chance.random() < 0.5:
                await asyncio.wait([asyncio.ensure_future(call.read())], timeout=0.05)
            call.cancel()
            await asyncio.wait([asyncio.ensure_future(call.code())])
            if number % 200 == 199:
                print(f"    {number + 1:5}/{count}", flush=True)

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))


async def _quiet(application: Application) -> None:
    """Until all but the one job that runs for ever is over, and what was cancelled is away."""
    while application.jobs.unfinished > 1:
        await asyncio.sleep(0.05)
    for _ in range(20):
        gc.collect()
        await asyncio.sleep(0.1)


def _now() -> tuple[int, int, int, int]:
    """Tasks, threads, descriptors and resident bytes of this process, which is gateway and client."""
    process = psutil.Process()
    gc.collect()
    return len(asyncio.all_tasks()), threading.active_count(), process.num_fds(), process.memory_info().rss


def _hash(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()
