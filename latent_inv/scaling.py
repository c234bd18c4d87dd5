"""The two conventions for latents of diffusion models, scaled and raw, and the way between them. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import LatentsError


@dataclass(frozen=True)
class Scaling:
    """scaled = (raw − shift) · factor: raw is what the decoder of an autoencoder takes, scaled is of unit variance.

    Source: Rombach et al. (2022), appendix G (the factor); diffusers' `scaling_factor`, `shift_factor`.

    Attributes:
        factor, shift: one number, or one a channel; no factor is 0.
        scaled: which of the two the latents at hand are, of a generator or in a file.
    """

    factor: tuple[float, ...]
    shift: tuple[float, ...] = (0.0,)
    scaled: bool = True

    def __post_init__(self) -> None:
        numbers = (*self.factor, *self.shift)
        if not self.factor or not self.shift or 0 in self.factor or not all(map(math.isfinite, numbers)):
            found = f"factor {_text(self.factor)[:60]}, shift {_text(self.shift)[:60]}"
            raise LatentsError(f"needs finite factors other than 0, and finite shifts, found {found}", field="scaling")

    @property
    def name(self) -> str:
        """For people and files."""
        return "scaled" if self.scaled else "raw"

    def same_numbers(self, other: Scaling) -> bool:
        """Are factor and shift those of `other`? One number stands for as many equal ones."""
        return _short(self.factor) == _short(other.factor) and _short(self.shift) == _short(other.shift)

    def convert(self, array: Any, scaled: bool) -> Any:
        """Latents [n, channels, …] that are as `self.scaled` says, as `scaled` says.

        Computed in float64 and rounded once, to the array's own format; nothing is done where both are the same.

        Raises:
            LatentsError: another number of channels than factors.
        """
        import numpy as np

        if scaled == self.scaled:
            return array
        dtype = array.dtype if array.dtype.kind == "f" else np.dtype(np.float32)
        channels = array.shape[1] if array.ndim > 1 else 0
        for name, numbers in (("factors", self.factor), ("shifts", self.shift)):
            if len(numbers) not in (1, channels):
                raise LatentsError(f"has {len(numbers)} {name}, the latents have {channels} channels", field="scaling")
        sides = (1, -1, *(1,) * (array.ndim - 2))
        factor, shift = (np.array(numbers).reshape(sides) for numbers in (self.factor, self.shift))
        exact = array.astype(np.float64)
        with np.errstate(over="ignore"):
            moved = ((exact - shift) * factor if scaled else exact / factor + shift).astype(dtype)
        if not np.isfinite(moved).all():
            raise LatentsError(f"the {'scaled' if scaled else 'raw'} latents are beyond {dtype}", field="scaling")
        return moved

    def convert_parts(self, latents: Mapping[str, Any], scaled: bool) -> dict[str, Any]:
        """`convert` of the parts that are [n, channels, height, width]; others, such as a class, have no scale."""
        return {
            name: self.convert(array, scaled) if getattr(array, "ndim", 0) == 4 else array
            for name, array in latents.items()
        }

    def to_text(self) -> dict[str, str]:
        """The three lines that a file states it in."""
        return {
            "scaling_factor": _text(_short(self.factor)),
            "shift_factor": _text(_short(self.shift)),
            "scaled": "true" if self.scaled else "false",
        }


def scaling_from_text(metadata: Mapping[str, str]) -> Scaling | None:
    """The inverse of `Scaling.to_text`; None where a file states none, or not all of it.

    Raises:
        LatentsError: it states something else.
    """
    if "scaling_factor" not in metadata or metadata.get("scaled") not in ("true", "false"):
        return None
    try:
        factor, shift = (
            tuple(float(number) for number in metadata.get(name, "0").split(","))
            for name in ("scaling_factor", "shift_factor")
        )
    except ValueError as error:
        text = f'its "scaling_factor" or "shift_factor" is no number: "{metadata["scaling_factor"]:.40}"'
        raise LatentsError(text, field="latents") from error
    return Scaling(factor, shift, scaled=metadata["scaled"] == "true")


def _short(numbers: tuple[float, ...]) -> tuple[float, ...]:
    return numbers[:1] if len(set(numbers)) == 1 else numbers


def _text(numbers: tuple[float, ...]) -> str:
    return ",".join(repr(float(number)) for number in numbers)
