"""What a job would do, with an estimate of time and memory measured on a few real steps."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from latent_inv import policy
from latent_inv.assets import ASSETS, fetch
from latent_inv.build import Job, Stage, blank, build_job
from latent_inv.checks import jacobian_bytes
from latent_inv.device import place
from latent_inv.engine.engine import Engine
from latent_inv.engine.footprint import has_jacobian, kept_bytes
from latent_inv.engine.runner import evaluate
from latent_inv.engine.starts import in_stage
from latent_inv.errors import AssetError
from latent_inv.generators import open_table
from latent_inv.objective import Constants
from latent_inv.outline import fit_job, pick_for, step_limit, ways
from latent_inv.settings import Settings
from latent_inv.solve import make_spec
from latent_inv.solvers import Evaluation
from latent_inv.types import Latents, join_rows

#: steps that are timed; the first warms up
_STEPS = 4
#: time after which no further step is timed
_ENOUGH_SECONDS = 3.0


@dataclass(frozen=True)
class Plan:
    """What would be picked.

    Attributes:
        seconds: estimate of the whole job; None if weights must be fetched first.
        step_ms: milliseconds of a step in each stage.
        why: what the policy says of its choice.
        memory_mb: networks, target features and everything that one step keeps for the backward pass.
        fetch: names of the weights that must be downloaded first.
        fetch_mb: how much that is, as far as it is stated.
    """

    generator: str
    space: str
    device: str
    dtype: str
    precision: str
    solver: str
    start: str
    losses: tuple[str, ...]
    perceptual: str
    rows: int
    lane_width: int
    steps: int
    seconds: float | None
    step_ms: tuple[float, ...] | None
    memory_mb: float | None
    fetch: tuple[str, ...]
    fetch_mb: float
    why: tuple[str, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    def describe(self) -> str:
        """For a person."""
        lines = [
            f"generator   {self.generator}, space {self.space}, {self.precision} on {self.device}",
            f"start       {self.start}, {self.rows} row{'s' if self.rows > 1 else ''} in lanes of {self.lane_width}",
            f"solver      {self.solver}, at most {self.steps} steps",
            f"losses      {', '.join(self.losses)}; metric {self.perceptual}",
        ]
        if self.seconds is None or self.step_ms is None or self.memory_mb is None:
            size = f", {self.fetch_mb:.0f} MB" if self.fetch_mb else ""
            lines.append(f"fetch       {', '.join(self.fetch)}{size} first; then time and memory can be estimated")
        else:
            each = ", then ".join(f"{duration:.0f}" for duration in self.step_ms)
            lines.append(f"time        about {self.seconds:.1f} s at most ({each} ms a step)")
            lines.append(f"memory      about {self.memory_mb:.0f} MB")
        lines += [f"why         {reason}" for reason in self.why]
        return "\n".join([*lines, *(f"note        {warning}" for warning in self.warnings)])


def plan(
    image: Any,
    *,
    device: str = "auto",
    threads: int | None = None,
    encoder: str | Path | None = None,
    **chosen: Any,
) -> Plan:
    """Say what `invert` would do with the same arguments, without doing it.

    Raises:
        LatentInvError: as `invert` would.
    """
    spec = make_spec(image, **chosen)
    encoders = {spec.generator: Path(encoder)} if encoder else None
    engine = Engine(open_table(), place(device, threads), encoders=encoders)
    space, picture, _ = fit_job(spec, engine.catalogue.find(spec.generator))
    missing = [name for name in _needed(spec.generator, spec.perceptual) if not _is_here(name)]
    job = None if missing else build_job(spec, engine.catalogue)
    kind = engine.catalogue.find(spec.generator)
    # Without weights its file is not read; encoders are trained for the default space, unless told otherwise.
    encoded = kind.default_space if engine.catalogue.has_encoder(spec.generator) else None
    size = (picture.height, picture.width)
    precision = engine.catalogue.precision_of(spec)
    picked = pick_for(spec, kind, space, size, encoded=encoded, precision=precision) if job is None else job.picked
    limit = step_limit(spec, picked)
    timed = None if job is None else [_time_steps(job, stage, engine.placement.synchronise) for stage in job.stages]
    seconds = None if job is None or timed is None else max(_seconds(job, timed, way) for way in ways(job.stages))
    if seconds is not None and spec.budget.seconds is not None:
        seconds = min(seconds, spec.budget.seconds)
    return Plan(
        generator=spec.generator,
        space=space,
        device=engine.placement.device,
        dtype=spec.dtype,
        precision=precision,
        solver=", then ".join(_stage_text(stage) for stage in picked.stages),
        start=_text(picked.initialiser),
        losses=tuple(_text(loss) for loss in spec.losses),
        perceptual=spec.perceptual,
        rows=getattr(picked.initialiser, "count", 1) if job is None else job.entries.count(0),
        lane_width=spec.lane_width or 1 if job is None else job.width,
        steps=limit,
        seconds=seconds,
        step_ms=None if timed is None else tuple(duration * 1000 for duration in timed),
        memory_mb=None if job is None else _memory(job) / 1e6,
        fetch=tuple(missing),
        fetch_mb=sum((ASSETS[name].size or 0) for name in missing) / 1e6,
        why=picked.why,
        warnings=tuple(picture.warnings) if job is None else job.warnings,
    )


def _needed(generator: str, perceptual: str) -> list[str]:
    from latent_inv.perceptual import METRICS

    return [name for name in (generator, *METRICS[perceptual].assets) if name in ASSETS]


def _is_here(name: str) -> bool:
    try:
        fetch(name, offline=True)
    except AssetError:
        return False
    return True


def _text(settings: Settings) -> str:
    return repr(settings).replace("latent_inv.spec.", "") if not hasattr(settings, "latents") else "given latents"


def _stage_text(stage: policy.Stage) -> str:
    where = f" in {stage.space}" if stage.space else ""
    most = "" if stage.steps is None else f" for at most {stage.steps} steps"
    near = "" if stage.only is None else f" if at {stage.only.psnr_db:g} dB by then, and no more"
    joined = "" if stage.joined_by is None else f" from {stage.joined_by.count} starts"
    return _text(stage.solver) + where + joined + most + near


def _seconds(job: Job, timed: Sequence[float], way: Sequence[int]) -> float:
    """How long the job takes if it goes this way and no stage ends early; `timed` are seconds of a call of each."""
    done, rows, seconds = 0, 0, 0.0
    for index in way:
        stage = job.stages[index]
        # Those that join a side branch take turns.
        joiners, turns = job.entries.count(index), 1
        if stage.only is not None:
            joiners, turns = 0, 1 + joiners
        last = job.limit if stage.steps is None else min(job.limit, done + turns * stage.steps)
        # The start is scored too, once.
        calls, rows = _calls(rows + joiners, stage.rungs, stage.width, last - done + (index == 0))
        seconds += timed[index] * calls
        done = last
    return seconds


def _calls(rows: int, rungs: Sequence[tuple[int, int]], width: int, evaluations: int) -> tuple[float, int]:
    """(calls, rows that are left) of a stage: rows are scored so many times, only the best ones after a rung."""
    calls, done = 0.0, 0
    for step, keep in (*rungs, (evaluations, rows)):
        until = max(done, min(step + 1, evaluations))
        calls += -(-rows // width) * (until - done)
        rows, done = min(rows, keep) if step < evaluations else rows, until
    return calls, rows


def _time_steps(job: Job, stage: Stage, synchronise: Callable[[], None]) -> float:
    latents, constants = _one_lane(job, stage)
    keys, progress = torch.zeros(stage.width, dtype=torch.int64), torch.zeros(stage.width)
    first = next(iter(latents.values()))
    durations = []

    def look(at: Latents) -> Evaluation:
        return evaluate(stage.objective, at, constants, stage.solver.needs, min(stage.width, len(job.starts)))

    for _ in range(_STEPS):
        state = stage.solver.init(latents, keys)
        began = time.perf_counter()
        with torch.no_grad():
            stage.solver.step(latents, look, state, progress.to(first))
        synchronise()
        durations.append(time.perf_counter() - began)
        if sum(durations) > _ENOUGH_SECONDS:  # of a large picture one step, though the first is a bit slower
            break
    return statistics.median(durations[1:] or durations)


def _memory(job: Job) -> float:
    """Bytes: constants of all rows, what autograd keeps in one call (each storage once), and the largest Jacobian."""
    most = 0
    for stage in job.stages:
        latents, constants = _one_lane(job, stage)
        jacobian = 0
        if has_jacobian(stage):
            start = blank(stage.objective, (job.picture.height, job.picture.width))
            entries = stage.objective.residual_entries(start, job.target)
            jacobian = jacobian_bytes(stage.objective, start, entries)
        most = max(most, sum(kept_bytes(stage, latents, constants)) + jacobian)
    features = job.target.target.features or []
    a_row = sum(item[0].numel() * item.element_size() for item in [job.target.target.image, *features])
    return most + a_row * len(job.starts)


def _one_lane(job: Job, stage: Stage) -> tuple[dict[str, torch.Tensor], Any]:
    one = in_stage(job, stage)
    constants = Constants.from_tree(join_rows([one.constants.tree()] * stage.width))
    return join_rows([one.latents] * stage.width), constants
