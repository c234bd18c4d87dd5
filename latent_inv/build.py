"""From a spec to things that can run. All that can be wrong with a job is found here, before it is queued."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from . import spec as specs
from .catalogue import Catalogue
from .checks import check_solver
from .classes import given
from .device import DTYPES
from .encoders import PictureEncoder
from .errors import LatentsError, ShapeError, at
from .generators.base import Generator, LoadProgress
from .images import Picture
from .initialisers import INITIALISERS, Encode
from .losses import LOSSES
from .objective import Constants, Objective
from .observations import OBSERVATIONS
from .outline import Fitted, batch_key, fit_job, given_space, lane_width, pick_for, step_limit, wants_encoder
from .perceptual import load_metric
from .policy import Picked, Quality
from .seeding import stream
from .solvers import SOLVERS, Solver
from .stage_rows import rows_of
from .types import Latents
from .widths import widths

_LOSS_NAMES = {kind: name for name, kind in specs.LOSSES.items()}


@dataclass(frozen=True)
class Stage:
    """A part of a job that can run.

    Attributes:
        key: rows with equal keys may share a call.
        steps: most steps of a row in this stage; None: all that the budget leaves.
        enough, only: see `policy.Stage`.
        rungs: (step, keep), counted from the stage's begin; see `Initialiser.rungs`.
        space: name of the space that it searches.
        radius: how far latents may go from where a row entered the stage, in deviations; None: anywhere.
        width: rows of a call.
    """

    objective: Objective
    solver: Solver[Any]
    key: Hashable
    steps: int | None = None
    enough: Quality | None = None
    only: Quality | None = None
    rungs: tuple[tuple[int, int], ...] = ()
    space: str = ""
    radius: float | None = None
    width: int = 1


@dataclass(frozen=True)
class Job:
    """A job that can run.

    Attributes:
        stages: one after the other, each row at its own pace.
        target: what all rows are compared with, its features computed; without the parts of any start.
        limit: most steps of a row over all stages.
        space: where the result is; the last stage searches there.
        starts: part -> [1, …] on the device, a row each, of the space of the stage in which it begins.
        entries: the stage in which each row begins; rows of later stages sleep until another row gets there.
        width: rows of a call that is made for one row alone, as when the result is decoded.
        visible: (height, width) of the picture without padding.
    """

    spec: specs.JobSpec
    stages: tuple[Stage, ...]
    picked: Picked
    target: Constants
    limit: int
    width: int
    picture: Picture
    visible: tuple[int, int]
    space: str
    starts: list[dict[str, torch.Tensor]]
    entries: tuple[int, ...]
    warnings: tuple[str, ...]

    @property
    def objective(self) -> Objective:
        """The sum that is minimised; stages differ only in their space, and in which terms a solver models."""
        return self.stages[-1].objective

    @property
    def told(self) -> dict[str, Any]:
        """What was picked, as JSON values, and how many rows a call of each stage has."""
        told = self.picked.to_json()
        stages = zip(told["stages"], self.stages, strict=True)
        return {**told, "stages": [{**as_picked, "lane_width": stage.width} for as_picked, stage in stages]}


def build_job(
    spec: specs.JobSpec,
    catalogue: Catalogue,
    progress: LoadProgress | None = None,
    fitted: Fitted | None = None,
    precision: str = "",
) -> Job:
    """Check everything about `spec` and load what it needs.

    Args:
        fitted: from `fit_job`, if that was done already.
        precision: of the network; empty: what the spec says.
    Raises:
        LatentInvError: the field, what was found, and what is accepted.
    """
    fitted = fitted or fit_job(spec, catalogue.find(spec.generator))
    space_name, picture, visible = fitted
    precision = precision or catalogue.precision_of(spec)
    generator = catalogue.at(spec.generator, spec.dtype, precision, progress)
    metric = load_metric(spec.perceptual, device=catalogue.placement.torch_device, dtype=DTYPES[spec.dtype])
    size = (picture.height, picture.width)
    objective = Objective(
        generator=generator,
        space=generator.spaces[space_name],
        observation=OBSERVATIONS[type(spec.observation)](spec.observation),
        losses={_LOSS_NAMES[type(loss)]: LOSSES[type(loss)](loss) for loss in spec.losses},
        metric=metric,
        watch_perceptual=spec.budget.target_lpips is not None,
        tangent_chunk=catalogue.placement.tangent_chunk,
    )
    for loss in objective.losses.values():
        loss.check(objective.space)
    if min(size) < metric.minimum_side:
        found = f"{size[1]} × {size[0]}"
        text = f"{spec.perceptual} needs pictures of at least {metric.minimum_side} pixels a side, found {found}"
        raise ShapeError(text, field="perceptual")
    encoder = catalogue.encoder(spec.generator, spec.dtype, precision) if wants_encoder(spec) else None
    encoded = encoder.space_name if encoder else None
    picked = pick_for(spec, type(generator), space_name, size, encoded=encoded, precision=precision)
    spaces = [stage.space or space_name for stage in picked.stages]
    initialiser = INITIALISERS[type(picked.initialiser)](picked.initialiser)
    conditions = given(objective.space, spec.conditions, spec.fixed, size)
    seen = _encode(spec, generator, spaces[0], picture, encoder)
    encode = None if seen is None else _once(seen, conditions)
    origin = given_space(spec, type(generator), space_name) or spaces[0]
    with at("initialiser"):
        drawn = generator.spaces[origin]
        starts = initialiser.starts(drawn, size, partial(_start_stream, spec.seed, 0), encode)
    entries, stage_rows = [0] * len(starts), list(rows_of(picked))
    for index, (name, rows) in enumerate(zip(spaces, stage_rows, strict=True)):
        if rows.joining is not None:
            streams, seeing = partial(_start_stream, spec.seed, len(starts) - 1), encode if name == spaces[0] else None
            starts += rows.joining.starts(generator.spaces[name], size, streams, seeing)[1:]
            entries += [index] * rows.joiners
    starts = [{name: generator.place(part) for name, part in {**start, **conditions}.items()} for start in starts]
    if origin != spaces[0]:
        starts = [
            start if entry else generator.lift(start, spaces[0]) for start, entry in zip(starts, entries, strict=True)
        ]
    if not all(bool(torch.isfinite(tensor).all()) for start in starts for tensor in start.values()):
        if generator.is_half:
            job = build_job(spec, catalogue, progress, fitted, spec.dtype)
            return replace(job, warnings=(*job.warnings, overflowed(precision, "at the start")))
        raise LatentsError(f"the start has values too large for {spec.dtype}", field="initialiser.latents")
    width = lane_width(spec, catalogue.placement)
    target, stages = objective.prepare(picture, {}), []
    masked = picture.weight is not None
    each = widths(spec, picked, catalogue.placement)
    for stage, space, rows, shared in zip(picked.stages, spaces, stage_rows, each, strict=True):
        solver = SOLVERS[type(stage.solver)](stage.solver)
        rounded = catalogue.rounded(spec.generator, spec.dtype) if solver.rounds else None
        modelled = solver.modelled(list(objective.losses))
        own = replace(objective, space=generator.spaces[space], modelled=modelled, rounded=rounded)
        check_solver(own, solver, blank(own, size), target)
        near = stage.radius is not None
        key = batch_key(spec, stage.solver, space, size, shared, precision=precision, masked=masked, near=near)
        when = (stage.steps, stage.enough, stage.only)
        stages.append(Stage(own, solver, key, *when, rows.rungs, space, stage.radius, shared))
    return Job(
        spec=spec,
        stages=tuple(stages),
        picked=picked,
        target=target,
        limit=step_limit(spec, picked),
        width=width,
        picture=picture,
        visible=visible,
        space=space_name,
        starts=starts,
        entries=tuple(entries),
        warnings=tuple(picture.warnings),
    )


def _encode(
    spec: specs.JobSpec, generator: Generator, space: str, picture: Picture, encoder: PictureEncoder | None
) -> Encode | None:
    """What an encoder sees in the job's picture, lifted to `space` where it has to be; None without an encoder."""
    if encoder is not None and encoder.space_name == space:
        return partial(encoder.see, picture)
    if encoder is None or encoder.space_name not in generator.routes.get(space, ()):
        return None
    return partial(_encode_earlier, generator, encoder, space, picture, stream(spec.seed, "encode"))


def _once(encode: Encode, conditions: Latents) -> Encode:
    """The same, asked once where it can only give one answer, with the conditions of the job instead of drawn ones."""
    known: dict[int, dict[str, torch.Tensor]] = {}

    def see(passes: int, fixed: Latents) -> dict[str, torch.Tensor]:
        asked = {name: conditions.get(name, tensor) for name, tensor in fixed.items()}
        if asked.keys() - conditions.keys():
            return encode(passes, asked)
        if passes not in known:
            known[passes] = encode(passes, asked)
        return {name: tensor.clone() for name, tensor in known[passes].items()}

    return see


def _start_stream(seed: int, before: int, row: int) -> torch.Generator:
    """Randomness of the start of row `row` of those that come after `before` others."""
    return stream(seed, "start", before + row)


def _encode_earlier(
    generator: Generator,
    encoder: PictureEncoder,
    space: str,
    picture: Picture,
    noise: torch.Generator,
    passes: int,
    fixed: Mapping[str, torch.Tensor],
) -> dict[str, torch.Tensor]:
    """What an encoder of an earlier space sees, as searched parts of `space`, [1, …].

    Args:
        noise: for fixed parts that the earlier space has and this one has not.
        fixed: parts of `space` that are not searched.
    """
    size = (picture.height, picture.width)
    own = split(encoder.space.sample(size, noise), encoder.space.searched)[1]
    own = {name: generator.place(fixed.get(name, tensor)) for name, tensor in own.items()}
    lifted = generator.lift({**own, **encoder.see(picture, passes, own)}, space)
    return split(lifted, generator.spaces[space].searched)[0]


def overflowed(precision: str, when: str) -> str:
    """What a result says of a job that goes on in float32."""
    return f"{precision} gave values that are not finite {when}; from there on the network was in float32"


def blank(objective: Objective, size: tuple[int, int]) -> dict[str, torch.Tensor]:
    """Zeros in the form of one row of its space: part -> [1, …]."""
    shapes, place = objective.space.shapes(size), objective.generator.place
    return {name: place(torch.zeros(1, *shape)) for name, shape in shapes.items()}


def split(latents: Latents, searched: tuple[str, ...]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Latents as (searched, fixed) parts."""
    return (
        {name: tensor for name, tensor in latents.items() if name in searched},
        {name: tensor for name, tensor in latents.items() if name not in searched},
    )
