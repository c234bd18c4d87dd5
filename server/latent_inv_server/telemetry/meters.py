"""What is counted as it happens. Each server has a registry of its own, so that two in one process do not mix.

Labels have few values: methods, codes, outcomes, priorities. Never names of clients or jobs, of which there is no end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.registry import Collector

from latent_inv.errors import LatentInvError
from latent_inv.result import Outcome

#: ends of the ranges of histograms, in seconds
CALL_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
JOB_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 300, 600, 1800, 3600, 4 * 3600)


#: kinds of jobs
PRIORITIES = ("interactive", "bulk")
#: why a run in the engine ends before its job
INTERRUPTIONS = ("worker_lost", "no_worker", "no_room")


class Meters:
    """Figures that others report. Safe to use from several threads."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=registry)
        self._info = Gauge(
            "latent_inv_build_info", "1, with the version of the server.", ["version"], registry=registry
        )
        self._info.labels(_version()).set(1)
        self._calls = Counter(
            "latent_inv_calls", "Calls that are over, by gRPC status code.", ["method", "code"], registry=registry
        )
        self._open = Gauge("latent_inv_calls_open", "Calls that are open now.", ["method"], registry=registry)
        self._seconds = Histogram(
            "latent_inv_call_seconds",
            "Seconds from the begin of a call to its end.",
            ["method"],
            buckets=CALL_SECONDS,
            registry=registry,
        )
        self._received = Counter(
            "latent_inv_received_bytes", "Bytes of messages from clients.", ["method"], registry=registry
        )
        self._sent = Counter("latent_inv_sent_bytes", "Bytes of messages to clients.", ["method"], registry=registry)
        self._rejects = Counter(
            "latent_inv_rejects", "Calls that ended in an error of ours, by its reason.", ["reason"], registry=registry
        )
        self._accepted = Counter(
            "latent_inv_jobs_accepted", "Jobs that were accepted.", ["priority"], registry=registry
        )
        self._waits = Histogram(
            "latent_inv_job_wait_seconds",
            "Seconds that a job waited for its turn.",
            ["priority"],
            buckets=JOB_SECONDS,
            registry=registry,
        )
        self._jobs = Histogram(
            "latent_inv_job_seconds",
            "Seconds from the first turn of a job to its end, by outcome.",
            ["outcome"],
            buckets=JOB_SECONDS,
            registry=registry,
        )
        self._interrupted = Counter(
            "latent_inv_jobs_interrupted",
            "Runs that ended before their jobs did, which were queued again.",
            ["reason"],
            registry=registry,
        )

    def collect(self, collector: Collector) -> None:
        """Add figures that are read when somebody asks for them."""
        self.registry.register(collector)

    # ---- calls -----------------------------------------------------------------------------------

    def call_began(self, method: str) -> None:
        """A call of a method that there is, "SERVICE/METHOD"."""
        self._open.labels(method).inc()

    def call_ended(self, method: str, code: str, seconds: float, received: int, sent: int) -> None:
        """The call is over.

        Args:
            code: name of the status code.
            received, sent: bytes of messages.
        """
        self._open.labels(method).dec()
        self._calls.labels(method, code).inc()
        self._seconds.labels(method).observe(seconds)
        self._received.labels(method).inc(received)
        self._sent.labels(method).inc(sent)

    def rejected(self, error: LatentInvError) -> None:
        """A call ends in this error."""
        self._rejects.labels(error.reason.lower()).inc()

    # ---- jobs ------------------------------------------------------------------------------------

    def job_accepted(self, priority: str) -> None:
        """A new job is kept."""
        self._accepted.labels(priority).inc()

    def job_started(self, priority: str, waited: float) -> None:
        """A job has its first turn, `waited` seconds after it was accepted."""
        self._waits.labels(priority).observe(max(0.0, waited))

    def job_interrupted(self, reason: str) -> None:
        """The engine has a job no longer, for one of `INTERRUPTIONS`."""
        self._interrupted.labels(reason).inc()

    def job_ended(self, outcome: str, seconds: float) -> None:
        """A job is over, `seconds` after its first turn; 0 if it had none."""
        self._jobs.labels(outcome).observe(max(0.0, seconds))

    def begin_with(self, methods: Iterable[str]) -> None:
        """Show what has not happened yet, so that rates see the first time, too.

        Args:
            methods: "SERVICE/METHOD" of each that can be called.
        """
        for method in methods:
            self._open.labels(method)
            self._calls.labels(method, "OK")
            self._received.labels(method)
            self._sent.labels(method)
        for kind in _kinds(LatentInvError):
            self._rejects.labels(kind.reason.lower())
        for priority in PRIORITIES:
            self._accepted.labels(priority)
            self._waits.labels(priority)
        for outcome in Outcome:
            self._jobs.labels(outcome.name)
        for reason in INTERRUPTIONS:
            self._interrupted.labels(reason)


def _kinds(kind: type[LatentInvError]) -> Iterator[type[LatentInvError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _kinds(below)


def _version() -> str:
    try:
        return version("latent-inv")
    except PackageNotFoundError:
        return "source"
