"""One running job: its rows, its clock, its events, its result."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch

from latent_inv.build import Job, overflowed
from latent_inv.classes import labels
from latent_inv.device import Placement
from latent_inv.errors import CancelledError, InternalError, LatentInvError
from latent_inv.images import Picture, to_uint8
from latent_inv.incidents import as_typed, is_out_of_memory
from latent_inv.objective import Constants
from latent_inv.result import Checkpoint, Event, Finished, JobResult, Outcome, Preview, Progress
from latent_inv.settings import plain
from latent_inv.spec import Reporting
from latent_inv.types import repeat_row
from latent_inv.versions import versions

from .batch import RowTensors
from .changes import at_widths, in_full
from .checkpoint import pack
from .run import Row, best_row, metrics
from .runner import decode_rows, evaluate
from .starts import entering

logger = logging.getLogger(__name__)

Owned = Mapping[int, RowTensors]


class JobRun:
    """The state of one job in an engine."""

    def __init__(
        self, job_id: str, job: Job, placement: Placement, admitted: float, clock: Callable[[], float]
    ) -> None:
        self.job_id, self.job, self.placement = job_id, job, placement
        self.rows = [Row(index, stage=stage, sleeping=stage > 0) for index, stage in enumerate(job.entries)]
        self.warnings = list(job.warnings)
        self.seconds_before = 0.0  # spent before a checkpoint from which this run goes on
        self.narrowed = False
        self._admitted, self._clock = admitted, clock
        self._sequence = 0
        self._reported_step = -1
        self._previewed = admitted

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that decides the result, so that a checkpoint of another job is noticed."""
        spec = replace(self.job.spec, reporting=Reporting())
        digest = hashlib.sha256(json.dumps(plain(spec), sort_keys=True).encode())
        digest.update(json.dumps(self.job.picked.to_json(), sort_keys=True).encode())
        digest.update(self.job.objective.generator.weights_sha256.encode() + self.job.picture.pixels.tobytes())
        if self.job.picture.weight is not None:
            digest.update(self.job.picture.weight.tobytes())
        return digest.hexdigest()

    # ---- width ---------------------------------------------------------------------------------

    @property
    def may_narrow(self) -> bool:
        """May its lanes become narrower, once? Not where the caller named a width, since the result depends on it."""
        return not self.job.spec.lane_width and not self.narrowed and self._widest > 1

    @property
    def _widest(self) -> int:
        return max(stage.width for stage in self.job.stages)

    def narrow(self) -> None:
        """Halve the lane width for want of memory, and say so in the result."""
        width = self._widest
        self.narrowed = True
        half, *halves = (max(1, rows // 2) for rows in (self.job.width, *(stage.width for stage in self.job.stages)))
        self.job = at_widths(self.job, half, halves)
        step = max(row.step for row in self.rows)
        self.warn(f"memory was too little for lanes of {width} rows; from step {step} on they had {width // 2}")

    @property
    def in_half(self) -> bool:
        """Does its network have fewer digits than it could have?"""
        return self.job.objective.generator.is_half

    def widen(self) -> None:
        """Go on with all digits, after values that were not finite; rows in lanes must be scheduled anew."""
        step = max(row.step for row in self.rows)
        self.warn(overflowed(self.job.objective.generator.precision, f"at step {step}"))
        self.job = in_full(self.job)

    # ---- time ----------------------------------------------------------------------------------

    def elapsed(self) -> float:
        """Seconds since the job was admitted, those before a checkpoint included."""
        return self._clock() - self._admitted + self.seconds_before

    @property
    def deadline(self) -> float | None:
        """The clock's time at which the job must be over; None if it has all the time."""
        seconds = self.job.spec.budget.seconds
        return None if seconds is None else self._admitted + seconds - self.seconds_before

    @property
    def scored(self) -> bool:
        """Is there something to return?"""
        return any(row.best_metrics is not None for row in self.rows)

    def share_used(self, row: Row) -> float:
        """How much of the row's stage is used, 0 … 1, by steps or time, whichever is further."""
        stage, left = self.job.stages[row.stage], self.job.limit - row.stage_step
        limit = left if stage.steps is None else min(stage.steps, left)
        by_steps = (row.step - row.stage_step) / limit if limit > 0 else 1.0
        seconds = self.job.spec.budget.seconds
        by_time = 0.0
        if seconds is not None:
            left_then = seconds - row.stage_seconds
            by_time = (self.elapsed() - row.stage_seconds) / left_then if left_then > 0 else 1.0
        return min(1.0, max(0.0, by_steps, by_time))

    def next_stage(self, row: Row) -> bool:
        """Put a row that is done with its stage into the next one for it; False: there is none, or no need of it."""
        stage, best = self.job.stages[row.stage], row.best_metrics
        if stage.only is not None or (stage.enough is not None and stage.enough.met_by(best)):
            return False
        later = enumerate(self.job.stages[row.stage + 1 :], row.stage + 1)
        following = next((index for index, one in later if one.only is None or one.only.met_by(best)), None)
        if following is None:
            return False
        row.stage, row.stage_step, row.stage_seconds = following, row.step + 1, self.elapsed()
        row.lifted = row.lifted or self.job.stages[following].space != stage.space
        return True

    def climb(self) -> tuple[list[Row], list[Row]]:
        """At a rung: (rows that go on, rows that are dropped) once every active row is there; until then, none."""
        active = [row for row in self.rows if row.active]
        waiting = [row for row in active if row.waiting]
        if not waiting or len(waiting) < len(active):
            return [], []
        first = waiting[0]
        rungs = self.job.stages[first.stage].rungs
        keep = min(count for step, count in rungs if step < first.step - first.stage_step)
        ranked = sorted(waiting, key=lambda row: (row.best_loss, row.index))
        for place, row in enumerate(ranked):
            row.waiting, row.dropped = False, place >= keep
        return ranked[:keep], ranked[keep:]

    # ---- events --------------------------------------------------------------------------------

    def warn(self, text: str) -> None:
        """Say once in the result what the caller may not expect."""
        if text not in self.warnings:
            self.warnings.append(text)

    def next_sequence(self) -> int:
        """The number of the next event."""
        self._sequence += 1
        return self._sequence

    def report(self, step: int, owned: Callable[[], Owned]) -> list[Event]:
        """The events that are due after a row was scored at `step`; the rows of a job give one set a step."""
        if step <= self._reported_step:
            return []
        self._reported_step = step
        asked = self.job.spec.reporting
        events: list[Event] = []
        if step % asked.progress_steps == 0:
            events += self._progress(step)
        due_by_steps = asked.preview_steps is not None and step % asked.preview_steps == 0
        due_by_time = asked.preview_seconds is not None and self._clock() - self._previewed >= asked.preview_seconds
        if due_by_steps or due_by_time:
            self._previewed = self._clock()
            row = best_row(self.rows)
            if row.best_metrics is not None:
                image = to_uint8(self._picture(owned()[row.index]))
                events.append(Preview(self.job_id, self.next_sequence(), step=row.best_step, image=image))
        if asked.checkpoint_steps is not None and step and step % asked.checkpoint_steps == 0:
            events.append(self.checkpoint(owned()))
        return events

    def checkpoint(self, owned: Owned) -> Checkpoint:
        """The job as it stands between two steps."""
        step = max((row.history[-1].step for row in self.rows if row.history), default=0)
        return Checkpoint(self.job_id, self.next_sequence(), step=step, data=pack(self, owned))

    def _progress(self, step: int) -> list[Event]:
        ahead = next((row for row in self.rows if row.history and row.history[-1].step == step), None)
        best = best_row(self.rows)
        if ahead is None or best.best_metrics is None:
            return []
        limit, seconds = self.job.limit, self.job.spec.budget.seconds
        left: float | None = (limit - step) * self.elapsed() / (step + 1)
        going = [row.stage for row in self.rows if row.active]
        if not going:
            left = 0.0
        elif min(going) < len(self.job.stages) - 1:
            left = None  # most jobs end in an early stage, and steps of different solvers take different times
        if seconds is not None:
            rest = max(0.0, seconds - self.elapsed())
            left = rest if left is None else min(left, rest)
        event = Progress(
            self.job_id,
            self.next_sequence(),
            latest=ahead.history[-1],
            total_steps=limit,
            best_step=best.best_step,
            best_loss=best.best_loss,
            best=best.best_metrics,
            rows=sum(row.active for row in self.rows),
            seconds_left=left,
        )
        return [event]

    # ---- the end -------------------------------------------------------------------------------

    def fail(self, error: LatentInvError) -> Finished:
        """The last event of a job that broke."""
        return Finished(self.job_id, self.next_sequence(), error=error)

    def finish(self, owned: Owned) -> Finished:
        """The last event of a job whose rows are done."""
        try:
            row = best_row(self.rows)
            if row.best_metrics is None:
                return self.fail(_without_latents(row))
            return Finished(self.job_id, self.next_sequence(), result=self._result(row, owned[row.index]))
        except LatentInvError as error:
            return self.fail(error)
        except Exception as error:
            if is_out_of_memory(error) and self.may_narrow:
                self.narrow()
                return self.finish(owned)
            if is_out_of_memory(error):
                return self.fail(as_typed(error, "a result"))
            logger.exception("job %s: its result could not be made", self.job_id)
            return self.fail(InternalError(f"the result could not be made; the log has the details of {self.job_id}"))

    def _picture(self, owned: RowTensors) -> np.ndarray:
        """The best iterate decoded, padding cut away, [3, H, W]."""
        latents = {**owned.constants.fixed, **owned.best}
        images = decode_rows(self.job.objective, latents, self.job.width)
        height, width = self.job.visible
        return np.ascontiguousarray(images[0, :, :height, :width].float().cpu().numpy()).clip(-1, 1)

    def _land(self, row: Row, owned: RowTensors) -> RowTensors:
        """The best iterate in the job's own space; one that was not scored there is."""
        job, last = self.job, self.job.stages[-1]
        if job.stages[row.stage].space == job.space and not row.lifted:
            return owned
        landed = entering(job, last, row.index, owned)
        lane = Constants.from_tree(repeat_row(landed.constants.tree(), job.width))
        found = evaluate(last.objective, repeat_row(landed.best, job.width), lane, "value")
        if self.in_half and not bool(torch.isfinite(found.loss[0])):
            self.widen()
            return self._land(row, owned)
        if not bool(torch.isfinite(found.loss[0])):
            raise InternalError(f"the result cannot be carried over into {job.space}: its loss there is not finite")
        row.best_loss = float(found.loss[0])
        perceptual = None if found.perceptual is None else float(found.perceptual[0])
        row.best_metrics = metrics(float(found.squared_error[0]), perceptual)
        return landed

    def _result(self, row: Row, owned: RowTensors) -> JobResult:
        job, spec, owned = self.job, self.job.spec, self._land(row, owned)
        best = row.best_metrics
        latents = {**owned.constants.fixed, **owned.best}
        parts = job.objective.space.parts
        typicality = {name: float(parts[name].prior.typicality(tensor)) for name, tensor in owned.best.items()}
        image = self._picture(owned)
        if best is not None and best.lpips is None:
            images = decode_rows(job.objective, latents, job.width)
            squared, perceptual = job.objective.score(images, job.picture)
            best = metrics(squared, perceptual)
        if best is None or row.outcome is None:
            raise InternalError("a row without an end has no result")
        for index in (other.index for other in self.rows if other.outcome is Outcome.diverged and other is not row):
            self.warn(f"row {index} of the job diverged and was left out")
        return JobResult(
            outcome=row.outcome,
            message=row.message,
            generator=spec.generator,
            space=job.space,
            weights_sha256=job.objective.generator.weights_sha256,
            perceptual=spec.perceptual,
            perceptual_sha256=job.objective.metric.weights_sha256,
            metrics=best,
            loss=row.best_loss,
            steps=row.history[-1].step if row.history else 0,
            best_step=row.best_step,
            seconds=self.elapsed(),
            seed=spec.seed,
            lane_width=job.width,
            dtype=spec.dtype,
            precision=job.objective.generator.precision,
            device=self.placement.device,
            budget="time" if spec.budget.seconds is not None else "steps",
            latents={name: tensor.cpu().numpy() for name, tensor in latents.items()},
            image=image,
            target=_visible(job.picture, job.visible),
            history=tuple(row.history),
            settings=plain(spec),
            picked=job.told,
            typicality=typicality,
            labels=labels(job.objective.space, latents),
            versions=versions(),
            warnings=tuple(self.warnings),
            scaling=job.objective.generator.scaling(),
        )


def _without_latents(row: Row) -> LatentInvError:
    if row.outcome is Outcome.cancelled:
        return CancelledError("the job was cancelled before its first step")
    return InternalError(row.message or Outcome.failed.value)


def _visible(picture: Picture, visible: tuple[int, int]) -> Picture:
    height, width = visible
    weight = None if picture.weight is None else np.ascontiguousarray(picture.weight[:height, :width])
    if weight is not None and (weight == 1).all():
        weight = None
    return Picture(np.ascontiguousarray(picture.pixels[:, :height, :width]), weight, picture.warnings)
