"""From the arguments that people give to a spec: shared by the library, the client and the command line. No torch."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

from .errors import InternalError, LatentsError, SpecError
from .latents import LatentsFile, adapt, check_origin, load_latents
from .result import GeneratorInfo, JobResult
from .settings import Settings
from .spec import DEFAULT_GENERATOR, Auto, Budget, Given


def with_shortcuts(budget: Budget, **given: Any) -> Budget:
    """`budget` with the fields that were given beside it.

    Raises:
        SpecError: a field out of its range, or something else for a budget.
    """
    if not isinstance(budget, Budget):
        raise SpecError(f"must be a Budget, found {type(budget).__name__}", field="budget")
    return dataclasses.replace(budget, **{name: value for name, value in given.items() if value is not None})


def choose_generator(generator: str, latents: Any) -> str:
    """The generator that was asked for, or else that of the latents, or else the default.

    Args:
        generator: "" if none was asked for.
        latents: a file of latents or an earlier result, which may say what it is of; anything else says nothing.
    Raises:
        SpecError: they are of a generator that is named by a reference ("python:…"). What that opens may run code, so
            the word of a file or of a server is not enough.
    """
    if generator:
        return generator
    if isinstance(latents, (str, os.PathLike, bytes)):
        latents = load_latents(latents)
    stated = (latents.generator if isinstance(latents, (LatentsFile, JobResult)) else "") or DEFAULT_GENERATOR
    if ":" in stated:
        text = f'the latents say that they are of "{stated:.200}"; to open that, ask for this generator yourself'
        raise SpecError(text, field="generator")
    return stated


def no_info() -> GeneratorInfo:
    """For whoever starts from no file.

    Raises:
        InternalError: it was one after all.
    """
    raise InternalError("only latents from a file need the description of their generator")


def choose_start(
    start: Any,
    initialiser: Settings | None,
    generator: str,
    info: Callable[[], GeneratorInfo],
    space: str = "",
) -> tuple[Settings, tuple[str, ...]]:
    """The initialiser for a start from saved latents, or the one given, or the default; and warnings.

    Args:
        start: None, a file of latents, a mapping part → array, or an earlier result.
        info: describes the generator; asked only for a file.
        space: that of the job.
    Raises:
        SpecError: both were given. LatentsError: the latents are of another generator or space.
    """
    if start is None:
        return initialiser if initialiser is not None else Auto(), ()
    if initialiser is not None:
        raise SpecError("start and initialiser exclude each other, found both", field="start")
    latents, warnings = given_latents(start, generator, info, space, searched=True)
    return Given(latents=latents), warnings


def given_latents(
    start: Any, generator: str, info: Callable[[], GeneratorInfo], space: str = "", *, searched: bool = False
) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """Latents from a file, a mapping or an earlier result, checked to be of this generator; and warnings.

    Args:
        info: describes the generator; asked only for a file.
        space: the space that they are to be of; "": any, or with `searched` the default one.
    Raises:
        LatentsError, SpecError: they are of another generator or space.
    """
    if isinstance(start, JobResult):
        if start.generator != generator:
            raise SpecError(f'must be a result of "{generator}", found one of "{start.generator}"', field="start")
        return start.latents, ()
    if isinstance(start, Mapping):
        return start, ()
    if not isinstance(start, (LatentsFile, str, os.PathLike, bytes)):
        accepted = "a path, the bytes of a file, a mapping part → array, an earlier result"
        raise LatentsError(f"found {type(start).__name__}; accepted: {accepted}", field="latents")
    file = start if isinstance(start, LatentsFile) else load_latents(start)
    known = info()
    warnings = tuple(check_origin(file, generator=generator, weights_sha256=known.weights_sha256))
    latents, found, more = adapt(file, known, space)
    wanted = space or (known.default_space if searched else "")
    # Latents of an earlier space go on to a layer's; whoever knows the generator says which.
    if wanted and found and found != wanted and wanted not in known.stages:
        text = f'they are latents of the space "{found}", the search is in "{wanted}"; ask for the space "{found}"'
        raise LatentsError(text, field="latents")
    return latents, (*file.warnings, *warnings, *more)
