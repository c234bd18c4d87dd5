"""The policy `auto`: which start and which solvers, from what generator and objective offer. No torch.

It looks at sizes and kinds only, never at measured speed, so the same request is done the same way everywhere.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from . import spec as specs
from .errors import UnsupportedError
from .images import Picture
from .result import Metrics
from .settings import Settings, plain

#: more numbers than this, and a Jacobian costs more than it brings
MAX_DENSE_LATENTS = 1024
#: a larger Jacobian would crowd out all else on a small machine
MAX_JACOBIAN_BYTES = 2**30
#: starts of the second attempt at a picture that is in range and was not found, and how far from the encoder's answer
#: they are, in deviations: about what that is off by. Where there is something to find, a third to all of them do.
AGAIN_STARTS, AGAIN_SPREAD = 16, 0.6
#: search for pictures that the generator cannot make exactly: starts, steps until half of them go (earlier, which ones
#: are ahead says little of which will win), steps of those that stay, three in the end, and steps that finish these
WIDE_STARTS, WIDE_RUNG, WIDE_STEPS, POLISH_STEPS = 12, 100, 300, 150
#: steps that refine what an encoder found, of pictures up to so many pixels; of larger ones fewer, but so many at least
REFINING_STEPS, REFINED_PIXELS, LEAST_REFINING_STEPS = 200, 256 * 256, 20
#: with less time than this, several starts would take it from each other
WIDE_SECONDS = 20.0
#: how a layer is searched from what was lifted into it: near is where it should stay, so steps are small
LIFTED = specs.Adam(learning_rate=0.02, typical=0, beta2=0.99)
#: steps in the first space on the way to a layer, the same with little time, and steps in each layer
FIRST_STEPS, HURRIED_STEPS, LIFTED_STEPS = 150, 5, 150
#: steps of a solver without a gradient, which needs one candidate a step
GRADIENT_FREE_STEPS = 5000


#: solvers that go on to the last digits, which a network in half precision does not have
EXACT = (specs.LevenbergMarquardt, specs.GaussNewton)

_EXACT = "solver: levenberg_marquardt on the pixels, as the latents are few: it finds pictures that the generator made"


@dataclass(frozen=True)
class Offers:
    """What a generator and the terms of a job offer.

    Attributes:
        encoder: is there an amortised encoder for the space?
        differentiable, forward_mode: of generator and observation.
        latents: how many numbers are searched.
        pixels: how many numbers a picture has.
        number_bytes: bytes of a number.
        relaxed: is a class searched, as a point of a simplex?
        half: number format of the network if it is of half precision; else empty.
        route: earlier spaces from which latents can be lifted into this one, in their order, and what they offer.
        given: the earlier space of latents that are given as the start; empty: of this one, or none are given.
    """

    encoder: bool
    differentiable: bool
    forward_mode: bool
    latents: int
    pixels: int
    number_bytes: int = 4
    half: str = ""
    relaxed: bool = False
    route: tuple[tuple[str, Offers], ...] = ()
    given: str = ""


@dataclass(frozen=True)
class Quality:
    """How near to its picture a result is at least."""

    psnr_db: float
    lpips: float

    def met_by(self, found: Metrics | None) -> bool:
        """Is this as near? The distance counts only in jobs that look at it."""
        if found is None or found.psnr_db < self.psnr_db:
            return False
        return found.lpips is None or found.lpips <= self.lpips


#: of a picture that the generator can make, as it came through a file. Some paintings are within 31 dB and look like
#: something else, at four times this distance.
IN_RANGE = Quality(26.0, 0.1)
#: of a picture that is found up to what 8 bits hold
FOUND = Quality(55.0, 0.1)


@dataclass(frozen=True)
class Stage:
    """A part of a job that has one solver.

    Attributes:
        steps: most steps; None: all that the budget leaves.
        enough: a row that has this when the stage is over needs no further one; None: it goes on.
        only: a side branch: rows that have this by then end here, and others pass it by; None: all take it and go on.
        joined_by: further starts that join the first row that gets here; in a side branch one after the other, until
            one has enough; None: none.
        space: where it searches, if that is not the job's own space but one on the way there; rows are lifted from
            their best latents in the stage before.
        radius: how far latents may go from where the row entered the stage, in deviations; None: anywhere.
    """

    solver: Settings
    steps: int | None = None
    enough: Quality | None = None
    only: Quality | None = None
    joined_by: specs.Halving | specs.Encoder | None = None
    space: str = ""
    radius: float | None = None


@dataclass(frozen=True)
class Picked:
    """What a job is done with, and why."""

    initialiser: Settings
    stages: tuple[Stage, ...]
    why: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As JSON values, for the result."""
        stages = [
            {
                "solver": plain(stage.solver),
                "steps": stage.steps,
                "enough": None if stage.enough is None else asdict(stage.enough),
                "only": None if stage.only is None else asdict(stage.only),
                "joined_by": plain(stage.joined_by),
                "space": stage.space,
                "radius": stage.radius,
            }
            for stage in self.stages
        ]
        return {"start": plain(self.initialiser), "stages": stages, "why": list(self.why)}


def pick(spec: specs.JobSpec, offers: Offers) -> Picked:
    """Fill in what `spec` leaves to the policy; what it names stays as it is."""
    why: list[str] = []
    initialiser = spec.initialiser
    if isinstance(initialiser, specs.Lifted) or offers.given or (offers.route and isinstance(initialiser, specs.Auto)):
        return _lifted(spec, offers, initialiser if isinstance(initialiser, specs.Lifted) else specs.Lifted())
    if isinstance(initialiser, specs.Auto):
        initialiser, reason = _start(offers)
        why.append(reason)
    if not isinstance(spec.solver, specs.Auto):
        return Picked(initialiser, (Stage(spec.solver),), tuple(why))
    stages, reasons = _stages(spec, offers)
    return Picked(initialiser, stages, (*why, *reasons))


def _start(offers: Offers) -> tuple[Settings, str]:
    if offers.encoder:
        return specs.Encoder(), "start: the generator has an encoder"
    if offers.differentiable:
        return specs.BestOf(), "start: the best of some draws, as there is no encoder for this space"
    return specs.Seeds(), "start: one draw, as the solver explores by itself"


def _stages(spec: specs.JobSpec, offers: Offers) -> tuple[tuple[Stage, ...], tuple[str, ...]]:
    if not offers.differentiable:
        steps = None if spec.budget.seconds is not None else GRADIENT_FREE_STEPS
        return (Stage(specs.CMAES(), steps),), ("solver: cma_es, as the generator gives no gradient",)
    reason = _not_dense(spec, offers)
    if reason and offers.route:
        return _last_stages(spec, offers), (f"solver: adam in small steps, then l_bfgs, as {reason}",)
    near = offers.encoder and isinstance(spec.initialiser, (specs.Auto, specs.Encoder))
    if reason and near and offers.latents > MAX_DENSE_LATENTS:
        # Adam's first steps are as long as the prior is wide, and would throw away what the encoder found.
        steps = _refining_steps(spec, offers)
        fewer = (
            f", and no more than {steps} steps as the picture is large"
            if steps is not None and steps < REFINING_STEPS
            else ""
        )
        return (Stage(specs.LBFGS(), steps),), (f"solver: l_bfgs from where the encoder starts, as {reason}{fewer}",)
    if reason:
        return (Stage(specs.Adam()),), (f"solver: adam, as {reason}",)
    exact = _exact(spec, relaxed=offers.relaxed)
    in_range = f"{IN_RANGE.psnr_db:g} dB and LPIPS {IN_RANGE.lpips:g}"
    seconds = spec.budget.seconds
    if seconds is not None and seconds < WIDE_SECONDS:
        last = f"then adam on all terms, for pictures that are not within {in_range} by then"
        return (exact, Stage(specs.Adam())), (_EXACT, last)
    joining = specs.Halving(count=WIDE_STARTS, rung=WIDE_RUNG)
    wide = Stage(specs.Adam(), WIDE_STEPS, joined_by=joining)
    # A picture of the generator that the first attempt missed is found from the best of many; any other is finished.
    polish = Stage(specs.LBFGS(), None if seconds is not None else POLISH_STEPS)
    last = (
        f"then, for pictures that are not within {in_range} by then, adam on all terms from {joining.count} "
        "starts, the worse half of which goes at each rung, another attempt on the pixels, and l_bfgs to finish"
    )
    if offers.relaxed or exact.enough is None:
        return (exact, wide, exact, polish), (_EXACT, last)
    again = _again(spec, exact, near=near)
    more = f"; another time if it is then in range but not at {FOUND.psnr_db:g} dB"
    if isinstance(again.joined_by, specs.Encoder):
        more += f", from up to {again.joined_by.count - 1} starts around the encoder's too"
    else:
        more += ", with full Jacobians"
    return (replace(exact, enough=FOUND), again, wide, exact, polish), (_EXACT + more, last)


def _refining_steps(spec: specs.JobSpec, offers: Offers) -> int | None:
    """What a minute or so allows; None: the budget decides."""
    if spec.budget.steps is not None or spec.budget.seconds is not None:
        return None
    fewer = REFINING_STEPS * 3 * REFINED_PIXELS // max(1, offers.pixels)
    return max(LEAST_REFINING_STEPS, min(REFINING_STEPS, fewer))


def _exact(spec: specs.JobSpec, *, relaxed: bool) -> Stage:
    """Finds pictures that the generator made."""
    # An encoder starts near, so the first step may be bold; smaller damping left one of twelve behind.
    bold = specs.LevenbergMarquardt(terms="pixel", damping=0.03, decrease=1, tolerance=0.003)
    if relaxed:
        # Between classes the way is a narrow, bent valley along the border of a simplex. There, further steps with an
        # old Jacobian run into its walls, and a rounded one does not show where it goes.
        bold = specs.LevenbergMarquardt(terms="pixel", damping=0.3, chords=0, jacobian="full")
    # Only data terms vanish together with the pixels; a prior has its own say to the end.
    data_only = all(isinstance(loss, (specs.Pixel, specs.Perceptual)) for loss in spec.losses if loss.weight)  # type: ignore[attr-defined]
    return Stage(bold, steps=40, enough=IN_RANGE if data_only else None)


def _again(spec: specs.JobSpec, exact: Stage, *, near: bool) -> Stage:
    """For rows that are in range, but not found.

    In a few of a thousand pictures that could be found, the way from the encoder ends in a minimum of the pixels. Ways
    from beside it end elsewhere. But a picture of 8 bits that was not found is a JPEG more often than not: all of them
    would be in vain, and the one with the smallest sum would be the one that makes the most of the JPEG's blocks.
    """
    branch = replace(exact, enough=FOUND, only=IN_RANGE)
    if near and not _has_8_bits(spec.picture):
        return replace(branch, joined_by=specs.Encoder(count=AGAIN_STARTS, spread=AGAIN_SPREAD))
    # Bold steps share rounded Jacobians, and may have halted early.
    careful = specs.LevenbergMarquardt(terms="pixel", jacobian="full", tolerance=0.003)
    return replace(branch, solver=careful, steps=20)


def _has_8_bits(picture: Picture) -> bool:
    """Is every value one of the 256 levels of a file?"""
    levels = (picture.pixels.astype(np.float64) + 1) * 127.5
    return bool((np.abs(levels - np.rint(levels)) < 1e-3).all())


def _lifted(spec: specs.JobSpec, offers: Offers, lifted: specs.Lifted) -> Picked:
    """Space by space up to the job's own, each from the best of the last; see `specs.Lifted`."""
    if not offers.route:
        text = (
            "no other space leads to this one, so there is nothing to lift; encoder, best_of and seeds can start here"
        )
        raise UnsupportedError(text, field="initialiser")
    hurried = spec.budget.seconds is not None and spec.budget.seconds < WIDE_SECONDS
    names = [name for name, _ in offers.route]
    if offers.given:
        initialiser, reason = spec.initialiser, f"start: the given latents of {offers.given}"
        before, between = [], names[names.index(offers.given) + 1 :]
    else:
        first, between = offers.route[0][1], names[1:]
        initialiser, reason = _start(first)
        before = [replace(stage, space=names[0]) for stage in _first_stages(spec, first, hurried=hurried)]
    if not hurried and offers.differentiable:
        before += [Stage(LIFTED, LIFTED_STEPS, space=space, radius=lifted.radius) for space in between]
    if lifted.steps is not None:
        before = [replace(stage, steps=lifted.steps) for stage in before]
    last = _last_stages(spec, offers) if isinstance(spec.solver, specs.Auto) else (Stage(spec.solver),)
    last = tuple(replace(stage, radius=lifted.radius) for stage in last)
    if spec.budget.steps is not None:
        before = _within(before, spec.budget.steps // 2)
    way = ", ".join(dict.fromkeys([*(stage.space for stage in before), "the space itself"]))
    why = [reason, f"way: {way}, each from the best latents of the last"]
    if isinstance(spec.solver, specs.Auto):
        kinds = {type(stage.solver) for stage in last}
        said = " and ".join(name for name, kind in specs.SOLVERS.items() if kind in kinds)
        why.append(f"solver: {said} at the end, within {lifted.radius:g} deviations of what was lifted there")
    return Picked(initialiser, (*before, *last), tuple(why))


def _first_stages(spec: specs.JobSpec, offers: Offers, *, hurried: bool) -> tuple[Stage, ...]:
    """For the first space of several: as near as one start gets, since the later ones do the rest."""
    if not offers.differentiable:
        return (Stage(specs.CMAES(), GRADIENT_FREE_STEPS),)
    if _not_dense(spec, offers):
        return (Stage(specs.Adam(), HURRIED_STEPS if hurried else FIRST_STEPS),)
    exact = _exact(spec, relaxed=offers.relaxed)
    return (replace(exact, steps=HURRIED_STEPS),) if hurried else (exact, Stage(specs.Adam(), FIRST_STEPS))


def _last_stages(spec: specs.JobSpec, offers: Offers) -> tuple[Stage, ...]:
    """For a space that latents were lifted into."""
    if not offers.differentiable:
        return (Stage(specs.CMAES()),)
    if spec.budget.seconds is not None:
        return (Stage(LIFTED),)
    return (Stage(LIFTED, LIFTED_STEPS), Stage(specs.LBFGS(), POLISH_STEPS))


def _within(stages: list[Stage], steps: int) -> list[Stage]:
    """The same stages with shorter ones, where they would take more than so many steps together."""
    whole = sum(stage.steps or 0 for stage in stages)
    return [replace(stage, steps=(stage.steps or 0) * min(steps, whole) // max(1, whole)) for stage in stages]


def _not_dense(spec: specs.JobSpec, offers: Offers) -> str:
    """Why the Jacobian of the pixels is out of the question; empty if it is not."""
    jacobian = offers.latents * (offers.pixels + offers.latents) * offers.number_bytes
    pixel = next((loss for loss in spec.losses if isinstance(loss, specs.Pixel)), None)
    if pixel is None or pixel.kind != "l2" or pixel.weight == 0:
        return "no pixel term is a sum of squares"
    if offers.half:
        return f"{offers.half} has too few digits to find latents exactly"
    if not offers.forward_mode:
        return "the generator has no forward mode"
    if offers.latents > MAX_DENSE_LATENTS:
        return f"{offers.latents} latents are too many for a Jacobian"
    if jacobian > MAX_JACOBIAN_BYTES:
        return f"a Jacobian would take {jacobian // 2**20} MiB"
    return ""
