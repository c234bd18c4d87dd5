"""Where and how to compute: one frozen value, decided once."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from .errors import SpecError, UnsupportedError, unknown_name
from .spec_requests import PRECISIONS

DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "float64": torch.float64}

#: rows a kernel call of bulk jobs; a card needs more rows to be busy
_BULK_LANE_WIDTH = {"cpu": 4, "cuda": 32, "mps": 16}
#: most rows a call of any job: a wider lane would hold up all others for too long, as they wait between steps
_MAX_LANE_WIDTH = {"cpu": 16, "cuda": 256, "mps": 64}
#: directions that are sent through the networks at once for a Jacobian; on a CPU, fewer are slower by up to a quarter
_TANGENT_CHUNK = {"cpu": 128, "cuda": 512, "mps": 128}


@dataclass(frozen=True)
class Placement:
    """Where an engine computes.

    Attributes:
        device: "cpu", "cuda", "cuda:1", "mps".
        threads: CPU threads of torch; None leaves torch's own choice.
        lane_width: rows a kernel call of jobs with priority "bulk".
        precision: number format of networks where a request leaves it to us, and where they have it.
    """

    device: str
    threads: int | None
    lane_width: int
    precision: str = "float32"

    @property
    def max_lane_width(self) -> int:
        """Most rows a kernel call of any job may have here."""
        return _MAX_LANE_WIDTH[self.device.split(":")[0]]

    @property
    def tangent_chunk(self) -> int:
        """Directions of a Jacobian that are computed at once here."""
        return _TANGENT_CHUNK[self.device.split(":")[0]]

    @property
    def rounded(self) -> torch.dtype | None:
        """A format with fewer digits in which networks run much faster here; None: none is known to."""
        return torch.bfloat16 if self.device == "cpu" and _computes_in_bfloat16() else None

    def apply(self) -> None:
        """Set what torch keeps for the whole process: threads if asked for, and kernels that repeat to the bit."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        if self.device.startswith("cuda"):
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cudnn.deterministic = True

    @property
    def torch_device(self) -> torch.device:
        """For torch's calls."""
        return torch.device(self.device)

    def synchronise(self) -> None:
        """Wait until the device is done, so that a time read after this is true."""
        if self.device.startswith("cuda"):
            torch.cuda.synchronize(self.torch_device)
        elif self.device == "mps":
            torch.mps.synchronize()


def _computes_in_bfloat16() -> bool:
    """Does this processor have instructions for it? Without, it is slower than float32. Old torch cannot say."""
    asked = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return any(bool(ask()) for ask in asked if ask is not None)


def place(
    device: str = "auto", threads: int | None = None, lane_width: int | None = None, precision: str = "float32"
) -> Placement:
    """Decide where to compute.

    Args:
        device: "auto" takes CUDA, then Apple's, then the CPU.
        threads: CPU threads; None leaves torch's own choice.
        lane_width: rows a call of bulk jobs; None takes what suits the device.
        precision: of networks where requests say "auto": float32, bfloat16 or float16.
    Raises:
        SpecError: a name or number that makes no sense.
        UnsupportedError: a device that this machine does not have.
    """
    if not isinstance(device, str):
        raise SpecError(f"must be text, found {type(device).__name__}", field="device")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind = device.split(":")[0]
    if kind not in _BULK_LANE_WIDTH:
        raise SpecError(f'must be auto, cpu, cuda, cuda:N or mps, found "{device:.40}"', field="device")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UnsupportedError(f'this machine has no usable "{device}"; "cpu" always works', field="device") from error
    _check_count(threads, max(1, os.cpu_count() or 1) * 4, "threads")
    _check_count(lane_width, 256, "lane_width")
    if precision not in PRECISIONS[1:]:
        raise unknown_name("precision", precision, list(PRECISIONS[1:]), field="precision")
    return Placement(device, threads, lane_width or _BULK_LANE_WIDTH[kind], precision)


def _check_count(value: object, most: int, field: str) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise SpecError(f"must be a whole number from 1 to {most}, found {value!r:.40}", field=field)
    if not 1 <= value <= most:
        raise SpecError(f"must be from 1 to {most} here, found {value}", field=field)
