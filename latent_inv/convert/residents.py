"""Which generators a server holds: requests, and what is answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from latent_inv.residents import LoadedGenerator, Residents
from latent_inv.spec import ResidenceSpec
from latent_inv.v1 import generator_service_pb2 as messages

from .settings import read_fields, write_fields

Answer = messages.ListLoadedGeneratorsResponse | messages.LoadGeneratorResponse | messages.UnloadGeneratorResponse


def load_spec(message: messages.LoadGeneratorRequest) -> ResidenceSpec:
    """A generator to load, on any device.

    Raises:
        SpecError: none is named, or a value is out of its range.
    """
    return ResidenceSpec(action="load", **read_fields(message, ResidenceSpec))


def load_message(spec: ResidenceSpec) -> messages.LoadGeneratorRequest:
    """The inverse of `load_spec`."""
    message = messages.LoadGeneratorRequest()
    write_fields(spec, message)
    return message


def residents_to(each: Sequence[Residents], kind: type[Any]) -> Any:
    """The answer of kind `kind` (see `Answer`) from those of all workers."""
    found = [
        messages.LoadedGenerator(
            name=one.name,
            memory_bytes=one.memory_bytes,
            formats=one.formats,
            users=one.users,
            device=one.device,
        )
        for held in each
        for one in held.generators
    ]
    answer = kind(generators=found, budget_bytes=max((held.budget_bytes for held in each), default=0))
    if isinstance(answer, messages.UnloadGeneratorResponse):
        answer.freed_bytes = sum(held.freed_bytes for held in each)
    return answer


def residents_from(answer: Answer) -> Residents:
    """The inverse, over all workers."""
    found = tuple(
        LoadedGenerator(one.name, one.memory_bytes, tuple(one.formats), one.users, one.device)
        for one in answer.generators
    )
    freed = answer.freed_bytes if isinstance(answer, messages.UnloadGeneratorResponse) else 0
    return Residents(found, answer.budget_bytes, freed)
