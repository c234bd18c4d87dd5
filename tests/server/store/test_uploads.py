"""Files of clients: in pieces, resumed, checked, each client's own."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from latent_inv.errors import InputError, LimitError, NotFoundError, SpecError, StateError
from latent_inv_server.store.folder import Store, open_store
from latent_inv_server.store.records import JobState
from tests.server.store.makers import record, sha, upload

# The same in every process: its hash is part of tests' names.
DATA = random.Random(1).randbytes(100_000)
NAME = sha(DATA)


def parts(store: Store) -> list[str]:
    return sorted(path.name for path in (store.folder / "uploads").iterdir())


def begun(store: Store, client: str = "ann") -> None:
    assert store.uploads.begin(client, NAME, len(DATA), "image/png", 1.0).received == 0


def test_a_file_in_pieces(store: Store) -> None:
    begun(store)
    for offset in range(0, len(DATA), 30_000):
        piece = store.uploads.append("ann", NAME, offset, DATA[offset : offset + 30_000], 2.0)
        assert piece.received == min(offset + 30_000, len(DATA))
        assert store.uploads.get("ann", NAME) == piece
    assert store.blobs.size(NAME) is None, "not before its hash is checked"
    done = store.uploads.complete("ann", NAME, 3.0)
    assert (done.complete, done.size, done.received, done.content_type) == (True, 100_000, 100_000, "image/png")
    assert (done.create_time, done.last_used) == (1.0, 3.0)
    assert store.blobs.read(NAME) == DATA
    assert parts(store) == []
    assert store.uploads.get("ann", NAME) == done
    assert store.uploads.complete("ann", NAME, 9.0) == done
    assert store.uploads.begin("ann", NAME, len(DATA), "image/png", 4.0).complete
    with pytest.raises(StateError, match="the upload is complete"):
        store.uploads.append("ann", NAME, 0, b"x", 5.0)


def test_an_upload_goes_on_after_a_stop(store: Store, reopen: Callable[[], Store]) -> None:
    begun(store)
    store.uploads.append("ann", NAME, 0, DATA[:40_000], 2.0)
    store = reopen()
    assert store.uploads.begin("ann", NAME, len(DATA), "image/png", 3.0).received == 40_000
    store.uploads.append("ann", NAME, 40_000, DATA[40_000:], 4.0)
    assert store.uploads.complete("ann", NAME, 5.0).complete
    assert store.blobs.read(NAME) == DATA


def test_after_a_crash_only_what_is_certain_counts(store: Store, reopen: Callable[[], Store]) -> None:
    begun(store)
    store.uploads.append("ann", NAME, 0, DATA[:40_000], 2.0)
    store.uploads._ahead.clear()  # so that closing notes down no more than a crash would
    store = reopen()
    found = store.uploads.get("ann", NAME)
    assert found is not None
    assert found.received == 0
    assert (store.folder / "uploads" / parts(store)[0]).stat().st_size == 0
    # One that was marked after a minute keeps what it had then, and loses what was not on disk.
    store.uploads.append("ann", NAME, 0, DATA[:40_000], 99.0)
    store.uploads.append("ann", NAME, 40_000, b"?" * 10, 99.5)
    store.uploads._ahead.clear()
    store = reopen()
    found = store.uploads.get("ann", NAME)
    assert found is not None
    assert (found.received, found.last_used) == (40_000, 99.0)
    # A file that lost bytes is begun again.
    os.truncate(store.folder / "uploads" / parts(store)[0], 10)
    store = reopen()
    found = store.uploads.get("ann", NAME)
    assert found is not None
    assert found.received == 0
    store.uploads.append("ann", NAME, 0, DATA, 100.0)
    assert store.uploads.complete("ann", NAME, 101.0).complete


def test_much_is_made_durable_on_the_way(store: Store, reopen: Callable[[], Store]) -> None:
    data = bytes(20 * 2**20)
    store.uploads.begin("ann", sha(data), len(data), "", 1.0)
    for offset in range(0, 19 * 2**20, 2**20):
        store.uploads.append("ann", sha(data), offset, data[: 2**20], 1.0)
    store.uploads._ahead.clear()
    found = reopen().uploads.get("ann", sha(data))
    assert found is not None
    assert found.received == 16 * 2**20


def test_files_without_a_row_go(store: Store, reopen: Callable[[], Store]) -> None:
    begun(store)
    store.uploads.append("ann", NAME, 0, b"x", 1.0)
    (store.folder / "uploads" / f"stray-{'0' * 64}.part").write_bytes(b"x")
    assert len(parts(store)) == 2
    assert len(parts(reopen())) == 1


def test_pieces_may_come_again_and_not_too_early(store: Store) -> None:
    begun(store)
    store.uploads.append("ann", NAME, 0, DATA[:50_000], 2.0)
    with pytest.raises(StateError, match=r"offset: 50000 bytes are here.*found 50001"):
        store.uploads.append("ann", NAME, 50_001, b"x", 2.0)
    with pytest.raises(InputError, match="offset: must be ≥ 0, found -1"):
        store.uploads.append("ann", NAME, -1, b"x", 2.0)
    with pytest.raises(InputError, match="size: 100000 bytes were announced, found 150000 or more"):
        store.uploads.append("ann", NAME, 50_000, DATA, 2.0)
    with pytest.raises(StateError, match="50000 of 100000 bytes are here"):
        store.uploads.complete("ann", NAME, 2.0)
    assert store.uploads.append("ann", NAME, 0, DATA[:20_000], 2.0).received == 50_000
    assert store.uploads.append("ann", NAME, 30_000, DATA[30_000:], 2.0).received == 100_000
    assert store.uploads.complete("ann", NAME, 3.0).complete


def test_another_content_is_found_out_and_forgotten(store: Store) -> None:
    begun(store)
    store.uploads.append("ann", NAME, 0, bytes([DATA[0] ^ 1]) + DATA[1:], 2.0)
    with pytest.raises(InputError, match=r"sha256: the content has the SHA-256 [0-9a-f]{64}, .* was announced"):
        store.uploads.complete("ann", NAME, 3.0)
    assert store.uploads.get("ann", NAME) is None
    assert store.blobs.size(NAME) is None
    assert parts(store) == []
    assert upload(store, "ann", DATA).complete, "and it can be sent anew"


@pytest.mark.parametrize(
    ("sha256", "size", "kind", "text"),
    [
        ("../x", 1, "", 'sha256: must be 64 lowercase hexadecimal digits, found "../x"'),
        ("A" * 64, 1, "", "sha256: must be 64"),
        (NAME, 0, "", "size: must be at least 1, found 0"),
        (NAME, -1, "", "size: must be at least 1, found -1"),
        (NAME, 1, "x" * 256, "content_type: must be a media type of at most 255"),
        (NAME, 1, "a\0", "content_type: must be"),
    ],
)
def test_what_is_announced_is_checked(store: Store, sha256: str, size: int, kind: str, text: str) -> None:
    with pytest.raises(SpecError, match=text):
        store.uploads.begin("ann", sha256, size, kind, 1.0)
    assert store.uploads.page("ann") == []


def test_a_size_may_be_corrected_until_it_is_proved(store: Store) -> None:
    store.uploads.begin("ann", NAME, 5, "", 1.0)
    store.uploads.append("ann", NAME, 0, b"abcde", 1.0)
    assert store.uploads.begin("ann", NAME, len(DATA), "", 2.0).received == 0
    assert parts(store) == []
    store.uploads.append("ann", NAME, 0, DATA, 2.0)
    store.uploads.complete("ann", NAME, 2.0)
    with pytest.raises(InputError, match="size: this content has 100000 bytes, found 5"):
        store.uploads.begin("ann", NAME, 5, "", 3.0)


def test_a_file_is_its_clients_alone(store: Store) -> None:
    upload(store, "ann", DATA)
    assert store.uploads.get("bob", NAME) is None
    assert store.uploads.page("bob") == []
    assert not store.uploads.delete("bob", NAME)
    for call in (
        lambda: store.uploads.append("bob", NAME, 0, b"x", 1.0),
        lambda: store.uploads.complete("bob", NAME, 1.0),
    ):
        with pytest.raises(NotFoundError):
            call()
    # Who knows the hash alone does not get the content: it is sent like any other.
    begun(store, "bob")
    assert store.uploads.append("bob", NAME, 0, DATA, 1.0).received == len(DATA)
    assert store.uploads.complete("bob", NAME, 1.0).complete
    assert store.uploads.delete("ann", NAME)
    assert store.blobs.sweep(store.jobs.blobs(), 1e12) == 0
    assert store.blobs.read(NAME) == DATA
    assert store.uploads.delete("bob", NAME)
    assert store.blobs.sweep(store.jobs.blobs(), 1e12) == len(DATA)


@pytest.mark.parametrize("client", ["../../up", "a/b", "猫" * 100, ""])
def test_no_name_of_a_client_is_a_path(store: Store, client: str) -> None:
    begun(store, client)
    store.uploads.append(client, NAME, 0, b"x", 1.0)
    assert len(parts(store)) == 1


@pytest.mark.parametrize("state", list(JobState))
def test_a_file_stays_while_a_job_needs_it(store: Store, state: JobState) -> None:
    upload(store, "ann", DATA)
    upload(store, "bob", DATA)
    store.jobs.create(record("a", artifacts=(NAME,), state=state, end_time=2.0 if state.over else None))
    assert store.uploads.delete("bob", NAME), "the job is none of bob's"
    if state.over:
        assert store.uploads.delete("ann", NAME)
        assert NAME in store.jobs.blobs(), "as long as the job is shown"
    else:
        with pytest.raises(StateError, match="sha256: the job a needs it, and is not over"):
            store.uploads.delete("ann", NAME)
        assert store.uploads.get("ann", NAME) is not None
        assert store.uploads.expire(1e12, 1e12) == 0


def test_a_file_is_either_deleted_or_used(store: Store) -> None:
    """A job made at the moment of a deletion has its file, or is refused."""
    for round_ in range(10):
        data = f"data {round_}".encode()
        upload(store, "ann", data)
        barrier = threading.Barrier(2)

        def create(name: str = f"job-{round_}", file: str = sha(data), barrier: threading.Barrier = barrier) -> bool:
            barrier.wait(30)
            try:
                return store.jobs.create(record(name, artifacts=(file,)))[1]
            except NotFoundError:
                return False

        def delete(file: str = sha(data), barrier: threading.Barrier = barrier) -> bool:
            barrier.wait(30)
            try:
                return store.uploads.delete("ann", file)
            except StateError:
                return False

        with ThreadPoolExecutor(2) as pool:
            created, deleted = pool.submit(create), pool.submit(delete)
            assert created.result() != deleted.result()


def test_a_clients_bytes_are_limited(store: Store) -> None:
    store.uploads.begin("ann", sha(b"a"), 60, "", 1.0, max_bytes=100)
    store.uploads.begin("bob", sha(b"b"), 100, "", 1.0, max_bytes=100)
    with pytest.raises(
        LimitError, match="size: 41 more bytes would pass the 100 that you may upload, of which 60 are used"
    ):
        store.uploads.begin("ann", sha(b"c"), 41, "", 1.0, max_bytes=100)
    assert store.uploads.begin("ann", sha(b"a"), 60, "", 2.0, max_bytes=100).received == 0
    assert store.uploads.begin("ann", sha(b"a"), 100, "", 2.0, max_bytes=100).size == 100
    assert store.uploads.used("ann") == 100
    assert store.uploads.delete("ann", sha(b"a"))
    assert store.uploads.used("ann") == 0
    barrier = threading.Barrier(8)

    def begin(number: int) -> bool:
        barrier.wait(30)
        try:
            store.uploads.begin("ann", sha(bytes([number])), 30, "", 1.0, max_bytes=100)
        except LimitError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(begin, range(8))) == 3


def test_unfinished_uploads_count_for_the_disk_budget(tmp_path: Path) -> None:
    with open_store(tmp_path / "data", budget=1000) as store:
        store.blobs.put(bytes(300))
        store.uploads.begin("ann", sha(b"a"), 600, "", 1.0)
        with pytest.raises(LimitError, match="disk budget of 1000, of which 300 are used"):
            store.uploads.begin("bob", sha(b"b"), 101, "", 1.0)
        store.uploads.begin("bob", sha(b"b"), 100, "", 1.0)


def test_a_lost_content_is_sent_anew(store: Store) -> None:
    upload(store, "ann", DATA)
    store.blobs._path(NAME).unlink()
    assert not store.uploads.begin("ann", NAME, len(DATA), "", 2.0).complete
    assert upload(store, "ann", DATA).complete
    assert store.blobs.read(NAME) == DATA


def test_uploads_expire(store: Store) -> None:
    upload(store, "ann", b"old and finished", now=10.0)
    upload(store, "ann", b"new and finished", now=90.0)
    upload(store, "ann", b"old and in use", now=10.0)
    store.jobs.create(record("a", artifacts=(sha(b"old and in use"),), create_time=1.0))
    store.uploads.begin("ann", sha(b"old"), 3, "", 10.0)
    store.uploads.append("ann", sha(b"old"), 0, b"o", 10.0)
    store.uploads.begin("ann", sha(b"new"), 3, "", 90.0)
    assert store.uploads.expire(partial_before=50.0, unused_before=5.0) == 1
    assert store.uploads.get("ann", sha(b"old")) is None
    assert parts(store) == []
    assert store.uploads.expire(partial_before=50.0, unused_before=50.0) == 1
    left = {each.sha256 for each in store.uploads.page("ann")}
    assert left == {sha(b"new"), sha(b"new and finished"), sha(b"old and in use")}


def test_two_lines_may_send_one_file(store: Store) -> None:
    """A client that gave up on one line and came by another, while the first still delivers."""
    begun(store)
    barrier = threading.Barrier(2)

    def send(step: int) -> None:
        barrier.wait(30)
        for offset in range(0, len(DATA), step):
            store.uploads.append("ann", NAME, offset, DATA[offset : offset + step], 2.0)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(send, (7_000, 11_000)))
    assert store.uploads.complete("ann", NAME, 3.0).complete
