"""Which rows of a job share a call."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from latent_inv.device import place
from latent_inv.policy import IN_RANGE, Picked, Stage
from latent_inv.spec import CMAES, LBFGS, Adam, BestOf, Given, Halving, LevenbergMarquardt, PriorMean, Seeds
from latent_inv.stage_rows import rows_of
from latent_inv.widths import widths
from tests.engine.helpers import job

CPU = place("cpu")
ADAM = Stage(Adam(), 300)
LM = Stage(LevenbergMarquardt(), 40)


def of(initialiser: Any, *stages: Stage, **settings: Any) -> tuple[int, ...]:
    return widths(job(**settings), Picked(initialiser, stages), CPU)


@pytest.mark.parametrize(
    ("initialiser", "width"),
    [
        (PriorMean(), 1),
        (Seeds(count=2), 2),
        (Seeds(count=3), 4),
        (Seeds(count=64), 4),
        (BestOf(count=8), 1),
        (Halving(count=8, rung=10), 1),  # half of its steps would be padding
        (Halving(count=8, rung=100), 2),  # 4 after step 100, 2 after 200, and the stage is over before the next rung
        (Given(latents={"z": np.zeros((3, 2), np.float32)}), 4),
        (Given(latents={"z": np.zeros(2, np.float32)}), 1),
    ],
    ids=str,
)
def test_lanes_are_full_to_the_end(initialiser: Any, width: int) -> None:
    assert of(initialiser, ADAM) == (width,)
    assert of(initialiser, Stage(CMAES(), 300)) == (width,)


def test_each_stage_has_its_own() -> None:
    """Those with Jacobians do them row by row."""
    wide = Stage(Adam(), 300, joined_by=Halving(count=12, rung=100))
    assert of(PriorMean(), LM, wide, LM, Stage(LBFGS(), 150)) == (1, 4, 1, 4)
    assert of(BestOf(count=4), LM, wide, LM, Stage(LBFGS(), 150)) == (1, 4, 1, 4)
    # Rows of several starts are not joined by more.
    assert of(Seeds(count=2), LM, wide, LM, Stage(LBFGS(), 150)) == (1, 2, 1, 2)


def test_rows_of_a_side_branch_end_there() -> None:
    branch = Stage(Adam(), 40, only=IN_RANGE, joined_by=Halving(count=3, rung=100))
    wide = Stage(Adam(), 300, joined_by=Halving(count=12, rung=100))
    found = list(rows_of(Picked(PriorMean(), (LM, branch, wide, LM))))
    assert [(rows.most, rows.left) for rows in found] == [(1, 1), (1, 1), (12, 3), (3, 3)], "they take turns"
    assert [rows.joiners for rows in found] == [0, 2, 11, 0]
    assert [rows.joining is not None for rows in found] == [False, True, True, False]
    assert of(PriorMean(), LM, branch, wide, LM) == (1, 1, 4, 1)


def test_whoever_names_a_width_gets_it() -> None:
    assert of(Seeds(count=3), ADAM, LM, lane_width=1) == (1, 1)
    assert of(Seeds(count=3), ADAM, LM, lane_width=8) == (8, 8)
    assert of(PriorMean(), ADAM, LM, priority="bulk") == (4, 4)
    assert widths(job(), Picked(Seeds(count=8), (ADAM,)), place("cpu", lane_width=1)) == (1,)
