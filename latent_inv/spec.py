"""What can be asked for: plain frozen values, no torch, picklable, checked when made.

A component (loss, observation, solver, initialiser) is asked for by its settings class here and done
by a class of the same name in the package of that kind; the tables at the end name them on
the wire and on the command line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .conditions import split
from .errors import SpecError
from .settings import Settings, setting
from .spec_requests import DEFAULT_GENERATOR as DEFAULT_GENERATOR
from .spec_requests import DTYPES, PRECISION_DOC, PRECISIONS, check_latents, check_picture, check_precision
from .spec_requests import MAX_SAMPLES as MAX_SAMPLES
from .spec_requests import MAX_SEED as MAX_SEED
from .spec_requests import DecodeSpec as DecodeSpec
from .spec_requests import DescribeSpec as DescribeSpec
from .spec_requests import EncodeSpec as EncodeSpec
from .spec_requests import ResidenceSpec as ResidenceSpec
from .spec_requests import SampleSpec as SampleSpec
from .spec_solvers import CMAES as CMAES
from .spec_solvers import LBFGS as LBFGS
from .spec_solvers import Adam as Adam
from .spec_solvers import GaussNewton as GaussNewton
from .spec_solvers import HybridCMA as HybridCMA
from .spec_solvers import LevenbergMarquardt as LevenbergMarquardt

if TYPE_CHECKING:
    import numpy as np

    from .images import Picture

#: steps of a job with a time budget and no step budget
UNLIMITED_STEPS = 1_000_000
#: a smaller weight would vanish in float32
MIN_WEIGHT = 1e-6
PERCEPTUAL_METRICS = ("stlpips-alex", "stlpips-vgg", "lpips-alex", "lpips-vgg", "lpips-squeeze")


# ---- losses: Σ wᵢ · lossᵢ(A(G(z)), y) + Σ priorⱼ(z) ------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Pixel(Settings):
    """Mean difference of pixels on the [-1, 1] scale, over the visible ones."""

    weight: float = setting(1.0, low=0, high=1e6, doc="Factor of this term in the sum.")
    kind: str = setting("l2", choices=("l1", "l2", "huber"), doc="l1: mean |d|; l2: mean d²; huber: d²/2 below delta.")
    delta: float = setting(0.1, low=1e-6, high=10, doc="Where huber turns from square to linear.")


@dataclass(frozen=True, kw_only=True)
class Perceptual(Settings):
    """Distance of the job's perceptual metric (LPIPS family) between result and target."""

    weight: float = setting(1.0, low=0, high=1e6, doc="Factor of this term in the sum.")


@dataclass(frozen=True, kw_only=True)
class LatentPrior(Settings):
    """Negative log density of the latents under their prior, per dimension, 0 at the mode."""

    weight: float = setting(1e-3, low=0, high=1e6, doc="Factor of this term in the sum.")


@dataclass(frozen=True, kw_only=True)
class TotalVariation(Settings):
    """Mean absolute difference of neighbouring pixels (anisotropic), of the decoded picture."""

    weight: float = setting(1e-2, low=0, high=1e6, doc="Factor of this term in the sum.")


@dataclass(frozen=True, kw_only=True)
class NoiseCorrelation(Settings):
    """Squared autocorrelation of maps of noise at several scales, so that no picture hides in them."""

    weight: float = setting(1e5, low=0, high=1e6, doc="Factor of this term in the sum.")


#: what is perceived leads; the pixels keep colours right, and more of them costs perceptual distance
DEFAULT_LOSSES: tuple[Settings, ...] = (Pixel(weight=0.25), Perceptual())


# ---- observations: A ---------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Identity(Settings):
    """The picture itself is what was observed."""


# ---- what is left to the policy ------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Auto(Settings):
    """Picked from what the generator and the objective offer; the result says what and why."""


# ---- initialisers ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Seeds(Settings):
    """Independent draws from the prior, all run to the end; the best one is the result."""

    count: int = setting(1, low=1, high=64, doc="How many draws, one row each.")


@dataclass(frozen=True, kw_only=True)
class PriorMean(Settings):
    """The mean of the prior. Where the gradient is zero there, the start is moved."""


@dataclass(frozen=True, kw_only=True)
class BestOf(Settings):
    """Draws from the prior, of which the one with the smallest loss goes on."""

    count: int = setting(8, low=1, high=4096, doc="How many draws are tried.")


@dataclass(frozen=True, kw_only=True)
class Encoder(Settings):
    """What the generator's encoder says: one look at the picture, then looks at its own reconstruction."""

    passes: int = setting(3, low=1, high=16, doc="Looks; the one whose picture is nearest is the start.")
    count: int = setting(
        1, low=1, high=64, doc="How many starts, all run to the end; those after the first are beside it."
    )
    spread: float = setting(0.6, above=0, high=10, doc="How far beside, in standard deviations of the prior.")


@dataclass(frozen=True, kw_only=True)
class Halving(Settings):
    """Several starts side by side, of which the worse half is dropped at each rung (successive halving)."""

    count: int = setting(8, low=2, high=256, doc="How many starts; one is the encoder's where there is one.")
    rung: int = setting(
        10, low=0, high=100_000, unit="steps", doc="Steps to the first rung; each next one is twice as far."
    )


@dataclass(frozen=True, kw_only=True)
class Lifted(Settings):
    """Found in an earlier space of the generator first, and carried over: z, layer:1, … up to the space asked for."""

    steps: int | None = setting(
        None, low=0, high=100_000, unit="steps", optional=True, doc="Most steps in each space on the way; unset: some."
    )
    radius: float = setting(
        0.5,
        above=0,
        high=1e6,
        doc="How far a layer may go from where it began, root mean square in deviations of what earlier stages make.",
    )


@dataclass(frozen=True, kw_only=True)
class Given(Settings):
    """Latents from an earlier result or of your own."""

    latents: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_latents(self.latents)


# ---- the rest of a job -------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Budget(Settings):
    """When to stop. Whatever comes first."""

    steps: int | None = setting(
        None,
        low=0,
        high=1_000_000,
        unit="steps",
        optional=True,
        doc="Most steps; 0 only scores the start; unset: what suits the solver, or no limit where seconds is set.",
    )
    seconds: float | None = setting(None, above=0, high=86_400, unit="s", optional=True, doc="Most seconds.")
    target_lpips: float | None = setting(None, low=0, high=10, optional=True, doc="Stop at or below this distance.")
    target_psnr_db: float | None = setting(
        None, above=0, high=190, unit="dB", optional=True, doc="Stop at or above this PSNR."
    )
    patience: int | None = setting(
        None, low=1, high=1_000_000, unit="steps", optional=True, doc="Stop after so many steps without improvement."
    )
    tolerance: float = setting(1e-3, low=0, below=1, doc="Relative improvement that counts for the patience.")


@dataclass(frozen=True, kw_only=True)
class Reporting(Settings):
    """How much is told while a job runs."""

    progress_steps: int = setting(1, low=1, high=1_000_000, unit="steps", doc="Steps between progress events.")
    preview_steps: int | None = setting(
        None, low=1, high=1_000_000, unit="steps", optional=True, doc="Steps between previews; unset: none by steps."
    )
    preview_seconds: float | None = setting(
        None, above=0, high=86_400, unit="s", optional=True, doc="Seconds between previews; unset: none by time."
    )
    checkpoint_steps: int | None = setting(
        None, low=1, high=1_000_000, unit="steps", optional=True, doc="Steps between checkpoints; unset: none."
    )


@dataclass(frozen=True, kw_only=True)
class JobSpec(Settings):
    """One inversion: which latents of `generator` are behind `picture`?

    Attributes:
        picture: what was observed, as loaded by `images.load`; cropped and fitted when the job is built.
        crop: (left, top, right, bottom) in pixels of the upright picture, right and bottom exclusive.
        losses: the sum that is minimised, at least one term; one of a kind.
        fixed: fixed parts that are given as numbers, part → [1, …] or […]: an embedding, a vector. `conditions` takes
            them too, beside labels: {"class": "blue", "text": array}.
    """

    picture: Picture
    generator: str = setting(DEFAULT_GENERATOR, doc="Name of the generator.")
    space: str = setting("", doc="Latent space; empty takes the generator's default.")
    conditions: str = setting("", doc="Fixed parts that are given, as PART=LABEL,…, such as class=blue; else drawn.")
    fixed: Mapping[str, np.ndarray] = field(default_factory=dict)
    crop: tuple[int, int, int, int] | None = None
    perceptual: str = setting("stlpips-alex", choices=PERCEPTUAL_METRICS, doc="Perceptual metric, for loss and report.")
    losses: tuple[Settings, ...] = DEFAULT_LOSSES
    observation: Settings = Identity()
    solver: Settings = Auto()
    initialiser: Settings = Auto()
    budget: Budget = Budget()
    reporting: Reporting = Reporting()
    seed: int = setting(0, low=0, high=MAX_SEED, doc="All randomness of the job comes from this.")
    priority: str = setting("interactive", choices=("interactive", "bulk"), doc="Decides the lane width.")
    lane_width: int = setting(
        0,
        low=0,
        high=256,
        doc="Rows a kernel call runs at; 0: one, more for bulk jobs and for several starts.",
    )
    dtype: str = setting("float32", choices=DTYPES, doc="Number format of latents and networks.")
    precision: str = setting("auto", choices=PRECISIONS, doc=PRECISION_DOC)

    def __post_init__(self) -> None:
        labels, fixed = split(self.conditions, self.fixed)
        object.__setattr__(self, "conditions", labels)
        object.__setattr__(self, "fixed", fixed)
        super().__post_init__()
        check_picture(self.picture)
        check_precision(self)
        losses = (self.losses,) if isinstance(self.losses, Settings) else self.losses
        if not isinstance(losses, (tuple, list)):
            raise SpecError(f"must be a sequence of losses, found {type(losses).__name__}", field="losses")
        object.__setattr__(self, "losses", tuple(losses))
        if not self.losses:
            raise SpecError("at least one loss is needed, found none", field="losses")
        kinds = [type(loss) for loss in self.losses]
        if len(set(kinds)) != len(kinds):
            raise SpecError("one loss of a kind is accepted, found two of one kind; add their weights", field="losses")
        for loss in self.losses:
            weight = getattr(loss, "weight", 1.0)
            if 0 < weight < MIN_WEIGHT:
                raise SpecError(f"weights are 0 or ≥ {MIN_WEIGHT:g}, found {weight:g}", field="losses")
        if all(getattr(loss, "weight", 1) == 0 for loss in self.losses):
            raise SpecError("one loss must have a weight > 0, found only zeros", field="losses")
        for name, kind in (("budget", Budget), ("reporting", Reporting)):
            if not isinstance(getattr(self, name), kind):
                found = type(getattr(self, name)).__name__
                raise SpecError(f"must be a {kind.__name__}, found {found}", field=name)
        checks = (("observation", OBSERVATIONS), ("solver", SOLVERS), ("initialiser", INITIALISERS))
        for name, table in (("losses", LOSSES), *checks):
            value: Any = getattr(self, name)
            for item in value if name == "losses" else (value,):
                if type(item) not in table.values():
                    accepted = ", ".join(kind.__name__ for kind in table.values())
                    raise SpecError(f"accepted are settings of {accepted}, found {type(item).__name__}", field=name)


#: name on the wire and on the command line → settings class
LOSSES: dict[str, type[Settings]] = {
    "pixel": Pixel,
    "perceptual": Perceptual,
    "latent_prior": LatentPrior,
    "total_variation": TotalVariation,
    "noise_correlation": NoiseCorrelation,
}
OBSERVATIONS: dict[str, type[Settings]] = {"identity": Identity}
SOLVERS: dict[str, type[Settings]] = {
    "auto": Auto,
    "adam": Adam,
    "levenberg_marquardt": LevenbergMarquardt,
    "gauss_newton": GaussNewton,
    "l_bfgs": LBFGS,
    "cma_es": CMAES,
    "hybrid_cma": HybridCMA,
}
INITIALISERS: dict[str, type[Settings]] = {
    "auto": Auto,
    "seeds": Seeds,
    "prior_mean": PriorMean,
    "best_of": BestOf,
    "given": Given,
    "encoder": Encoder,
    "halving": Halving,
    "lifted": Lifted,
}
Spec = JobSpec | DecodeSpec | SampleSpec | EncodeSpec | DescribeSpec | ResidenceSpec
