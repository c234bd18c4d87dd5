"""What a job would do, said beforehand; and that it is so."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import latent_inv
from latent_inv.errors import LatentInvError
from latent_inv.plan import plan
from latent_inv.spec import (
    Adam,
    Auto,
    BestOf,
    Budget,
    Halving,
    LatentPrior,
    LevenbergMarquardt,
    Pixel,
    PriorMean,
    Seeds,
)

PICTURE = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)


def made(**settings: Any) -> Any:
    """Of a named solver and start, if nothing else is said."""
    named: dict[str, Any] = {"losses": (Pixel(),), "solver": Adam(), "initialiser": Seeds()}
    return plan(PICTURE, **{"generator": "faces", "device": "cpu", **named, **settings})


def test_it_says_what_is_done() -> None:
    budget = Budget(steps=3)
    chosen: dict[str, Any] = {"losses": (Pixel(kind="l1"), LatentPrior()), "solver": Adam(learning_rate=0.1)}
    planned = made(budget=budget, initialiser=Seeds(count=3), **chosen)
    done = latent_inv.invert(PICTURE, "faces", budget=budget, initialiser=Seeds(count=3), **chosen)
    assert (planned.generator, planned.space, planned.dtype) == (done.generator, done.space, done.dtype)
    assert (planned.device, planned.lane_width, planned.perceptual) == (done.device, done.lane_width, done.perceptual)
    assert planned.steps == done.steps == 3
    assert planned.rows == 3
    assert "learning_rate=0.1" in planned.solver
    assert len(planned.losses) == 2


def test_it_is_plain() -> None:
    planned = made()
    assert json.loads(json.dumps(planned.to_json(), allow_nan=False))["generator"] == "faces"
    for word in ("faces", "Adam", "200 steps", "Pixel", "stlpips-alex", "ms a step", "MB"):
        assert word in planned.describe()


def test_every_space_on_the_way_is_said_and_timed() -> None:
    budget = Budget(steps=6)
    planned = made(space="layer:2", solver=Auto(), initialiser=Auto(), budget=budget)
    assert planned.space == "layer:2"
    assert "in z for at most" in planned.solver
    assert "in layer:1 for at most" in planned.solver
    assert planned.start.startswith("Encoder(")
    assert len(planned.step_ms) == len(planned.solver.split(", then "))
    assert planned.memory_mb > made(budget=budget).memory_mb
    done = latent_inv.invert(PICTURE, "faces", space="layer:2", losses=(Pixel(),), budget=budget)
    assert done.picked["why"] == list(planned.why)
    assert done.space == "layer:2"


@pytest.mark.parametrize(
    ("settings", "calls"),
    [
        ({"budget": Budget(steps=10)}, 11),
        ({"budget": Budget(steps=10), "initialiser": Seeds(count=5)}, 2 * 11),
        ({"budget": Budget(steps=10), "initialiser": Seeds(count=5), "lane_width": 1}, 5 * 11),
        ({"budget": Budget(steps=10), "initialiser": Seeds(count=5), "lane_width": 4}, 2 * 11),
        ({"budget": Budget(steps=10), "initialiser": BestOf(count=5)}, 5 + 10),
        ({"budget": Budget(steps=0), "initialiser": PriorMean()}, 1),
        ({"budget": Budget(steps=30), "initialiser": Halving(count=4, rung=10)}, 4 * 11 + 2 * 10 + 10),
        ({"budget": Budget(steps=5), "initialiser": Halving(count=4, rung=10)}, 4 * 6),
    ],
)
def test_seconds_are_those_of_all_calls(settings: dict[str, Any], calls: int) -> None:
    planned = made(**settings)
    assert planned.seconds == pytest.approx(planned.step_ms[0] / 1000 * calls)


def test_seconds_are_at_most_the_budget() -> None:
    assert made(budget=Budget(seconds=0.5)).seconds == 0.5


def test_memory_counts_parameters_rows_and_the_graph() -> None:
    """The generator alone has 3.6 million numbers; float64 doubles it; features and the graph of LPIPS come on top."""
    single, double = made().memory_mb, made(dtype="float64").memory_mb
    assert single > 3.5 * 4
    assert double == pytest.approx(2 * single, rel=0.05)
    full = made(losses=(Pixel(), latent_inv.Perceptual())).memory_mb
    assert full > single + 5
    assert made(initialiser=Seeds(count=50)).memory_mb > single


def test_a_step_with_a_jacobian_counts_it() -> None:
    """100 columns cost ten times what an evaluation does; 100 × 12 388 numbers are 4.96 MB."""
    plain, second = made(), made(solver=LevenbergMarquardt())
    assert second.step_ms[0] > 3 * plain.step_ms[0]
    assert second.memory_mb - plain.memory_mb == pytest.approx(100 * (3 * 64 * 64 + 100) * 4 / 1e6, rel=0.1)


def test_a_plan_leaves_no_trace_in_the_result() -> None:
    chosen: dict[str, Any] = {"losses": Pixel(), "solver": Adam(), "initialiser": Seeds(), "steps": 2}
    before = latent_inv.invert(PICTURE, "faces", **chosen)
    made()
    after = latent_inv.invert(PICTURE, "faces", **chosen)
    assert np.array_equal(before.latents["z"], after.latents["z"])


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"generator": "facs"}, "generator"),
        ({"space": "w"}, "space"),
        ({"crop": (0, 0, 99, 99)}, "crop"),
        ({"seed": -1}, "seed"),
        ({"perceptual": "lpips"}, "perceptual"),
    ],
)
@pytest.mark.parametrize("offline", [False, True])
def test_what_invert_refuses_is_refused(
    settings: dict[str, Any], field: str, offline: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """With and without the weights."""
    if offline:
        monkeypatch.setenv("LATENT_INV_OFFLINE", "1")
        monkeypatch.setenv("LATENT_INV_CACHE", str(tmp_path))
    with pytest.raises(LatentInvError) as caught:
        made(**settings)
    assert caught.value.field == field


def test_weights_that_are_not_here_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("LATENT_INV_OFFLINE", "1")
    monkeypatch.setenv("LATENT_INV_CACHE", str(tmp_path))
    planned = made(initialiser=Seeds(count=4))
    assert planned.fetch == ("faces", "stlpips-alex")
    assert planned.rows == 4
    assert (planned.seconds, planned.step_ms, planned.memory_mb) == (None, None, None)
    assert 20 < planned.fetch_mb < 30
    unknown = made(perceptual="lpips-squeeze")
    assert "squeezenet1_1" in unknown.describe()


# ---- what is left to the policy ----------------------------------------------------------------------

AUTO: dict[str, Any] = {"solver": Auto(), "initialiser": Auto()}


def test_what_the_policy_takes_is_said_with_its_reasons() -> None:
    """Few latents and squared pixels: second order, then a wide search; a step of each stage is timed."""
    planned = made(**AUTO, budget=Budget(steps=50))
    assert [text.split("(")[0] for text in planned.solver.split(", then ")] == [
        "LevenbergMarquardt",
        "LevenbergMarquardt",
        "Adam",
        "LevenbergMarquardt",
        "LBFGS",
    ]
    assert planned.start.startswith("Encoder(")
    assert planned.rows == 1
    assert len(planned.step_ms) == 5
    assert planned.why
    for reason in planned.why:
        assert reason in planned.describe()
    done = latent_inv.invert(PICTURE, "faces", losses=(Pixel(),), steps=2)
    assert list(planned.why) == done.picked["why"]


def test_what_the_policy_takes_is_said_without_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    here = made(**AUTO)
    monkeypatch.setenv("LATENT_INV_OFFLINE", "1")
    monkeypatch.setenv("LATENT_INV_CACHE", str(tmp_path))
    planned = made(**AUTO)
    assert planned.fetch
    assert (planned.solver, planned.start, planned.rows, planned.steps, planned.why) == (
        here.solver,
        here.start,
        here.rows,
        here.steps,
        here.why,
    )


def test_a_plan_with_stages_counts_no_call_twice() -> None:
    """The longest way: 40 steps, then what is left: 12 rows in 3 calls, 6 after step 100, then 3; or a branch of 20."""
    short, long = made(**AUTO, budget=Budget(steps=30)), made(**AUTO, budget=Budget(steps=300))
    assert short.seconds == pytest.approx(short.step_ms[0] / 1000 * 31)
    first, branch, third, *_ = (duration / 1000 for duration in long.step_ms)
    assert long.seconds == pytest.approx(first * 41 + max(branch * 20, third * (101 * 3 + 100 * 2 + 59)))
    many = made(solver=Auto(), initialiser=Seeds(count=3), budget=Budget(steps=100))
    first, branch, third, *_ = (duration / 1000 for duration in many.step_ms)
    assert many.seconds == pytest.approx(3 * first * 41 + max(3 * branch * 20, third * 60))
