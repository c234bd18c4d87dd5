"""What comes back: outcomes, events and results as plain picklable values. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import LatentInvError
from .residents import Residents as Residents
from .scaling import Scaling

if TYPE_CHECKING:
    import numpy as np

    from .images import Picture

#: PSNR of two pictures that are equal in every bit; keeps JSON finite.
MAX_PSNR_DB = 200.0


class Outcome(Enum):
    """Why a job ended; the value is the sentence that a person reads."""

    target_reached = "The target quality was reached."
    converged = "No further improvement was found."
    step_limit = "All steps were done."
    deadline = "The time budget was used up."
    cancelled = "Stopped on request; the best latents so far are returned."
    diverged = "The loss ran away; the best latents before that are returned."
    stuck = "The gradient at the start is zero, and moving the start did not help."
    failed = "The job could not be done."

    @property
    def good(self) -> bool:
        """True if the latents are what was asked for."""
        return self in (Outcome.target_reached, Outcome.converged, Outcome.step_limit, Outcome.deadline)


@dataclass(frozen=True)
class Metrics:
    """Quality of one reconstruction against its target, over the visible pixels.

    Attributes:
        psnr_db: 10·log₁₀(1 / mse), at most 200.
        lpips: distance of the job's perceptual metric, ≥ 0; None where it was not computed.
        mse: mean squared difference on the [0, 1] scale.
    """

    psnr_db: float
    lpips: float | None
    mse: float


@dataclass(frozen=True)
class Step:
    """One line of a job's history: the iterate after `step` steps of the row that is ahead."""

    step: int
    loss: float
    terms: Mapping[str, float]
    metrics: Metrics
    seconds: float


@dataclass(frozen=True)
class GeneratorInfo:
    """What a generator offers.

    Attributes:
        size: (height, width), or None for any size.
        stride: sides are padded to a multiple of this.
        spaces: space → part → {"shape": […], "prior": "…", "constraint": "…", "role": "…"}.
        licence: three lines: of the package, of the training data, what could not be found out.
        scaling: of the latents that it takes, where those of its model come scaled and raw.
        halves: formats of half precision in which its network can compute, "bfloat16" and "float16".
    """

    name: str
    title: str
    size: tuple[int, int] | None
    stride: int
    spaces: Mapping[str, Mapping[str, Mapping[str, Any]]]
    default_space: str
    stages: tuple[str, ...]
    differentiable: bool
    forward_mode: bool
    has_encoder: bool
    weights_sha256: str
    licence: tuple[str, ...]
    source: str
    scaling: Scaling | None = None
    halves: tuple[str, ...] = ()


# ---- events ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Event:
    """`sequence` counts the events of one job from 1, without gaps."""

    job_id: str
    sequence: int


@dataclass(frozen=True)
class Progress(Event):
    """The state after one step of the row that is ahead.

    Attributes:
        total_steps: the step budget.
        best: quality of the best iterate so far.
        rows: rows still running.
        seconds_left: estimate until the end; None if unknown.
    """

    latest: Step
    total_steps: int
    best_step: int
    best_loss: float
    best: Metrics
    rows: int
    seconds_left: float | None


@dataclass(frozen=True)
class Preview(Event):
    """The best picture so far, [H, W, 3] uint8."""

    step: int
    image: np.ndarray


@dataclass(frozen=True)
class Checkpoint(Event):
    """All that a job needs to go on elsewhere, as safetensors bytes."""

    step: int
    data: bytes


@dataclass(frozen=True)
class Finished(Event):
    """The last event of a job; exactly one of `result` and `error` is set.

    `result` is a JobResult for an inversion, or the answer of another request.
    """

    result: JobResult | Decoded | Sampled | Encoded | Described | Residents | None = None
    error: LatentInvError | None = None


@dataclass(frozen=True)
class Lost(Finished):
    """The end of a job by the loss of its worker: nothing is wrong with the job, as far as is known.

    It ends like any other for whoever only waits for an end. Whoever has its spec and a checkpoint may submit it again.
    `sequence` is 0, since how far the job's events had counted is lost, too.

    Attributes:
        suspect: the worker was busy with this job when it went, so that the job may be the cause.
    """

    suspect: bool = False


# ---- results -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class JobResult:
    """The outcome of one inversion.

    Attributes:
        latents: part name → float array [1, …], the best iterate.
        image: its picture, [3, H, W] float32 in [-1, 1]; padding cropped away.
        target: what it was compared with, same size, with weight.
        best_step: number of steps after which the best iterate stood.
        seconds: from admission by the engine to the end.
        history: every recorded step of the row that won.
        picked: start and stages of solvers that the job was done with, and why the policy took them.
        typicality: searched part → share of the prior's draws that lie nearer to its mean, 0 … 1; near 1 is far out,
            where edits of the latents are less to be trusted.
        labels: categorical part → the label of its class, with its weight where it is not wholly that class.
        precision: number format in which the generator's network computed, at the end.
        warnings: what was done to the input or the start that the caller may not expect, and what was done otherwise.
        scaling: of the latents, as `GeneratorInfo.scaling`.
    """

    outcome: Outcome
    message: str
    generator: str
    space: str
    weights_sha256: str
    perceptual: str
    perceptual_sha256: str
    metrics: Metrics
    loss: float
    steps: int
    best_step: int
    seconds: float
    seed: int
    lane_width: int
    dtype: str
    device: str
    budget: str
    latents: Mapping[str, np.ndarray]
    image: np.ndarray
    target: Picture
    history: tuple[Step, ...]
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    picked: Mapping[str, Any] = field(default_factory=dict)
    typicality: Mapping[str, float] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    scaling: Scaling | None = None
    precision: str = "float32"
    files: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The content of `result.json`, without pixels and history."""
        plain = (
            "generator",
            "space",
            "weights_sha256",
            "perceptual",
            "perceptual_sha256",
            "loss",
            "steps",
            "best_step",
        )
        more = ("seconds", "seed", "lane_width", "dtype", "precision", "device", "budget")
        return {
            "outcome": self.outcome.name,
            "message": self.message,
            **{name: getattr(self, name) for name in plain},
            "metrics": {"psnr_db": self.metrics.psnr_db, "lpips": self.metrics.lpips, "mse": self.metrics.mse},
            **{name: getattr(self, name) for name in more},
            "typicality": dict(self.typicality),
            "labels": dict(self.labels),
            "picked": dict(self.picked),
            "settings": dict(self.settings),
            "warnings": list(self.warnings),
            "scaling": None if self.scaling is None else self.scaling.to_text(),
            "files": dict(self.files),
            "versions": dict(self.versions),
        }

    def save(self, folder: str | Path) -> JobResult:
        """Write latents, pictures, curves, `result.json` and `index.html` into `folder`.

        Returns:
            This result with `files` filled in (file names relative to `folder`).
        """
        from .report import write_result

        return write_result(self, Path(folder))

    def show(self) -> Any:
        """Show target, reconstruction and difference: inline in a notebook, else in a window or as a file."""
        from .report import show_result

        return show_result(self)

    def _repr_html_(self) -> str:
        from .report import result_html

        return result_html(self)

    def __repr__(self) -> str:
        lpips = "" if self.metrics.lpips is None else f", lpips={self.metrics.lpips:.4f}"
        return (
            f"JobResult({self.outcome.name}, {self.generator}/{self.space}, psnr={self.metrics.psnr_db:.1f} dB{lpips}, "
            f"best step {self.best_step} of {self.steps}, {self.seconds:.1f} s)"
        )


@dataclass(frozen=True)
class Decoded:
    """Pictures of given latents: images [n, 3, H, W] float32 in [-1, 1].

    Attributes:
        precision: number format in which the network computed.
        warnings: what was done otherwise than that.
    """

    generator: str
    weights_sha256: str
    images: np.ndarray
    precision: str = "float32"
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sampled:
    """Draws from the prior: latents part → [n, …], images [n, 3, H, W] float32 in [-1, 1]."""

    generator: str
    space: str
    weights_sha256: str
    seeds: tuple[int, ...]
    latents: Mapping[str, np.ndarray]
    images: np.ndarray
    scaling: Scaling | None = None
    precision: str = "float32"
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Encoded:
    """What the generator's encoder says: latents part → [1, …], and their picture [3, H, W]."""

    generator: str
    space: str
    weights_sha256: str
    latents: Mapping[str, np.ndarray]
    image: np.ndarray
    precision: str = "float32"
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Described:
    """The generators asked for."""

    generators: tuple[GeneratorInfo, ...]
