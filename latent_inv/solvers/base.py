"""The contract of a solver: frozen settings, every changing number in a state with one row a row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor

from latent_inv.settings import Settings
from latent_inv.types import Latents, Tree

S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Evaluation:
    """The objective at one point, by row; nothing in it carries a graph.

    Attributes:
        loss: [R], the weighted sum.
        terms: loss name -> [R], weighted.
        squared_error: [R], over the visible pixels on the [-1, 1] scale.
        perceptual: [R], or None if the job does not compute it at each step.
        gradient: part -> [R, …] of the searched parts.
    """

    loss: Tensor
    terms: dict[str, Tensor]
    squared_error: Tensor
    perceptual: Tensor | None
    gradient: dict[str, Tensor]


#: searched parts -> the objective there; the engine keeps count and remembers the best point of each row
Evaluate = Callable[[Latents], Evaluation]


class Solver(ABC, Generic[S]):
    """One way to walk downhill. Instances are frozen: `step` may be called for any row of the same structure."""

    uses_gradient = True

    def __init__(self, settings: S) -> None:
        self.settings = settings

    @abstractmethod
    def init(self, latents: Latents) -> Tree:
        """The state before the first step; numbers of the settings go in here, a row each."""

    @abstractmethod
    def step(
        self, latents: Latents, evaluate: Evaluate, state: Tree, progress: Tensor
    ) -> tuple[dict[str, Tensor], Tree]:
        """One step for all rows, each on its own.

        Args:
            latents: searched parts -> [R, …].
            evaluate: the objective; the first call must be at `latents`.
            state: from `init` or the last `step`.
            progress: [R], share of the budget that is used, from 0 to 1, for schedules.
        Returns:
            New latents and state; the loop puts the latents back into their sets.
        """
