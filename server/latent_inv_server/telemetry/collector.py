"""What is read when somebody asks for the figures: queue, workers, store. Nothing is counted twice for that."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from latent_inv.engine.durations import STEP_SECONDS
from latent_inv.engine.health import Health
from latent_inv.incidents import as_typed
from latent_inv_server.fleet import DeviceHealth

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sources:
    """Where the figures are read, each from a thread of its own; what raises is left out.

    Attributes:
        waiting: jobs that wait, by priority.
        running: jobs that have a place in the engine.
        kept: jobs in the store, by state.
        devices: the workers.
        used: bytes of contents in the store.
        budget: bytes that they may have.
        folder: where the store is; None: nowhere.
    """

    waiting: Callable[[], Mapping[str, int]] | None = None
    running: Callable[[], int] | None = None
    kept: Callable[[], Mapping[str, int]] | None = None
    devices: Callable[[], Sequence[DeviceHealth]] | None = None
    used: Callable[[], int] | None = None
    budget: int | None = None
    folder: Path | None = None


class Readings(Collector):
    """Reads all sources."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def describe(self) -> Iterator[Metric]:
        """Nothing, so that registering it reads nothing."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """All figures that can be read."""
        for part in (self._queue, self._running, self._kept, self._workers, self._store, self._disk):
            try:
                found = list(part())
            except Exception as error:
                # A database that does not answer must not hide that the workers are gone.
                logger.warning("figures of %s cannot be read: %s", part.__name__, as_typed(error, "the figures"))
                continue
            yield from found

    def _queue(self) -> Iterator[Metric]:
        if self._sources.waiting is not None:
            waiting = GaugeMetricFamily("latent_inv_queue_jobs", "Jobs that wait for their turn.", labels=["priority"])
            for priority, count in self._sources.waiting().items():
                waiting.add_metric([priority], count)
            yield waiting

    def _running(self) -> Iterator[Metric]:
        if self._sources.running is not None:
            yield GaugeMetricFamily("latent_inv_running_jobs", "Jobs in the engine.", value=self._sources.running())

    def _kept(self) -> Iterator[Metric]:
        if self._sources.kept is not None:
            kept = GaugeMetricFamily("latent_inv_jobs", "Jobs that are kept.", labels=["state"])
            for state, count in self._sources.kept().items():
                kept.add_metric([state], count)
            yield kept

    def _workers(self) -> Iterator[Metric]:
        if self._sources.devices is None:
            return
        devices = self._sources.devices()
        for name, text, read in _GAUGES:
            gauge = GaugeMetricFamily(f"latent_inv_worker_{name}", text, labels=["device"])
            for each in devices:
                gauge.add_metric([each.device], read(each.health))
            yield gauge
        for name, text, count in _COUNTERS:
            counter = CounterMetricFamily(f"latent_inv_worker_{name}", text, labels=["device"])
            for each in devices:
                counter.add_metric([each.device], count(each))
            yield counter
        times = HistogramMetricFamily("latent_inv_worker_step_seconds", "Seconds of a step.", labels=["device"])
        for each in devices:
            load = each.health.load
            times.add_metric([each.device], _buckets(load.step_counts), load.step_seconds)
        yield times

    def _store(self) -> Iterator[Metric]:
        if self._sources.used is not None:
            text = "Bytes of contents that are kept: pictures, checkpoints, results."
            yield GaugeMetricFamily("latent_inv_store_bytes", text, value=self._sources.used())
        if self._sources.budget is not None:
            text = "Bytes that contents may have."
            yield GaugeMetricFamily("latent_inv_store_budget_bytes", text, value=self._sources.budget)

    def _disk(self) -> Iterator[Metric]:
        if self._sources.folder is None:
            return
        disk = shutil.disk_usage(self._sources.folder)
        yield GaugeMetricFamily("latent_inv_disk_free_bytes", "Free bytes on the disk of the store.", value=disk.free)
        yield GaugeMetricFamily("latent_inv_disk_bytes", "Bytes of the disk of the store.", value=disk.total)
        database = sum(each.stat().st_size for each in self._sources.folder.glob("jobs.sqlite*"))
        yield GaugeMetricFamily("latent_inv_database_bytes", "Bytes of the SQLite files.", value=database)


#: (name, text, how it is read)
_GAUGES: tuple[tuple[str, str, Callable[[Health], float]], ...] = (
    ("up", "1 if it takes orders.", lambda health: float(health.alive)),
    ("memory_bytes", "Memory that its process holds.", lambda health: health.resident_bytes),
    (
        "reserved_bytes",
        "Memory that its jobs are estimated to need at most.",
        lambda health: health.load.reserved_bytes,
    ),
    ("memory_limit_bytes", "What these estimates may come to.", lambda health: health.load.memory_bytes),
    ("generators", "Generators whose weights are in memory.", lambda health: health.load.generators),
    ("generator_bytes", "What these generators take.", lambda health: health.load.generator_bytes),
    ("jobs", "Jobs and requests that are not over.", lambda health: health.load.jobs),
    ("waiting_jobs", "Jobs that wait for weights or memory.", lambda health: health.waiting),
    ("lanes", "Calls of a round: rows that are stepped together.", lambda health: health.load.lanes),
    ("rows", "Rows of jobs that are stepped.", lambda health: health.load.rows),
    ("places", "Rows that the lanes have room for.", lambda health: health.load.places),
    ("occupancy", "Rows by places; 1 if there are none.", lambda health: _share(health.load.rows, health.load.places)),
    ("silent_seconds", "Seconds since its last sign of life.", lambda health: health.silent_seconds),
)
#: the same; those of steps begin anew with each worker
_COUNTERS: tuple[tuple[str, str, Callable[[DeviceHealth], float]], ...] = (
    ("restarts", "Workers that had to be replaced.", lambda each: each.replaced),
    ("steps", "Steps of lanes since its start.", lambda each: each.health.load.steps),
    ("row_steps", "Rows that these had.", lambda each: each.health.load.row_steps),
    ("place_steps", "Places for rows that these had.", lambda each: each.health.load.place_steps),
)


def _share(rows: int, places: int) -> float:
    return rows / places if places else 1.0


def _buckets(counts: Sequence[int]) -> list[tuple[str, float]]:
    """Counts of each range as Prometheus wants them: of all up to its end."""
    ends = [*(f"{end:g}" for end in STEP_SECONDS), "+Inf"]
    total, found = 0, []
    for end, count in zip(ends, [*counts, *([0] * (len(ends) - len(counts)))], strict=True):
        total += count
        found.append((end, float(total)))
    return found
