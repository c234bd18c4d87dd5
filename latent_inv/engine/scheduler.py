"""Rows into lanes, in plain Python: nothing here knows a tensor.

A lane is a group of at most `width` rows that share one batch key and are stepped in one call.
- `add` puts a row into the fullest lane of its key that has room, else opens a lane.
- `remove` takes it out; rows of the same key then move together as soon as that saves a lane.
- `next` gives the lane whose turn it is, round robin.
Moving a row never changes its result, as calls are always made at the full width.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

RowT = TypeVar("RowT", bound=Hashable)


@dataclass(eq=False)
class Lane(Generic[RowT]):
    """Rows that are stepped together. `changed` is set when members came or went since the last look."""

    key: Hashable
    width: int
    rows: list[RowT] = field(default_factory=list)
    changed: bool = True

    @property
    def room(self) -> int:
        """How many more rows fit."""
        return self.width - len(self.rows)


class Scheduler(Generic[RowT]):
    """Which rows are stepped next, and with whom."""

    def __init__(self) -> None:
        self._lanes: list[Lane[RowT]] = []
        self._home: dict[RowT, Lane[RowT]] = {}
        self._turn = 0

    def __len__(self) -> int:
        return len(self._home)

    def __contains__(self, row: RowT) -> bool:
        return row in self._home

    @property
    def lanes(self) -> Iterator[Lane[RowT]]:
        """All lanes, in the order of their turns."""
        return iter(self._lanes)

    @property
    def lane_count(self) -> int:
        """How many lanes there are; safe to ask from another thread."""
        return len(self._lanes)

    @property
    def places(self) -> int:
        """How many rows the lanes have room for; safe to ask from another thread."""
        return sum(lane.width for lane in list(self._lanes))

    def add(self, row: RowT, key: Hashable, width: int) -> None:
        """Let `row` take part from the next call on.

        Raises:
            ValueError: it takes part already, or the width is not that of its key.
        """
        if row in self._home:
            raise ValueError(f"row {row!r} is in a lane already")
        if width < 1:
            raise ValueError(f"a lane has at least one row, found width {width}")
        with_room = [lane for lane in self._lanes if lane.key == key and lane.width == width and lane.room]
        lane = min(with_room, key=lambda lane: lane.room, default=None)
        if lane is None:
            lane = Lane(key, width)
            self._lanes.append(lane)
        lane.rows.append(row)
        lane.changed = True
        self._home[row] = lane

    def remove(self, row: RowT) -> None:
        """Take `row` out; harmless if it is not in."""
        lane = self._home.pop(row, None)
        if lane is None:
            return
        lane.rows.remove(row)
        lane.changed = True
        self._compact(lane.key, lane.width)

    def next(self) -> Lane[RowT] | None:
        """The lane whose turn it is; None if there are no rows."""
        if not self._lanes:
            return None
        self._turn %= len(self._lanes)
        lane = self._lanes[self._turn]
        self._turn += 1
        return lane

    def _compact(self, key: Hashable, width: int) -> None:
        """Dissolve the emptiest lane of a key if its rows fit into the others."""
        peers = [lane for lane in self._lanes if lane.key == key and lane.width == width]
        emptiest = min(peers, key=lambda lane: len(lane.rows))
        others = [lane for lane in peers if lane is not emptiest]
        if emptiest.rows and sum(lane.room for lane in others) < len(emptiest.rows):
            return
        # The lane is emptied, not only left: whoever still holds it must not step rows that live elsewhere now.
        rows, emptiest.rows = emptiest.rows, []
        for row in rows:
            lane = min((lane for lane in others if lane.room), key=lambda lane: lane.room)
            lane.rows.append(row)
            lane.changed = True
            self._home[row] = lane
        index = self._lanes.index(emptiest)
        del self._lanes[index]
        if index < self._turn:
            self._turn -= 1
