"""Records and uploads as tests want them."""

from __future__ import annotations

import hashlib
from typing import Any

from latent_inv_server.store.folder import Store
from latent_inv_server.store.records import JobRecord, JobState
from latent_inv_server.store.uploads import Upload


def record(job_id: str = "job", **values: Any) -> JobRecord:
    """A queued job without anything special."""
    given: dict[str, Any] = {
        "client": "ann",
        "request_id": "",
        "request_sha256": "1" * 64,
        "state": JobState.queued,
        "summary": b"summary",
        "spec_blob": hashlib.sha256(job_id.encode()).hexdigest(),
        "bulk": False,
        "create_time": 1.0,
    }
    return JobRecord(job_id, **{**given, **values})


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def upload(store: Store, client: str, data: bytes, now: float = 1.0) -> Upload:
    """A finished upload."""
    store.uploads.begin(client, sha(data), len(data), "image/png", now)
    store.uploads.append(client, sha(data), 0, data, now)
    return store.uploads.complete(client, sha(data), now)
