"""What is old goes: jobs that are over, uploads nobody uses, contents nothing refers to."""

from __future__ import annotations

from dataclasses import dataclass

from .folder import Store
from .records import JobRecord

#: seconds after which an unfinished upload without a new piece is given up
PARTIAL_SECONDS = 24 * 3600.0
#: seconds in which a content that was put may be without anything that refers to it, as whoever put it is about to
GRACE_SECONDS = 120.0
_AT_ONCE = 100


@dataclass(frozen=True)
class Kept:
    """What a call of `retention` did, and what it left.

    Attributes:
        jobs_expired: jobs that were over for longer than they are kept.
        jobs_for_space: jobs removed before their time for want of space.
        uploads_expired: unfinished and unused ones.
        bytes_freed, bytes_used: of contents.
    """

    jobs_expired: int
    jobs_for_space: int
    uploads_expired: int
    bytes_freed: int
    bytes_used: int


def retention(
    store: Store,
    now: float,
    keep_seconds: float,
    disk_budget: int | None = None,
    partial_seconds: float = PARTIAL_SECONDS,
    grace_seconds: float = GRACE_SECONDS,
) -> Kept:
    """Remove what is past its time, then the oldest jobs that are over until the contents fit the budget.

    Jobs that are not over, and what they need, are never touched; nor is what is younger than `grace_seconds`. So the
    budget may be passed for that long, or by jobs that are not over.

    Args:
        now: seconds since 1970.
        keep_seconds: how long a job is kept after its end, and a finished upload after its last use.
        disk_budget: bytes of contents; None: no limit.
        partial_seconds: how long an unfinished upload may rest.
    Raises:
        LimitError: the disk is so full that nothing can be noted down; contents without a reference are gone by then.
        UnavailableError: the database does not answer.
    """
    # First what takes no note: on a full disk it makes the room for those that follow.
    freed = _sweep(store, now - grace_seconds)
    jobs = store.jobs.expire(now - keep_seconds)
    uploads = store.uploads.expire(now - partial_seconds, now - keep_seconds)
    if jobs or uploads:
        freed += _sweep(store, now - grace_seconds)
    for_space = 0
    while disk_budget is not None and store.blobs.used > disk_budget:
        removed = _make_room(store, store.blobs.used - disk_budget, now - grace_seconds)
        if not removed:
            break
        for_space += removed
        freed += _sweep(store, now - grace_seconds)
    return Kept(jobs, for_space, uploads, freed, store.blobs.used)


def _sweep(store: Store, older_than: float) -> int:
    # The names are read after the time was fixed: a content that is put from now on is too young to be swept.
    return store.blobs.sweep(store.jobs.blobs(), older_than)


def _make_room(store: Store, wanted: int, ended_before: float) -> int:
    """Delete the oldest jobs that hold about `wanted` bytes; returns how many."""
    removed = found = 0
    for job in store.jobs.oldest_over(_AT_ONCE):
        if found >= wanted or (job.end_time or 0.0) >= ended_before:
            break
        if store.jobs.delete(job.job_id, job.client):
            removed += 1
            found += _held(store, job)
    return removed


def _held(store: Store, job: JobRecord) -> int:
    # Contents that others refer to as well stay, so this may be too much; the caller looks again.
    names = {job.spec_blob, job.result_blob, *job.artifacts, *job.files.values()}
    return sum(store.blobs.size(name) or 0 for name in names)
