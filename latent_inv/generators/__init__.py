"""Generators by name. To add one: a file with its adapter, and a line here; for many alike, a family."""

from __future__ import annotations

from .base import Generator
from .diffusers_autoencoder import open_model
from .exported import open_exported
from .eyes import Eyes
from .faces import Faces
from .onnx_file import open_onnx
from .photos import Photos
from .python_entry import open_python
from .stylegan2 import open_model as open_stylegan2
from .table import GeneratorTable, Opener

GENERATORS: dict[str, type[Generator]] = {
    "faces": Faces,
    "eyes": Eyes,
    "photos": Photos,
}

#: prefix of references -> what opens them
FAMILIES: dict[str, Opener] = {
    "diffusers": open_model,
    "exported": open_exported,
    "onnx": open_onnx,
    "python": open_python,
    "stylegan2": open_stylegan2,
}


def open_table() -> GeneratorTable:
    """All generators, and any that a reference names: for whoever asks on a machine of his own."""
    return GeneratorTable(GENERATORS, FAMILIES, open_any=True)


__all__ = ["FAMILIES", "GENERATORS", "Eyes", "Faces", "Generator", "GeneratorTable", "Opener", "Photos", "open_table"]
