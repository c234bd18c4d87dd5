"""What one client may have at once. Plain functions: who asks has the counts."""

from __future__ import annotations

from collections.abc import Mapping

from latent_inv.errors import LimitError
from latent_inv_server.store.records import JobState

from .identity import Caller, Quotas

#: when a refused client may try again, in seconds
_RETRY_QUEUED, _RETRY_UPLOAD, _RETRY_CALLS = 5.0, 60.0, 1.0


def check_queued(caller: Caller, counts: Mapping[JobState, int]) -> None:
    """May this client have one more job that waits?

    Args:
        counts: its jobs by state.
    Raises:
        LimitError: as many wait as may.
    """
    most, found = caller.quotas.queued_jobs, counts.get(JobState.queued, 0)
    if most is not None and found >= most:
        text = f"{found} of your jobs are waiting, at most {most} may; try again when one has started"
        raise LimitError(text, retry_after=_RETRY_QUEUED if most else None)


def may_run(quotas: Quotas, running: int) -> bool:
    """May one more job of a client of which `running` run be started? If not it waits, which is no error."""
    return quotas.running_jobs is None or running < quotas.running_jobs


def check_upload(caller: Caller, used: int, more: int) -> None:
    """May this client send `more` bytes?

    Args:
        used: bytes that it has here already.
    Raises:
        LimitError: not now, or, without `retry_after`, never.
    """
    most = caller.quotas.upload_bytes
    if most is not None and used + more > most:
        text = f"{more} bytes more would make {used + more}, at most {most} of yours may be here; delete some first"
        raise LimitError(text, retry_after=_RETRY_UPLOAD if more <= most else None)


class Calls:
    """Open calls, counted for each client. Used on one event loop.

    Args:
        most: of all clients.
        most_each: of one client; None: no limit of its own.
    """

    def __init__(self, most: int, most_each: int | None) -> None:
        self._most, self._most_each = most, most_each
        self._open: dict[str, int] = {}
        self.total = 0

    def enter(self, name: str) -> None:
        """One more call of a client.

        Raises:
            LimitError: too many are open.
        """
        mine = self._open.get(name, 0)
        if self._most_each is not None and mine >= self._most_each:
            raise LimitError(
                f"{mine} of your calls are open, at most {self._most_each} may be; try again later",
                retry_after=_RETRY_CALLS,
            )
        if self.total >= self._most:
            raise LimitError(
                f"{self.total} calls are open, which is the most here; try again later", retry_after=_RETRY_CALLS
            )
        self._open[name] = mine + 1
        self.total += 1

    def leave(self, name: str) -> None:
        """A call that was let in is over."""
        self.total -= 1
        self._open[name] -= 1
        if not self._open[name]:
            del self._open[name]
