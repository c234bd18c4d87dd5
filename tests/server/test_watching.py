"""What readers are told: in order, in bounded memory, and always the end."""

from __future__ import annotations

import asyncio
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latent_inv.errors import UnavailableError
from latent_inv.result import Preview
from latent_inv.v1 import job_pb2
from latent_inv_server.store.records import JobRecord, JobState
from latent_inv_server.watching import MAX_UNREAD, Feed, History, LazyPng, Told, ToldEnd, ToldPreview, ToldProgress

RECORD = JobRecord("job", "local", "", "", JobState.succeeded, b"", "", False, 0.0)


def progress(number: int) -> ToldProgress:
    return ToldProgress(number, b"")


def preview(number: int) -> ToldPreview:
    return ToldPreview(number, LazyPng(Preview("job", number, number, np.zeros((2, 2, 3), np.uint8))))


def end(number: int) -> ToldEnd:
    return ToldEnd(number, RECORD)


def read(feed: Feed) -> list[Told]:
    async def all_of_it() -> list[Told]:
        return [told async for told in feed.told()]

    return asyncio.run(asyncio.wait_for(all_of_it(), 10))


def test_a_reader_that_keeps_up_gets_all_in_order() -> None:
    feed = Feed()
    sent: list[Told] = [progress(1), preview(2), progress(3), end(4)]
    for told in sent:
        feed.put(told)
    assert read(feed) == sent


def test_a_reader_that_is_behind_gets_the_newest_and_the_end() -> None:
    feed = Feed()
    for number in range(1, 10_000, 2):
        feed.put(progress(number))
        feed.put(preview(number + 1))
    feed.put(end(10_001))
    told = read(feed)
    assert len(told) <= MAX_UNREAD + 2
    numbers = [each.sequence for each in told]
    assert numbers == sorted(numbers)
    assert [type(each) for each in told].count(ToldPreview) == 1
    assert numbers[-3:] == [9_999, 10_000, 10_001]


def test_nothing_comes_after_the_end() -> None:
    feed = Feed()
    feed.put(end(1))
    feed.put(progress(2))
    assert [told.sequence for told in read(feed)] == [1]


def test_who_comes_late_gets_history_first() -> None:
    feed = Feed([progress(1), progress(2)])
    feed.put(progress(3))
    feed.put(end(4))
    assert [told.sequence for told in read(feed)] == [1, 2, 3, 4]


def test_one_that_is_broken_off_tells_what_is_unread_and_why() -> None:
    feed = Feed()
    feed.put(progress(1))
    feed.break_off(UnavailableError("stopping"))

    async def all_of_it() -> list[int]:
        telling = feed.told()
        numbers = [(await anext(telling)).sequence]
        with pytest.raises(UnavailableError, match="stopping"):
            await anext(telling)
        return numbers

    assert asyncio.run(all_of_it()) == [1]
    ended = Feed()
    ended.put(end(1))
    ended.break_off(UnavailableError("stopping"))
    assert [told.sequence for told in read(ended)] == [1], "the end counts for more"


def test_a_preview_is_encoded_once_and_outlives_a_reader_that_leaves() -> None:
    calls = 0
    gate = asyncio.Event()

    async def in_thread(function: object) -> job_pb2.Preview:
        nonlocal calls
        calls += 1
        await gate.wait()
        return function()  # type: ignore[operator]

    async def scenario() -> None:
        picture = preview(1).picture
        readers = [asyncio.create_task(picture.message(in_thread)) for _ in range(3)]
        await asyncio.sleep(0)
        readers[0].cancel()
        gate.set()
        done = await asyncio.gather(*readers, return_exceptions=True)
        assert isinstance(done[0], asyncio.CancelledError)
        assert done[1] is done[2]
        assert done[1].png.startswith(b"\x89PNG")  # type: ignore[union-attr]
        assert calls == 1

    asyncio.run(scenario())


@given(count=st.integers(0, 300), most=st.integers(2, 20), after=st.integers(0, 300))
def test_history_is_bounded_even_and_knows_the_newest(count: int, most: int, after: int) -> None:
    history = History(most)
    for number in range(1, count + 1):
        history.add(progress(number))
    numbers = [told.sequence for told in history.after(0)]
    assert len(numbers) <= most + 1
    assert numbers == sorted(set(numbers))
    if count:
        assert numbers[0] == 1
        assert numbers[-1] == count
        gaps = {later - earlier for earlier, later in itertools.pairwise(numbers[:-1])}
        assert len(gaps) <= 1, "evenly thinned"
    assert [told.sequence for told in history.after(after)] == [number for number in numbers if number > after]
