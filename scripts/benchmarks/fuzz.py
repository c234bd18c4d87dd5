"""Requests that are nearly right, thousands for each service: taken or refused with a typed error, and never else."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import tempfile
import threading
import warnings
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import coverage
import grpc
import numpy as np
import psutil

from latent_inv.client import AsyncClient
from latent_inv.client.messages import typed
from latent_inv.engine.remote import ProcessEngine
from latent_inv.errors import LatentInvError
from latent_inv.spec import Adam, Seeds
from latent_inv_server.app import Application
from latent_inv_server.config import ServerConfig
from latent_inv_server.store.folder import open_store
from latent_inv_server.testing import running_server

from .figures import Figure, Options
from .fuzz_calls import GENERATOR, SIDE, Method, services
from .fuzz_decoders import decoders
from .fuzz_files import latents, pictures
from .fuzz_messages import spoil_bytes, spoil_one
from .streams import fill_pools

#: seconds after which a call that has said nothing counts as hanging
PATIENCE = 30.0
#: a real job after so many examples
EVERY = 200
AT_ONCE = 8
#: what no answer may be: it says that somebody did not think of this
BAD = ("UNKNOWN", "INTERNAL", "DEADLINE_EXCEEDED", "DATA_LOSS", "UNAVAILABLE")
#: whose branches are counted: all between wire and values, and what reads pictures and latents
COVERED = (
    "convert/*",
    *(f"images/{name}.py" for name in ("arrays", "colour", "decode", "load", "orientation", "sniff")),
    *(f"latents/{name}.py" for name in ("limits", "npy", "read", "safe")),
)


@dataclass
class Tally:
    """What was seen."""

    examples: Counter[str] = field(default_factory=Counter)
    but_one: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    unknown: list[str] = field(default_factory=list)


def fuzz(options: Options) -> list[Figure]:
    """All services and both decoders, with their branches counted."""
    count = 300 if options.quick else max(10_000, options.count or 0)
    watched = coverage.Coverage(branch=True, data_file=None, include=[f"*/latent_inv/{name}" for name in COVERED])
    watched.start()
    # What Pillow and torch say about spoilt files is theirs to say, and not what is looked for.
    warnings.simplefilter("ignore")
    try:
        tally, before, after = asyncio.run(_fuzz(options.seed, count))
        decode_files(options.seed, count, tally)
    finally:
        watched.stop()
        warnings.resetwarnings()
    share, detail = branches(watched)
    fewest, which = min((tally.examples[name], name) for name in tally.examples)
    least = min(tally.but_one[name] / tally.examples[name] for name in tally.but_one)
    codes = ", ".join(f"{code} {number}" for code, number in tally.codes.most_common())
    for text in tally.unknown[:20]:
        print(f"    not typed: {text}", flush=True)
    return [
        Figure("fuzz_examples", fewest, "", f"the fewest, of {which}; in all {tally.examples.total()}: {codes}"),
        Figure("fuzz_valid_but_one", least, "", "least share of a service's requests that are right up to one field"),
        Figure("fuzz_branch_coverage", share, "", detail),
        Figure("fuzz_unknown", len(tally.unknown), "", f"UNKNOWN, INTERNAL, crash or hang; {growth(before, after)}"),
    ]


# ---- sending -------------------------------------------------------------------------------------


async def _fuzz(seed: int, count: int) -> tuple[Tally, tuple[int, ...], tuple[int, ...]]:
    tally, contents = Tally(), [*pictures(seed), *latents(seed)]
    config = ServerConfig(port=0, grace_seconds=0, max_queued=100_000, max_jobs=8, max_requests=1000)
    engine = await asyncio.to_thread(ProcessEngine, "cpu", 1, catalogue="tests.toy:TOYS")
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        async with running_server(engine, config, open_store(Path(name))) as application:
            address = f"127.0.0.1:{application.port}"
            async with grpc.aio.insecure_channel(address) as channel, AsyncClient(address) as client:
                everything = services(seed)
                await fill_pools(channel)
                for service, methods in everything.items():
                    await _examples(
                        channel, client, application, methods, random.Random(seed), 400, Tally(), contents, service
                    )
                before = await _now()
                for service, methods in everything.items():
                    chance = random.Random(f"{seed} {service}")
                    await _examples(channel, client, application, methods, chance, count, tally, contents, service)
                    print(f"    {service}: {tally.examples[service]} examples", flush=True)
                after = await _now()
    return tally, before, after


async def _examples(
    channel: grpc.aio.Channel,
    client: AsyncClient,
    application: Application,
    methods: list[Method],
    chance: random.Random,
    count: int,
    tally: Tally,
    contents: list[bytes],
    service: str,
) -> None:
    numbers, alone = iter(range(count)), asyncio.Lock()

    async def some() -> None:
        for number in numbers:
            method = chance.choice(methods)
            messages = chance.choice(method.good)
            kind = chance.random()
            tally.examples[service] += 1
            if kind < 0.6:
                spoilt = list(messages)
                place = chance.randrange(len(messages))
                spoilt[place] = spoil_one(messages[place], chance, contents)
                tally.but_one[service] += 1
            elif kind < 0.75:
                spoilt = [spoil_one(spoil_one(message, chance, contents), chance, contents) for message in messages]
                chance.shuffle(spoilt)
            else:
                spoilt = []
            data = [message.SerializeToString() for message in spoilt]
            if not data:
                data = [spoil_bytes(message.SerializeToString(), chance) for message in messages]
            text = await _send(channel, method, data)
            tally.codes[text.partition(" ")[0]] += 1
            if text.startswith(("!", *BAD)):
                tally.unknown.append(f"{method.path}: {text[:200]}; {data[0][-80:]!r}")
            if number % EVERY == EVERY - 1:
                async with alone:
                    await _clear(client)
                    await _real_job(client, tally)

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))
    await _clear(client)
    while application.jobs.unfinished:
        await asyncio.sleep(0.05)


async def _send(channel: grpc.aio.Channel, method: Method, data: list[bytes]) -> str:
    """The code of what came back; beginning with "!" if nothing typed came, or what came cannot be read."""
    kind = f"{'stream' if method.sends else 'unary'}_{'stream' if method.receives else 'unary'}"
    call = getattr(channel, kind)(method.path, response_deserializer=method.answer.FromString)

    async def parts() -> AsyncIterator[bytes]:
        for part in data:
            yield part

    sent = call(parts() if method.sends else data[0], timeout=PATIENCE)
    try:
        if method.receives:
            # A few are enough: a job may go on for hours.
            # The first says that it was taken; a job may go on for hours.
            async for answer in sent:
                method.read(answer)
                break
        else:
            method.read(await sent)
    except grpc.RpcError as error:
        told = typed(error, "here")
        return error.code().name if isinstance(told, LatentInvError) else f"! {told}"
    except asyncio.CancelledError:
        return "CANCELLED"
    except LatentInvError as error:
        return f"! an answer that cannot be read: {error}"
    except Exception as error:
        return f"! {type(error).__name__}: {error}"
    finally:
        sent.cancel()
    return "OK"


async def _clear(client: AsyncClient) -> None:
    """What was taken may go on for ever."""
    async for job in client.jobs.list(("queued", "running")):
        await client.jobs.cancel(job.job_id)


async def _real_job(client: AsyncClient, tally: Tally) -> None:
    try:
        pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
        await client.invert(pixels, GENERATOR, solver=Adam(), initialiser=Seeds(), steps=1, timeout=2 * PATIENCE)
    except LatentInvError as error:
        tally.unknown.append(f"a real job: {error}")


def decode_files(seed: int, count: int, tally: Tally) -> None:
    """The decoders by themselves, with files that are whole and that are spoilt."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        for kind, (example, read) in decoders(seed, Path(name)).items():
            chance = random.Random(f"{seed} {kind}")
            for number in range(count):
                data = example(number, chance)
                tally.examples[kind] += 1
                try:
                    read(data, chance)
                    tally.codes["OK"] += 1
                except LatentInvError as error:
                    tally.codes[error.status] += 1
                except Exception as error:
                    tally.unknown.append(f"{kind}: {type(error).__name__}: {error}; {data[:60]!r}")
            print(f"    {kind}: {tally.examples[kind]} examples", flush=True)


# ---- what is measured ----------------------------------------------------------------------------


def branches(watched: coverage.Coverage) -> tuple[float, str]:
    """Share of branches that were taken, and of each part."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "coverage.json"
        watched.json_report(outfile=str(path))
        report = json.loads(path.read_text())
    taken: Counter[str] = Counter()
    there: Counter[str] = Counter()
    for file, found in report["files"].items():
        part = Path(file).parent.name
        taken[part] += found["summary"]["covered_branches"]
        there[part] += found["summary"]["num_branches"]
        missing = found["missing_branches"]
        if missing:
            print(f"    not taken in {Path(file).parent.name}/{Path(file).name}: {missing}", flush=True)
    detail = ", ".join(f"{part} {taken[part]}/{there[part]}" for part in there)
    return taken.total() / there.total(), detail


async def _now() -> tuple[int, ...]:
    """Tasks, threads, descriptors and MiB of this process, which is gateway and client, once it is quiet."""
    for _ in range(20):
        gc.collect()
        await asyncio.sleep(0.1)
    process = psutil.Process()
    memory = process.memory_info().rss // 2**20
    return len(asyncio.all_tasks()), threading.active_count(), process.num_fds(), memory


def growth(before: tuple[int, ...], after: tuple[int, ...]) -> str:
    """In words."""
    names = ("tasks", "threads", "descriptors", "MiB")
    return ", ".join(f"{name} {a} → {b}" for name, a, b in zip(names, before, after, strict=True))
