"""What is kept of a job, and what a store of jobs does. No SQL here, no gRPC, no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol


class JobState(Enum):
    """Where a job stands; the names are those of the wire's `JobState`."""

    queued = "queued"
    running = "running"
    succeeded = "succeeded"
    failed = "failed"
    cancelled = "cancelled"

    @property
    def over(self) -> bool:
        """Is this an end?"""
        return self in (JobState.succeeded, JobState.failed, JobState.cancelled)


@dataclass(frozen=True)
class JobRecord:
    """One job as it is kept. Times are seconds since 1970.

    Attributes:
        client: whose job it is; nobody else sees it.
        request_id: chosen by the client, unique among its jobs; empty: none.
        request_sha256: of the canonical request, to tell a repetition from another request.
        summary: the wire's `JobSpec` without pictures and latents, serialized.
        spec_blob: hash of the whole `JobSpec`.
        artifacts: hashes of the client's uploaded files that it refers to.
        files: of its result: name → hash.
        bulk: runs beside others for throughput.
        checkpoint_blob, result_blob: hashes; empty: none.
        progress: the newest wire `Progress`, serialized; empty: none.
        error_status, error_message: why it failed.
        sequence: no event with a larger number has been told to anybody.
        strikes: workers that died while it ran.
    """

    job_id: str
    client: str
    request_id: str
    request_sha256: str
    state: JobState
    summary: bytes
    spec_blob: str
    bulk: bool
    create_time: float
    labels: Mapping[str, str] = field(default_factory=dict)
    artifacts: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    start_time: float | None = None
    end_time: float | None = None
    checkpoint_blob: str = ""
    result_blob: str = ""
    progress: bytes = b""
    error_status: str = ""
    error_message: str = ""
    sequence: int = 0
    strikes: int = 0


class JobStore(Protocol):
    """Durable jobs: when a call returns, what it did survives the loss of power. Safe to use from several threads.

    Any call may raise UnavailableError (the database does not answer, try again), and any that writes LimitError (the
    disk is full); then nothing was changed, and the store works on.
    """

    def create(self, record: JobRecord) -> tuple[JobRecord, bool]:
        """Keep a new job, or find the one that the same client made before with the same request_id.

        Returns:
            (the job that is kept, True if it is the new one)
        Raises:
            AlreadyExistsError: the request_id stands for another request (another `request_sha256`).
            NotFoundError: one of its artifacts is no complete upload of this client; nothing is kept.
            LimitError: the disk is full; nothing is kept.
        """

    def find(self, client: str, request_id: str) -> JobRecord | None:
        """The job that a client made with this request_id; None if there is none."""

    def get(self, job_id: str, client: str | None = None) -> JobRecord | None:
        """One job; None if there is none, or it is another client's. `client` None: anybody's."""

    def page(
        self,
        client: str,
        states: Sequence[JobState] = (),
        labels: Mapping[str, str] | None = None,
        limit: int = 50,
        after: tuple[float, str] | None = None,
    ) -> list[JobRecord]:
        """Newest first; `after`: (create_time, job_id) of the last one of the page before."""

    def unfinished(self) -> list[JobRecord]:
        """All that are queued or running, oldest first, for a start after a crash."""

    def start(self, job_id: str, now: float) -> bool:
        """queued -> running; False if it was not queued. Keeps the first `start_time`."""

    def requeue(self, job_id: str, strike: bool) -> int:
        """running -> queued, with one more strike if asked; returns the strikes. A job that is over stays so."""

    def save(self, job_id: str, *, sequence: int, progress: bytes | None = None, checkpoint_blob: str = "") -> bool:
        """Keep how far an unfinished job is; what is None or empty stays. False if it is over or gone."""

    def finish(
        self,
        job_id: str,
        state: JobState,
        now: float,
        *,
        sequence: int,
        result_blob: str = "",
        files: Mapping[str, str] | None = None,
        progress: bytes | None = None,
        error_status: str = "",
        error_message: str = "",
    ) -> bool:
        """End a job, once: True for the call that did it. Forgets its checkpoint."""

    def file(self, client: str, sha256: str) -> tuple[str, str] | None:
        """A file of a result of this client's, by its hash: (job_id, name); None if there is none."""

    def delete(self, job_id: str, client: str) -> bool:
        """Remove a job that is over; False if there is no such job of this client.

        Raises:
            StateError: it is not over.
        """

    def expire(self, before: float) -> int:
        """Remove jobs that ended before `before`; returns how many."""

    def oldest_over(self, limit: int) -> list[JobRecord]:
        """Jobs that are over, those that ended first first; for a disk budget."""

    def counts(self, client: str | None = None) -> Mapping[JobState, int]:
        """How many jobs there are in each state."""

    def blobs(self) -> set[str]:
        """Hashes of all blobs that a job or an upload refers to."""

    def close(self) -> None:
        """Give back what is held."""


class Blobs(Protocol):
    """Content-addressed files. Safe to use from several threads."""

    def put(self, data: bytes, *, needed: bool = False) -> str:
        """Keep `data`, durably and whole or not at all; returns its SHA-256 in lowercase hexadecimal.

        Args:
            needed: belongs to a job that was accepted (result, checkpoint), so that the disk budget does not stop it.
        Raises:
            LimitError: the disk is full, or the disk budget is used up.
        """

    def read(self, sha256: str) -> bytes:
        """The whole content, its hash checked.

        Raises:
            NotFoundError: there is none. InternalError: it is damaged.
        """

    def piece(self, sha256: str, offset: int, size: int) -> bytes:
        """Part of the content, for downloads."""

    def size(self, sha256: str) -> int | None:
        """Bytes, or None if it is not there."""

    def sweep(self, keep: set[str], older_than: float) -> int:
        """Remove what is not in `keep` and was written before `older_than`; returns the bytes that were freed."""

    @property
    def used(self) -> int:
        """Bytes on disk."""
