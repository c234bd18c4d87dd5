"""Which generators are in memory, as plain picklable values. No torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LoadedGenerator:
    """A generator that a worker holds.

    Attributes:
        memory_bytes: of its networks in all formats, and of its encoder.
        formats: number formats of its networks.
        users: jobs and requests that use it, or wait until it is whole.
        device: of the worker.
    """

    name: str
    memory_bytes: int
    formats: tuple[str, ...]
    users: int
    device: str


@dataclass(frozen=True)
class Residents:
    """The generators that one worker holds, the least recently used first.

    Attributes:
        budget_bytes: what they may take together; 0: no limit.
        freed_bytes: what was just let go.
    """

    generators: tuple[LoadedGenerator, ...]
    budget_bytes: int = 0
    freed_bytes: int = 0
