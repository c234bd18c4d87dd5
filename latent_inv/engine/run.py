"""The bookkeeping of jobs and their rows: counters, best values, and when to stop. No tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from latent_inv.result import MAX_PSNR_DB, Metrics, Outcome, Step
from latent_inv.spec import JobSpec
from latent_inv.verdict import Verdict

#: a loss above this many times its scale has run away
RUNAWAY = 10.0
#: a loss that ends above its start is no harm below this share of its scale …
RISE = 0.05
#: … nor if it is above it by less than this share of it
HAIR = 0.01
#: entries of a history; beyond, every second one goes
MAX_HISTORY = 20_000
#: how often a start with a zero gradient is moved
MAX_MOVES = 3


def metrics(squared_error: float, perceptual: float | None) -> Metrics:
    """From the mean squared error on the [-1, 1] scale."""
    mse = squared_error / 4
    psnr = min(MAX_PSNR_DB, -10 * math.log10(mse)) if mse > 0 else MAX_PSNR_DB
    return Metrics(psnr_db=psnr, lpips=perceptual, mse=mse)


@dataclass(frozen=True)
class Scored:
    """One row of one evaluation, as plain numbers."""

    loss: float
    terms: Mapping[str, float]
    squared_error: float
    perceptual: float | None
    gradient_size: float

    @property
    def finite(self) -> bool:
        """Are loss and gradient numbers?"""
        return math.isfinite(self.loss) and math.isfinite(self.gradient_size)


@dataclass(eq=False)
class Row:
    """One row of a job: where it stands and what its best iterate was.

    Attributes:
        step: how many steps were made; the next evaluation is of the iterate after them.
        waiting: at a rung, until the other rows of the job are there.
        dropped: lost at a rung; has no part in the result.
        sleeping: begins only when another row gets to its stage.
        lifted: its best iterate came from another space, and was not scored in this one yet.
        stage: which of the job's stages it is in; `stage_step` and `stage_seconds`: when that began.
    """

    index: int
    step: int = 0
    stage: int = 0
    stage_step: int = 0
    stage_seconds: float = 0.0
    best_step: int = 0
    best_loss: float = math.inf
    best_metrics: Metrics | None = None
    first_loss: float = math.inf
    improved_step: int = 0
    improved_loss: float = math.inf
    moves: int = 0
    waiting: bool = False
    dropped: bool = False
    sleeping: bool = False
    lifted: bool = False
    outcome: Outcome | None = None
    message: str = ""
    stride: int = 1
    history: list[Step] = field(default_factory=list)

    @property
    def active(self) -> bool:
        """Does it still take steps?"""
        return self.outcome is None and not self.dropped and not self.sleeping

    def wake(self, step: int, seconds: float) -> None:
        """Begin at a step and time of the job: beside another row that enters this stage, or after one that left it."""
        self.sleeping = False
        self.step = self.stage_step = self.improved_step = step
        self.stage_seconds = seconds

    def end(self, outcome: Outcome, detail: str = "") -> None:
        """Stop here."""
        self.outcome = outcome
        self.message = f"{outcome.value} {detail}".strip()

    def end_stage(self, verdict: int) -> None:
        """Stop at the end of the last stage, of whose solver `verdict` is the last word."""
        if verdict == Verdict.converged:
            self.end(Outcome.converged, f"No step pays any more after {self.step}.")
        elif verdict == Verdict.exhausted:
            self.end(Outcome.failed, f"The solver refused every step from step {self.step} on.")
        else:
            self.end(Outcome.step_limit)

    def forget_step(self) -> None:
        """The step is made again: what was already noted of it goes, but for the best iterate."""
        if self.history and self.history[-1].step == self.step:
            self.history.pop()

    def _remember(self, step: Step) -> None:
        """Keep every `stride`-th iterate, the best and the newest one; the stride doubles when the history is full."""
        if self.history and self.history[-1].step % self.stride and self.history[-1].step != self.best_step:
            self.history.pop()
        self.history.append(step)
        if len(self.history) > MAX_HISTORY:
            self.stride *= 2
            kept = (0, self.best_step, step.step)
            self.history = [old for old in self.history if old.step % self.stride == 0 or old.step in kept]

    def record(self, scored: Scored, spec: JobSpec, seconds: float, limit: int, *, guarded: bool = False) -> bool:
        """Take in the evaluation after `step` steps, and decide whether to go on.

        Args:
            limit: most steps of the row.
            guarded: the solver refuses bad points by itself, so one of them ends nothing.
        Returns:
            Is this iterate the one to return so far?
        """
        budget = spec.budget
        if not scored.finite and guarded and self.step > 0:
            if self.step >= limit:
                self.end(Outcome.step_limit)
            return False
        if not scored.finite:
            what = "The loss" if not math.isfinite(scored.loss) else "The gradient"
            if self.step == 0:
                self.end(Outcome.failed, f"{what} is not a finite number at the start.")
            else:
                self.end(Outcome.diverged, f"{what} is not a finite number at step {self.step}.")
            return False
        values = metrics(scored.squared_error, scored.perceptual)
        self._remember(Step(self.step, scored.loss, scored.terms, values, seconds))
        if self.step == 0 or math.isinf(self.first_loss):  # a row that joined begins later
            self.first_loss = self.improved_loss = scored.loss
        reached = _reached(values, spec)
        # Another space has another prior, so what the sum was in the last one says nothing here.
        better = scored.loss < self.best_loss or bool(reached) or self.lifted
        if better:
            self.best_step, self.best_loss, self.best_metrics = self.step, scored.loss, values
        if scored.loss < self.improved_loss * (1 - budget.tolerance) or self.lifted:
            self.improved_step, self.improved_loss = self.step, scored.loss
        self.lifted = False
        # A start that is nearly exact has no scale of its own, so the weights of the terms are the least scale.
        scale = max(self.first_loss, sum(getattr(loss, "weight", 1.0) for loss in spec.losses))
        if reached:
            self.end(Outcome.target_reached, f"{reached} after {self.step} steps.")
        elif scored.loss > RUNAWAY * scale and not guarded:
            detail = f"At step {self.step} it was {scored.loss:.3g}, at the start {self.first_loss:.3g}."
            self.end(Outcome.diverged, detail)
        elif self.step >= limit:
            # A start that is nearly exact, or as good as it gets, may be left a little: that is no divergence.
            if not guarded and self.step > 0 and scored.loss > max(self.first_loss * (1 + HAIR), RISE * scale):
                ends = f"from {self.first_loss:.3g} at the start to {scored.loss:.3g} at step {self.step}"
                self.end(Outcome.diverged, f"It rose {ends}; try a smaller learning rate.")
            else:
                self.end(Outcome.step_limit)
        elif scored.loss == 0:
            self.end(Outcome.converged, "The loss is exactly zero.")
        elif budget.patience is not None and self.step - self.improved_step >= budget.patience:
            self.end(Outcome.converged, f"None for {budget.patience} steps.")
        return better


def _reached(values: Metrics, spec: JobSpec) -> str:
    """What was reached, in words; empty if a target that is set is still missed, or none is set."""
    lpips, psnr = spec.budget.target_lpips, spec.budget.target_psnr_db
    said = []
    if lpips is not None:
        if values.lpips is None or values.lpips > lpips:
            return ""
        said.append(f"LPIPS {values.lpips:.4f} ≤ {lpips:g}")
    if psnr is not None:
        if values.psnr_db < psnr:
            return ""
        said.append(f"PSNR {values.psnr_db:.1f} ≥ {psnr:g} dB")
    return " and ".join(said)


def best_row(rows: list[Row]) -> Row:
    """The row whose best iterate has the smallest loss; rows that ended well come before the others."""
    scored = [row for row in rows if row.best_metrics is not None and not row.dropped]
    if not scored:
        return next((row for row in rows if not row.dropped), rows[0])
    # A row that reached its target is what was asked for, whatever its loss.
    return min(scored, key=lambda row: (row.outcome is not Outcome.target_reached, row.best_loss, row.index))
