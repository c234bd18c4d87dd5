"""What is old goes, what is needed stays."""

from __future__ import annotations

import os
import time
from pathlib import Path

from latent_inv_server.store.folder import Store, open_store
from latent_inv_server.store.records import JobState
from latent_inv_server.store.retention import GRACE_SECONDS, Kept, retention
from tests.server.store.makers import record, sha, upload

DAY = 24 * 3600.0


def ended(store: Store, name: str, end: float, size: int = 1000) -> None:
    """A job that is over, with a spec and a result of `size` bytes each, written when it ended."""
    spec = store.blobs.put(f"{name} spec".encode().ljust(size))
    result = store.blobs.put(f"{name} result".encode().ljust(size))
    for blob in (spec, result):
        os.utime(store.blobs._path(blob), (end, end))
    store.jobs.create(
        record(name, state=JobState.succeeded, end_time=end, create_time=end, spec_blob=spec, result_blob=result)
    )


def names(store: Store) -> set[str]:
    return {job.job_id for job in store.jobs.page("ann", limit=1000)}


def test_old_jobs_go_with_all_that_was_theirs(store: Store) -> None:
    now = time.time()
    ended(store, "old", now - 8 * DAY)
    ended(store, "young", now - 6 * DAY)
    store.jobs.create(record("queued", create_time=now - 99 * DAY, spec_blob=store.blobs.put(b"spec")))
    assert retention(store, now, 7 * DAY) == Kept(1, 0, 0, 2000, 2004)
    assert names(store) == {"young", "queued"}
    assert store.blobs.read(sha(b"spec")) == b"spec"
    assert retention(store, now, 7 * DAY) == Kept(0, 0, 0, 0, 2004)


def test_uploads_go_when_nobody_uses_them(store: Store) -> None:
    now = time.time()
    upload(store, "ann", b"old", now - 8 * DAY)
    upload(store, "ann", b"used", now - 8 * DAY)
    store.jobs.create(record("a", artifacts=(sha(b"used"),), create_time=now - DAY))
    store.uploads.begin("ann", sha(b"partial"), 7, "", now - 2 * DAY)
    store.uploads.begin("ann", sha(b"going on"), 8, "", now - DAY / 2)
    os.utime(store.blobs._path(sha(b"old")), (now - 8 * DAY, now - 8 * DAY))
    assert retention(store, now, 7 * DAY) == Kept(0, 0, 2, 3, 4)
    assert {each.sha256 for each in store.uploads.page("ann")} == {sha(b"used"), sha(b"going on")}


def test_what_was_just_put_is_not_swept(store: Store) -> None:
    """Between a content and the record that refers to it lies a moment."""
    now = time.time()
    fresh = store.blobs.put(b"fresh")
    stale = store.blobs.put(b"a checkpoint of old")
    os.utime(store.blobs._path(stale), (now - 2 * GRACE_SECONDS,) * 2)
    assert retention(store, now, DAY).bytes_freed == 19
    assert store.blobs.read(fresh) == b"fresh"
    assert store.blobs.size(stale) is None


def test_the_oldest_go_for_want_of_space(store: Store) -> None:
    now = time.time()
    for number in range(10):
        ended(store, f"job-{number}", now - 10_000 + number)
    store.jobs.create(record("queued", spec_blob=store.blobs.put(bytes(1000))))
    assert store.blobs.used == 21_000
    done = retention(store, now, DAY, disk_budget=12_000)
    assert done == Kept(0, 5, 0, 10_000, 11_000)
    assert names(store) == {f"job-{number}" for number in range(5, 10)} | {"queued"}
    assert retention(store, now, DAY, disk_budget=12_000) == Kept(0, 0, 0, 0, 11_000)


def test_contents_that_several_refer_to_are_counted_until_the_last(store: Store) -> None:
    now = time.time()
    shared = store.blobs.put(bytes(5000))
    os.utime(store.blobs._path(shared), (now - 9000,) * 2)
    for number in range(4):
        store.jobs.create(
            record(
                f"job-{number}", state=JobState.failed, end_time=now - 9000 + number, spec_blob=shared, create_time=1.0
            )
        )
    ended(store, "last", now - 5000)
    assert retention(store, now, DAY, disk_budget=2000) == Kept(0, 4, 0, 5000, 2000)
    assert names(store) == {"last"}


def test_no_budget_touches_what_goes_on(store: Store) -> None:
    now = time.time()
    store.jobs.create(record("queued", spec_blob=store.blobs.put(bytes(1000))))
    store.jobs.create(record("running", state=JobState.running, spec_blob=store.blobs.put(bytes(999))))
    upload(store, "ann", bytes(998))
    ended(store, "just", now - 1)
    done = retention(store, now, DAY, disk_budget=0)
    assert (done.jobs_for_space, done.bytes_freed) == (0, 0)
    assert names(store) == {"queued", "running", "just"}


def test_many_small_jobs_are_removed_in_one_call(tmp_path: Path) -> None:
    now, jobs = time.time(), 120  # more than it looks at in one go
    with open_store(tmp_path / "data") as store:
        for number in range(jobs):
            ended(store, f"job-{number}", now - 10_000 + number, size=100)
        done = retention(store, now, DAY, disk_budget=1000)
        assert (done.jobs_for_space, done.bytes_used) == (jobs - 5, 1000)
