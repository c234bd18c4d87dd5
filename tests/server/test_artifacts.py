"""Files over the wire: in pieces, resumed, checked, each client's own, and kept for the jobs that need them."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from latent_inv.client import Artifact, AsyncClient
from latent_inv.errors import (
    AlreadyExistsError,
    ImageError,
    InputError,
    LatentInvError,
    LimitError,
    NotFoundError,
    SpecError,
    StateError,
)
from latent_inv.images import Limits, encode_png, load
from latent_inv.latents import load_latents
from latent_inv.result import Outcome
from latent_inv.spec import EncodeSpec, JobSpec
from latent_inv.v1 import artifact_service_pb2 as wire
from latent_inv.v1 import data_pb2, job_pb2
from latent_inv_server.app import Application
from latent_inv_server.artifacts import MAX_CHUNK
from latent_inv_server.config import MIB, ServerConfig
from latent_inv_server.door.token_edit import add_client
from latent_inv_server.outputs import result_files
from latent_inv_server.store.folder import Store, open_store
from latent_inv_server.store.retention import retention
from tests.server.fake import PNG, FakeEngine, address, result, serve, until

CONTENT = np.random.default_rng(1).integers(0, 256, 100_000, np.uint8).tobytes()
NAME = hashlib.sha256(CONTENT).hexdigest()
NOTHING = "0" * 64


def header(content: bytes = CONTENT, **fields: Any) -> wire.UploadArtifactRequest:
    known = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "content_type": "image/png"}
    return wire.UploadArtifactRequest(header=wire.UploadArtifactHeader(**(known | fields)))


def chunk(data: bytes) -> wire.UploadArtifactRequest:
    return wire.UploadArtifactRequest(chunk=data)


def pieces(content: bytes, offset: int = 0, size: int = 30_000) -> Iterator[wire.UploadArtifactRequest]:
    for begin in range(offset, len(content), size):
        yield chunk(content[begin : begin + size])


async def send(client: AsyncClient, *messages: wire.UploadArtifactRequest) -> wire.Artifact:
    """One line of an upload, message by message."""
    with client._errors():
        return (await client.artifacts._stub.UploadArtifact(iter(messages))).artifact


async def broken_line(client: AsyncClient, *messages: wire.UploadArtifactRequest) -> None:
    """A line that breaks once the server has what was sent."""
    call = client.artifacts._stub.UploadArtifact()
    for message in messages:
        await call.write(message)
    total = sum(len(message.chunk) for message in messages)
    sha256, offset = messages[0].header.sha256, messages[0].header.offset
    while (found := await look(client, sha256)) is None or found.received < offset + total:
        await asyncio.sleep(0.005)
    call.cancel()


async def look(client: AsyncClient, sha256: str) -> Artifact | None:
    try:
        return await client.artifacts.get(sha256)
    except NotFoundError:
        return None


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "data") as opened:
        yield opened


# ---- up --------------------------------------------------------------------------------------------


def test_a_file_goes_up_and_comes_down(store: Store) -> None:
    async def scenario(_: Application, client: AsyncClient) -> None:
        sent = await send(client, header(), *pieces(CONTENT))
        assert (sent.sha256, sent.size, sent.received, sent.content_type, sent.complete) == (
            *(NAME, 100_000, 100_000, "image/png", True),
        )
        assert await client.artifacts.download(NAME) == CONTENT
        # Once more: answered at once, though nothing is sent.
        assert (await send(client, header())).complete

    serve(FakeEngine(), scenario, store=store)


def test_a_broken_upload_goes_on_where_it_was(store: Store) -> None:
    async def scenario(_: Application, client: AsyncClient) -> None:
        await broken_line(client, header(), chunk(CONTENT[:40_000]))
        there = await client.artifacts.get(NAME)
        assert (there.received, there.complete, there.size) == (40_000, False, 100_000)
        with pytest.raises(StateError, match="40000 of its 100000 bytes were uploaded"):
            await client.artifacts.download(NAME)
        # A line that ends too early keeps what it brought, too.
        with pytest.raises(StateError, match="60000 of 100000 bytes are here"):
            await send(client, header(offset=40_000), chunk(CONTENT[40_000:60_000]))
        # Nor may a line begin behind what is here; one that overlaps it may.
        with pytest.raises(StateError, match="60000 bytes are here") as caught:
            await send(client, header(offset=60_001), chunk(CONTENT[60_001:]))
        assert caught.value.field == "header.offset"
        assert (await send(client, header(offset=50_000), *pieces(CONTENT, 50_000))).complete
        assert await client.artifacts.download(NAME) == CONTENT

    serve(FakeEngine(), scenario, store=store)


def test_an_upload_goes_on_after_a_restart(tmp_path: Path) -> None:
    async def first(_: Application, client: AsyncClient) -> None:
        await broken_line(client, header(), chunk(CONTENT[:40_000]))

    async def second(_: Application, client: AsyncClient) -> None:
        assert (await client.artifacts.get(NAME)).received == 40_000
        assert (await send(client, header(offset=40_000), *pieces(CONTENT, 40_000))).complete

    serve(FakeEngine(), first, store=open_store(tmp_path))
    serve(FakeEngine(), second, store=open_store(tmp_path))


def test_two_lines_with_one_file(store: Store) -> None:
    """Each brings all of it, in turns; both are answered, and it is there once."""

    async def scenario(_: Application, client: AsyncClient) -> None:
        turns = asyncio.Condition()
        sent = [0, 0]

        async def line(own: int) -> AsyncIterator[wire.UploadArtifactRequest]:
            yield header()
            for message in pieces(CONTENT, size=5_000):
                async with turns:
                    await turns.wait_for(lambda: sent[own] <= sent[1 - own] or sent[1 - own] == len(CONTENT))
                    sent[own] += len(message.chunk)
                    turns.notify_all()
                yield message

        with client._errors():
            lines = [client.artifacts._stub.UploadArtifact(line(own)) for own in (0, 1)]
            first, second = [(await each).artifact for each in lines]
        assert first == second
        assert first.complete
        assert await client.artifacts.download(NAME) == CONTENT
        assert [each.sha256 async for each in client.artifacts.list()] == [NAME]

    serve(FakeEngine(), scenario, store=store)


def test_content_of_another_hash_is_forgotten(store: Store) -> None:
    async def scenario(_: Application, client: AsyncClient) -> None:
        wrong = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
        with pytest.raises(InputError, match=f"{NAME} was announced") as caught:
            await send(client, header(), *pieces(wrong))
        assert caught.value.field == "sha256"
        assert await look(client, NAME) is None
        assert (await send(client, header(), *pieces(CONTENT))).complete

    serve(FakeEngine(), scenario, store=store)


BAD_UPLOADS: dict[str, tuple[list[wire.UploadArtifactRequest], type[LatentInvError], str]] = {
    "nothing": ([], InputError, "header"),
    "no part": ([wire.UploadArtifactRequest()], InputError, "header"),
    "a chunk first": ([chunk(b"a"), header()], InputError, "header"),
    "a header twice": ([header(), chunk(b"a"), header()], InputError, "header"),
    "an empty message": ([header(), wire.UploadArtifactRequest()], InputError, "chunk"),
    "an empty chunk": ([header(), chunk(b"")], InputError, "chunk"),
    "a large chunk": ([header(bytes(2 * MAX_CHUNK)), chunk(bytes(MAX_CHUNK + 1))], LimitError, "chunk"),
    "too many bytes": ([header(size=10), chunk(b"a" * 11)], InputError, "size"),
    "no size": ([header(size=0)], SpecError, "size"),
    "a size below zero": ([header(size=-1)], SpecError, "size"),
    "an offset below zero": ([header(offset=-1)], InputError, "header.offset"),
    "an offset behind all": ([header(offset=10**6)], StateError, "header.offset"),
    "no hash": ([header(sha256="")], SpecError, "sha256"),
    "capital letters": ([header(sha256="A" * 64)], SpecError, "sha256"),
    "a path": ([header(sha256="../../etc/passwd")], SpecError, "sha256"),
    "a type of two lines": ([header(content_type="a\nb")], SpecError, "content_type"),
    "a long type": ([header(content_type="a" * 256)], SpecError, "content_type"),
    "more than a client may have": ([header(size=2**62)], LimitError, ""),
}


@pytest.mark.parametrize("name", BAD_UPLOADS)
def test_uploads_that_are_none(name: str, store: Store) -> None:
    messages, kind, field = BAD_UPLOADS[name]

    async def scenario(_: Application, client: AsyncClient) -> None:
        with pytest.raises(kind) as caught:
            await send(client, *messages)
        assert type(caught.value) is kind
        assert caught.value.field == field
        assert caught.value.retry_after is None, "it will not be taken later, either"

    serve(FakeEngine(), scenario, store=store)
    assert not [path for path in (store.folder / "blobs").rglob("*") if path.is_file()]


def test_quotas_of_bytes(tmp_path: Path) -> None:
    """What was announced counts, finished or not; what is deleted does not."""
    config = ServerConfig(port=0, grace_seconds=0, max_upload_mb=1)

    async def scenario(_: Application, client: AsyncClient) -> None:
        first = await client.artifacts.upload(bytes(MIB // 2))
        with pytest.raises(LimitError, match=f"at most {MIB} of yours") as caught:
            await client.artifacts.upload(b"a" * (MIB // 2 + 1))
        assert caught.value.retry_after is not None
        with pytest.raises(StateError):
            await send(client, header(CONTENT[:1000], size=MIB // 2), chunk(b"a"))
        with pytest.raises(LimitError):
            await client.artifacts.upload(b"a")
        await client.artifacts.delete(first)
        assert (await client.artifacts.upload(b"a")).complete
        with pytest.raises(LimitError, match=f"at most {MIB} of yours") as caught:
            await client.artifacts.upload(bytes(MIB + 1))
        assert caught.value.retry_after is None

    serve(FakeEngine(), scenario, config, store=open_store(tmp_path / "data"))


def test_a_full_disk_budget_says_when_to_try_again(tmp_path: Path) -> None:
    async def scenario(_: Application, client: AsyncClient) -> None:
        with pytest.raises(LimitError, match="disk budget") as caught:
            await client.artifacts.upload(CONTENT)
        assert caught.value.retry_after is not None

    serve(FakeEngine(), scenario, store=open_store(tmp_path / "data", budget=50_000))


def test_a_disk_that_fills_up_says_so_whichever_piece_meets_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not INTERNAL, as gRPC makes of a status that meets a write; and what came stays."""
    append, room = store.uploads.append, [3 * MIB]

    def filling(client: str, sha256: str, offset: int, data: bytes, now: float) -> Any:
        if offset + len(data) > room[0]:
            raise LimitError("the disk is full", retry_after=5.0)
        return append(client, sha256, offset, data, now)

    async def scenario(_: Application, client: AsyncClient) -> None:
        content = bytes(8 * MIB)
        for _ in range(10):
            with pytest.raises(LimitError, match="the disk is full") as caught:
                await client.artifacts.upload(content)
            assert caught.value.retry_after == 5.0
        sha256 = hashlib.sha256(content).hexdigest()
        assert (await client.artifacts.get(sha256)).received == 3 * MIB
        room[0] = len(content)
        assert (await client.artifacts.upload(content)).complete
        assert await client.artifacts.download(sha256) == content

    monkeypatch.setattr(store.uploads, "append", filling)
    serve(FakeEngine(), scenario, store=store)


def test_a_long_upload_holds_a_piece_at_a_time(store: Store) -> None:
    size, piece = 48 * MIB, bytes(MIB)
    digest = hashlib.sha256(bytes(size)).hexdigest()
    peak = 0

    async def scenario(_: Application, client: AsyncClient) -> None:
        async def line() -> AsyncIterator[wire.UploadArtifactRequest]:
            nonlocal peak
            yield wire.UploadArtifactRequest(header=wire.UploadArtifactHeader(sha256=digest, size=size))
            for _ in range(size // MIB):
                yield chunk(piece)
                peak = max(peak, tracemalloc.get_traced_memory()[0])

        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            assert (await client.artifacts._stub.UploadArtifact(line())).artifact.complete
            assert peak - before < 16 * MIB
        finally:
            tracemalloc.stop()

    serve(FakeEngine(), scenario, store=store)


# ---- down ------------------------------------------------------------------------------------------


def test_downloads_from_any_offset(store: Store) -> None:
    content = CONTENT * 12  # more than one piece

    async def scenario(_: Application, client: AsyncClient) -> None:
        sent = await client.artifacts.upload(content)

        async def fetch(offset: int) -> list[wire.DownloadArtifactResponse]:
            request = wire.DownloadArtifactRequest(sha256=sent.sha256, offset=offset)
            with client._errors():
                return [message async for message in client.artifacts._stub.DownloadArtifact(request)]

        for offset in (0, 1, 999_999, len(content) - 1):
            found = await fetch(offset)
            assert b"".join(message.chunk for message in found) == content[offset:]
            assert found[0].offset == offset
            assert all(len(message.chunk) <= MAX_CHUNK for message in found)
        assert await fetch(len(content)) == []
        for offset in (-1, len(content) + 1):
            with pytest.raises(InputError, match=f"from 0 to its size, {len(content)}") as caught:
                await fetch(offset)
            assert caught.value.field == "offset"

    serve(FakeEngine(), scenario, store=store)


def test_a_reader_that_stops_reading_holds_no_more_than_a_piece(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server reads on only when there is room on the line; others are answered meanwhile."""
    content = CONTENT * 400  # 40 MB, far more than a line holds
    read = 0
    piece = store.blobs.piece

    def counted(*arguments: Any) -> bytes:
        nonlocal read
        data = piece(*arguments)
        read += len(data)
        return data

    async def scenario(_: Application, client: AsyncClient) -> None:
        nonlocal read
        sent = await client.artifacts.upload(content)
        monkeypatch.setattr(store.blobs, "piece", counted)
        call = client.artifacts._stub.DownloadArtifact(wire.DownloadArtifactRequest(sha256=sent.sha256))
        first = await call.read()
        assert first.offset == 0
        # It comes to rest well before the end, and stays there.
        stood = -1
        while stood != read:
            stood = read
            await asyncio.sleep(0.3)
        assert read < 16 * MIB
        assert await client.healthy()
        received = bytearray(first.chunk)
        while message := await call.read():
            received += message.chunk
        assert bytes(received) == content

    serve(FakeEngine(), scenario, store=store)


def test_lines_that_break_leave_nothing_behind(store: Store) -> None:
    """Two hundred uploads and downloads that are left in the middle: no task, thread or open file more than before."""
    content = CONTENT * 20

    async def left_in_the_middle(client: AsyncClient, sha256: str) -> None:
        up = client.artifacts._stub.UploadArtifact()
        await up.write(header(content))
        await up.initial_metadata()
        await up.write(chunk(content[:1000]))
        down = client.artifacts._stub.DownloadArtifact(wire.DownloadArtifactRequest(sha256=sha256))
        assert (await down.read()).offset == 0
        up.cancel()
        down.cancel()

    def counts() -> tuple[int, int, int]:
        files = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
        return len(asyncio.all_tasks()), threading.active_count(), files

    async def scenario(application: Application, client: AsyncClient) -> None:
        other = (await client.artifacts.upload(content + b"more")).sha256
        for _ in range(20):
            await left_in_the_middle(client, other)
        await until(lambda: not application.door.guard.calls)
        before = counts()
        for _ in range(200):
            await left_in_the_middle(client, other)
        await until(lambda: not application.door.guard.calls)
        # Pools may still start the threads, and open the connections, that they are allowed to have.
        room = (0, 16, 24)
        most = [then + more for then, more in zip(before, room, strict=True)]
        await until(lambda: all(now <= limit for now, limit in zip(counts(), most, strict=True)))

    serve(FakeEngine(), scenario, store=store)


def test_files_that_are_not_there(store: Store) -> None:
    async def scenario(_: Application, client: AsyncClient) -> None:
        for call in (client.artifacts.get, client.artifacts.download, client.artifacts.delete):
            with pytest.raises(NotFoundError, match="there is no file") as missing:
                await call(NOTHING)
            assert missing.value.field == "sha256"
            for name in ("", "../x", "A" * 64, "0" * 65, "0" * 63 + "\n"):
                with pytest.raises(SpecError, match="64 lowercase hexadecimal") as bad:
                    await call(name)
                assert bad.value.field == "sha256"

    serve(FakeEngine(), scenario, store=store)


def test_lists_in_pages(store: Store) -> None:
    async def scenario(_: Application, client: AsyncClient) -> None:
        names = [(await client.artifacts.upload(str(number).encode())).sha256 for number in range(5)]
        with pytest.raises(StateError):
            await send(client, header())
        stub = client.artifacts._stub
        found: list[str] = []
        request = wire.ListArtifactsRequest(page_size=2)
        while True:
            page = await stub.ListArtifacts(request)
            found += [each.sha256 for each in page.artifacts]
            if not page.next_page_token:
                break
            assert len(page.artifacts) == 2
            request.page_token = page.next_page_token
        assert found == [NAME, *reversed(names)]
        listed = [each async for each in client.artifacts.list()]
        assert [each.sha256 for each in listed] == found
        assert [each.complete for each in listed] == [False] + [True] * 5
        assert [each.sha256 async for each in client.artifacts.list(3)] == found[:3]
        for wrong in (wire.ListArtifactsRequest(page_size=1001), wire.ListArtifactsRequest(page_token="x")):
            with pytest.raises(InputError) as caught, client._errors():
                await stub.ListArtifacts(wrong)
            assert caught.value.field in ("page_size", "page_token")

    serve(FakeEngine(), scenario, store=store)


# ---- whose ------------------------------------------------------------------------------------------


def test_files_are_their_clients_alone(store: Store, tmp_path: Path) -> None:
    """Another client's upload, and what another client's job made, are not there; nor does it help to know the hash."""
    tokens = tmp_path / "tokens.toml"
    ann, bob = (add_client(tokens, name, {}) for name in ("ann", "bob"))
    config = ServerConfig(port=0, grace_seconds=0, tokens=tokens)
    picture = encode_png(np.full((8, 8, 3), 9, np.uint8))

    async def scenario(application: Application, _: AsyncClient) -> None:
        where = address(application)
        async with AsyncClient(where, token=ann) as hers, AsyncClient(where, token=bob) as his:
            sent = await hers.artifacts.upload(picture)
            job = await hers.jobs.wait((await hers.jobs.create(sent, "steps", steps=1)).job_id)
            made = job.artifacts["latents.safetensors"]
            assert await hers.artifacts.download(made)
            for sha256 in (sent.sha256, made):
                for call in (his.artifacts.get, his.artifacts.download, his.artifacts.delete):
                    with pytest.raises(NotFoundError):
                        await call(sha256)
                with pytest.raises(NotFoundError):
                    await his.jobs.create(sent, "steps", steps=1)
                with pytest.raises(NotFoundError):
                    await his.encode(sent, "steps")
            assert [each async for each in his.artifacts.list()] == []
            # To announce the content, or to send as many other bytes, does not make it his.
            store.uploads.begin("bob", sent.sha256, len(picture), "", 1.0)
            store.uploads.append("bob", sent.sha256, 0, bytes(len(picture)), 1.0)
            for call in (his.artifacts.download, lambda file: his.jobs.create(file, "steps")):
                with pytest.raises(LatentInvError) as caught:
                    await call(sent)
                assert caught.value.status in ("NOT_FOUND", "FAILED_PRECONDITION")
            with pytest.raises(InputError):
                await send(his, header(picture, offset=len(picture)))
            assert await look(his, sent.sha256) is None
            # His own copy is his own; hers stays when it goes.
            await his.artifacts.upload(picture)
            await his.artifacts.delete(sent)
            assert await hers.artifacts.download(sent) == picture

    serve(FakeEngine(), scenario, config, store=store)


# ---- in jobs ----------------------------------------------------------------------------------------


def spec_of(sha256: str, generator: str = "steps", **fields: Any) -> job_pb2.JobSpec:
    return job_pb2.JobSpec(image=data_pb2.Image(artifact_sha256=sha256), generator=generator, **fields)


def test_pictures_by_hash_are_the_pictures(store: Store) -> None:
    """A job, an inversion and an encoding see the same pixels and weights as if the files were in the request."""
    colours = np.random.default_rng(2).integers(0, 256, (8, 8, 3), np.uint8)
    picture, mask = encode_png(colours), encode_png(np.eye(8, dtype=np.uint8) * 255)
    engine = FakeEngine()

    async def scenario(_: Application, client: AsyncClient) -> None:
        image, weight = await client.artifacts.upload(picture), await client.artifacts.upload(mask)
        await client.invert(picture, "steps", weight=mask, steps=1)
        await client.invert(image, "steps", weight=weight, steps=1)
        await client.jobs.wait((await client.jobs.create(image, "steps", weight=weight, steps=1)).job_id)
        with pytest.raises(LatentInvError):  # the fake one encodes nothing
            await client.encode(image, "steps")

    serve(engine, scenario, store=store)
    encoding = [spec for spec in engine.submitted if isinstance(spec, EncodeSpec)]
    np.testing.assert_array_equal(encoding[0].picture.pixels, load(picture).pixels)
    inline, *by_hash = [spec.picture for spec in engine.jobs]
    assert len(by_hash) == 2
    for each in by_hash:
        np.testing.assert_array_equal(each.pixels, inline.pixels)
        np.testing.assert_array_equal(each.weight, inline.weight)


def test_files_that_are_no_pictures(tmp_path: Path) -> None:
    """They are refused like the same bytes in a request, and nothing is queued."""
    config = ServerConfig(port=0, grace_seconds=0, image_limits=Limits(max_bytes=5_000, max_pixels=100))
    engine = FakeEngine()
    large = io.BytesIO()
    Image.fromarray(np.zeros((11, 11), np.uint8)).save(large, "PNG")
    cases: list[tuple[bytes, type[LatentInvError], str]] = [
        (b"%PDF-1.7 and so on", ImageError, "accepted: PNG"),
        (PNG[:40], ImageError, "truncated"),
        (bytes(5_001), LimitError, "5001 bytes, at most 5000"),
        (large.getvalue(), LimitError, "at most 100 pixels"),
    ]

    async def scenario(_: Application, client: AsyncClient) -> None:
        for content, kind, text in cases:
            sent = await client.artifacts.upload(content)
            for call in (client.jobs.create, client.invert, client.encode):
                with pytest.raises(kind, match=text) as caught:
                    await call(sent, "steps")
                assert caught.value.field.startswith("image")
        with pytest.raises(StateError):
            await send(client, header(), chunk(CONTENT[:9]))
        with pytest.raises(NotFoundError, match="9 of the 100000 bytes"):
            await client.jobs.create(Artifact(NAME, 1, 1, "", complete=True), "steps")

    serve(engine, scenario, config, store=open_store(tmp_path / "data"))
    assert not [spec for spec in engine.submitted if isinstance(spec, JobSpec | EncodeSpec)]


def test_a_repeated_request_is_the_same_job_whatever_became_of_the_upload(store: Store) -> None:
    async def scenario(_: Application, client: AsyncClient) -> None:
        image = await client.artifacts.upload(PNG)
        first = await client.jobs.create(image, "steps", request_id="once", steps=1)
        await client.jobs.wait(first.job_id)
        await client.artifacts.delete(image)
        again = await client.jobs.create(image, "steps", request_id="once", steps=1)
        assert again.job_id == first.job_id
        with pytest.raises(AlreadyExistsError):
            await client.jobs.create(PNG, "steps", request_id="once", steps=1)
        with pytest.raises(NotFoundError, match="upload the file first") as caught:
            await client.jobs.create(image, "steps", request_id="twice", steps=1)
        assert caught.value.field == "image.artifact_sha256"

    serve(FakeEngine(), scenario, store=store)


def test_an_upload_stays_while_a_job_needs_it(store: Store) -> None:
    """And a job keeps what it needs, though nobody refers to its upload any more."""
    engine = FakeEngine()
    picture = encode_png(np.zeros((8, 8, 3), np.uint8), level=0)  # not the bytes of any result

    async def scenario(application: Application, client: AsyncClient) -> None:
        image = await client.artifacts.upload(picture)
        job = await client.jobs.create(image, "forever")
        await until(lambda: engine.running == 1)
        with pytest.raises(StateError, match=f"the job {job.job_id} needs it"):
            await client.artifacts.delete(image)
        await client.jobs.cancel(job.job_id)
        await client.jobs.wait(job.job_id)
        await client.artifacts.delete(image)
        assert await look(client, image.sha256) is None
        late = time.time() + 1000
        retention(store, late, keep_seconds=10**6)
        assert store.blobs.size(image.sha256) == len(picture), "of the job, that is kept"
        await client.jobs.delete(job.job_id)
        retention(store, late, keep_seconds=10**6)
        assert store.blobs.size(image.sha256) is None

    serve(engine, scenario, store=store)


def test_queued_jobs_find_their_pictures_after_a_restart(tmp_path: Path) -> None:
    """The specs that wait refer to files: these are read again when a job has its turn, by the next server too."""
    config = ServerConfig(port=0, grace_seconds=0, max_jobs=1)
    pictures = [encode_png(np.full((8, 8, 3), 40 * number, np.uint8)) for number in range(4)]

    async def first(_: Application, client: AsyncClient) -> None:
        await client.jobs.create(PNG, "forever")
        for picture in pictures:
            await client.jobs.create(await client.artifacts.upload(picture), "steps", steps=1)

    engine = FakeEngine()

    async def second(_: Application, client: AsyncClient) -> None:
        (running,) = [job async for job in client.jobs.list() if job.generator == "forever"]
        await client.jobs.cancel(running.job_id)
        jobs = [await client.jobs.wait(job.job_id) async for job in client.jobs.list()]
        assert [job.state for job in jobs] == ["succeeded"] * 4 + ["cancelled"]

    serve(FakeEngine(), first, config, store=open_store(tmp_path))
    # Long after, with all uploads unused: only what queued jobs refer to is left.
    with open_store(tmp_path) as kept:
        retention(kept, time.time() + 10**7, keep_seconds=1)
        assert all(kept.blobs.size(hashlib.sha256(picture).hexdigest()) for picture in pictures)
    serve(engine, second, config, store=open_store(tmp_path))
    seen = [spec.picture.pixels for spec in engine.jobs if spec.generator == "steps"]
    for picture, pixels in zip(pictures, seen, strict=True):
        np.testing.assert_array_equal(pixels, load(picture).pixels)


# ---- results ----------------------------------------------------------------------------------------


def test_results_are_files(store: Store, tmp_path: Path) -> None:
    async def scenario(_: Application, client: AsyncClient) -> None:
        colours = np.random.default_rng(3).integers(0, 256, (8, 8, 3), np.uint8)
        made = await client.jobs.create(encode_png(colours), "steps", steps=3, seed=5)
        assert made.artifacts == {}
        job = await client.jobs.wait(made.job_id)
        assert set(job.artifacts) == {"latents.safetensors", "reconstruction.png", "target.png"}
        (listed,) = [each async for each in client.jobs.list()]
        assert listed.artifacts == job.artifacts == (await client.jobs.get(job.job_id)).artifacts
        expected = job.result
        assert expected is not None
        file = await client.artifacts.download(job.artifacts["latents.safetensors"], tmp_path / "latents.safetensors")
        latents = load_latents(file)
        np.testing.assert_array_equal(latents.latents["z"], expected.latents["z"])
        assert (latents.generator, latents.weights_sha256) == ("steps", expected.weights_sha256)
        target = await client.artifacts.download(job.artifacts["target.png"])
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(target))), colours)
        picture = await client.artifacts.download(job.artifacts["reconstruction.png"])
        assert picture == encode_png(expected.image)
        found = await client.artifacts.get(job.artifacts["target.png"])
        assert (found.size, found.received, found.content_type) == (len(target), len(target), "image/png")
        # They are no uploads: not in the list, no quota, and they go with their job alone.
        assert [each async for each in client.artifacts.list()] == []
        with pytest.raises(StateError, match=f"target.png of the job {job.job_id}"):
            await client.artifacts.delete(found)
        retention(store, time.time() + 1000, keep_seconds=10**6)
        assert await client.artifacts.download(found) == target
        await client.jobs.delete(job.job_id)
        assert await look(client, found.sha256) is None
        retention(store, time.time() + 1000, keep_seconds=10**6)
        assert store.blobs.used == 0

    serve(FakeEngine(), scenario, store=store)


def test_a_job_without_a_result_has_no_files(store: Store) -> None:
    async def scenario(_: Application, client: AsyncClient) -> None:
        failed = await client.jobs.wait((await client.jobs.create(PNG, "fails")).job_id)
        assert (failed.state, failed.artifacts) == ("failed", {})

    serve(FakeEngine(error=InputError("no")), scenario, store=store)


def test_a_file_that_cannot_be_made_costs_no_result(caplog: pytest.LogCaptureFixture) -> None:
    made = result(JobSpec(picture=load(PNG)), Outcome.converged, 1)
    broken = replace(made, image=np.full_like(made.image, np.nan))
    assert set(result_files(broken, "job")) == {"latents.safetensors", "target.png"}
    assert "there is no reconstruction.png" in caplog.text
