"""Settings of the solvers; see `spec`."""

from __future__ import annotations

from dataclasses import dataclass

from .settings import Settings, setting


@dataclass(frozen=True, kw_only=True)
class Adam(Settings):
    """Adam with warm-up, a schedule and, if wanted, noise that is annealed, one state a row."""

    learning_rate: float = setting(0.5, above=0, high=1e4, doc="Largest step of one latent, in latent units.")
    schedule: str = setting("cosine", choices=("cosine", "constant", "ramps"), doc="Learning rate after the warm-up.")
    warmup_steps: int = setting(10, low=0, high=100_000, unit="steps", doc="Linear rise of the learning rate.")
    beta1: float = setting(0.9, low=0, high=0.99999, doc="Decay of the mean of gradients.")
    beta2: float = setting(0.9, low=0, high=0.99999, doc="Decay of the mean of squared gradients.")
    epsilon: float = setting(1e-8, low=1e-30, high=1, doc="Guard of the division.")
    typical: float = setting(
        0.7, low=0, high=1, doc="Share of the budget in which latents stay as near the prior's mean as its draws are."
    )
    exploration: float = setting(
        0.0, low=0, high=1e4, doc="First deviation of noise on latents; it falls to 0 in 3/4 of the budget."
    )


@dataclass(frozen=True, kw_only=True)
class LevenbergMarquardt(Settings):
    """Damped Gauss-Newton steps with the whole Jacobian, for losses that are sums of squares and few latents."""

    damping: float = setting(0.1, above=0, high=1e6, doc="First damping, in mean diagonal entries of JᵀJ.")
    decrease: float = setting(5.0, low=1, high=1e3, doc="Factor by which damping falls after a good step.")
    increase: float = setting(4.0, above=1, high=1e3, doc="Factor by which damping rises after a refused step.")
    largest_damping: float = setting(1e8, low=1, high=1e12, doc="Damping beyond which there is no step left.")
    tolerance: float = setting(1e-4, low=0, below=1, doc="Relative decrease below which two steps end the search.")
    terms: str = setting("all", choices=("all", "pixel"), doc="Terms that the model has; the whole sum is reported.")
    chords: int = setting(
        8, low=0, high=100, unit="steps", doc="Most further steps with each Jacobian; 0: one step to a Jacobian."
    )
    jacobian: str = setting(
        "auto", choices=("auto", "full"), doc="auto: Jacobians in bfloat16 where that is much quicker; full: never."
    )


@dataclass(frozen=True, kw_only=True)
class GaussNewton(Settings):
    """Damped Gauss-Newton steps by conjugate gradients, for losses that are sums of squares and any latents."""

    inner: int = setting(60, low=1, high=1000, unit="steps", doc="Most conjugate gradients of a step.")
    damping: float = setting(1e-3, above=0, high=1e6, doc="First damping, in curvatures along the slope.")
    decrease: float = setting(5.0, low=1, high=1e3, doc="Factor by which damping falls after a good step.")
    increase: float = setting(4.0, above=1, high=1e3, doc="Factor by which damping rises after a refused step.")
    largest_damping: float = setting(1e8, low=1, high=1e12, doc="Damping beyond which there is no step left.")
    tolerance: float = setting(1e-4, low=0, below=1, doc="Relative decrease below which two steps end the search.")


@dataclass(frozen=True, kw_only=True)
class LBFGS(Settings):
    """Limited-memory BFGS with backtracking, one evaluation a step; for losses without noise."""

    memory: int = setting(10, low=1, high=100, structural=True, doc="Pairs of steps and gradients that are kept.")
    first_step: float = setting(
        0.1, above=0, high=1e4, doc="Root mean square of the first step over the latents, in latent units."
    )
    longest_step: float = setting(
        1.0, above=0, high=1e4, doc="Largest root mean square of any step over the latents, in latent units."
    )
    tolerance: float = setting(
        1e-7, low=0, below=1, doc="Converged if no derivative is above this share of the loss at the start."
    )


@dataclass(frozen=True, kw_only=True)
class CMAES(Settings):
    """CMA-ES, for generators without a gradient; one candidate a step, so it takes thousands of steps."""

    sigma: float = setting(0.5, above=0, high=1e4, doc="Standard deviation of the first draws, in latent units.")
    population: int = setting(
        0, low=0, high=4096, structural=True, doc="Candidates of a generation; 0: 4 + 3 ln d, at least 4 otherwise."
    )


@dataclass(frozen=True, kw_only=True)
class HybridCMA(Settings):
    """CMA-ES whose candidates are refined by Adam, then Adam alone; for rugged losses and thousands of steps."""

    sigma: float = setting(0.5, above=0, high=1e4, doc="Standard deviation of the first draws, in latent units.")
    population: int = setting(
        0, low=0, high=4096, structural=True, doc="Candidates of a generation; 0: 4 + 3 ln d, at least 4 otherwise."
    )
    inner_steps: int = setting(30, low=0, high=100_000, unit="steps", doc="Adam steps that refine each candidate.")
    learning_rate: float = setting(0.05, above=0, high=1e4, doc="Of these Adam steps, in latent units.")
    outer_share: float = setting(
        0.7, low=0, high=1, doc="Share of the budget after which the best candidate is refined to the end."
    )
