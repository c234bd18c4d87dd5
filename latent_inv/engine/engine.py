"""Decide, run, record.

poll():
  do one waiting request that needs no loop (decode, sample, …)
  lane    = scheduler.next()                       decide: whose turn, without tensors
  leave out rows whose next step would pass their deadline
  batch   = the lane's rows under each other, padded to its width
  latents = solver.step(latents, evaluate, state)  run: the only place that touches the device
  for each row: best iterate, history, reasons to stop                           record
  rows that are done leave; jobs whose rows are done end in one Finished event
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch

from latent_inv.build import Catalogue, build_job
from latent_inv.device import Placement
from latent_inv.errors import AlreadyExistsError, LatentInvError, LimitError
from latent_inv.generators.base import Generator
from latent_inv.incidents import as_typed
from latent_inv.result import Event, Finished, Outcome
from latent_inv.solvers import Evaluation, Verdict
from latent_inv.spec import JobSpec, Spec

from . import requests
from .batch import LaneBatch, Member, RowStore, RowTensors, read_rows
from .checkpoint import restore
from .job import JobRun
from .run import MAX_MOVES, Row
from .scheduler import Lane, Scheduler
from .starts import first_tensors, moved_start, solver_key

#: searched part -> [R, …]
Point = dict[str, torch.Tensor]
#: most rows of one engine, over all jobs; a row holds its target's features in memory
MAX_ROWS = 8192
#: the next step is estimated by the slowest of so many last ones
_ESTIMATE_OVER = 5


class Engine:
    """Runs jobs in the calling thread: `submit`, then `poll` until the `Finished` event. See `EngineSeam`."""

    def __init__(
        self,
        table: Mapping[str, type[Generator]],
        placement: Placement,
        *,
        encoders: Mapping[str, Path] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        placement.apply()
        self.catalogue = Catalogue(table, placement, encoders)
        self.placement = placement
        self._clock = clock
        self._scheduler: Scheduler[Member] = Scheduler()
        self._jobs: dict[str, JobRun] = {}
        self._store = RowStore()
        self._batches: WeakKeyDictionary[Lane[Member], LaneBatch] = WeakKeyDictionary()
        self._durations: dict[Any, deque[float]] = {}
        self._requests: deque[tuple[str, requests.Work]] = deque()
        self._events: list[Event] = []

    # ---- the seam ------------------------------------------------------------------------------

    def submit(self, job_id: str, spec: Spec, checkpoint: bytes | None = None) -> None:
        """Take a request. See `EngineSeam.submit`."""
        if job_id in self._jobs or any(job_id == waiting for waiting, _ in self._requests):
            raise AlreadyExistsError(f'a job with the id "{job_id:.80}" is running', field="job_id")
        if not isinstance(spec, JobSpec):
            self._requests.append((job_id, requests.prepare(spec, self.catalogue)))
            return
        admitted = self._clock()
        job = build_job(spec, self.catalogue)
        if len(self._scheduler) + len(job.starts) > MAX_ROWS:
            text = f"at most {MAX_ROWS} rows run at once, this job would add {len(job.starts)}"
            raise LimitError(text, retry_after=5 if len(job.starts) <= MAX_ROWS else None)
        run = JobRun(job_id, job, self.placement, admitted, self._clock)
        tensors = first_tensors(job)
        if checkpoint is not None:
            tensors = restore(run, tensors, checkpoint)
        self._jobs[job_id] = run
        for row, owned in zip(run.rows, tensors, strict=True):
            self._store.put((job_id, row.index), owned)
            if row.active and not row.waiting:
                self._schedule(run, row)
        self._climb(run)
        self._finish_if_done(run)

    def cancel(self, job_id: str) -> None:
        """Stop a job before its next step. See `EngineSeam.cancel`."""
        run = self._jobs.get(job_id)
        if run is not None:
            self._end_all(run, Outcome.cancelled)
        for waiting in [item for item in self._requests if item[0] == job_id]:
            self._requests.remove(waiting)
            self._events.append(Finished(job_id, 1, error=requests.cancelled()))

    def poll(self, timeout: float = 0.0) -> list[Event]:
        """Do one piece of work and tell what happened. Never waits, since the work is done here."""
        if self._requests:
            self._answer_on(*self._requests.popleft())
        lane = self._scheduler.next()
        if lane is not None:
            self._step(lane)
        events, self._events = self._events, []
        return events

    @property
    def idle(self) -> bool:
        """Is there nothing to do and nothing to tell?"""
        return not (self._jobs or self._requests or self._events)

    def close(self) -> None:
        """Forget all jobs."""
        self._jobs.clear()
        self._store = RowStore()
        self._scheduler = Scheduler()

    # ---- requests without a loop ---------------------------------------------------------------

    def _answer_on(self, job_id: str, work: requests.Work) -> None:
        """Do the next piece of a request; until it is done, others have their turns in between."""
        try:
            next(work)
            self._requests.append((job_id, work))
        except StopIteration as done:
            self._events.append(Finished(job_id, 1, result=done.value))
        except LatentInvError as error:
            self._events.append(Finished(job_id, 1, error=error))
        except Exception as error:
            self._events.append(Finished(job_id, 1, error=as_typed(error, "a request")))

    # ---- one step of one lane --------------------------------------------------------------------

    def _step(self, lane: Lane[Member]) -> None:
        self._stop_late_jobs(lane)
        if not lane.rows:
            return
        members = list(lane.rows)
        try:
            self._advance(lane, members)
        except LatentInvError as error:
            self._fail(members, error)
        except torch.OutOfMemoryError:
            text = "the device has too little memory for this job at this lane width; try a smaller one"
            self._fail(members, LimitError(text, field="lane_width"))
        except Exception as error:
            self._fail(members, as_typed(error, "a step"))

    def _advance(self, lane: Lane[Member], members: list[Member]) -> None:
        batch = self._gather(lane)
        runs = [self._jobs[job_id] for job_id, _ in members]
        rows = [run.rows[index] for run, (_, index) in zip(runs, members, strict=True)]
        began = self._clock()
        shares = [run.share_used(row) for run, row in zip(runs, rows, strict=True)]
        dead: dict[int, Point] = {}
        batch.advance(shares, partial(self._record, batch, runs, rows, dead))
        for place, start in dead.items():
            self._move(runs[place], rows[place], place, batch, start)
        self._heed(batch, runs, rows)
        scored = {run: row.step for run, row in zip(runs, rows, strict=True)}
        for run, row in zip(runs, rows, strict=True):
            self._after_step(run, row)
        for run, step in scored.items():
            if any(row.outcome is Outcome.target_reached for row in run.rows):
                self._drop_others(run)
            self._climb(run)
            if step >= 0:
                self._events += run.report(step, partial(self._owned, run))
            self._finish_if_done(run)
        self._durations.setdefault(lane.key, deque(maxlen=_ESTIMATE_OVER)).append(self._clock() - began)

    def _record(
        self,
        batch: LaneBatch,
        runs: list[JobRun],
        rows: list[Row],
        dead: dict[int, Point],
        point: Point,
        at: Evaluation,
    ) -> list[bool]:
        """Take in what was found, as soon as it was; says who goes on from there. Starts to be moved go into `dead`."""
        better = []
        for place, (run, row, scored) in enumerate(zip(runs, rows, read_rows(at, len(rows)), strict=True)):
            flat = row.step == 0 and scored.finite and scored.gradient_size == 0 and scored.loss > 0
            if flat and row.moves < MAX_MOVES and run.job.limit > 0:
                dead[place] = {name: tensor[place : place + 1] for name, tensor in point.items()}
                continue
            if row.record(scored, run.job.spec, run.elapsed(), run.job.limit, guarded=batch.solver.guarded):
                better.append(place)
            if flat and row.active:
                row.end(Outcome.stuck)
        if better:
            batch.keep_best(better, point)
        return [row.active and place not in dead for place, row in enumerate(rows)]

    def _heed(self, batch: LaneBatch, runs: list[JobRun], rows: list[Row]) -> None:
        """Rows that are done with their stage go on to the next one, or end."""
        verdicts = batch.solver.verdicts(batch.state)
        said = [Verdict.go_on] * len(rows) if verdicts is None else verdicts[: len(rows)].tolist()
        for run, row, verdict in zip(runs, rows, said, strict=True):
            if not row.active or row.step < 0:
                continue
            steps = run.job.stages[row.stage].steps
            if verdict == Verdict.go_on and (steps is None or row.step - row.stage_step < steps):
                continue
            if run.next_stage(row):
                self._enter_stage(run, row)
            else:
                row.end_stage(verdict)

    def _enter_stage(self, run: JobRun, row: Row) -> None:
        """From its best iterate, with a fresh state of the stage's solver, among rows of that stage."""
        member = (run.job_id, row.index)
        self._take_out(run, row)
        owned = self._store.get(member)
        latents = {name: tensor.clone() for name, tensor in owned.best.items()}
        state = run.job.stages[row.stage].solver.init(latents, solver_key(run.job, row.index))
        self._store.put(member, replace(owned, latents=latents, state=state))
        self._schedule(run, row)
        for other in run.rows:
            if other.sleeping and other.stage == row.stage:
                other.wake(row)
                self._schedule(run, other)

    def _move(self, run: JobRun, row: Row, place: int, batch: LaneBatch, start: Point) -> None:
        """A start with a zero gradient goes nowhere: move it, a little further each time."""
        row.moves += 1
        row.step = -1  # the loop counts on to 0: the moved point is the start
        batch.restart(place, moved_start(run.job, row, start), solver_key(run.job, row.index))
        run.warn("the gradient at the start was zero; the start was moved by a small random step")

    def _after_step(self, run: JobRun, row: Row) -> None:
        at_rung = any(row.step - row.stage_step == step for step, _ in run.job.stages[row.stage].rungs)
        row.step += 1
        row.waiting = row.active and at_rung and len(run.rows) > 1
        if not row.active or row.waiting:
            self._take_out(run, row)

    def _drop_others(self, run: JobRun) -> None:
        """One row has what was asked for."""
        for row in run.rows:
            if row.active:
                row.dropped = True
                self._take_out(run, row)
                self._store.forget((run.job_id, row.index))

    def _climb(self, run: JobRun) -> None:
        """At a rung: once every row of the job is there, the best go on and the others are dropped."""
        going, dropped = run.climb()
        for row in going:
            self._schedule(run, row)
        for row in dropped:
            self._store.forget((run.job_id, row.index))

    # ---- coming and going ------------------------------------------------------------------------

    def _stop_late_jobs(self, lane: Lane[Member]) -> None:
        """A step is not begun when its estimated time passes the deadline. The first of a job always is."""
        estimate = max(self._durations.get(lane.key, (0.0,)))
        for run in dict.fromkeys(self._jobs[job_id] for job_id, _ in lane.rows):
            if run.scored and run.deadline is not None and self._clock() + estimate > run.deadline:
                self._end_all(run, Outcome.deadline)

    def _gather(self, lane: Lane[Member]) -> LaneBatch:
        """The lane's tensors, put together anew when members came or went."""
        if lane.changed or lane not in self._batches:
            job_id, index = lane.rows[0]
            run = self._jobs[job_id]
            stage = run.job.stages[run.rows[index].stage]
            self._batches[lane] = self._store.gather(lane.rows, stage, lane.width)
            lane.changed = False
        return self._batches[lane]

    def _schedule(self, run: JobRun, row: Row) -> None:
        self._scheduler.add((run.job_id, row.index), run.job.stages[row.stage].key, run.job.width)

    def _take_out(self, run: JobRun, row: Row) -> None:
        member = (run.job_id, row.index)
        if member in self._scheduler:
            self._store.settle(member)
            self._scheduler.remove(member)

    def _end_all(self, run: JobRun, outcome: Outcome) -> None:
        """End every row of a job that still runs or waits, and with them the job."""
        for row in run.rows:
            if row.active:
                row.end(outcome)
                self._take_out(run, row)
        self._finish_if_done(run)

    def _finish_if_done(self, run: JobRun) -> None:
        if run.job_id not in self._jobs or any(row.active for row in run.rows):
            return
        self._events.append(run.finish(self._owned(run)))
        self._forget(run)

    def _fail(self, members: list[Member], error: LatentInvError) -> None:
        for job_id in dict.fromkeys(job_id for job_id, _ in members):
            run = self._jobs.get(job_id)
            if run is not None:
                self._events.append(run.fail(error))
                for row in run.rows:
                    self._scheduler.remove((job_id, row.index))
                self._forget(run)

    def _forget(self, run: JobRun) -> None:
        del self._jobs[run.job_id]
        for row in run.rows:
            self._store.forget((run.job_id, row.index))

    def _owned(self, run: JobRun) -> dict[int, RowTensors]:
        """The tensors of the rows of a job that are still in it, up to date, by index."""
        return {row.index: self._store.get((run.job_id, row.index)) for row in run.rows if not row.dropped}
