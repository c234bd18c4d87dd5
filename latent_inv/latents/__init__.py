"""Latents in and out: the one border for files of latents.

    save_latents   part → array, to safetensors with metadata that says whose latents they are
    save_result    the same of the latents that an inversion found
    load_latents   safetensors, .npz, .npy or .pt (told apart by content) → LatentsFile
    fit_latents    arrays → what a space takes: names, shapes, number format, finiteness
    check_origin   are they of this generator and these weights?

Nothing is unpickled: .npz and .npy are read without object arrays, .pt with torch's weights-only reader, and
sizes are compared with `Limits` before anything is allocated.
"""

from __future__ import annotations

from .fit import check_origin, fit_latents
from .limits import Limits
from .read import LatentsFile, load_latents
from .write import FORMAT, save_latents, save_result

__all__ = [
    "FORMAT",
    "LatentsFile",
    "Limits",
    "check_origin",
    "fit_latents",
    "load_latents",
    "save_latents",
    "save_result",
]
