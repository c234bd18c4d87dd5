"""What the server answers: one module a service, one short method an RPC."""

from __future__ import annotations

from .artifacts import ArtifactServicer
from .generators import GeneratorServicer
from .inversion import InversionServicer
from .jobs import JobServicer

__all__ = ["ArtifactServicer", "GeneratorServicer", "InversionServicer", "JobServicer"]
