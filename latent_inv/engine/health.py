"""How a worker is: what it says of itself about twice a second, and what that means. No torch."""

from __future__ import annotations

from dataclasses import dataclass

#: pause between two signs of life, in seconds
BEAT_SECONDS = 0.5
#: while weights are loaded, the loop may be held up this many times longer: unpacking them can hold Python's lock
LOADING_PATIENCE = 10.0


@dataclass(frozen=True)
class Load:
    """What an engine has to do.

    Attributes:
        jobs: jobs and requests that are not over.
        rows: rows of jobs that are stepped; `lanes`: in so many calls a round.
        places: rows that the lanes have room for; what is empty is computed all the same.
        steps: calls of a lane since the start, `step_seconds`: that they took, `step_counts`: how many of them by the
            ranges of `durations`, `row_steps` and `place_steps`: rows and places that they had.
        reserved_bytes: memory that the admitted jobs are estimated to need at most.
        memory_bytes: what these estimates may come to.
        generators: how many are loaded, and `generator_bytes`: what they take.
    """

    jobs: int = 0
    rows: int = 0
    lanes: int = 0
    places: int = 0
    steps: int = 0
    step_seconds: float = 0.0
    step_counts: tuple[int, ...] = ()
    row_steps: int = 0
    place_steps: int = 0
    reserved_bytes: int = 0
    memory_bytes: int = 0
    generators: int = 0
    generator_bytes: int = 0


@dataclass(frozen=True)
class Health:
    """The newest sign of life of a worker.

    Attributes:
        alive: it takes orders.
        state: "starting", "idle", "step", "request", "order", "loading faces, 3 of 13 MB", "gone".
        turn_seconds: since its loop last looked at its orders; 0 while it waits for some.
        silent_seconds: since this sign of life came, or since the worker was started.
        resident_bytes: memory that its process holds.
        loading: what is being loaded beside the loop.
        waiting: jobs that wait for what is being loaded, or for memory.
        load: what its engine has to do.
    """

    alive: bool = False
    state: str = "gone"
    turn_seconds: float = 0.0
    silent_seconds: float = 0.0
    resident_bytes: int = 0
    loading: tuple[str, ...] = ()
    waiting: int = 0
    load: Load = Load()

    def hangs(self, limit: float) -> bool:
        """Does it take orders, and has done nothing for longer than `limit` seconds?

        A worker that only loads weights does not hang: its loop turns beside that.
        """
        patience = limit * LOADING_PATIENCE if self.loading else limit
        return self.alive and max(self.turn_seconds, self.silent_seconds) > patience
