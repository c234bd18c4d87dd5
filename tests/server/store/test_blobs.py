"""Contents by their hash: whole or not there, swept only when nothing needs them."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from latent_inv.errors import InputError, InternalError, LimitError, NotFoundError
from latent_inv_server.store.blobs import FileBlobs
from tests.server.store.makers import sha

BIG = bytes(range(256)) * 4096


@pytest.fixture
def blobs(tmp_path: Path) -> FileBlobs:
    return FileBlobs(tmp_path / "blobs")


def files(blobs: FileBlobs) -> set[str]:
    return {path.name for path in blobs._folder.rglob("*") if path.is_file()}


def age(blobs: FileBlobs, name: str, when: float) -> None:
    os.utime(blobs._path(name), (when, when))


def test_a_content_comes_back_under_its_hash(blobs: FileBlobs) -> None:
    assert blobs.put(BIG) == sha(BIG)
    assert blobs.put(b"") == sha(b"")
    assert blobs.read(sha(BIG)) == BIG
    assert blobs.read(sha(b"")) == b""
    assert blobs.size(sha(BIG)) == len(BIG)
    assert files(blobs) == {sha(BIG), sha(b"")}
    again = FileBlobs(blobs._folder)
    assert again.used == blobs.used == len(BIG)
    assert again.read(sha(BIG)) == BIG


def test_pieces_make_the_whole(blobs: FileBlobs) -> None:
    name = blobs.put(BIG)
    step = 300_000
    assert b"".join(blobs.piece(name, offset, step) for offset in range(0, len(BIG), step)) == BIG
    assert blobs.piece(name, len(BIG), 10) == b""
    assert blobs.piece(name, len(BIG) + 5, 10) == b""
    with pytest.raises(InputError, match="offset: must be ≥ 0, found -1"):
        blobs.piece(name, -1, 10)


@pytest.mark.parametrize(
    "name", ["0" * 64, "", "../blobs", "/etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "\n", "\0" * 64]
)
def test_no_other_name_is_a_path(blobs: FileBlobs, name: str) -> None:
    with pytest.raises(NotFoundError, match="there is no content"):
        blobs.read(name)
    with pytest.raises(NotFoundError):
        blobs.piece(name, 0, 1)
    assert blobs.size(name) is None


def test_damage_is_told_and_mended_by_the_next_put(blobs: FileBlobs, caplog: pytest.LogCaptureFixture) -> None:
    name = blobs.put(BIG)
    for damaged in (BIG[:-1] + b"x", BIG[:1000], b""):
        blobs._path(name).write_bytes(damaged)
        with pytest.raises(InternalError, match=f"{name} is damaged"):
            blobs.read(name)
        assert f"{name} is damaged" in caplog.text
        caplog.clear()
        assert blobs.put(BIG) == name
        assert blobs.read(name) == BIG
    assert FileBlobs(blobs._folder).used == len(BIG)


def test_what_a_killed_server_left_half_written_is_removed(blobs: FileBlobs) -> None:
    name = blobs.put(BIG)
    (blobs._path(name).parent / ".0123456789abcdef.part").write_bytes(BIG)
    again = FileBlobs(blobs._folder)
    assert files(again) == {name}
    assert again.used == len(BIG)


def test_one_content_from_many_threads_is_one_file(blobs: FileBlobs) -> None:
    barrier = threading.Barrier(16)

    def put(number: int) -> str:
        barrier.wait(30)
        return blobs.put(BIG if number % 2 else b"other")

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(put, range(16))) == {sha(BIG), sha(b"other")}
    assert blobs.used == len(BIG) + 5
    assert files(blobs) == {sha(BIG), sha(b"other")}


def test_a_sweep_takes_what_is_old_and_not_kept(blobs: FileBlobs) -> None:
    now = time.time()
    names = [blobs.put(f"content {number}".encode()) for number in range(4)]
    for name in names[:3]:
        age(blobs, name, now - 100)
    blobs.put(b"content 2")  # again, so that somebody is about to refer to it
    assert blobs.sweep({names[0]}, now - 50) == 9
    assert files(blobs) == {names[0], names[2], names[3]}
    assert blobs.used == 27
    with pytest.raises(NotFoundError):
        blobs.read(names[1])
    assert blobs.sweep(set(), now + 100) == 27
    assert blobs.used == 0


def test_a_budget_stops_what_is_new_and_not_what_is_needed(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path / "blobs", budget=100)
    blobs.put(bytes(60))
    blobs.check_room(40)
    with pytest.raises(
        LimitError, match="41 more bytes would pass the disk budget of 100, of which 60 are used"
    ) as caught:
        blobs.put(bytes(41))
    assert caught.value.retry_after is not None
    with pytest.raises(LimitError):
        blobs.check_room(41)
    assert files(blobs) == {sha(bytes(60))}
    blobs.put(bytes(60))  # is there already
    blobs.put(bytes(41), needed=True)
    assert blobs.used == 101
    blobs.sweep({sha(bytes(41))}, time.time() + 100)
    blobs.put(bytes(59))
    assert blobs.used == 100


def test_a_budget_holds_for_many_at_once(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path / "blobs", budget=10_500)
    barrier = threading.Barrier(16)

    def put(number: int) -> bool:
        barrier.wait(30)
        try:
            blobs.put(bytes([number]) * 1000)
        except LimitError:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(put, range(16))) == 10
    assert blobs.used == 10_000


def test_a_file_is_taken_over_if_it_is_what_it_says(blobs: FileBlobs, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(BIG)
    os.utime(path, (1.0, 1.0))
    with pytest.raises(InputError, match=f"sha256: the content has the SHA-256 {sha(BIG)}, {'0' * 64} was announced"):
        blobs.adopt(path, "0" * 64)
    assert path.exists()
    blobs.adopt(path, sha(BIG))
    assert not path.exists()
    assert blobs.read(sha(BIG)) == BIG
    assert blobs.sweep(set(), time.time() - 60) == 0, "it is new, however old the file was"
    path.write_bytes(BIG)
    blobs.adopt(path, sha(BIG))
    assert blobs.used == len(BIG)
    assert not path.exists()
