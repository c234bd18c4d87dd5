"""From a spec to things that can run. All that can be wrong with a job is found here, before it is queued."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from . import spec as specs
from .device import DTYPES, Placement
from .errors import LatentsError, LimitError, ShapeError, UnsupportedError, at, unknown_name
from .generators.base import Generator, LoadProgress
from .images import Picture, crop_and_fit
from .initialisers import INITIALISERS
from .losses import LOSSES
from .objective import Objective
from .observations import OBSERVATIONS
from .perceptual import load_metric
from .seeding import stream
from .settings import structure
from .solvers import SOLVERS, Solver
from .types import Latents

_LOSS_NAMES = {kind: name for name, kind in specs.LOSSES.items()}


@dataclass(frozen=True)
class Job:
    """A job that can run.

    Attributes:
        key: rows with equal keys may share a call.
        starts: part -> [1, …] on the device, a row each.
        rungs: (step, keep), see `Initialiser.rungs`.
        visible: (height, width) of the picture without padding.
    """

    spec: specs.JobSpec
    objective: Objective
    solver: Solver[Any]
    key: Hashable
    width: int
    picture: Picture
    visible: tuple[int, int]
    space: str
    starts: list[dict[str, torch.Tensor]]
    rungs: tuple[tuple[int, int], ...]
    warnings: tuple[str, ...]


class Catalogue:
    """Generators by name, loaded when first needed and kept."""

    def __init__(self, table: Mapping[str, type[Generator]], placement: Placement) -> None:
        self.table, self.placement = table, placement
        self._loaded: dict[tuple[str, str], Generator] = {}

    def find(self, name: str) -> type[Generator]:
        """The adapter called `name`.

        Raises:
            SpecError: there is none.
        """
        if name not in self.table:
            raise unknown_name("generator", name, list(self.table), field="generator")
        return self.table[name]

    def load(self, name: str, dtype: str, progress: LoadProgress | None = None) -> Generator:
        """The generator on the engine's device.

        Raises:
            SpecError: unknown name. AssetError: its weights cannot be had.
        """
        if (name, dtype) not in self._loaded:
            kind = self.find(name)
            self._loaded[name, dtype] = kind.load(self.placement.torch_device, DTYPES[dtype], progress)
        return self._loaded[name, dtype]


def fit_picture(
    generator: type[Generator] | Generator, picture: Picture, crop: tuple[int, int, int, int] | None
) -> tuple[Picture, tuple[int, int]]:
    """`picture` as the generator makes it, and the (height, width) of its part without padding."""
    fitted, placement = crop_and_fit(picture, crop=crop, size=generator.size, stride=generator.stride)
    return fitted, (placement.height, placement.width)


def fit_job(spec: specs.JobSpec, kind: type[Generator]) -> tuple[str, Picture, tuple[int, int]]:
    """All of a job that can be checked without weights: the name of its space, and its picture as in `fit_picture`.

    Raises:
        LatentInvError: the field, what was found, and what is accepted.
    """
    space = spec.space or kind.default_space
    if space not in kind.spaces:
        raise unknown_name("space", space, list(kind.spaces), field="space")
    return (space, *fit_picture(kind, spec.picture, spec.crop))


def build_job(spec: specs.JobSpec, catalogue: Catalogue, progress: LoadProgress | None = None) -> Job:
    """Check everything about `spec` and load what it needs.

    Raises:
        LatentInvError: the field, what was found, and what is accepted.
    """
    space_name, picture, visible = fit_job(spec, catalogue.find(spec.generator))
    solver = SOLVERS[type(spec.solver)](spec.solver)
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
    )
    if min(size) < metric.minimum_side:
        found = f"{size[1]} × {size[0]}"
        text = f"{spec.perceptual} needs pictures of at least {metric.minimum_side} pixels a side, found {found}"
        raise ShapeError(text, field="perceptual")
    if solver.needs != "value" and not objective.differentiable:
        others = " or ".join(name for name, kind in specs.SOLVERS.items() if SOLVERS[kind].needs == "value")
        text = f"{spec.generator} gives no gradient, and this solver needs one; {others} works without"
        raise UnsupportedError(text, field="solver")
    initialiser = INITIALISERS[type(spec.initialiser)](spec.initialiser)
    with at("initialiser"):
        starts = initialiser.starts(objective.space, size, lambda row: stream(spec.seed, "start", row))
    starts = [{name: generator.place(tensor) for name, tensor in start.items()} for start in starts]
    if not all(bool(torch.isfinite(tensor).all()) for start in starts for tensor in start.values()):
        raise LatentsError(f"the start has values too large for {spec.dtype}", field="initialiser.latents")
    most = catalogue.placement.max_lane_width
    if spec.lane_width > most:
        raise LimitError(f"at most {most} on this device, found {spec.lane_width}", field="lane_width")
    width = spec.lane_width or (catalogue.placement.lane_width if spec.priority == "bulk" else 1)
    return Job(
        spec=spec,
        objective=objective,
        solver=solver,
        key=batch_key(spec, space_name, size, width, masked=picture.weight is not None),
        width=width,
        picture=picture,
        visible=visible,
        space=space_name,
        starts=starts,
        rungs=initialiser.rungs,
        warnings=tuple(picture.warnings),
    )


def batch_key(spec: specs.JobSpec, space: str, size: tuple[int, int], width: int, *, masked: bool) -> Hashable:
    """What must be equal for rows to share a call: everything but numbers, targets and latents."""
    return (
        spec.generator,
        space,
        spec.dtype,
        size,
        width,
        spec.perceptual,
        masked,
        spec.budget.target_lpips is not None,
        structure(spec.solver),
        structure(spec.observation),
        tuple(structure(loss) for loss in spec.losses),
    )


def split(latents: Latents, searched: tuple[str, ...]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Latents as (searched, fixed) parts."""
    return (
        {name: tensor for name, tensor in latents.items() if name in searched},
        {name: tensor for name, tensor in latents.items() if name not in searched},
    )
