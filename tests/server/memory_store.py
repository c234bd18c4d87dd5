"""A store without a disk: what a service keeps as long as the test runs, over restarts of the server in it."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from latent_inv.errors import AlreadyExistsError, NotFoundError, StateError
from latent_inv_server.store.records import JobRecord, JobState


class MemoryJobs:
    """`JobStore` in a dictionary. `fault`, if set, is called with the name of each call first, and may raise."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.records: dict[str, JobRecord] = {}
        self.fault: Callable[[str], Any] = lambda _name: None

    def create(self, record: JobRecord) -> tuple[JobRecord, bool]:
        self.fault("create")
        with self._lock:
            found = self._find(record.client, record.request_id) if record.request_id else None
            if found is None:
                self.records[record.job_id] = record
                return record, True
            if found.request_sha256 != record.request_sha256:
                raise AlreadyExistsError("another request", field="request_id")
            return found, False

    def _find(self, client: str, request_id: str) -> JobRecord | None:
        kept = self.records.values()
        return next((job for job in kept if (job.client, job.request_id) == (client, request_id)), None)

    def find(self, client: str, request_id: str) -> JobRecord | None:
        self.fault("find")
        with self._lock:
            return self._find(client, request_id)

    def get(self, job_id: str, client: str | None = None) -> JobRecord | None:
        self.fault("get")
        record = self.records.get(job_id)
        return record if record is not None and client in (None, record.client) else None

    def page(
        self,
        client: str,
        states: Sequence[JobState] = (),
        labels: Mapping[str, str] | None = None,
        limit: int = 50,
        after: tuple[float, str] | None = None,
    ) -> list[JobRecord]:
        def wanted(job: JobRecord) -> bool:
            mine = job.client == client and (not states or job.state in states)
            labelled = all(job.labels.get(key) == value for key, value in (labels or {}).items())
            return mine and labelled and (after is None or (job.create_time, job.job_id) < after)

        with self._lock:
            found = [job for job in self.records.values() if wanted(job)]
        return sorted(found, key=lambda job: (job.create_time, job.job_id), reverse=True)[:limit]

    def unfinished(self) -> list[JobRecord]:
        return sorted((job for job in self.records.values() if not job.state.over), key=lambda job: job.create_time)

    def _change(self, job_id: str, allowed: tuple[JobState, ...], **changes: Any) -> bool:
        with self._lock:
            record = self.records.get(job_id)
            if record is None or record.state not in allowed:
                return False
            self.records[job_id] = replace(record, **changes)
            return True

    def start(self, job_id: str, now: float) -> bool:
        self.fault("start")
        record = self.records.get(job_id)
        began = now if record is None or record.start_time is None else record.start_time
        return self._change(job_id, (JobState.queued,), state=JobState.running, start_time=began)

    def requeue(self, job_id: str, strike: bool) -> int:
        self.fault("requeue")
        strikes = self.records[job_id].strikes + strike
        self._change(job_id, (JobState.running,), state=JobState.queued, strikes=strikes)
        return strikes

    def save(self, job_id: str, *, sequence: int, progress: bytes | None = None, checkpoint_blob: str = "") -> bool:
        self.fault("save")
        changes: dict[str, Any] = {"sequence": sequence}
        changes |= {} if progress is None else {"progress": progress}
        changes |= {"checkpoint_blob": checkpoint_blob} if checkpoint_blob else {}
        return self._change(job_id, (JobState.queued, JobState.running), **changes)

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
        self.fault("finish")
        changes: dict[str, Any] = {"error_status": error_status, "error_message": error_message}
        changes |= {"state": state, "end_time": now, "sequence": sequence, "result_blob": result_blob}
        changes |= {} if progress is None else {"progress": progress}
        changes |= {"files": dict(files or {})}
        return self._change(job_id, (JobState.queued, JobState.running), checkpoint_blob="", **changes)

    def file(self, client: str, sha256: str) -> tuple[str, str] | None:
        for job in self.records.values():
            for name, found in job.files.items():
                if (job.client, found) == (client, sha256):
                    return job.job_id, name
        return None

    def delete(self, job_id: str, client: str) -> bool:
        with self._lock:
            record = self.records.get(job_id)
            if record is None or record.client != client:
                return False
            if not record.state.over:
                raise StateError("the job is not over; cancel it first", field="job_id")
            del self.records[job_id]
            return True

    def expire(self, before: float) -> int:
        with self._lock:
            old = [job.job_id for job in self.records.values() if job.end_time is not None and job.end_time < before]
            for job_id in old:
                del self.records[job_id]
            return len(old)

    def oldest_over(self, limit: int) -> list[JobRecord]:
        over = [job for job in self.records.values() if job.state.over]
        return sorted(over, key=lambda job: job.end_time or 0)[:limit]

    def counts(self, client: str | None = None) -> Mapping[JobState, int]:
        return Counter(job.state for job in self.records.values() if client in (None, job.client))

    def blobs(self) -> set[str]:
        names = {
            name
            for job in self.records.values()
            for name in (job.spec_blob, job.checkpoint_blob, job.result_blob, *job.artifacts, *job.files.values())
        }
        return names - {""}

    def close(self) -> None:
        pass


class MemoryBlobs:
    """`Blobs` in a dictionary."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.fault: Callable[[str], Any] = lambda _name: None

    def put(self, data: bytes, *, needed: bool = False) -> str:
        self.fault("put")
        name = hashlib.sha256(data).hexdigest()
        self.contents[name] = data
        return name

    def read(self, sha256: str) -> bytes:
        if sha256 not in self.contents:
            raise NotFoundError("there is no such content")
        return self.contents[sha256]

    def piece(self, sha256: str, offset: int, size: int) -> bytes:
        return self.read(sha256)[offset : offset + size]

    def size(self, sha256: str) -> int | None:
        return len(self.contents[sha256]) if sha256 in self.contents else None

    def sweep(self, keep: set[str], older_than: float) -> int:
        gone = self.contents.keys() - keep
        return sum(len(self.contents.pop(name)) for name in gone)

    @property
    def used(self) -> int:
        return sum(map(len, self.contents.values()))


class NoUploads:
    """Nobody has uploaded anything; tests that do so take the real store."""

    def get(self, client: str, sha256: str) -> None:
        return None


class MemoryStore:
    """Jobs and blobs; outlives the servers that use it."""

    def __init__(self) -> None:
        self.jobs, self.blobs, self.uploads = MemoryJobs(), MemoryBlobs(), NoUploads()
        self.closed = 0

    def close(self) -> None:
        self.closed += 1

    def only(self) -> JobRecord:
        """The one job that there is."""
        (record,) = self.jobs.records.values()
        return record
