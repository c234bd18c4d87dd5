"""Many readers, slow readers, and limits."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import numpy as np
import pytest

from latent_inv.client import AsyncClient
from latent_inv.errors import ImageError, LatentInvError, LimitError, UnsupportedError
from latent_inv.images import Limits, encode_png
from latent_inv.result import Checkpoint, Event, Finished, JobResult, Preview, Progress
from latent_inv.spec import Reporting
from latent_inv.v1 import data_pb2, inversion_service_pb2, job_pb2
from latent_inv_server.app import Application
from latent_inv_server.config import ServerConfig
from latent_inv_server.feed import MAX_UNREAD, Feed
from tests.server.fake import PNG, FakeEngine, address, progress, serve, until


def preview(number: int) -> Preview:
    return Preview("job", number, number, np.zeros((2, 2, 3), np.uint8))


def read(feed: Feed) -> list[Event]:
    async def all_of_it() -> list[Event]:
        return [event async for event in feed.events()]

    return asyncio.run(asyncio.wait_for(all_of_it(), 10))


def test_a_reader_that_keeps_up_gets_all_in_order() -> None:
    feed = Feed()
    sent: list[Event] = [progress("job", 1), preview(2), progress("job", 3), Finished("job", 4)]
    for event in sent:
        feed.put(event)
    assert read(feed) == sent


def test_a_reader_that_is_behind_gets_the_newest_and_the_end() -> None:
    feed = Feed()
    for number in range(1, 10_000, 3):
        feed.put(progress("job", number))
        feed.put(preview(number + 1))
        feed.put(Checkpoint("job", number + 2, number, b""))
    feed.put(Finished("job", 10_002))
    events = read(feed)
    assert len(events) <= MAX_UNREAD + 2
    numbers = [event.sequence for event in events]
    assert numbers == sorted(numbers)
    assert [type(event) for event in events].count(Preview) == 1
    assert numbers[-3:] == [9_997, 9_998, 10_002]


def test_nothing_comes_after_the_end() -> None:
    feed = Feed()
    feed.put(Finished("job", 1))
    feed.put(progress("job", 2))
    assert [event.sequence for event in read(feed)] == [1]


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
    config = ServerConfig(port=0, max_jobs=2, grace_seconds=0)

    async def scenario(application: Application, client: AsyncClient) -> None:
        streams = [client.invert_stream(PNG, "forever") for _ in range(2)]
        await asyncio.gather(*(anext(stream) for stream in streams))
        with pytest.raises(LimitError, match="2 jobs") as caught:
            await client.invert(PNG, "steps")
        assert caught.value.retry_after is not None
        assert caught.value.field == ""
        assert len(engine.submitted) == 2
        await streams[0].aclose()
        await until(lambda: application.dispatcher.jobs == 1)
        assert (await client.invert(PNG, "steps", steps=2)).steps == 2
        await streams[1].aclose()

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
                await client.invert(noise_png(64), "steps")

    serve(engine, scenario)
    assert engine.submitted == []


def test_a_request_over_the_server_s_limit_is_refused() -> None:
    engine = FakeEngine()
    config = ServerConfig(port=0, max_message_bytes=2**16, grace_seconds=0)

    async def scenario(_: Application, client: AsyncClient) -> None:
        with pytest.raises(LimitError, match=r"65536.*--max-message-mb"):
            await client.invert(noise_png(256), "steps")

    serve(engine, scenario, config)
    assert engine.submitted == []


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


def test_detached_jobs_and_request_ids() -> None:
    spec = job_pb2.JobSpec(image=data_pb2.Image(encoded=PNG), generator="steps")

    async def scenario(_: Application, client: AsyncClient) -> None:
        for fields, status in (
            ({"detach": True}, "UNIMPLEMENTED"),
            ({"request_id": "../x"}, "INVALID_ARGUMENT"),
            ({"request_id": "x" * 129}, "INVALID_ARGUMENT"),
            ({"request_id": "my-request.1"}, "UNIMPLEMENTED"),
        ):
            request = inversion_service_pb2.InvertRequest(spec=spec, **fields)  # type: ignore[arg-type]
            with pytest.raises(LatentInvError) as caught, client._errors():
                async for _ in client._inversion.Invert(request):
                    pass
            assert (caught.value.status, caught.value.field) == (status, next(iter(fields)))
        # Nor are checkpoints kept, so they are not taken without a word.
        with pytest.raises(UnsupportedError) as refused:
            await client.invert(PNG, "steps", reporting=Reporting(checkpoint_steps=5))
        assert refused.value.field == "reporting.checkpoint_steps"
        kinds = [
            message.WhichOneof("event")
            async for message in client._inversion.Invert(inversion_service_pb2.InvertRequest(spec=spec))
        ]
        assert [kind for kind, _ in itertools.groupby(kinds)] == ["accepted", "progress", "result"]

    serve(FakeEngine(), scenario)
