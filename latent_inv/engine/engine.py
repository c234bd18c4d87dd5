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

from latent_inv.build import Job, build_job
from latent_inv.catalogue import Catalogue
from latent_inv.device import Placement
from latent_inv.errors import AlreadyExistsError, LatentInvError, LimitError
from latent_inv.generators.base import Generator
from latent_inv.incidents import as_typed, is_out_of_memory
from latent_inv.outline import fit_job
from latent_inv.result import Event, Outcome
from latent_inv.solvers import Verdict
from latent_inv.spec import JobSpec, ResidenceSpec, Spec

from . import requests
from .batch import LaneBatch, Member
from .checkpoint import restore
from .durations import StepTimes
from .footprint import Admission
from .health import Load
from .job import JobRun
from .lanes import Lanes
from .loading import uses_generator
from .run import Row
from .scheduler import Lane
from .starts import first_tensors, moved_start, solver_key, warm_up
from .turn import Point, Turn

#: most rows of one engine, over all jobs; a row holds its target's features in memory
MAX_ROWS = 8192
#: the next step is estimated by the slowest of so many last ones
_ESTIMATE_OVER = 5


class Engine:
    """Runs jobs in the calling thread: `submit`, then `poll` until the `Finished` event. See `EngineSeam`.

    Args:
        memory_bytes: what its jobs may take together, as far as can be estimated; None: not estimated, no limit.
        generator_bytes: what loaded generators may take together; None: no limit.
        on_work: called with the ids of the jobs that are about to be worked on, before each piece of work.
    """

    def __init__(
        self,
        table: Mapping[str, type[Generator]],
        placement: Placement,
        *,
        encoders: Mapping[str, Path] | None = None,
        memory_bytes: int | None = None,
        generator_bytes: int | None = None,
        on_work: Callable[[tuple[str, ...]], None] = lambda _: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        placement.apply()
        self.catalogue = Catalogue(table, placement, encoders, generator_bytes)
        self.placement = placement
        self._clock, self._on_work = clock, on_work
        self._admission = Admission(self.catalogue, memory_bytes)
        self._lanes = Lanes()
        self._jobs: dict[str, JobRun] = {}
        self._durations: dict[Any, deque[float]] = {}
        self._warm: set[Any] = set()
        self._times = StepTimes()
        self._requests = requests.Requests()
        self._events: list[Event] = []

    # ---- the seam ------------------------------------------------------------------------------

    def submit(self, job_id: str, spec: Spec, checkpoint: bytes | None = None) -> None:
        """Take a request. See `EngineSeam.submit`."""
        if job_id in self:
            raise AlreadyExistsError(f'a job with the id "{job_id:.80}" is running', field="job_id")
        self._on_work((job_id,))
        if uses_generator(spec):
            self.catalogue.use(job_id, spec.generator)
        try:
            if isinstance(spec, JobSpec):
                self._admit(job_id, spec, checkpoint)
            else:
                self._requests.put(job_id, requests.prepare(spec, self.catalogue))
        except BaseException:
            self._let_go(job_id)
            raise
        if isinstance(spec, ResidenceSpec):
            self.catalogue.leave(job_id)  # what it wanted is done, and it is no user in its own answer

    def _let_go(self, job_id: str) -> None:
        self._admission.release(job_id)
        self.catalogue.leave(job_id)

    def _admit(self, job_id: str, spec: JobSpec, checkpoint: bytes | None) -> None:
        admitted = self._clock()
        fitted = fit_job(spec, self.catalogue.find(spec.generator))
        self._admission.admit(job_id, spec, fitted)
        job = build_job(spec, self.catalogue, fitted=fitted)
        if len(self._lanes) + len(job.starts) > MAX_ROWS:
            text = f"at most {MAX_ROWS} rows run at once, this job would add {len(job.starts)}"
            raise LimitError(text, retry_after=5 if len(job.starts) <= MAX_ROWS else None)
        if spec.budget.seconds is not None and self._warm_up(job):
            admitted = self._clock()  # what a process does once is not taken from the time of whoever comes first
        run = JobRun(job_id, job, self.placement, admitted, self._clock)
        tensors = first_tensors(job)
        if checkpoint is not None:
            tensors = restore(run, tensors, checkpoint)
        self._jobs[job_id] = run
        self._lanes.enter(run, tensors)
        self._lanes.climb(run)
        self._finish_if_done(run)

    def _warm_up(self, job: Job) -> bool:
        """Meet the kernels of kinds of stages that were never run here; True if there were any."""
        unknown = [stage for stage in job.stages if stage.key not in self._warm and stage.key not in self._durations]
        for stage in {stage.key: stage for stage in unknown}.values():
            warm_up(job, stage)
            self._warm.add(stage.key)
        return bool(unknown)

    def cancel(self, job_id: str) -> None:
        """Stop a job before its next step. See `EngineSeam.cancel`."""
        run = self._jobs.get(job_id)
        if run is not None:
            self._end_all(run, Outcome.cancelled)
        dropped = self._requests.cancel(job_id)
        if dropped is not None:
            self.catalogue.leave(job_id)
            self._events.append(dropped)

    def checkpoint(self, job_id: str) -> None:
        """Tell how far a job is, as it stands between two steps. See `EngineSeam.checkpoint`."""
        run = self._jobs.get(job_id)
        if run is not None:
            self._events.append(run.checkpoint(self._lanes.owned(run)))

    def poll(self, timeout: float = 0.0) -> list[Event]:
        """Do one piece of work and tell what happened. Never waits, since the work is done here."""
        if self._requests:
            self._on_work((self._requests.next_id,))
            answered = self._requests.turn()
            if answered is not None:
                self.catalogue.leave(answered.job_id)
                self._events.append(answered)
        lane = self._lanes.next()
        if lane is not None:
            self._step(lane)
        events, self._events = self._events, []
        return events

    def __contains__(self, job_id: str) -> bool:
        """Is this job, or request, not over?"""
        return job_id in self._jobs or job_id in self._requests

    @property
    def idle(self) -> bool:
        """Is there nothing to do and nothing to tell?"""
        return not (self._jobs or self._requests or self._events)

    @property
    def load(self) -> Load:
        """What there is to do; safe to ask from another thread."""
        jobs, limit = len(self._jobs) + len(self._requests), self._admission.limit
        lanes, reserved = self._lanes.count, self._admission.reserved
        lane_places, times = self._lanes.places, self._times
        stepped = (times.steps, times.seconds, times.counts, times.rows, times.places)
        loaded = self.catalogue.loaded
        generators = (len(loaded), sum(one.memory_bytes for one in loaded))
        return Load(jobs, len(self._lanes), lanes, lane_places, *stepped, reserved, limit or 0, *generators)

    def close(self) -> None:
        """Forget all jobs."""
        self._jobs.clear()
        self._lanes = Lanes()

    # ---- one step of one lane --------------------------------------------------------------------

    def _step(self, lane: Lane[Member]) -> None:
        self._stop_late_jobs(lane)
        if not lane.rows:
            return
        members = list(lane.rows)
        self._on_work(tuple(dict.fromkeys(job_id for job_id, _ in members)))
        failed: LatentInvError | None = None
        short = False
        try:
            self._advance(lane, members)
        except Exception as error:
            # Nothing of it is kept: its frames hold the tensors that were too many.
            short, failed = is_out_of_memory(error), as_typed(error, "a step")
        if short:
            text = "the device has too little memory for this job at this lane width; try a smaller one"
            failed, members = LimitError(text, field="lane_width"), self._narrow(members)
        if failed is not None:
            self._fail(members, failed)

    def _narrow(self, members: list[Member]) -> list[Member]:
        """Jobs whose width was chosen here try again in narrower lanes; gives back the members whose jobs cannot."""
        runs = list(dict.fromkeys(self._jobs[job_id] for job_id, _ in members))
        narrowed = [run for run in runs if run.may_narrow]
        for run in narrowed:
            self._lanes.narrow(run)
            self._lanes.climb(run)
            self._finish_if_done(run)
        return [member for member in members if not any(run.job_id == member[0] for run in narrowed)]

    def _advance(self, lane: Lane[Member], members: list[Member]) -> None:
        batch = self._lanes.gather(lane, self._jobs[lane.rows[0][0]])
        runs = [self._jobs[job_id] for job_id, _ in members]
        rows = [run.rows[index] for run, (_, index) in zip(runs, members, strict=True)]
        began = self._clock()
        shares = [run.share_used(row) for run, row in zip(runs, rows, strict=True)]
        turn = Turn(batch, runs, rows)
        turn.take(shares)
        for place, start in turn.dead.items():
            self._move(runs[place], rows[place], place, batch, start)
        self._heed(batch, runs, rows, turn.done)
        scored = {runs[place]: rows[place].step for place in turn.done}
        for place in turn.done:
            self._after_step(runs[place], rows[place])
        for run, step in scored.items():
            if any(row.outcome is Outcome.target_reached for row in run.rows):
                self._lanes.drop_others(run)
            self._lanes.climb(run)
            if step >= 0:
                self._events += run.report(step, partial(self._lanes.owned, run))
            self._finish_if_done(run)
        for run in dict.fromkeys(runs[place] for place in turn.lost):
            self._widen(run)
        seconds = self._clock() - began
        self._durations.setdefault(lane.key, deque(maxlen=_ESTIMATE_OVER)).append(seconds)
        self._times.add(seconds, len(rows), lane.width)

    def _widen(self, run: JobRun) -> None:
        """Values were not finite in half precision: the rows of the job go on with all digits, if there is memory."""
        if run.job_id not in self._jobs:
            return
        self._lanes.change(run, run.widen)
        spec = replace(run.job.spec, precision="float32")
        try:
            self._admission.release(run.job_id)
            self._admission.admit(run.job_id, spec, fit_job(spec, self.catalogue.find(spec.generator)))
        except LatentInvError as error:
            self._fail([(run.job_id, 0)], error)

    def _heed(self, batch: LaneBatch, runs: list[JobRun], rows: list[Row], done: list[int]) -> None:
        """Rows that are done with their stage go on to the next one, or end."""
        verdicts = batch.solver.verdicts(batch.state)
        said = [Verdict.go_on] * len(rows) if verdicts is None else verdicts[: len(rows)].tolist()
        for place in done:
            run, row, verdict = runs[place], rows[place], said[place]
            if not row.active or row.step < 0:
                continue
            steps = run.job.stages[row.stage].steps
            if verdict == Verdict.go_on and (steps is None or row.step - row.stage_step < steps):
                continue
            if run.next_stage(row):
                self._lanes.enter_stage(run, row)
            else:
                row.end_stage(verdict)

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
            self._lanes.take_out(run, row)
            self._lanes.relieve(run, row)

    # ---- coming and going ------------------------------------------------------------------------

    def _stop_late_jobs(self, lane: Lane[Member]) -> None:
        """A step is not begun when its estimated time passes the deadline. The first of a job always is."""
        estimate = max(self._durations.get(lane.key, (0.0,)))
        for run in dict.fromkeys(self._jobs[job_id] for job_id, _ in lane.rows):
            if run.scored and run.deadline is not None and self._clock() + estimate > run.deadline:
                self._end_all(run, Outcome.deadline)

    def _end_all(self, run: JobRun, outcome: Outcome) -> None:
        """End every row of a job that still runs or waits, and with them the job."""
        for row in run.rows:
            if row.active:
                row.end(outcome)
                self._lanes.take_out(run, row)
        self._finish_if_done(run)

    def _finish_if_done(self, run: JobRun) -> None:
        if run.job_id not in self._jobs or any(row.active for row in run.rows):
            return
        self._events.append(run.finish(self._lanes.owned(run)))
        self._forget(run)

    def _fail(self, members: list[Member], error: LatentInvError) -> None:
        for job_id in dict.fromkeys(job_id for job_id, _ in members):
            run = self._jobs.get(job_id)
            if run is not None:
                self._events.append(run.fail(error))
                self._forget(run)

    def _forget(self, run: JobRun) -> None:
        del self._jobs[run.job_id]
        self._let_go(run.job_id)
        self._lanes.leave(run)
