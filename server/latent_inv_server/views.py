"""Jobs as they are told: records as messages, and where a page of a list ended as a token."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from latent_inv.convert.settings import enum_name, enum_number
from latent_inv.errors import at
from latent_inv.v1 import job_pb2
from latent_inv.v1 import job_service_pb2 as wire

from .pages import read_place, write_place
from .store.records import JobRecord, JobState

_STATE = wire.JobState.DESCRIPTOR


def job_message(record: JobRecord, result: bytes = b"") -> wire.Job:
    """The message of a job.

    Args:
        result: the wire's `JobResult`, serialized; empty: left out.
    """
    return wire.Job(
        job_id=record.job_id,
        request_id=record.request_id,
        state=enum_number(_STATE, record.state.value, "state"),  # type: ignore[arg-type]
        spec=job_pb2.JobSpec.FromString(record.summary),
        labels=dict(record.labels),
        create_time=_time(record.create_time),
        start_time=_time(record.start_time),
        end_time=_time(record.end_time),
        progress=job_pb2.Progress.FromString(record.progress) if record.progress else None,
        result=job_pb2.JobResult.FromString(result) if result else None,
        error_message=record.error_message,
        sequence=record.sequence,
        artifacts=dict(record.files),
    )


def _time(seconds: float | None) -> Timestamp | None:
    if seconds is None:
        return None
    stamp = Timestamp()
    stamp.FromNanoseconds(round(seconds * 1e6) * 1000)
    return stamp


def read_states(numbers: Iterable[int]) -> tuple[JobState, ...]:
    """States of a filter; empty: any.

    Raises:
        InputError: this version knows no such state.
    """
    with at("states"):
        names = {enum_name(_STATE, number, "") for number in numbers}
    return () if "" in names else tuple(state for state in JobState if state.value in names)


def write_page_token(last: JobRecord, states: Sequence[JobState], labels: Mapping[str, str]) -> str:
    """Where the next page of this list goes on; opaque to clients."""
    return write_place(last.create_time, last.job_id, _filter_of(states, labels))


def read_page_token(token: str, states: Sequence[JobState], labels: Mapping[str, str]) -> tuple[float, str] | None:
    """The inverse; None: the first page.

    Raises:
        InputError: it is no token of this server, or one of another list.
    """
    return read_place(token, _filter_of(states, labels))


def _filter_of(states: Sequence[JobState], labels: Mapping[str, str]) -> str:
    text = json.dumps([sorted(state.value for state in states), dict(labels)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
