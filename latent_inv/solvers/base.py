"""The contract of a solver: frozen settings, every changing number in a state with one row a row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Generic, TypeVar

from torch import Tensor

from latent_inv.errors import InternalError
from latent_inv.settings import Settings
from latent_inv.types import Latents, Tree
from latent_inv.verdict import Verdict as Verdict

S = TypeVar("S", bound=Settings)
T = TypeVar("T")


@dataclass(frozen=True)
class LocalModel:
    """The least-squares model of one row's terms that are sums of squares ‖r‖².

    Attributes:
        gram: [d, d], JᵀJ, with J = ∂r/∂z and z the searched parts, flattened and joined in their order; J may be
            rounded, as it only points the way.
        slope: [d], Jᵀr with this J.
        look: points [K, d] -> ‖r‖² [K] and Jᵀr [K, d] there, with r of these points, put back into their sets, and
            this same J; it costs K forward passes.
    """

    gram: Tensor
    slope: Tensor
    look: Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Evaluation:
    """The objective at one point, by row; nothing in it carries a graph.

    Attributes:
        loss: [R], the weighted sum.
        terms: loss name -> [R], weighted.
        squared_error: [R], over the visible pixels on the [-1, 1] scale.
        perceptual: [R], or None if the job does not compute it at each step.
        gradient: part -> [R, …] of the searched parts, of the loss or, for solvers with a model, of the terms in it;
            empty for solvers that need none.
        squares: [R], ‖r‖² of the terms that are modelled; for solvers that need one of the next two.
        scale: [R], the sum of the weights of these terms: ‖r‖² of a residual of size 1.
        going: [R] of bool, rows that are not done by this evaluation, so that a model of them is of use.
        members: rows from this one on are copies of the first.
        model: row -> its model; for solvers that need `"model"`. It costs ten times what the rest does, hence only on
            demand.
        curvature: v -> JᵀJ v at this point, part -> [R, …] each; for solvers that need `"curvature"`.
    """

    loss: Tensor
    terms: dict[str, Tensor]
    squared_error: Tensor
    perceptual: Tensor | None
    gradient: dict[str, Tensor] = field(default_factory=dict)
    squares: Tensor | None = None
    scale: Tensor | None = None
    going: Tensor | None = None
    members: int | None = None
    model: Callable[[int], LocalModel] | None = None
    curvature: Callable[[Latents], dict[str, Tensor]] | None = None


def given(value: T | None) -> T:
    """What an evaluation must hold for a solver that said so in its `needs`.

    Raises:
        InternalError: it is not there.
    """
    if value is None:
        raise InternalError("an evaluation lacks what its solver needs")
    return value


#: searched parts -> the objective there; the engine keeps count and remembers the best point of each row
Evaluate = Callable[[Latents], Evaluation]


class Solver(ABC, Generic[S]):
    """One way to walk downhill. Instances are frozen: `step` may be called for any row of the same structure.

    Attributes:
        needs: what its evaluations must hold: "value", "gradient", "curvature" or "model".
        guarded: it refuses bad points by itself, so a loss that rises for a step is no divergence.
    """

    needs: ClassVar[str] = "gradient"
    guarded: ClassVar[bool] = False

    def __init__(self, settings: S) -> None:
        self.settings = settings

    @property
    def rounds(self) -> bool:
        """May the Jacobians of its models be computed in a rounded format, where that is quicker?"""
        return False

    def modelled(self, losses: Sequence[str]) -> tuple[str, ...]:
        """Names of the terms whose residuals are modelled, of all `losses` of a job; for second-order solvers."""
        return tuple(losses)

    @abstractmethod
    def init(self, latents: Latents, keys: Tensor) -> Tree:
        """The state before the first step; numbers of the settings go in here, a row each.

        Args:
            latents: searched parts -> [R, …].
            keys: [R] int64, each row's own randomness, for solvers that draw.
        """

    def verdicts(self, state: Tree) -> Tensor | None:
        """[R] of `Verdict` on the state after a step; None: this solver always goes on."""
        return None

    def stays_typical(self, state: Tree, progress: Tensor) -> Tensor | None:
        """[R] of bool: rows that explore, whose latents the loop keeps where draws of the prior lie; None: no row."""
        return None

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
