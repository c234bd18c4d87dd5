"""Randomness that belongs to (seed, purpose, row) and to nothing else.

No draw depends on the batch, on a neighbour, on the device or on a global generator: every stream is
made on the CPU from a hash. `purpose` keeps streams apart, so the start of a job with
seed 7 is not the sample with seed 7.
"""

from __future__ import annotations

import hashlib

import torch


def stream(seed: int, purpose: str, row: int = 0) -> torch.Generator:
    """The random stream of one row, on the CPU.

    Args:
        seed: the job's seed, 0 ≤ seed < 2⁶³.
        purpose: what the draws are for: "sample", "start", "move", …
        row: index of the row in its job.
    """
    return torch.Generator().manual_seed(key(seed, purpose, row))


def key(seed: int, purpose: str, row: int = 0) -> int:
    """The number that such a stream begins with, 0 ≤ key < 2⁶³; the same arguments give the same number anywhere."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{row}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
