"""What both clients share about jobs: the job as a value, requests, and how a watcher follows one over broken lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp

from latent_inv import convert
from latent_inv.convert.settings import enum_name, enum_number
from latent_inv.errors import LatentInvError, SpecError, UnavailableError, unknown_name
from latent_inv.result import JobResult, Preview, Progress
from latent_inv.spec import DEFAULT_GENERATOR
from latent_inv.v1 import job_service_pb2 as wire

from .patience import Patience

_STATE = wire.JobState.DESCRIPTOR
#: in the order in which a job passes them; it ends in one of the last three
STATES = ("queued", "running", "succeeded", "failed", "cancelled")
OVER = STATES[2:]


@dataclass(frozen=True)
class Job:
    """A job as the server keeps it.

    Attributes:
        request_id: what its maker chose; empty: none.
        state: "queued", "running", "succeeded", "failed" or "cancelled".
        settings: what was asked for, without pictures and latents, as in the wire's `JobSpec`.
        start_time: of its first worker; None before. end_time: None before.
        progress: the newest; None before the first step.
        result: of a job that succeeded, or was cancelled after its first step; None in lists.
        error: why it failed, one sentence; empty: it did not.
        sequence: number of its newest event, to watch it from there.
        artifacts: files of its result for `download`: name, e.g. "reconstruction.png" → hash.
    """

    job_id: str
    request_id: str
    state: str
    settings: Mapping[str, Any]
    labels: Mapping[str, str]
    create_time: datetime
    start_time: datetime | None
    end_time: datetime | None
    progress: Progress | None
    result: JobResult | None
    error: str
    sequence: int
    artifacts: Mapping[str, str] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        """Has it ended, well or not?"""
        return self.state in OVER

    @property
    def generator(self) -> str:
        """The generator that was asked for."""
        return str(self.settings.get("generator", DEFAULT_GENERATOR))

    @property
    def seconds(self) -> float | None:
        """How long it has run, from its first worker to its end or until now; None before."""
        if self.start_time is None:
            return None
        return ((self.end_time or datetime.now(timezone.utc)) - self.start_time).total_seconds()

    def to_json(self) -> dict[str, Any]:
        """Plain values, without pixels and latents."""
        times = {name: getattr(self, name) for name in ("create_time", "start_time", "end_time")}
        progress = self.progress
        return {
            "job_id": self.job_id,
            "request_id": self.request_id,
            "state": self.state,
            "labels": dict(self.labels),
            **{name: None if value is None else value.isoformat() for name, value in times.items()},
            "step": None if progress is None else progress.latest.step,
            "total_steps": None if progress is None else progress.total_steps,
            "psnr_db": None if progress is None else progress.best.psnr_db,
            "lpips": None if progress is None else progress.best.lpips,
            "error": self.error,
            "artifacts": dict(self.artifacts),
            "settings": dict(self.settings),
            "result": None if self.result is None else self.result.to_json(),
        }


Followed = Progress | Preview | Job


def job_from(message: wire.Job) -> Job:
    """The job of a message."""
    progress = message.progress if message.HasField("progress") else None
    return Job(
        job_id=message.job_id,
        request_id=message.request_id,
        state=enum_name(_STATE, message.state, "state"),
        settings=MessageToDict(message.spec, preserving_proto_field_name=True),
        labels=dict(message.labels),
        create_time=_time(message.create_time),
        start_time=_time(message.start_time) if message.HasField("start_time") else None,
        end_time=_time(message.end_time) if message.HasField("end_time") else None,
        progress=None if progress is None else convert.progress_from(progress, message.job_id, message.sequence),
        result=convert.result_from(message.result) if message.HasField("result") else None,
        error=message.error_message,
        sequence=message.sequence,
        artifacts=dict(message.artifacts),
    )


def _time(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(tzinfo=timezone.utc)


def list_request(states: Sequence[str], labels: Mapping[str, str] | None, size: int) -> wire.ListJobsRequest:
    """The request of the first page.

    Raises:
        SpecError: a state that is none.
    """
    numbers: list[Any] = []
    for state in (states,) if isinstance(states, str) else states:
        if state not in STATES:
            raise unknown_name("state", str(state), list(STATES), field="states")
        numbers.append(enum_number(_STATE, state, "states"))
    return wire.ListJobsRequest(states=numbers, labels=labels or {}, page_size=size)


def page_size(limit: int | None) -> int:
    """How many jobs to ask for at once; 0 leaves it to the server.

    Raises:
        SpecError: no number of jobs.
    """
    if limit is not None and limit < 1:
        raise SpecError(f"must be ≥ 1, found {limit}", field="limit")
    return 0 if limit is None else min(limit, 1000)


class Follower:
    """Where a watcher is in a job, over all the lines that it needs for that. Steps never go back.

    Args:
        after: number of the last event that is known.
        patience: seconds without a word from the server after which it is given up.
    """

    def __init__(self, job_id: str, after: int, patience: float) -> None:
        self.job_id, self.sequence, self._patience = job_id, after, Patience(patience)
        self._step = -1

    def request(self) -> wire.WatchJobRequest:
        """Asks for what is not known yet."""
        return wire.WatchJobRequest(job_id=self.job_id, after_sequence=self.sequence)

    def take(self, message: wire.WatchJobResponse) -> Followed | None:
        """What a message says; None if it is nothing new."""
        self._patience.heard()
        kind = message.WhichOneof("event")
        if kind == "finished":
            return job_from(message.finished)
        if message.sequence <= self.sequence:
            return None
        self.sequence = message.sequence
        if kind == "preview":
            return convert.preview_from(message.preview, self.job_id, message.sequence)
        # A server that was killed does a few steps again.
        if kind != "progress" or message.progress.latest.step <= self._step:
            return None
        self._step = message.progress.latest.step
        return convert.progress_from(message.progress, self.job_id, message.sequence)

    def pause(self, error: LatentInvError) -> float:
        """How long to wait before the next line, in seconds; raises `error` once patience is used up."""
        return self._patience.pause(error)


def no_end() -> UnavailableError:
    """The error of a stream that ended without the end of its job."""
    return UnavailableError("the stream ended before the job did", retry_after=0.1)
