"""Requests without a loop: decode, sample, encode, describe. As in `spec`, which gives them on: plain frozen values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Integral
from typing import TYPE_CHECKING

from .conditions import split
from .errors import SpecError, unknown_name
from .settings import Settings, setting

if TYPE_CHECKING:
    import numpy as np

    from .images import Picture
    from .spec import JobSpec

MAX_SEED = 2**63 - 1
#: of whoever asks for none: the one that takes any picture
DEFAULT_GENERATOR = "photos"
MAX_SAMPLES = 64
DTYPES = ("float32", "float64")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
PRECISION_DOC = "Number format of the generator's network; auto: that of dtype, unless the server says otherwise."


def check_picture(picture: object) -> None:
    """Raises SpecError unless it is a `Picture`."""
    from .images import Picture

    if not isinstance(picture, Picture):
        raise SpecError(f"must be a Picture, as images.load gives it, found {type(picture).__name__}", field="picture")


def check_latents(latents: object) -> None:
    """Raises SpecError unless it is a mapping from names."""
    if not isinstance(latents, Mapping) or not all(isinstance(name, str) for name in latents):
        raise SpecError(f"must be a mapping part → array, found {type(latents).__name__}", field="latents")


def check_precision(spec: JobSpec | DecodeSpec | SampleSpec | EncodeSpec | ResidenceSpec) -> None:
    """Raises SpecError where latents have more digits than the network that is asked for."""
    if spec.dtype != "float32" and spec.precision != "auto":
        text = f"latents in {spec.dtype} need a network in it: leave precision at auto, found {spec.precision}"
        raise SpecError(text, field="precision")


@dataclass(frozen=True, kw_only=True)
class DecodeSpec(Settings):
    """Latents to pictures. `latents`: name → [n, …], one row a picture."""

    latents: Mapping[str, np.ndarray]
    generator: str = setting(DEFAULT_GENERATOR, doc="Name of the generator.")
    dtype: str = setting("float32", choices=DTYPES, doc="Number format.")
    precision: str = setting("auto", choices=PRECISIONS, doc=PRECISION_DOC)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_precision(self)
        check_latents(self.latents)


@dataclass(frozen=True, kw_only=True)
class SampleSpec(Settings):
    """Draws from the prior: one latent and one picture a seed. `fixed`: as that of `JobSpec`."""

    seeds: tuple[int, ...] = (0,)
    generator: str = setting("faces", doc="Name of the generator.")
    space: str = setting("", doc="Latent space; empty takes the generator's default.")
    conditions: str = setting("", doc="Parts that are given, as PART=LABEL,…, such as class=blue; else drawn.")
    fixed: Mapping[str, np.ndarray] = field(default_factory=dict)
    height: int = setting(
        0, low=0, high=16_384, unit="pixels", doc="Picture height where the generator is free; 0: its own."
    )
    width: int = setting(
        0, low=0, high=16_384, unit="pixels", doc="Picture width where the generator is free; 0: its own."
    )
    dtype: str = setting("float32", choices=DTYPES, doc="Number format.")
    precision: str = setting("auto", choices=PRECISIONS, doc=PRECISION_DOC)

    def __post_init__(self) -> None:
        labels, fixed = split(self.conditions, self.fixed)
        object.__setattr__(self, "conditions", labels)
        object.__setattr__(self, "fixed", fixed)
        super().__post_init__()
        check_precision(self)
        if isinstance(self.seeds, str) or not isinstance(self.seeds, Iterable):
            raise SpecError(f"must be a sequence of whole numbers, found {type(self.seeds).__name__}", field="seeds")
        plain = (int(s) if isinstance(s, Integral) and not isinstance(s, bool) else s for s in self.seeds)
        object.__setattr__(self, "seeds", tuple(plain))
        if not 1 <= len(self.seeds) <= MAX_SAMPLES:
            raise SpecError(f"1 to {MAX_SAMPLES} seeds are accepted, found {len(self.seeds)}", field="seeds")
        for seed in self.seeds:
            if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
                raise SpecError(f"must be whole numbers from 0 to {MAX_SEED}, found {seed!r:.40}", field="seeds")


@dataclass(frozen=True, kw_only=True)
class EncodeSpec(Settings):
    """Picture to latents in one pass, where the generator has an encoder."""

    picture: Picture
    generator: str = setting(DEFAULT_GENERATOR, doc="Name of the generator.")
    space: str = setting("", doc="Latent space; empty takes the generator's default.")
    crop: tuple[int, int, int, int] | None = None
    dtype: str = setting("float32", choices=DTYPES, doc="Number format.")
    precision: str = setting("auto", choices=PRECISIONS, doc=PRECISION_DOC)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_precision(self)
        check_picture(self.picture)


@dataclass(frozen=True, kw_only=True)
class DescribeSpec(Settings):
    """What a generator offers; an empty name asks for all of them."""

    generator: str = setting("", doc="Name of the generator; empty: all.")


_ACTIONS = ("list", "load", "unload")


@dataclass(frozen=True, kw_only=True)
class ResidenceSpec(Settings):
    """Which generators a worker holds: asked for, or changed.

    Attributes:
        action: what is done before they are listed: "list" (nothing), "load" or "unload".
        device: the worker that is meant, by its device; empty: any.
    """

    action: str = "list"
    device: str = ""
    generator: str = setting("", doc="Name of the generator that is loaded or unloaded.")
    dtype: str = setting("float32", choices=DTYPES, doc="Number format in which it is loaded.")
    precision: str = setting("auto", choices=PRECISIONS, doc=PRECISION_DOC)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_precision(self)
        if self.action not in _ACTIONS:
            raise unknown_name("action", self.action, list(_ACTIONS), field="action")
        if (self.action == "list") == bool(self.generator):
            raise SpecError("a generator is named to be loaded or unloaded, and not to list them", field="generator")
