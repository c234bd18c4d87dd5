"""The seam between a folder's pictures and whoever inverts them. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from latent_inv.errors import LatentInvError
from latent_inv.result import JobResult


@dataclass(frozen=True)
class Ended:
    """What became of a picture that was taken; exactly one of the three.

    Attributes:
        key: as it was offered.
        lost: whoever had it does not know it any more; it is to be offered again.
    """

    key: str
    result: JobResult | None = None
    error: LatentInvError | None = None
    lost: bool = False


class Workplace(Protocol):
    """Implemented by `Here`, an engine in this process, and by `OnServer`.

    Attributes:
        weights_sha256: of the generator there.
    """

    weights_sha256: str

    @property
    def busy(self) -> bool:
        """Is there a picture that was taken and has not ended?"""

    @property
    def part_done(self) -> float:
        """How much of what was taken is done, in pictures."""

    def offer(self, key: str, data: bytes, sha256: str) -> bool:
        """Offer a picture.

        Args:
            key: any text, for `Ended`; one that is not there yet.
            data: the file. sha256: its hash.
        Returns:
            True: it will end. False: there is no room now; offer it again later.
        Raises:
            LatentInvError: this picture will never be taken.
            WorkplaceGoneError: nothing will be taken any more.
        """

    def poll(self, wait: bool) -> list[Ended]:
        """Do a piece of the work or look at it, and tell what ended since.

        Args:
            wait: there is nothing else to do, so this may take a quarter of a second.
        Raises:
            WorkplaceGoneError: the work cannot go on.
        """

    def close(self, *, stopped: bool) -> None:
        """Leave; `stopped`: what was taken and has not ended is to be given up, and not to go on anywhere."""


class WorkplaceGoneError(Exception):
    """The work cannot go on at all; `error` says why."""

    def __init__(self, error: LatentInvError) -> None:
        super().__init__(str(error))
        self.error = error
