"""How long steps take, counted by ranges, small enough to be told twice a second. No torch."""

from __future__ import annotations

from bisect import bisect_left

#: ends of the ranges, in seconds; longer ones come last
STEP_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class StepTimes:
    """Counts steps. Read from other threads as it is; a number may be one behind another."""

    def __init__(self) -> None:
        self._counts = [0] * (len(STEP_SECONDS) + 1)
        self.seconds = 0.0
        self.rows = self.places = 0

    def add(self, seconds: float, rows: int, places: int) -> None:
        """One more step, with so many rows of jobs on so many places."""
        self._counts[bisect_left(STEP_SECONDS, seconds)] += 1
        self.seconds += seconds
        self.rows += rows
        self.places += places

    @property
    def steps(self) -> int:
        """How many there were."""
        return sum(self._counts)

    @property
    def counts(self) -> tuple[int, ...]:
        """Steps of each range of `STEP_SECONDS`, and of those above."""
        return tuple(self._counts)
