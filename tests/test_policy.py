"""The policy `auto`: every way it can go, and that it leaves alone what is named."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from latent_inv import policy, spec
from latent_inv.errors import UnsupportedError
from latent_inv.images import Picture
from latent_inv.outline import pick_for
from latent_inv.policy import Offers, Picked, Stage, pick
from latent_inv.settings import Settings
from tests.conftest import make_picture
from tests.toy import TOYS

#: few latents, all derivatives, no encoder
#: what second order is followed by where a picture is not in range
WIDE_SOLVERS = [spec.Adam, spec.LevenbergMarquardt, spec.LBFGS]
DENSE_SOLVERS = [spec.LevenbergMarquardt, spec.LevenbergMarquardt, *WIDE_SOLVERS]
DENSE = Offers(encoder=False, differentiable=True, forward_mode=True, latents=100, pixels=3 * 64 * 64)
PICTURE = make_picture(32, 32)


def picked(offers: Offers = DENSE, **settings: Any) -> Picked:
    return pick(spec.JobSpec(**{"picture": PICTURE, **settings}), offers)


def solvers(found: Picked) -> list[type[Settings]]:
    return [type(stage.solver) for stage in found.stages]


def said(found: Picked, about: str) -> str:
    """What is said of "start" or "solver"."""
    return "\n".join(reason for reason in found.why if reason.startswith(f"{about}: "))


# ---- starts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "start", "reason"),
    [
        ({"encoder": True}, spec.Encoder(), "has an encoder"),
        ({"encoder": True, "differentiable": False}, spec.Encoder(), "has an encoder"),
        ({}, spec.BestOf(), "no encoder"),
        ({"differentiable": False}, spec.Seeds(), "one draw"),
    ],
)
def test_the_start_is_what_the_generator_offers(changed: dict[str, Any], start: Settings, reason: str) -> None:
    found = picked(replace(DENSE, **changed))
    assert found.initialiser == start
    assert reason in said(found, "start")


# ---- solvers -------------------------------------------------------------------------------------


def test_few_latents_and_squared_pixels_get_second_order_and_then_adam() -> None:
    found = picked()
    assert solvers(found) == DENSE_SOLVERS
    exact, again, wide, more, polish = found.stages
    assert exact.solver.terms == "pixel", "the other terms may be no sums of squares"  # type: ignore[attr-defined]
    assert exact.steps is not None
    assert (exact.enough, exact.only) == (policy.FOUND, None)
    careful = again.solver
    assert again == replace(exact, only=policy.IN_RANGE, solver=careful, steps=20), (
        "for those in range, which end there"
    )
    assert (careful.terms, careful.jacobian) == ("pixel", "full")  # type: ignore[attr-defined]
    assert wide.joined_by == spec.Halving(count=policy.WIDE_STARTS, rung=policy.WIDE_RUNG)
    assert more == replace(exact, enough=policy.IN_RANGE)
    assert polish == Stage(spec.LBFGS(), policy.POLISH_STEPS)
    assert "levenberg_marquardt" in said(found, "solver")
    assert any("adam" in reason and f"{policy.IN_RANGE.psnr_db:g} dB" in reason for reason in found.why)


def test_with_little_time_there_is_one_start_and_no_prior_is_cut_short() -> None:
    hurried = picked(budget=spec.Budget(seconds=2))
    assert solvers(hurried) == [spec.LevenbergMarquardt, spec.Adam]
    assert all(stage.joined_by is None for stage in hurried.stages)
    with_prior = picked(losses=(spec.Pixel(), spec.LatentPrior()))
    assert with_prior.stages[0].enough is None
    assert all(stage.only is None for stage in with_prior.stages)


@pytest.mark.parametrize("start", [spec.Auto(), spec.Encoder(), spec.Encoder(passes=1)], ids=str)
def test_the_second_attempt_at_a_picture_in_range_begins_around_the_encoders_answer(start: Settings) -> None:
    """But not of pictures of 8 bits, most of which are JPEGs if they are not found."""
    levels = np.random.default_rng(2).integers(0, 256, (3, 8, 8))
    for exactly in (True, False):
        values = (levels + (0 if exactly else 0.3)) / 127.5 - 1
        found = picked(
            replace(DENSE, encoder=True),
            initialiser=start,
            picture=Picture(values.astype(np.float32).clip(-1, 1), None),
        )
        around = spec.Encoder(count=policy.AGAIN_STARTS, spread=policy.AGAIN_SPREAD)
        assert found.stages[1].joined_by == (None if exactly else around)
        assert found.stages[1].solver.jacobian == ("full" if exactly else "auto")  # type: ignore[attr-defined]
        assert ("starts around the encoder's" in said(found, "solver")) is not exactly


@pytest.mark.parametrize("start", [spec.Seeds(), spec.BestOf()], ids=str)
def test_whoever_names_another_start_has_no_other_beside_it(start: Settings) -> None:
    assert picked(replace(DENSE, encoder=True), initialiser=start).stages[1].joined_by is None


JACOBIAN = policy.MAX_JACOBIAN_BYTES
#: the most pixels with 1000 latents of 4 bytes
MOST_PIXELS = JACOBIAN // 4000 - 1000


def test_many_latents_that_an_encoder_found_are_not_thrown_away() -> None:
    """Adam's first steps would: they are as long as the prior is wide."""
    many = replace(DENSE, encoder=True, latents=policy.MAX_DENSE_LATENTS + 1)
    for start in (spec.Auto(), spec.Encoder()):
        found = picked(many, initialiser=start)
        assert found.stages == (Stage(spec.LBFGS(), policy.REFINING_STEPS),)
        assert "l_bfgs" in said(found, "solver")
    for other in (picked(many, initialiser=spec.Seeds()), picked(replace(many, encoder=False))):
        assert other.stages == (Stage(spec.Adam()),)


@pytest.mark.parametrize(("side", "steps"), [(64, 200), (256, 200), (512, 50), (1024, 20), (8192, 20)])
def test_large_pictures_get_fewer_steps(side: int, steps: int) -> None:
    """And the result says so; a budget that is given is kept."""
    many = replace(DENSE, encoder=True, latents=policy.MAX_DENSE_LATENTS + 1, pixels=3 * side**2)
    found = picked(many)
    assert found.stages == (Stage(spec.LBFGS(), steps),)
    assert (f"no more than {steps} steps" in said(found, "solver")) == (steps < 200)
    for budget in (spec.Budget(seconds=60), spec.Budget(steps=77)):
        assert picked(many, budget=budget).stages == (Stage(spec.LBFGS()),)


@pytest.mark.parametrize(
    ("changed", "settings", "reason"),
    [
        ({}, {"losses": (spec.Pixel(kind="l1"), spec.Perceptual())}, "sum of squares"),
        ({}, {"losses": (spec.Pixel(kind="huber"),)}, "sum of squares"),
        ({}, {"losses": (spec.Perceptual(),)}, "sum of squares"),
        ({}, {"losses": (spec.Pixel(weight=0), spec.Perceptual())}, "sum of squares"),
        ({"forward_mode": False}, {}, "no forward mode"),
        ({"latents": policy.MAX_DENSE_LATENTS + 1}, {}, f"{policy.MAX_DENSE_LATENTS + 1} latents"),
        ({"latents": 1000, "pixels": MOST_PIXELS + 1}, {}, f"{JACOBIAN // 2**20} MiB"),
        ({"latents": 1000, "pixels": MOST_PIXELS, "number_bytes": 8}, {}, "2047 MiB"),
    ],
)
def test_adam_alone_where_second_order_cannot_be(
    changed: dict[str, Any], settings: dict[str, Any], reason: str
) -> None:
    found = picked(replace(DENSE, **changed), **settings)
    assert found.stages == (Stage(spec.Adam()),)
    assert "adam" in said(found, "solver")
    assert reason in said(found, "solver")


@pytest.mark.parametrize(
    ("changed", "settings"),
    [
        ({"latents": policy.MAX_DENSE_LATENTS}, {}),
        ({"latents": 1000, "pixels": MOST_PIXELS}, {}),
        ({}, {"losses": (spec.Perceptual(), spec.TotalVariation(), spec.Pixel(weight=0.01))}),
    ],
)
def test_second_order_up_to_its_limits(changed: dict[str, Any], settings: dict[str, Any]) -> None:
    found = picked(replace(DENSE, **changed), **settings)
    # Where other terms have their say to the end, a picture is not found by its pixels alone.
    once = any(isinstance(loss, spec.TotalVariation) for loss in settings.get("losses", ()))
    assert solvers(found) == DENSE_SOLVERS[once:]


@pytest.mark.parametrize(
    ("budget", "steps"),
    [
        (spec.Budget(), policy.GRADIENT_FREE_STEPS),
        (spec.Budget(seconds=5), None),
        (spec.Budget(steps=7), policy.GRADIENT_FREE_STEPS),
    ],
)
def test_without_a_gradient_cma_es(budget: spec.Budget, steps: int | None) -> None:
    """As long as it needs, or as there is time; the sum over stages is capped by the budget elsewhere."""
    found = picked(replace(DENSE, differentiable=False, forward_mode=False), budget=budget)
    assert found.stages == (Stage(spec.CMAES(), steps),)
    assert "no gradient" in said(found, "solver")


# ---- what is named -------------------------------------------------------------------------------


def test_what_is_named_stays_as_it_is() -> None:
    solver, start = spec.GaussNewton(inner=3), spec.Seeds(count=7)
    blind = Offers(encoder=True, differentiable=False, forward_mode=False, latents=10**6, pixels=10**6)
    for offers in (DENSE, blind):
        both = picked(offers, solver=solver, initialiser=start)
        assert both == Picked(start, (Stage(solver),), ())
        one = picked(offers, solver=solver)
        assert one.stages == (Stage(solver),)
        assert not isinstance(one.initialiser, spec.Auto)
        assert not said(one, "solver")
        other = picked(offers, initialiser=start)
        assert other.initialiser == start
        assert not said(other, "start")
        assert said(other, "solver")


OFFERS = [
    Offers(encoder, differentiable, forward, latents, 3000)
    for encoder in (False, True)
    for differentiable in (False, True)
    for forward in (False, True)
    for latents in (10, 5000)
]


@pytest.mark.parametrize("offers", OFFERS, ids=str)
def test_whatever_is_offered_nothing_is_left_open_and_all_is_explained(offers: Offers) -> None:
    found = picked(offers)
    assert not isinstance(found.initialiser, spec.Auto)
    assert found.stages
    assert spec.Auto not in solvers(found)
    assert said(found, "start")
    assert said(found, "solver")
    assert all(reason.strip() for reason in found.why)
    assert found == picked(offers), "nothing but sizes and kinds decides"
    told = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert told["start"]["type"] == type(found.initialiser).__name__
    assert [stage["solver"]["type"] for stage in told["stages"]] == [kind.__name__ for kind in solvers(found)]
    assert [stage["steps"] for stage in told["stages"]] == [stage.steps for stage in found.stages]
    assert told["why"] == list(found.why)


# ---- through other spaces --------------------------------------------------------------------------

DEEP = replace(
    DENSE, latents=8192, route=(("z", replace(DENSE, encoder=True)), ("layer:1", replace(DENSE, latents=4096)))
)


def spaces(found: Picked) -> list[str]:
    return [stage.space for stage in found.stages]


def test_a_layer_is_reached_through_all_spaces_before_it() -> None:
    found = picked(DEEP)
    assert found.initialiser == spec.Encoder(), "that of the first space"
    assert spaces(found) == ["z", "z", "layer:1", "", ""]
    assert solvers(found) == [spec.LevenbergMarquardt, spec.Adam, spec.Adam, spec.Adam, spec.LBFGS]
    assert [stage.radius for stage in found.stages] == [None, None, 0.5, 0.5, 0.5], "z is free"
    exact = found.stages[0]
    assert exact.enough == policy.IN_RANGE
    assert all(stage.steps is not None for stage in found.stages)
    assert any(reason.startswith("way: z, layer:1, the space itself") for reason in found.why)
    assert "adam and l_bfgs" in said(found, "solver")
    told = json.loads(json.dumps(found.to_json(), allow_nan=False))["stages"]
    assert [(stage["space"], stage["radius"]) for stage in told] == [(s.space, s.radius) for s in found.stages]


def test_lifted_is_as_it_is_set() -> None:
    found = picked(DEEP, initialiser=spec.Lifted(steps=7, radius=2.0))
    assert [stage.steps for stage in found.stages[:3]] == [7, 7, 7]
    assert [stage.radius for stage in found.stages] == [None, None, 2.0, 2.0, 2.0]
    named = picked(DEEP, solver=spec.Adam(learning_rate=0.3))
    assert named.stages[-1] == Stage(spec.Adam(learning_rate=0.3), radius=0.5)
    assert spaces(named) == ["z", "z", "layer:1", ""]
    assert not said(named, "solver")
    direct = picked(DEEP, initialiser=spec.Seeds())
    assert spaces(direct) == ["", ""], "who names another start begins in the layer"
    with pytest.raises(UnsupportedError, match="no other space") as caught:
        picked(initialiser=spec.Lifted())
    assert caught.value.field == "initialiser"


def test_given_latents_of_an_earlier_space_go_on_from_there() -> None:
    given = spec.Given(latents={"z": np.zeros((1, 100))})
    found = picked(replace(DEEP, given="z"), initialiser=given)
    assert found.initialiser is given
    assert spaces(found) == ["layer:1", "", ""]
    assert spaces(picked(replace(DEEP, given="layer:1"), initialiser=given)) == ["", ""]
    assert "given latents of z" in said(found, "start")
    own = picked(DEEP, initialiser=given)
    assert spaces(own) == ["", ""]
    assert solvers(own) == [spec.Adam, spec.LBFGS], "in small steps, as in any layer"
    assert own.stages[0].solver == policy.LIFTED
    assert [stage.radius for stage in own.stages] == [None, None]


@pytest.mark.parametrize("steps", [0, 1, 10, 100, 5000])
def test_a_budget_of_steps_leaves_half_of_them_for_the_layer(steps: int) -> None:
    before = [stage.steps for stage in picked(DEEP, budget=spec.Budget(steps=steps)).stages[:3]]
    usual = [stage.steps for stage in picked(DEEP).stages[:3]]
    assert sum(before) <= steps // 2  # type: ignore[arg-type]
    assert all(few <= many for few, many in zip(before, usual, strict=True))  # type: ignore[operator]
    assert steps < 5000 or before == usual


def test_with_little_time_one_look_and_then_the_layer() -> None:
    hurried = picked(DEEP, budget=spec.Budget(seconds=3))
    assert spaces(hurried) == ["z", ""]
    assert hurried.stages[0].steps == policy.HURRIED_STEPS
    assert hurried.stages[-1].steps is None
    patient = picked(DEEP, budget=spec.Budget(seconds=300))
    assert spaces(patient) == ["z", "z", "layer:1", ""]
    assert patient.stages[-1].steps is None


def test_a_layer_without_second_order_or_gradients_on_the_way() -> None:
    wide = replace(DENSE, latents=5000)
    assert solvers(picked(replace(DEEP, route=(("w", wide),)))) == [spec.Adam, spec.Adam, spec.LBFGS]
    blind = replace(DENSE, differentiable=False, forward_mode=False)
    found = picked(replace(blind, route=(("z", blind), ("layer:1", blind))))
    assert solvers(found) == [spec.CMAES, spec.CMAES]
    assert spaces(found) == ["z", ""]


# ---- what generators offer -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("generator", "space", "size", "kinds"),
    [
        ("smooth", "z", (32, 32), DENSE_SOLVERS),
        ("backward", "z", (32, 32), [spec.Adam]),
        ("frozen", "z", (32, 32), [spec.CMAES]),
        ("toy", "code", (128, 128), DENSE_SOLVERS),
        ("toy", "code+class", (128, 128), [spec.Adam]),
        ("layered", "z", (32, 32), DENSE_SOLVERS),
        ("layered", "layer:1", (32, 32), [spec.LevenbergMarquardt, spec.Adam, spec.Adam, spec.LBFGS]),
    ],
)
def test_only_what_is_searched_is_counted(
    generator: str, space: str, size: tuple[int, int], kinds: list[type[Settings]]
) -> None:
    """At 128 × 128 the code has 1024 numbers, which is the most; a class beside it has five more if it is searched."""
    job = spec.JobSpec(picture=PICTURE, generator=generator)
    assert solvers(pick_for(job, TOYS[generator], space, size, encoded=None)) == kinds


def test_wide_numbers_are_counted_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    """1024 latents at 128 × 128: 200 MiB in float32, 400 MiB in float64."""
    monkeypatch.setattr(policy, "MAX_JACOBIAN_BYTES", 300 * 2**20)
    kinds = {}
    for dtype in ("float32", "float64"):
        job = spec.JobSpec(picture=PICTURE, generator="toy", dtype=dtype)
        kinds[dtype] = solvers(pick_for(job, TOYS["toy"], "code", (128, 128), encoded=None))
    assert kinds == {"float32": DENSE_SOLVERS, "float64": [spec.Adam]}


def test_a_class_that_is_searched_gets_a_jacobian_for_each_step() -> None:
    """Found on a conditional generator: steps that share one creep along the border of the simplex."""
    usual, relaxed = (picked(replace(DENSE, relaxed=relaxed)).stages[0].solver for relaxed in (False, True))
    assert isinstance(usual, spec.LevenbergMarquardt)
    assert isinstance(relaxed, spec.LevenbergMarquardt)
    assert (usual.chords, usual.jacobian) == (8, "auto")
    assert (relaxed.chords, relaxed.jacobian, relaxed.terms) == (0, "full", "pixel")
