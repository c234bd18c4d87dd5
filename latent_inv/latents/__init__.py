"""Latents in and out: the one border for files of latents.

    save_latents   part → array, to safetensors that says whose latents they are, or to another tool's file
    save_result    the same of the latents that an inversion found
    load_latents   safetensors, .npz, .npy or .pt (told apart by content) → LatentsFile
    adapt          what a file holds, named, shaped and scaled as a generator takes it
    convert_files  files of one tool to those of another
    fit_latents    arrays → what a space takes: names, shapes, number format, finiteness
    check_origin   are they of this generator and these weights?

Nothing is unpickled: .npz and .npy are read without object arrays, .pt with torch's weights-only reader, and
sizes are compared with `Limits` before anything is allocated.
"""

from __future__ import annotations

from .adapt import adapt
from .convert import Converted, convert_files
from .fit import as_array, check_origin, fit_latents
from .layouts import FORMAT, LAYOUTS
from .limits import Limits
from .read import LatentsFile, load_latents
from .write import save_latents, save_result

__all__ = [
    "FORMAT",
    "LAYOUTS",
    "Converted",
    "LatentsFile",
    "Limits",
    "adapt",
    "as_array",
    "check_origin",
    "convert_files",
    "fit_latents",
    "load_latents",
    "save_latents",
    "save_result",
]
