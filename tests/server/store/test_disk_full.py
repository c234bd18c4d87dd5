"""A full disk: what is asked for is refused in words, nothing half is kept, and it goes on when there is room again."""

from __future__ import annotations

import errno
import io
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from latent_inv import files
from latent_inv.errors import InternalError, LimitError
from latent_inv_server.store import blobs as blobs_module
from latent_inv_server.store import uploads
from latent_inv_server.store.folder import Store, open_store
from latent_inv_server.store.records import JobState
from latent_inv_server.store.retention import retention
from tests.server.store.makers import record, sha, upload

FULL = "the disk of the data folder is full"


def failing(number: int) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


class HalfFile(io.FileIO):
    """Takes half of what it is given, then nothing."""

    def write(self, data: Any) -> int:
        super().write(memoryview(data)[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def half_open(path: Path, *_: Any, **__: Any) -> HalfFile:
    return HalfFile(str(path), "x")


FAULTS: dict[str, tuple[Any, str, Any]] = {
    "write": (files, "open", half_open),
    "fsync": (files.os, "fsync", failing(errno.ENOSPC)),
    "rename": (files.os, "replace", failing(errno.ENOSPC)),
    "quota": (files.os, "replace", failing(errno.EDQUOT)),
}


def contents(store: Store) -> list[str]:
    return sorted(path.name for path in (store.folder / "blobs").rglob("*") if path.is_file())


@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_content_is_whole_or_not_there(tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_store(tmp_path / "data") as store:
        kept = store.blobs.put(b"kept")
        with monkeypatch.context() as patch:
            patch.setattr(*FAULTS[fault], raising=False)  # `open` is a builtin, hidden by this one
            with pytest.raises(LimitError, match=FULL) as caught:
                store.blobs.put(bytes(10_000), needed=True)
        assert caught.value.retry_after is not None
        assert contents(store) == [kept]
        assert store.blobs.used == 4
        name = store.blobs.put(bytes(10_000))
        assert store.blobs.read(name) == bytes(10_000)
        assert store.blobs.used == 10_004


def test_another_failure_of_the_disk_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_store(tmp_path / "data") as store:
        with monkeypatch.context() as patch:
            patch.setattr(files.os, "replace", failing(errno.EIO))
            with pytest.raises(InternalError, match="incident") as caught:
                store.blobs.put(b"x")
            assert str(tmp_path) not in str(caught.value)
        assert store.blobs.used == 0


def test_an_upload_keeps_what_came_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytes(range(200))
    with open_store(tmp_path / "data") as store:
        store.uploads.begin("ann", sha(data), 200, "", 1.0)
        store.uploads.append("ann", sha(data), 0, data[:50], 1.0)

        def half(file: Any, offset: int, piece: bytes) -> None:
            file.seek(offset)
            file.write(piece[:10])
            failing(errno.ENOSPC)()

        with monkeypatch.context() as patch:
            patch.setattr(uploads, "_write", half)
            with pytest.raises(LimitError, match=FULL):
                store.uploads.append("ann", sha(data), 50, data[50:], 1.0)
        found = store.uploads.get("ann", sha(data))
        assert found is not None
        assert found.received == 50
        store.uploads.append("ann", sha(data), 50, data[50:], 1.0)
        for place, name in ((blobs_module, "sync"), (blobs_module.os, "replace")):
            with monkeypatch.context() as patch:
                patch.setattr(place, name, failing(errno.ENOSPC))
                with pytest.raises(LimitError, match=FULL):
                    store.uploads.complete("ann", sha(data), 2.0)
            assert contents(store) == []
        assert store.uploads.complete("ann", sha(data), 2.0).complete
        assert store.blobs.read(sha(data)) == data


def test_a_full_database_refuses_and_goes_on(tmp_path: Path) -> None:
    """SQLite's own limit of pages stands for the disk's."""
    with open_store(tmp_path / "data") as store:
        engine = store.jobs._database._engine

        def limit(connection: Any, _record: Any) -> None:
            connection.execute("PRAGMA max_page_count = 1")  # that is: no more than there are

        store.jobs.create(record("kept"))
        event.listen(engine, "connect", limit)
        engine.dispose()
        made = 0
        while made < 1000:
            try:
                store.jobs.create(record(f"job-{made}", request_id=f"id-{made}", summary=bytes(5000)))
            except LimitError as error:
                assert FULL in str(error)  # noqa: PT017, many calls may pass before
                break
            made += 1
        assert made < 1000
        assert len(store.jobs.page("ann", limit=1000)) == made + 1
        assert store.jobs.get(f"job-{made}") is None
        event.remove(engine, "connect", limit)
        engine.dispose()
        assert store.jobs.create(record("later", request_id=f"id-{made}", summary=bytes(5000)))[1], "the id is free"
    with open_store(tmp_path / "data") as store:
        assert store.rescue is None
        assert store.jobs.get("later") is not None


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """4 MiB that can really be filled."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(path)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("this user may mount no disk")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    assert shutil.disk_usage(path.parent).free == 0


def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    data = os.urandom(50_000)
    filler = small_disk / "filler"
    with open_store(small_disk / "data") as store:
        spec = store.blobs.put(b"spec")
        for number in range(5):
            store.jobs.create(record(f"job-{number}", spec_blob=spec))
            store.jobs.start(f"job-{number}", 2.0)
        upload(store, "ann", b"file")
        store.uploads.begin("ann", sha(data), len(data), "", 1.0)
        for _ in range(3):
            fill(filler)
            calls: tuple[Callable[[], Any], ...] = (
                lambda: store.blobs.put(data, needed=True),
                lambda: store.uploads.append("ann", sha(data), 0, data, 1.0),
                lambda: store.jobs.create(record("big", summary=data)),
            )
            for call in calls:
                with pytest.raises(LimitError, match=FULL):
                    call()
            # Small ones may pass while pages of the log are free; whatever they say is then so.
            saved = -1
            with suppress(LimitError):
                while saved < 200:
                    store.jobs.save("job-0", sequence=saved + 1, progress=os.urandom(3000))
                    saved += 1
            assert saved < 200
            # Reading goes on.
            assert store.blobs.read(spec) == b"spec"
            assert len(store.jobs.page("ann")) == 5
            assert store.jobs.get("big") is None
            filler.unlink()
        assert all(store.jobs.finish(f"job-{number}", JobState.succeeded, 3.0, sequence=999) for number in range(5))
        assert store.uploads.append("ann", sha(data), 0, data, 1.0).received == len(data)
        assert store.uploads.complete("ann", sha(data), 1.0).complete
        assert store.jobs.create(record("big", summary=data))[1]
    with open_store(small_disk / "data") as store:
        assert store.rescue is None
        counts = store.jobs.counts()
        assert (counts[JobState.queued], counts[JobState.succeeded]) == (1, 5)
        assert store.blobs.read(sha(data)) == data


def test_retention_makes_room_on_a_full_disk(small_disk: Path) -> None:
    """Contents without a reference go before anything has to be noted down."""
    with open_store(small_disk / "data") as store:
        for _ in range(4):
            store.blobs.put(os.urandom(300_000))
        store.jobs.create(record("old", state=JobState.failed, end_time=1.0))
        fill(small_disk / "filler")
        done = retention(store, 1e10, 10.0)
        assert (done.jobs_expired, done.bytes_freed) == (1, 1_200_000)


def test_a_start_on_a_full_disk_is_one_sentence(small_disk: Path) -> None:
    open_store(small_disk / "data").close()
    fill(small_disk / "filler")
    with pytest.raises(LimitError, match=f"^{FULL}$"):
        open_store(small_disk / "data")
    (small_disk / "filler").unlink()
    with open_store(small_disk / "data") as store:
        assert store.rescue is None
        store.jobs.create(record("a"))
