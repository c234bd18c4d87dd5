"""The life of jobs as figures and spans. Told by those who do the work, in the order in which it happens."""

from __future__ import annotations

import time
from dataclasses import dataclass

from latent_inv_server.store.records import JobRecord

from .meters import Meters
from .traces import JobSpan, Traces


@dataclass(eq=False)
class _Open:
    """A job that is not over.

    Attributes:
        waits: it had no turn yet.
    """

    span: JobSpan
    waits: bool


class JobsTold:
    """Used on one event loop."""

    def __init__(self, meters: Meters, traces: Traces) -> None:
        self._meters, self._traces = meters, traces
        self._open: dict[str, _Open] = {}

    def accepted(self, record: JobRecord) -> None:
        """A new job is kept."""
        self._meters.job_accepted(_priority(record))

    def adopted(self, record: JobRecord) -> None:
        """A job that is not over is in good hands, new or from an earlier run of the server."""
        span = self._traces.job(record.job_id, _priority(record))
        self._open[record.job_id] = _Open(span, record.start_time is None)

    def runs(self, record: JobRecord, resumed: bool) -> None:
        """It is given to the engine, from its beginning or a checkpoint."""
        job = self._open.get(record.job_id)
        if job is None:
            return
        if job.waits:
            job.waits = False
            began = record.start_time or time.time()
            self._meters.job_started(_priority(record), began - record.create_time)
        job.span.runs(resumed)

    def interrupted(self, record: JobRecord, reason: str) -> None:
        """The engine has it no longer, though it is not over; the reason is a word for figures."""
        self._meters.job_interrupted(reason)
        job = self._open.get(record.job_id)
        if job is not None:
            job.span.stops(reason)

    def ended(self, record: JobRecord, state: str, outcome: str, steps: int) -> None:
        """It is over.

        Args:
            state: "succeeded", "failed" or "cancelled".
            outcome: why its search ended; the state again if there was none.
        """
        # Of its first turn, also where an earlier run of the server had that.
        seconds = 0.0 if record.start_time is None else (record.end_time or time.time()) - record.start_time
        self._meters.job_ended(outcome, seconds)
        job = self._open.pop(record.job_id, None)
        if job is not None:
            job.span.end(state, outcome, steps)

    def close(self) -> None:
        """End what is open: those jobs go on in another run of the server."""
        for job in self._open.values():
            job.span.end("unfinished", "the server stopped", 0)
        self._open.clear()


def _priority(record: JobRecord) -> str:
    return "bulk" if record.bulk else "interactive"
