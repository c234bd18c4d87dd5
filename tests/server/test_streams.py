"""Many readers, slow readers, and limits."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from latent_inv.client import AsyncClient
from latent_inv.errors import ImageError, LatentInvError, LimitError
from latent_inv.images import Limits, encode_png
from latent_inv.result import JobResult, Progress
from latent_inv_server.app import Application
from latent_inv_server.config import ServerConfig
from tests.server.fake import PNG, FakeEngine, address, serve, until


def test_a_flood_is_merged_on_its_way() -> None:
    """Three thousand events at once, to a reader that takes its time."""

    async def scenario(application: Application, client: AsyncClient) -> None:
        numbers: list[int] = []
        async for event in client.invert_stream(PNG, "flood"):
            assert not isinstance(event, JobResult)
            numbers.append(event.sequence)
            if event.sequence > 3000:
                break
            await asyncio.sleep(0.002)
        assert numbers == sorted(set(numbers))
        assert len(numbers) < 2000, "old ones were dropped"

    serve(FakeEngine(), scenario)


def test_fifty_streams_and_others_are_still_answered() -> None:
    engine = FakeEngine()

    async def scenario(application: Application, client: AsyncClient) -> None:
        streams = [client.invert_stream(PNG, "forever") for _ in range(50)]
        await asyncio.gather(*(anext(stream) for stream in streams))
        assert engine.running == 50
        # One of them is never read again; the others go on, and other calls are answered.
        for _ in range(5):
            later = await asyncio.gather(*(anext(stream) for stream in streams[1:]))
            assert all(isinstance(event, Progress) for event in later)
            assert await client.healthy()
            assert (await client.generator("steps")).name == "steps"
        await asyncio.gather(*(stream.aclose() for stream in streams))
        await until(lambda: engine.running == 0)

    serve(engine, scenario)


def test_progress_never_goes_back_and_the_result_is_last() -> None:
    async def scenario(_: Application, client: AsyncClient) -> None:
        events = [event async for event in client.invert_stream(PNG, "steps", steps=300)]
        assert isinstance(events[-1], JobResult)
        numbers = [event.sequence for event in events[:-1] if not isinstance(event, JobResult)]
        assert len(numbers) == len(events) - 1
        assert numbers == sorted(set(numbers))
        assert numbers[-1] == 300

    serve(FakeEngine(), scenario)


def test_too_many_jobs_are_refused_with_a_time_to_try_again() -> None:
    engine = FakeEngine()
    config = ServerConfig(port=0, max_jobs=2, max_queued=1, grace_seconds=0)

    async def scenario(application: Application, client: AsyncClient) -> None:
        streams = [client.invert_stream(PNG, "forever") for _ in range(2)]
        await asyncio.gather(*(anext(stream) for stream in streams))
        waiting = asyncio.create_task(client.invert(PNG, "steps", steps=2))
        await until(lambda: application.jobs.queued == 1)
        with pytest.raises(LimitError, match="1 jobs are waiting") as caught:
            await client.invert(PNG, "steps")
        assert caught.value.retry_after is not None
        assert caught.value.field == ""
        assert len(engine.jobs) == 2
        await streams[0].aclose()
        assert (await waiting).steps == 2
        assert (await client.invert(PNG, "steps", steps=3)).steps == 3
        await streams[1].aclose()

    serve(engine, scenario, config)


def test_requests_have_a_limit_of_their_own() -> None:
    engine = FakeEngine()
    config = ServerConfig(port=0, max_requests=3, grace_seconds=0)

    async def scenario(application: Application, client: AsyncClient) -> None:
        # As many as are let in wait for an engine that decides on nothing; jobs are taken all the same.
        waiting = [asyncio.create_task(client.sample(1, "blocked")) for _ in range(3)]
        await until(lambda: application.dispatcher.requests == 3)
        with pytest.raises(LimitError, match="3 requests") as caught:
            await client.sample(1, "steps")
        assert caught.value.retry_after is not None
        assert (await client.invert(PNG, "steps", steps=2)).steps == 2
        waiting[0].cancel()
        await asyncio.gather(waiting[0], return_exceptions=True)
        assert application.dispatcher.requests == 3, "it counts until the engine has decided"
        engine.gate.set()
        await asyncio.gather(*waiting[1:])
        await until(lambda: application.dispatcher.requests == 0)
        assert (await client.sample(7, "steps")).seeds == (7,)

    serve(engine, scenario, config)


def test_too_many_calls_are_refused_at_once() -> None:
    config = ServerConfig(port=0, max_streams=3, grace_seconds=0)

    async def scenario(_: Application, client: AsyncClient) -> None:
        streams = [client.invert_stream(PNG, "forever") for _ in range(3)]
        await asyncio.gather(*(anext(stream) for stream in streams))
        with pytest.raises(LimitError):
            await client.generators()
        await asyncio.gather(*(stream.aclose() for stream in streams))

    serve(FakeEngine(), scenario, config)


# ---- sizes -------------------------------------------------------------------------------------


def noise_png(side: int) -> bytes:
    """A PNG of about 3 · side² bytes."""
    return encode_png(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8), level=1)


def test_six_megabytes_there_and_four_back() -> None:
    picture = noise_png(1450)
    assert len(picture) > 6 * 2**20

    async def scenario(_: Application, client: AsyncClient) -> None:
        result = await client.invert(picture, "huge", steps=1)
        # 1450² floats of the target alone
        assert result.target.pixels.nbytes > 4 * 2**20

    serve(FakeEngine(), scenario)


def test_a_request_over_the_limit_is_not_sent() -> None:
    engine = FakeEngine()

    async def scenario(application: Application, _: AsyncClient) -> None:
        async with AsyncClient(address(application), max_message_bytes=1000) as client:
            with pytest.raises(LimitError, match=r"at most 1000 .*max_message_bytes"):
                await client.invert(np.zeros((64, 64, 3), np.uint8), "steps")

    serve(engine, scenario)
    assert engine.jobs == []


def test_a_request_over_the_server_s_limit_is_refused() -> None:
    engine = FakeEngine()
    config = ServerConfig(port=0, max_message_bytes=2**16, grace_seconds=0)

    async def scenario(_: Application, client: AsyncClient) -> None:
        with pytest.raises(LimitError, match=r"65536.*--max-message-mb"):
            await client.invert(noise_png(256), "steps")

    serve(engine, scenario, config)
    assert engine.jobs == []


def test_an_answer_over_the_server_s_limit_says_what_to_do() -> None:
    config = ServerConfig(port=0, max_message_bytes=2**20, grace_seconds=0)

    async def scenario(_: Application, client: AsyncClient) -> None:
        with pytest.raises(LimitError, match=r"the answer has \d+ bytes, at most 1048576"):
            await client.invert(PNG, "huge", steps=1)
        with pytest.raises(LimitError, match="the answer has"):
            await client.sample(tuple(range(64)), "steps", height=64, width=64)
        assert (await client.sample(7, "steps")).seeds == (7,)

    serve(FakeEngine(), scenario, config)


def test_an_answer_over_the_client_s_limit_says_what_to_do() -> None:
    async def scenario(application: Application, _: AsyncClient) -> None:
        async with AsyncClient(address(application), max_message_bytes=2**16) as client:
            with pytest.raises(LimitError, match="max_message_bytes"):
                await client.invert(PNG, "huge", steps=1)

    serve(FakeEngine(), scenario)


def test_pixels_are_counted_before_they_are_decoded() -> None:
    config = ServerConfig(port=0, image_limits=Limits(max_pixels=100), grace_seconds=0)

    async def scenario(_: Application, client: AsyncClient) -> None:
        with pytest.raises(LimitError, match="at most 100 pixels") as caught:
            await client.invert(noise_png(11), "steps")
        assert caught.value.field == "image"

    serve(FakeEngine(), scenario, config)


def test_millions_of_seeds_are_counted_before_they_are_read() -> None:
    from latent_inv.v1 import generator_service_pb2

    request = generator_service_pb2.SampleRequest(seeds=[0] * 1_000_000, generator="steps")

    async def scenario(_: Application, client: AsyncClient) -> None:
        with pytest.raises(LatentInvError, match="1 to 64 seeds"), client._errors():
            await client._generators.Sample(request)

    serve(FakeEngine(), scenario)


def test_a_damaged_picture_and_then_a_whole_one(tmp_path: Path) -> None:
    whole = noise_png(64)
    (tmp_path / "half.png").write_bytes(whole[: len(whole) * 6 // 10])

    async def scenario(_: Application, client: AsyncClient) -> None:
        with pytest.raises(ImageError, match="truncated") as caught:
            await client.invert(tmp_path / "half.png", "steps")
        assert caught.value.field == "image"
        assert (await client.invert(whole, "steps", steps=1)).outcome.good

    serve(FakeEngine(), scenario)
