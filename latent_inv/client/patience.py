"""How long a client waits for a server that is away."""

from __future__ import annotations

import random
import time

from latent_inv.errors import LatentInvError

#: seconds between attempts: the first, and the longest
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0


class Patience:
    """Pauses between attempts, longer and longer, until there was no word for too long.

    Args:
        seconds: without a word from the server after which it is given up.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.heard()

    def heard(self) -> None:
        """The server said something new."""
        self._pause, self._heard = _FIRST_PAUSE, time.monotonic()

    def pause(self, error: LatentInvError) -> float:
        """How long to wait before the next attempt, in seconds.

        Raises:
            LatentInvError: `error` itself, once patience is used up.
        """
        if time.monotonic() - self._heard > self._seconds:
            raise error
        pause = max(self._pause * random.uniform(0.5, 1.0), error.retry_after or 0.0)  # noqa: S311 no secret
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        return pause
