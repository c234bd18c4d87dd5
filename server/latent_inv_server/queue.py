"""Whose job is next. Pure bookkeeping: no clock, no store, no engine.

Interactive jobs go before bulk ones, but one of `BULK_EVERY` is a bulk job while any waits, so that they never starve.
Between clients, the one with the fewest running jobs is next, and of those the one that was served longest ago. Jobs of
one client and one kind go in the order in which they came.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable

#: one job of so many is a bulk job, if there are both
BULK_EVERY = 4


class Queue:
    """Jobs that wait, and how many jobs of each client run.

    Args:
        most_running: client → most jobs that it may have running; None: as many as there are.
    """

    def __init__(self, most_running: Callable[[str], int | None] = lambda _client: None) -> None:
        self._most_running = most_running
        # For each kind: client → its jobs, oldest first.
        self._waiting: dict[bool, dict[str, OrderedDict[str, None]]] = {False: {}, True: {}}
        self._places: dict[str, tuple[bool, str]] = {}
        self._running: Counter[str] = Counter()
        self._served: dict[str, int] = {}
        self._turn = 0
        self._passed_over = 0

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._places

    @property
    def taken(self) -> int:
        """How many jobs run."""
        return self._running.total()

    def count(self, bulk: bool) -> int:
        """How many jobs of a kind wait. May be asked from another thread."""
        return sum(map(len, list(self._waiting[bulk].values())))

    def waiting(self, client: str) -> int:
        """How many jobs of a client wait."""
        return sum(len(clients.get(client, ())) for clients in self._waiting.values())

    def running(self, client: str) -> int:
        """How many jobs of a client were taken and not given back."""
        return self._running[client]

    def places(self, client: str, free: int) -> int:
        """How many of `free` places a client may take."""
        most = self._most_running(client)
        return free if most is None else max(0, min(free, most - self._running[client]))

    def add(self, job_id: str, client: str, bulk: bool, *, first: bool = False) -> None:
        """Let a job wait.

        Args:
            first: before the others of its client and kind, since it had its turn already.
        """
        jobs = self._waiting[bulk].setdefault(client, OrderedDict())
        jobs[job_id] = None
        if first:
            jobs.move_to_end(job_id, last=False)
        self._places[job_id] = (bulk, client)

    def remove(self, job_id: str) -> bool:
        """Take a job out; False if it does not wait."""
        place = self._places.pop(job_id, None)
        if place is None:
            return False
        bulk, client = place
        jobs = self._waiting[bulk][client]
        del jobs[job_id]
        if not jobs:
            del self._waiting[bulk][client]
        self._forget(client)
        return True

    def take(self) -> str | None:
        """The next job, which counts as running from now on; None if none may run."""
        bulk_is_due = self._passed_over >= BULK_EVERY - 1
        for bulk in (True, False) if bulk_is_due else (False, True):
            client = self._next_client(bulk)
            if client is None:
                continue
            job_id = next(iter(self._waiting[bulk][client]))
            if bulk:
                self._passed_over = 0
            elif self._next_client(True) is not None:
                self._passed_over += 1
            self._turn += 1
            self._served[client] = self._turn
            self.enter(client)
            self.remove(job_id)
            return job_id
        return None

    def enter(self, client: str) -> None:
        """A job of a client runs, whether or not it waited here."""
        self._running[client] += 1

    def leave(self, client: str) -> None:
        """A job that was running is over, or waits again."""
        self._running[client] -= 1
        self._forget(client)

    def _next_client(self, bulk: bool) -> str | None:
        able = [client for client in self._waiting[bulk] if self._may_run(client)]
        if not able:
            return None
        return min(able, key=lambda client: (self._running[client], self._served.get(client, 0)))

    def _may_run(self, client: str) -> bool:
        most = self._most_running(client)
        return most is None or self._running[client] < most

    def _forget(self, client: str) -> None:
        # Names of clients that are gone must not pile up.
        if self._running[client] <= 0:
            del self._running[client]
            if not any(client in clients for clients in self._waiting.values()):
                self._served.pop(client, None)
