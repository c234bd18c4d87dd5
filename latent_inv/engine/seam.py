"""The seam between whoever wants work done and whoever does it. No torch."""

from __future__ import annotations

from typing import Protocol

from latent_inv.result import Event
from latent_inv.spec import Spec


class EngineSeam(Protocol):
    """Implemented by `Engine` itself, by `ThreadEngine`, and by `ProcessEngine` over a pipe."""

    def submit(self, job_id: str, spec: Spec, checkpoint: bytes | None = None) -> None:
        """Take a request; it will end in exactly one `Finished` event.

        Where the engine is elsewhere, that event is a `Lost` one if its worker went away; and a request that needs
        weights which are not loaded yet is taken before they are, so what only they can tell comes as its end.

        Raises:
            LatentInvError: it was refused; there will be no event. With `retry_after`, there may be room later.
        """

    def cancel(self, job_id: str) -> None:
        """Stop a job within one step. Harmless if it is unknown or over."""

    def checkpoint(self, job_id: str) -> None:
        """Ask for a `Checkpoint` event of a job before its next step. Harmless if it is unknown or over."""

    def poll(self, timeout: float = 0.0) -> list[Event]:
        """Events since the last call, in order; waits up to `timeout` seconds if there are none."""

    def close(self) -> None:
        """Stop all work and free the device."""
