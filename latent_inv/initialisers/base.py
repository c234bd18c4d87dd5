"""The contract of an initialiser: where each row of a job starts, and when the worst rows go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor

from latent_inv.settings import Settings
from latent_inv.spaces import LatentSpace
from latent_inv.types import Latents

S = TypeVar("S", bound=Settings)

#: row index -> that row's own randomness
Streams = Callable[[int], torch.Generator]
#: (passes, fixed parts -> [1, …]) -> searched parts -> [1, …], what the generator's encoder sees in the job's picture
Encode = Callable[[int, Latents], dict[str, Tensor]]


class Initialiser(ABC, Generic[S]):
    """Starting points for one job. A row's start depends on the job's seed and the row's index alone."""

    def __init__(self, settings: S) -> None:
        self.settings = settings

    @property
    def rungs(self) -> tuple[tuple[int, int], ...]:
        """(step, keep): once all rows have been scored at `step`, only the `keep` best go on."""
        return ()

    @abstractmethod
    def starts(
        self, space: LatentSpace, size: tuple[int, int], streams: Streams, encode: Encode | None = None
    ) -> list[dict[str, Tensor]]:
        """All parts of each row, a list of part -> [1, …], on the CPU.

        Args:
            size: (height, width) of the picture.
            streams: the randomness of each row.
            encode: what an encoder sees in the picture; None where there is none.
        Raises:
            LatentsError: given latents do not fit the space. UnsupportedError: there is no encoder.
        """
