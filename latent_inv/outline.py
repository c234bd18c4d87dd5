"""What can be said of a job before any weights are loaded: how its picture fits, what is picked, what shares a call."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Protocol

from . import spec as specs
from .classes import given
from .device import DTYPES, Placement
from .errors import LimitError, unknown_name
from .generators.base import Generator
from .images import Picture, crop_and_fit
from .observations import OBSERVATIONS
from .policy import EXACT, MAX_DENSE_LATENTS, Offers, Picked, Quality, pick
from .settings import Settings, structure
from .spaces import Categorical
from .stage_rows import rows_of

#: steps of a stage that has no number of its own
DEFAULT_STEPS = 200
#: name of the space, the picture as the generator makes it, (height, width) of its part without padding
Fitted = tuple[str, Picture, tuple[int, int]]


class HasBranches(Protocol):
    """A stage that may be a side branch, see `policy.Stage`."""

    @property
    def only(self) -> Quality | None:
        """What a row must have to take it."""


def fit_picture(
    generator: type[Generator] | Generator, picture: Picture, crop: tuple[int, int, int, int] | None
) -> tuple[Picture, tuple[int, int]]:
    """`picture` as the generator makes it, and the (height, width) of its part without padding."""
    fitted, placement = crop_and_fit(picture, crop=crop, size=generator.size, stride=generator.stride)
    return fitted, (placement.height, placement.width)


def fit_job(spec: specs.JobSpec, kind: type[Generator]) -> Fitted:
    """All of a job that can be checked without weights: the name of its space, and its picture as in `fit_picture`.

    Raises:
        LatentInvError: the field, what was found, and what is accepted.
    """
    kind.check_dtype(spec.dtype)
    kind.check_precision(spec.precision)
    space = spec.space or kind.default_space
    if space not in kind.spaces:
        raise unknown_name("space", space, list(kind.spaces), field="space")
    picture, visible = fit_picture(kind, spec.picture, spec.crop)
    given(kind.spaces[space], spec.conditions, spec.fixed, (picture.height, picture.width))
    return space, picture, visible


def lane_width(spec: specs.JobSpec, placement: Placement) -> int:
    """Rows a call of a job runs at.

    Raises:
        LimitError: more than the device should have to do between two looks at its orders.
    """
    most = placement.max_lane_width
    if spec.lane_width > most:
        raise LimitError(f"at most {most} on this device, found {spec.lane_width}", field="lane_width")
    return spec.lane_width or (placement.lane_width if spec.priority == "bulk" else 1)


def step_limit(spec: specs.JobSpec, picked: Picked) -> int:
    """Most steps of a row, after those of all rows before it."""
    if spec.budget.steps is not None:
        return spec.budget.steps
    if spec.budget.seconds is not None:
        return specs.UNLIMITED_STEPS
    steps = []
    for stage, rows in zip(picked.stages, rows_of(picked), strict=True):
        turns = 1 if stage.only is None else 1 + rows.joiners  # those of a side branch take turns
        steps.append(turns * (DEFAULT_STEPS if stage.steps is None else stage.steps))
    return max(sum(steps[index] for index in way) for way in ways(picked.stages))


def ways(stages: Sequence[HasBranches]) -> list[list[int]]:
    """The stages, by index, that a row may take one after the other: past all side branches, or into one of them."""
    straight = [index for index, stage in enumerate(stages) if stage.only is None]
    branches = [index for index, stage in enumerate(stages) if stage.only is not None]
    return [straight, *([*(index for index in straight if index < end), end] for end in branches)]


def precision_of(
    spec: specs.JobSpec | specs.DecodeSpec | specs.SampleSpec | specs.EncodeSpec | specs.ResidenceSpec,
    kind: type[Generator],
    placement: Placement,
) -> str:
    """Number format in which the network of a request computes.

    Raises:
        UnsupportedError: it cannot.
    """
    kind.check_precision(spec.precision)
    if spec.precision != "auto":
        return spec.precision
    usual = placement.precision
    if spec.dtype != "float32" or usual not in kind.halves or (isinstance(spec, specs.JobSpec) and _exact(spec, kind)):
        return spec.dtype
    return usual


def _exact(spec: specs.JobSpec, kind: type[Generator]) -> bool:
    """Are its latents found to the last digits, by a solver that it names or that the policy would take?"""
    space = kind.spaces.get(spec.space or kind.default_space)
    if space is None or not isinstance(spec.solver, specs.Auto):
        return isinstance(spec.solver, EXACT)
    height, width = kind.size or (-(-side // kind.stride) * kind.stride for side in spec.picture.pixels.shape[1:])
    shapes = space.shapes((height, width))
    return sum(math.prod(shapes[part]) for part in space.searched) <= MAX_DENSE_LATENTS


def pick_for(
    spec: specs.JobSpec,
    kind: type[Generator],
    space: str,
    size: tuple[int, int],
    *,
    encoded: str | None,
    precision: str = "",
) -> Picked:
    """What the policy takes for a job; needs no weights.

    Args:
        size: (height, width) of the fitted picture.
        encoded: the space in which an encoder finds latents; None: there is none.
        precision: see `precision_of`.
    """
    observed = OBSERVATIONS[type(spec.observation)](spec.observation).differentiable

    def offers(name: str) -> Offers:
        shapes = kind.spaces[name].shapes(size)
        return Offers(
            encoder=encoded is not None and encoded in (name, *kind.routes.get(name, ())),
            differentiable=kind.differentiable and observed,
            forward_mode=kind.forward_mode,
            latents=sum(math.prod(shapes[part]) for part in kind.spaces[name].searched),
            pixels=3 * size[0] * size[1],
            relaxed=any(
                isinstance(kind.spaces[name].parts[part].prior, Categorical) for part in kind.spaces[name].searched
            ),
            number_bytes=DTYPES[spec.dtype].itemsize,
            half=precision if precision in kind.halves else "",
        )

    route = tuple((name, offers(name)) for name in kind.routes.get(space, ()))
    return pick(spec, replace(offers(space), route=route, given=given_space(spec, kind, space)))


def given_space(spec: specs.JobSpec, kind: type[Generator], space: str) -> str:
    """The space on the way to `space` of which latents are given; empty: they are of `space`, or none are given."""
    if isinstance(spec.initialiser, specs.Given):
        parts = set(spec.initialiser.latents)
        for name in kind.routes.get(space, ()):
            if set(kind.spaces[name].searched) <= parts <= set(kind.spaces[name].parts):
                return name
    return ""


def wants_encoder(spec: specs.JobSpec) -> bool:
    """Does the start ask an encoder? A damaged or foreign one must not refuse jobs that begin without."""
    return isinstance(spec.initialiser, (specs.Auto, specs.Encoder, specs.Halving, specs.Lifted))


def batch_key(
    spec: specs.JobSpec,
    solver: Settings,
    space: str,
    size: tuple[int, int],
    width: int,
    *,
    precision: str = "",
    masked: bool,
    near: bool = False,
) -> Hashable:
    """What must be equal for rows to share a call: everything but numbers, targets and latents."""
    return (
        spec.generator,
        space,
        spec.dtype,
        precision,
        size,
        width,
        spec.perceptual,
        masked,
        near,
        spec.budget.target_lpips is not None,
        structure(solver),
        structure(spec.observation),
        tuple(structure(loss) for loss in spec.losses),
    )
