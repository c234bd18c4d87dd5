"""Rows of jobs in lanes, with their tensors: who comes and goes, and how rows get on by rungs and stages."""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakKeyDictionary

from latent_inv.result import Outcome

from .batch import LaneBatch, Member, RowStore, RowTensors
from .job import JobRun
from .run import Row
from .scheduler import Lane, Scheduler
from .starts import entering

#: after these, no other row of the job has a turn
_LAST = (Outcome.target_reached, Outcome.deadline, Outcome.cancelled)


class Lanes:
    """The scheduler, and the tensors of what it schedules."""

    def __init__(self) -> None:
        self._scheduler: Scheduler[Member] = Scheduler()
        self._store = RowStore()
        self._batches: WeakKeyDictionary[Lane[Member], LaneBatch] = WeakKeyDictionary()

    def __len__(self) -> int:
        """How many rows are stepped."""
        return len(self._scheduler)

    @property
    def count(self) -> int:
        """In how many lanes; safe to ask from another thread."""
        return self._scheduler.lane_count

    @property
    def places(self) -> int:
        """How many rows these have room for; safe to ask from another thread."""
        return self._scheduler.places

    def next(self) -> Lane[Member] | None:
        """The lane whose turn it is; None if there are no rows."""
        return self._scheduler.next()

    def gather(self, lane: Lane[Member], run: JobRun) -> LaneBatch:
        """The lane's tensors, put together anew when members came or went.

        Args:
            run: the job of its first row.
        """
        if lane.changed or lane not in self._batches:
            stage = run.job.stages[run.rows[lane.rows[0][1]].stage]
            self._batches[lane] = self._store.gather(lane.rows, stage, lane.width)
            lane.changed = False
        return self._batches[lane]

    # ---- coming and going ------------------------------------------------------------------------

    def enter(self, run: JobRun, tensors: list[RowTensors]) -> None:
        """Take the rows of a new job."""
        for row, owned in zip(run.rows, tensors, strict=True):
            self._store.put((run.job_id, row.index), owned)
            if row.active and not row.waiting:
                self._schedule(run, row)

    def leave(self, run: JobRun) -> None:
        """Drop all rows of a job that is over."""
        for row in run.rows:
            self._scheduler.remove((run.job_id, row.index))
            self._store.forget((run.job_id, row.index))

    def take_out(self, run: JobRun, row: Row) -> None:
        """Let a row take no further steps; its tensors stay. Harmless if it takes none."""
        member = (run.job_id, row.index)
        if member in self._scheduler:
            self._store.settle(member)
            self._scheduler.remove(member)

    def owned(self, run: JobRun) -> dict[int, RowTensors]:
        """The tensors of the rows of a job that are still in it, up to date, by index."""
        return {row.index: self._store.get((run.job_id, row.index)) for row in run.rows if not row.dropped}

    # ---- getting on ------------------------------------------------------------------------------

    def enter_stage(self, run: JobRun, row: Row) -> None:
        """From its best iterate, in the stage's space, with a fresh state of its solver, among rows of that stage."""
        member = (run.job_id, row.index)
        self.take_out(run, row)
        owned = self._store.get(member)
        self._store.put(member, entering(run.job, run.job.stages[row.stage], row.index, owned))
        self._schedule(run, row)
        if run.job.stages[row.stage].only is not None:
            return  # rows of a side branch take turns
        for other in run.rows:
            if other.sleeping and other.stage == row.stage:
                other.wake(row.stage_step, row.stage_seconds)
                self._schedule(run, other)

    def relieve(self, run: JobRun, row: Row) -> None:
        """When a row has ended in a side branch: it is the turn of the next one, if there is one and need of it."""
        stage = run.job.stages[row.stage]
        enough = stage.enough is not None and stage.enough.met_by(row.best_metrics)
        if stage.only is None or row.active or enough or row.outcome in _LAST or row.step > run.job.limit:
            return
        following = next((other for other in run.rows if other.sleeping and other.stage == row.stage), None)
        if following is not None:
            following.wake(row.step, run.elapsed())
            self._schedule(run, following)

    def drop_others(self, run: JobRun) -> None:
        """One row has what was asked for: the other rows of its job need not go on."""
        for row in run.rows:
            if row.active:
                row.dropped = True
                self.take_out(run, row)
                self._store.forget((run.job_id, row.index))

    def climb(self, run: JobRun) -> None:
        """At a rung: once every row of the job is there, the best go on and the others are dropped."""
        going, dropped = run.climb()
        for row in going:
            self._schedule(run, row)
        for row in dropped:
            self._store.forget((run.job_id, row.index))

    def narrow(self, run: JobRun) -> None:
        """After a step for which memory was too little: the rows of a job take it again, in lanes half as wide."""
        for row in self._running(run):
            row.forget_step()
        self.change(run, run.narrow)

    def change(self, run: JobRun, how: Callable[[], None]) -> None:
        """Take all rows of a job out of their lanes, and put them into others, as `how` makes the job want."""
        running = self._running(run)
        for row in running:
            self.take_out(run, row)
        how()
        for row in running:
            if row.active:
                self._schedule(run, row)

    def _running(self, run: JobRun) -> list[Row]:
        return [row for row in run.rows if (run.job_id, row.index) in self._scheduler]

    def _schedule(self, run: JobRun, row: Row) -> None:
        stage = run.job.stages[row.stage]
        self._scheduler.add((run.job_id, row.index), stage.key, stage.width)
