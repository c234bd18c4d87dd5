"""Lanes: rows are never lost, never twice, never over the width, and lanes are as few as can be."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latent_inv.engine.scheduler import Scheduler

actions = st.lists(st.tuples(st.booleans(), st.integers(0, 11), st.sampled_from("ab")), max_size=60)


@given(actions=actions, width=st.integers(1, 4))
def test_every_row_has_one_place_in_the_fewest_lanes(actions: list[tuple[bool, int, str]], width: int) -> None:
    scheduler: Scheduler[int] = Scheduler()
    keys: dict[int, str] = {}
    for adds, row, key in actions:
        if adds and row not in keys:
            scheduler.add(row, key, width)
            keys[row] = key
        elif not adds:
            scheduler.remove(row)
            keys.pop(row, None)
        lanes = list(scheduler.lanes)
        assert sorted(row for lane in lanes for row in lane.rows) == sorted(keys)
        assert all(keys[row] == lane.key for lane in lanes for row in lane.rows)
        assert all(1 <= len(lane.rows) <= width for lane in lanes)
        for name in "ab":
            count = sum(1 for key in keys.values() if key == name)
            assert sum(lane.key == name for lane in lanes) == -(-count // width)


@given(rows=st.integers(1, 12), width=st.integers(1, 4))
def test_every_lane_has_its_turn(rows: int, width: int) -> None:
    scheduler: Scheduler[int] = Scheduler()
    for row in range(rows):
        scheduler.add(row, "key", width)
    lanes = list(scheduler.lanes)
    turns = [scheduler.next() for _ in range(3 * len(lanes))]
    assert all(turns.count(lane) == 3 for lane in lanes)


def test_nobody_waits_when_lanes_come_and_go() -> None:
    scheduler: Scheduler[int] = Scheduler()
    for row in range(4):
        scheduler.add(row, row, 1)
    assert scheduler.next() is not None
    second = scheduler.next()
    scheduler.remove(0)
    third = scheduler.next()
    assert second is not None
    assert third is not None
    assert (second.rows, third.rows) == ([1], [2])


def test_a_row_is_added_once() -> None:
    scheduler: Scheduler[int] = Scheduler()
    scheduler.add(1, "key", 2)
    with pytest.raises(ValueError, match="already"):
        scheduler.add(1, "key", 2)
    assert len(scheduler) == 1


def test_an_empty_scheduler_has_no_turn() -> None:
    scheduler: Scheduler[int] = Scheduler()
    scheduler.remove(5)
    assert scheduler.next() is None


@pytest.mark.parametrize(
    "module",
    ["errors", "settings", "spec", "result", "engine.scheduler", "engine.seam", "engine.remote", "convert", "client"],
)
def test_no_torch_on_this_side(module: str) -> None:
    code = f"import latent_inv.{module}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
