"""Files through both clients: from paths and memory, over lines that break, checked at the end."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import io
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latent_inv.client import Artifact, AsyncClient, Client
from latent_inv.client.artifact import Sending
from latent_inv.client.artifacts import Artifacts
from latent_inv.client.async_artifacts import AsyncArtifacts
from latent_inv.errors import InputError, InternalError, LimitError, NotFoundError, UnavailableError
from latent_inv.images import encode_png
from latent_inv_server.store.folder import Store, open_store
from tests.server.fake import PNG, FakeEngine
from tests.server.lines import BadLine, serving

MIB = 2**20
CONTENT = np.random.default_rng(5).integers(0, 256, 6 * MIB, np.uint8).tobytes()
NAME = hashlib.sha256(CONTENT).hexdigest()
#: kind of client → makes one call of `artifacts` through it
Call = Callable[..., Any]


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "data")


@pytest.fixture
def where(engine: FakeEngine, store: Store) -> Iterator[str]:
    with serving(engine, store=store) as found:
        yield found


def blocking(where: str, name: str, *arguments: Any, **settings: Any) -> Any:
    with Client(where) as client:
        return getattr(client.artifacts, name)(*arguments, **settings)


def awaited(where: str, name: str, *arguments: Any, **settings: Any) -> Any:
    async def run() -> Any:
        async with AsyncClient(where) as client:
            return await getattr(client.artifacts, name)(*arguments, **settings)

    return asyncio.run(run())


@pytest.fixture(params=[blocking, awaited])
def call(request: pytest.FixtureRequest) -> Call:
    return request.param  # type: ignore[no-any-return]


def test_both_have_the_same_calls() -> None:
    names = [name for name in dir(Artifacts) if not name.startswith("_")]
    assert names == [name for name in dir(AsyncArtifacts) if not name.startswith("_")]
    for name in names:
        here, there = (inspect.signature(getattr(owner, name)) for owner in (Artifacts, AsyncArtifacts))
        assert here.parameters == there.parameters, name


@pytest.mark.parametrize("kind", ["path", "text", "bytes", "memory"])
def test_up_and_down(where: str, call: Call, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(CONTENT)
    source = {"path": path, "text": str(path), "bytes": CONTENT, "memory": memoryview(bytearray(CONTENT))}[kind]
    told = "image/png" if kind in ("path", "text") else ""
    sent: list[tuple[int, int]] = []
    artifact = call(where, "upload", source, on_progress=lambda *so_far: sent.append(so_far))
    assert artifact == Artifact(NAME, len(CONTENT), len(CONTENT), told, complete=True)
    assert sent == sorted(set(sent)), "each step is told once, forwards"
    assert sent[-1] == (len(CONTENT), len(CONTENT))
    come: list[tuple[int, int]] = []
    assert call(where, "download", artifact, on_progress=lambda *so_far: come.append(so_far)) == CONTENT
    assert come == sorted(set(come))
    assert come[-1] == (len(CONTENT), len(CONTENT))
    copy = tmp_path / "copy.png"
    assert call(where, "download", NAME, copy) == copy
    assert copy.read_bytes() == CONTENT
    assert sorted(item.name for item in tmp_path.iterdir()) == ["copy.png", "data", "photo.png"]


def test_what_is_there_is_not_sent_again(where: str, call: Call, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first = call(where, "upload", CONTENT, content_type="application/x-first")
    monkeypatch.setattr(store.uploads, "append", None)
    assert call(where, "upload", CONTENT) == first


def test_an_upload_goes_on_over_lines_that_break(where: str, call: Call, store: Store) -> None:
    """Each line brings something, and none of it is sent twice but for what was under way."""
    with (bad := BadLine(where, [MIB, 2 * MIB, 100, 2 * MIB])) as line:
        assert call(line, "upload", CONTENT).complete
    assert bad.broken == 4
    assert store.blobs.read(NAME) == CONTENT


def test_a_download_goes_on_over_lines_that_break(where: str, call: Call, tmp_path: Path) -> None:
    call(where, "upload", CONTENT)
    come: list[int] = []
    with (bad := BadLine(where, [MIB, 3 * MIB, 100])) as line:
        path = call(line, "download", NAME, tmp_path / "copy", on_progress=lambda here, _: come.append(here))
    assert bad.broken >= 2
    assert path.read_bytes() == CONTENT
    assert come == sorted(set(come))


def test_patience_ends(call: Call) -> None:
    # Only ports up to 1023 are never given out to whoever takes a free one.
    for name, argument in (("upload", CONTENT[:10]), ("download", NAME)):
        began = time.monotonic()
        with pytest.raises(UnavailableError, match="no server answers"):
            call("127.0.0.1:9", name, argument, patience=0.0)
        assert time.monotonic() - began < 30


def test_files_that_cannot_be_sent(where: str, call: Call, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    cases: list[tuple[Any, str]] = [
        (tmp_path / "none.png", 'there is no file "none.png"'),
        (tmp_path, "is a folder"),
        (tmp_path / "pipe", "is not a regular file"),
        (tmp_path / "empty", "the file is empty"),
        (b"", "the file is empty"),
        (7, "found int"),
        (None, "found NoneType"),
    ]
    for source, text in cases:
        with pytest.raises(InputError, match=text) as caught:
            call(where, "upload", source)
        assert caught.value.field == "source"
        assert str(tmp_path.parent) not in str(caught.value)
    with pytest.raises(InputError, match="found int"):
        call(where, "download", 7)


def test_a_file_that_changes_while_it_is_sent(where: str, call: Call, tmp_path: Path) -> None:
    path = tmp_path / "file"

    def shorten(_: int, __: int) -> None:
        os.truncate(path, MIB)

    path.write_bytes(CONTENT * 4)
    with pytest.raises(InputError, match="became shorter"):
        call(where, "upload", path, on_progress=shorten)

    def overwrite(_: int, __: int) -> None:
        with path.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"x")

    path.write_bytes(CONTENT * 4 + b"y")
    with pytest.raises(InputError, match="was announced") as caught:
        call(where, "upload", path, on_progress=overwrite)
    assert caught.value.field == "sha256"


def test_callbacks_that_raise_end_it(where: str, call: Call, tmp_path: Path) -> None:
    def fail(_: int, __: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        call(where, "upload", CONTENT, on_progress=fail)
    # What came is kept, and the next one goes on from there.
    assert call(where, "upload", CONTENT).complete
    with pytest.raises(ZeroDivisionError):
        call(where, "download", NAME, tmp_path / "copy", on_progress=fail)
    assert [item.name for item in tmp_path.iterdir()] == ["data"], "no part of it is left"


def test_a_download_is_what_was_asked_for(where: str, call: Call, store: Store, tmp_path: Path) -> None:
    """A file that is damaged on the server does not come to its place, nor over an older one."""
    call(where, "upload", CONTENT)
    kept = store.folder / "blobs" / NAME[:2] / NAME
    kept.write_bytes(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))
    copy = tmp_path / "copy"
    copy.write_bytes(b"older")
    with pytest.raises(InternalError, match="it has another hash"):
        call(where, "download", NAME, copy)
    with pytest.raises(InternalError, match="it has another hash"):
        call(where, "download", NAME)
    assert copy.read_bytes() == b"older"
    with pytest.raises(InputError, match="cannot write"):
        call(where, "download", NAME, tmp_path / "none" / "copy")


def test_files_come_and_go(where: str, call: Call) -> None:
    first, second = call(where, "upload", b"first"), call(where, "upload", b"second")
    assert call(where, "get", first) == first
    with Client(where) as client:
        assert list(client.artifacts.list()) == [second, first]
        assert list(client.artifacts.list(1)) == [second]
    call(where, "delete", first)
    call(where, "delete", second.sha256)
    with pytest.raises(NotFoundError):
        call(where, "get", first)


def test_messages_are_no_larger_than_the_client_s_limit() -> None:
    for limit in (1, 600, 4096, 2**20, 2**26):
        sending = Sending(io.BytesIO(CONTENT[:5000]), "image/png", limit, 1)
        messages = list(sending.messages(0))
        assert b"".join(message.chunk for message in messages) == CONTENT[:5000]
        assert all(message.ByteSize() <= max(limit, 512) for message in messages)


# ---- pictures that are too large for a message -----------------------------------------------------


def large_picture() -> bytes:
    return encode_png(np.random.default_rng(6).integers(0, 256, (200, 200, 3), np.uint8))


def test_pictures_too_large_for_a_message_are_uploaded(where: str, engine: FakeEngine, tmp_path: Path) -> None:
    """`invert` and jobs of both clients do so by themselves; the same pixels arrive."""
    path, limit = tmp_path / "photo.png", 100_000
    path.write_bytes(large_picture())
    assert path.stat().st_size > limit
    mask = encode_png(np.full((200, 200), 255, np.uint8))

    async def the_same() -> None:
        async with AsyncClient(where, max_message_bytes=limit) as client:
            with pytest.raises(LimitError, match="max_message_bytes"):  # of the answer, which has the target in it
                await client.invert(path, "steps", weight=mask, steps=1)
            await client.jobs.create(path, "steps", steps=1)

    with Client(where, max_message_bytes=limit) as client:
        with pytest.raises(LimitError, match="max_message_bytes"):
            client.invert(path, "steps", weight=mask, steps=1)
        job = client.jobs.create(path, "steps", steps=1)
        assert [each.sha256 for each in client.artifacts.list()] == [hashlib.sha256(path.read_bytes()).hexdigest()]
    asyncio.run(the_same())
    with Client(where) as client:
        # What is too much for a message is there as files all the same.
        files = client.jobs.wait(job.job_id).artifacts
        assert client.artifacts.download(files["target.png"])[:8] == PNG[:8]
        expected = client.jobs.wait(client.jobs.create(path, "steps", steps=1).job_id)
    assert expected.result is not None
    assert len(engine.jobs) == 5
    for spec in engine.jobs:
        np.testing.assert_array_equal(spec.picture.pixels, expected.result.target.pixels)


def test_a_picture_over_all_limits_is_refused(where: str, tmp_path: Path) -> None:
    with Client(where, max_message_bytes=2**20) as client:
        with pytest.raises(LimitError, match="67108864"):
            client.jobs.create(bytes(64 * MIB + 1), "steps")
        with pytest.raises(LimitError, match="use a smaller picture"):
            client.jobs.create(np.zeros((1000, 1000, 3), np.uint8), "steps")
