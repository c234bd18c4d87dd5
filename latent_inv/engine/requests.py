"""Requests that need no loop: decode, sample, encode, describe. Checked when submitted, done piece by piece."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Generator as Pieces
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latent_inv import spec as specs
from latent_inv.build import split
from latent_inv.catalogue import Catalogue
from latent_inv.classes import given
from latent_inv.encoders import PictureEncoder
from latent_inv.errors import (
    AssetError,
    CancelledError,
    InternalError,
    LatentsError,
    LimitError,
    UnsupportedError,
    at,
    unknown_name,
)
from latent_inv.generators.base import Generator
from latent_inv.incidents import as_typed
from latent_inv.latents import fit_latents
from latent_inv.outline import fit_picture
from latent_inv.result import Decoded, Described, Encoded, Finished, Residents, Sampled
from latent_inv.seeding import stream
from latent_inv.types import Latents

logger = logging.getLogger(__name__)

#: the work of a request: gives way after each piece, and returns the answer
Work = Pieces[None, None, Any]

#: rows decoded in one piece
_CHUNK = 8
#: most numbers in the pictures of one answer: 60 MiB as float32, so that it fits a message
MAX_ANSWER_NUMBERS = 15 * 2**20


def prepare(spec: specs.Spec, catalogue: Catalogue) -> Work:
    """Check a request; what comes back does it.

    Raises:
        LatentInvError: it is refused.
    """
    if isinstance(spec, specs.DecodeSpec):
        return _decode(spec, catalogue)
    if isinstance(spec, specs.SampleSpec):
        return _sample(spec, catalogue)
    if isinstance(spec, specs.EncodeSpec):
        return _encode(spec, catalogue)
    if isinstance(spec, specs.DescribeSpec):
        return _describe(spec, catalogue)
    if isinstance(spec, specs.ResidenceSpec):
        return _reside(spec, catalogue)
    raise InternalError(f"no work is known for {type(spec).__name__}")


class Requests:
    """Requests that wait or are half done; each piece is one turn, and others have theirs in between."""

    def __init__(self) -> None:
        self._works: deque[tuple[str, Work]] = deque()

    def __len__(self) -> int:
        return len(self._works)

    def __contains__(self, job_id: str) -> bool:
        return any(job_id == waiting for waiting, _ in self._works)

    def put(self, job_id: str, work: Work) -> None:
        """Take a request that was prepared."""
        self._works.append((job_id, work))

    @property
    def next_id(self) -> str:
        """Whose turn it is; there must be one."""
        return self._works[0][0]

    def turn(self) -> Finished | None:
        """Do the next piece of the request whose turn it is; its end, if that was the last one."""
        job_id, work = self._works.popleft()
        try:
            next(work)
            self._works.append((job_id, work))
            return None
        except StopIteration as done:
            return Finished(job_id, 1, result=done.value)
        except Exception as error:
            return Finished(job_id, 1, error=as_typed(error, "a request"))

    def cancel(self, job_id: str) -> Finished | None:
        """Drop a request; its end, or None if it is not here."""
        for waiting in self._works:
            if waiting[0] == job_id:
                self._works.remove(waiting)
                return Finished(job_id, 1, error=cancelled())
        return None


def _decode(spec: specs.DecodeSpec, catalogue: Catalogue) -> Work:
    generator = catalogue.at(spec.generator, spec.dtype, catalogue.precision_of(spec))
    latents = given_latents(generator, spec)
    warnings: list[str] = []

    def work() -> Work:
        images = yield from decode_all(generator, latents, warnings)
        return Decoded(spec.generator, generator.weights_sha256, images, generator.precision, tuple(warnings))

    return work()


def given_latents(generator: Generator, spec: specs.DecodeSpec) -> Latents:
    """The latents of a request, checked against the space that has their parts, on the device."""
    with at("latents"):
        if not spec.latents:
            raise LatentsError("at least one part is needed, found none")
        named = dict(spec.latents)
        if set(named) == {""}:
            named = {next(iter(generator.spaces[generator.default_space].parts)): named[""]}
        space = generator.spaces[generator.space_of({name: torch.empty(0) for name in named})]
    size = generator.size or _size_from(generator, named)
    fitted = fit_latents(named, space.shapes(size), field="latents", dtype=spec.dtype)
    rows = next(iter(fitted.values())).shape[0]
    _check_answer(rows, size)
    return {name: generator.place(torch.from_numpy(array)) for name, array in fitted.items()}


def _size_from(generator: Generator, latents: dict[str, np.ndarray]) -> tuple[int, int]:
    with at("latents"):
        try:
            tensors = {name: torch.from_numpy(np.asarray(array, dtype=np.float32)) for name, array in latents.items()}
            return generator.picture_size(tensors)
        except (IndexError, ValueError, TypeError) as error:
            raise LatentsError("their shape tells no picture size") from error


def _sample(spec: specs.SampleSpec, catalogue: Catalogue) -> Work:
    kind = catalogue.find(spec.generator)
    if spec.space and spec.space not in kind.spaces:
        raise unknown_name("space", spec.space, list(kind.spaces), field="space")
    generator = catalogue.at(spec.generator, spec.dtype, catalogue.precision_of(spec))
    size = generator.resolve_size(spec.height, spec.width)
    space = generator.resolve_space(spec.space)
    _check_answer(len(spec.seeds), size)
    conditions = given(generator.spaces[space], spec.conditions, spec.fixed, size, searched=True)
    warnings: list[str] = []

    def work() -> Work:
        latents = generator.sample(spec.seeds, space, size)
        for name, part in conditions.items():
            latents[name] = generator.place(part).expand_as(latents[name]).contiguous()
        images = yield from decode_all(generator, latents, warnings)
        return Sampled(
            generator=spec.generator,
            space=space,
            weights_sha256=generator.weights_sha256,
            seeds=spec.seeds,
            latents={name: tensor.cpu().numpy() for name, tensor in latents.items()},
            images=images,
            scaling=generator.scaling(),
            precision=generator.precision,
            warnings=tuple(warnings),
        )

    return work()


def _encode(spec: specs.EncodeSpec, catalogue: Catalogue) -> Work:
    kind = catalogue.find(spec.generator)
    if not catalogue.has_encoder(spec.generator):
        text = f'"{spec.generator}" has no encoder; invert finds latents without one'
        raise UnsupportedError(text, field="generator")
    picture, visible = fit_picture(kind, spec.picture, spec.crop)
    precision = catalogue.precision_of(spec)
    generator = catalogue.at(spec.generator, spec.dtype, precision)
    space = generator.resolve_space(spec.space)
    encoder = catalogue.encoder(spec.generator, spec.dtype, precision)
    if encoder is None or encoder.space_name not in (space, *generator.routes.get(space, ())):
        finds = "nothing" if encoder is None else f"latents of {encoder.space_name}"
        raise UnsupportedError(f"the encoder finds {finds}, found {space}", field="space")

    warnings: list[str] = []

    def look(seeing: PictureEncoder, generator: Generator) -> Latents:
        with torch.no_grad():
            draw = seeing.space.sample((picture.height, picture.width), stream(0, "encode"))
            _, fixed = split(draw, seeing.space.searched)
            latents = {
                **{name: generator.place(part) for name, part in fixed.items()},
                **seeing.see(picture, specs.Encoder().passes, fixed),
            }
            return latents if seeing.space_name == space else generator.lift(latents, space)

    def work() -> Work:
        latents = look(encoder, generator)
        if generator.is_half and not _finite(latents):
            exact = catalogue.encoder(spec.generator, spec.dtype) or encoder
            latents = look(exact, generator.full)
            warnings.append(f"the encoder gave values that are not finite in {precision}, and looked again in float32")
        if not _finite(latents):
            raise InternalError(f"the encoder of {spec.generator} gave no finite latents")
        image = (yield from decode_all(generator, latents, warnings))[0, :, : visible[0], : visible[1]]
        arrays = {name: tensor.cpu().numpy() for name, tensor in latents.items()}
        return Encoded(
            spec.generator, space, generator.weights_sha256, arrays, image, generator.precision, tuple(warnings)
        )

    return work()


def _describe(spec: specs.DescribeSpec, catalogue: Catalogue) -> Work:
    kinds = [catalogue.find(spec.generator)] if spec.generator else []

    def work() -> Work:
        for name in catalogue.table if not spec.generator else ():
            try:
                kinds.append(catalogue.find(name))
            except AssetError as error:
                # One that is away must not hide the others; who asks for it by name hears why.
                logger.warning("the generator %s cannot be opened: %s", name, error)
            yield
        return Described(tuple(kind.info() for kind in kinds))

    return work()


def _finite(latents: Latents) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in latents.values())


def _reside(spec: specs.ResidenceSpec, catalogue: Catalogue) -> Work:
    freed = catalogue.unload(spec.generator) if spec.action == "unload" else 0
    if spec.action == "load":
        catalogue.at(spec.generator, spec.dtype, catalogue.precision_of(spec))

    def work() -> Work:
        yield
        return Residents(catalogue.loaded, catalogue.budget or 0, freed)

    return work()


def decode_all(
    generator: Generator, latents: Latents, warnings: list[str] | None = None
) -> Pieces[None, None, np.ndarray]:
    """Pictures of all rows, [n, 3, H, W] float32 in [-1, 1], a few rows at a time.

    Args:
        warnings: takes what is to be said of rows that were decoded again, as half precision was not enough for them.
    Raises:
        LatentsError: a picture is not finite.
    """
    rows = next(iter(latents.values())).shape[0]
    parts: list[Tensor] = []
    again: list[int] = []
    for first in range(0, rows, _CHUNK):
        chunk = {name: tensor[first : first + _CHUNK] for name, tensor in latents.items()}
        # Around the call alone: a piece that gives way must not switch gradients off for others.
        with torch.no_grad():
            images = generator(chunk).float()
            if generator.is_half:
                bad = (~torch.isfinite(images).flatten(1).all(dim=1)).nonzero()[:, 0]
                if len(bad):
                    images[bad] = generator.full({name: tensor[bad] for name, tensor in chunk.items()}).float()
                    again += [first + row for row in bad.tolist()]
        parts.append(images)
        yield
    if again and warnings is not None:
        said = ", ".join(map(str, again))
        warnings.append(f"{generator.precision} gave values that are not finite, so decoded in float32: rows {said}")
    images = torch.cat(parts)
    if not bool(torch.isfinite(images).all()):
        raise LatentsError("these latents decode to a picture with values that are not finite", field="latents")
    return images.clamp(-1, 1).cpu().numpy()


def _check_answer(rows: int, size: tuple[int, int]) -> None:
    numbers = rows * 3 * size[0] * size[1]
    if numbers > MAX_ANSWER_NUMBERS:
        found = f"{rows} pictures of {size[1]} × {size[0]} are {numbers}"
        raise LimitError(f"at most {MAX_ANSWER_NUMBERS} numbers in one answer, {found}; ask for fewer at once")


def cancelled() -> CancelledError:
    """The error of a request that was cancelled before it was done."""
    return CancelledError("the request was cancelled before it was begun")
