"""From a spec to things that can run. All that can be wrong with a job is found here, before it is queued."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from . import spec as specs
from .asset_table import ENCODERS
from .checks import check_solver
from .device import DTYPES, Placement
from .encoders import PictureEncoder, load_encoder
from .errors import LatentsError, ShapeError, at
from .generators.base import Generator, LoadProgress, Rounded
from .generators.table import GeneratorTable
from .images import Picture
from .initialisers import INITIALISERS, Encode
from .losses import LOSSES
from .objective import Constants, Objective
from .observations import OBSERVATIONS
from .outline import Fitted, batch_key, fit_job, lane_width, pick_for, step_limit, wants_encoder
from .perceptual import load_metric
from .policy import Picked
from .seeding import stream
from .solvers import SOLVERS, Solver
from .types import Latents

_LOSS_NAMES = {kind: name for name, kind in specs.LOSSES.items()}


@dataclass(frozen=True)
class Stage:
    """A part of a job that can run.

    Attributes:
        key: rows with equal keys may share a call.
        steps: most steps of a row in this stage; None: all that the budget leaves.
        enough_psnr_db, enough_lpips: a row that has both when the stage is over is done; None: it goes on.
        rungs: (step, keep), counted from the stage's begin; see `Initialiser.rungs`.
    """

    objective: Objective
    solver: Solver[Any]
    key: Hashable
    steps: int | None = None
    enough_psnr_db: float | None = None
    enough_lpips: float | None = None
    rungs: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Job:
    """A job that can run.

    Attributes:
        stages: one after the other, each row at its own pace.
        target: what all rows are compared with, its features computed; without the parts of any start.
        limit: most steps of a row over all stages.
        starts: part -> [1, …] on the device, a row each.
        entries: the stage in which each row begins; rows of later stages sleep until another row gets there.
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
        """The sum that is minimised; stages differ only in which of its terms a solver models."""
        return self.stages[0].objective


class Catalogue:
    """Generators by name, loaded when first needed and kept."""

    def __init__(
        self,
        table: Mapping[str, type[Generator]],
        placement: Placement,
        encoders: Mapping[str, Path] | None = None,
    ) -> None:
        self.table = table if isinstance(table, GeneratorTable) else GeneratorTable(table)
        self.placement = placement
        self._encoder_files = dict(encoders or {})
        self._loaded: dict[tuple[str, str], Generator] = {}
        self._encoders: dict[tuple[str, str], PictureEncoder] = {}
        self._rounded: dict[str, Rounded] = {}

    def find(self, name: str) -> type[Generator]:
        """The adapter called `name`; see `GeneratorTable.find`."""
        return self.table.find(name)

    def load(self, name: str, dtype: str, progress: LoadProgress | None = None) -> Generator:
        """The generator on the engine's device.

        Raises:
            SpecError: unknown name. AssetError: its weights cannot be had.
        """
        if (name, dtype) not in self._loaded:
            kind = self.find(name)
            self._loaded[name, dtype] = kind.load(self.placement.torch_device, DTYPES[dtype], progress)
        return self._loaded[name, dtype]

    def rounded(self, name: str, dtype: str) -> Rounded | None:
        """The generator in a format that is quicker here, for Jacobians; None: there is none, or it is too coarse."""
        wanted, generator = self.placement.rounded, self.load(name, dtype)
        if wanted is None or not generator.roundable or generator.dtype != torch.float32:
            return None
        if name not in self._rounded:
            self._rounded[name] = generator.rounded(wanted)
        return self._rounded[name]

    def has_encoder(self, name: str) -> bool:
        """Can its latents be found in forward passes?"""
        return name in self._encoder_files or name in ENCODERS or self.find(name).has_encoder

    def encoder(self, name: str, dtype: str) -> PictureEncoder | None:
        """The generator's encoder, on the engine's device; one given by hand comes before its own. None: it has none.

        Raises:
            AssetError: it is damaged, or of another generator.
        """
        if not self.has_encoder(name):
            return None
        if (name, dtype) not in self._encoders:
            self._encoders[name, dtype] = load_encoder(self.load(name, dtype), self._encoder_files.get(name))
        return self._encoders[name, dtype]


def build_job(
    spec: specs.JobSpec, catalogue: Catalogue, progress: LoadProgress | None = None, fitted: Fitted | None = None
) -> Job:
    """Check everything about `spec` and load what it needs.

    Args:
        fitted: from `fit_job`, if that was done already.
    Raises:
        LatentInvError: the field, what was found, and what is accepted.
    """
    space_name, picture, visible = fitted or fit_job(spec, catalogue.find(spec.generator))
    generator = catalogue.load(spec.generator, spec.dtype, progress)
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
    if min(size) < metric.minimum_side:
        found = f"{size[1]} × {size[0]}"
        text = f"{spec.perceptual} needs pictures of at least {metric.minimum_side} pixels a side, found {found}"
        raise ShapeError(text, field="perceptual")
    encode = _encode(spec, space_name, picture, catalogue)
    picked = pick_for(spec, type(generator), space_name, size, encoder=encode is not None)
    initialiser = INITIALISERS[type(picked.initialiser)](picked.initialiser)
    with at("initialiser"):
        starts = initialiser.starts(objective.space, size, lambda row: stream(spec.seed, "start", row), encode)
    entries, rungs = [0] * len(starts), [initialiser.rungs]
    alone = len(starts) == 1 or any(keep == 1 for _, keep in initialiser.rungs)
    for index, stage in enumerate(picked.stages[1:], 1):
        joining = stage.joined_by if alone else None
        rungs.append(() if joining is None else INITIALISERS[type(joining)](joining).rungs)
        for _ in range(0 if joining is None else joining.count - 1):
            starts.append(objective.space.sample(size, stream(spec.seed, "start", len(starts))))
            entries.append(index)
    starts = [{name: generator.place(tensor) for name, tensor in start.items()} for start in starts]
    if not all(bool(torch.isfinite(tensor).all()) for start in starts for tensor in start.values()):
        raise LatentsError(f"the start has values too large for {spec.dtype}", field="initialiser.latents")
    width = lane_width(spec, catalogue.placement)
    target, stages = objective.prepare(picture, {}), []
    for stage, own_rungs in zip(picked.stages, rungs, strict=True):
        solver = SOLVERS[type(stage.solver)](stage.solver)
        rounded = catalogue.rounded(spec.generator, spec.dtype) if solver.rounds else None
        own = replace(objective, modelled=solver.modelled(list(objective.losses)), rounded=rounded)
        check_solver(own, solver, starts[0], target)
        key = batch_key(spec, stage.solver, space_name, size, width, masked=picture.weight is not None)
        stages.append(Stage(own, solver, key, stage.steps, stage.enough_psnr_db, stage.enough_lpips, own_rungs))
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


def _encode(spec: specs.JobSpec, space: str, picture: Picture, catalogue: Catalogue) -> Encode | None:
    """What an encoder sees in the job's picture, asked for only if the start wants it; None without an encoder."""
    encoder = catalogue.encoder(spec.generator, spec.dtype) if wants_encoder(spec) else None
    if encoder is None or encoder.space_name != space:
        return None
    return partial(encoder.see, picture)


def split(latents: Latents, searched: tuple[str, ...]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Latents as (searched, fixed) parts."""
    return (
        {name: tensor for name, tensor in latents.items() if name in searched},
        {name: tensor for name, tensor in latents.items() if name not in searched},
    )
