"""Generators by name. To add one: a file with its adapter, and a line here."""

from __future__ import annotations

from .base import Generator
from .faces import Faces

GENERATORS: dict[str, type[Generator]] = {
    "faces": Faces,
}

__all__ = ["GENERATORS", "Faces", "Generator"]
