"""What is asked of every picture of a folder, checked once before the first, and its hash. No torch."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from latent_inv.ask import choose_generator, with_shortcuts
from latent_inv.errors import SpecError, at, unknown_name
from latent_inv.files import read_bytes
from latent_inv.images import Limits, Picture, load
from latent_inv.latents import LatentsFile, load_latents
from latent_inv.result import JobResult
from latent_inv.settings import plain
from latent_inv.spec import Auto, Budget, Given, JobSpec

_STAND_IN = Picture(np.zeros((3, 1, 1), np.float32))
_SHORTCUTS = ("steps", "seconds", "target_lpips", "target_psnr_db")
#: fields of a job that a folder has no say in
_OWN = ("picture", "priority", "reporting")
_MAX_FILE_BYTES = 2**30


@dataclass(frozen=True)
class Question:
    """What is asked of every picture.

    Attributes:
        spec: of a job with another picture, and without saved latents to start from.
        arguments: those of `solve.make_spec` and `client.jobs.create` beside the picture.
        digest: sha256 of all that decides the answer beside the picture; not of where it is done.
    """

    spec: JobSpec
    arguments: Mapping[str, Any]
    digest: str


def ask(
    generator: str = "",
    *,
    weight: Any = None,
    start: Any = None,
    initialiser: Any = None,
    encoder: str | os.PathLike[str] | None = None,
    budget: Budget = Budget(),
    **settings: Any,
) -> Question:
    """Check the arguments of `invert_folder` that are those of `invert`, and read the files that they name.

    Raises:
        LatentInvError: the field, what was found, and what is accepted.
    """
    known = [item.name for item in dataclasses.fields(JobSpec) if item.name not in _OWN]
    for name in settings:
        if name not in (*known, *_SHORTCUTS):
            raise unknown_name("argument", name, [*known, *_SHORTCUTS], field=name)
    if start is not None and initialiser is not None:
        raise SpecError("start and initialiser exclude each other, found both", field="start")
    generator = choose_generator(generator, start)
    shortcuts = {name: settings.pop(name, None) for name in _SHORTCUTS}
    arguments = {
        "generator": generator,
        "budget": with_shortcuts(budget, **shortcuts),
        "priority": "bulk",
        **settings,
    }
    spec = JobSpec(picture=_STAND_IN, initialiser=initialiser or Auto(), **arguments)
    more: dict[str, str] = {}
    if start is not None:
        arguments["start"], more["start"] = _start(start)
    elif initialiser is not None:
        arguments["initialiser"] = initialiser
    if isinstance(initialiser, Given):
        more["start"] = _latents_digest(initialiser.latents)
    if weight is not None:
        arguments["weight"], more["weight"] = _weight(weight)
    if encoder is not None:
        with at("encoder"):
            more["encoder"] = hashlib.sha256(read_bytes(encoder, _MAX_FILE_BYTES)).hexdigest()
    asked = plain(spec)
    for name in _OWN:
        asked.pop(name, None)
    text = json.dumps({"spec": asked, **more}, sort_keys=True)
    return Question(spec, arguments, hashlib.sha256(text.encode()).hexdigest())


def with_weights(question: Question, weights_sha256: str) -> str:
    """The hash of a question to a generator with these weights: equal hashes have equal answers."""
    return hashlib.sha256(f"{question.digest} {weights_sha256}".encode()).hexdigest()


def _start(start: Any) -> tuple[Any, str]:
    if isinstance(start, JobResult):
        return start, _latents_digest(start.latents)
    if isinstance(start, Mapping):
        return start, _latents_digest(start)
    file = start if isinstance(start, LatentsFile) else load_latents(start)  # once, and not once a picture
    # The same numbers mean something else where they are scaled.
    state = "" if file.scaled is None else f" scaled {file.scaled}"
    return file, _latents_digest(file.latents) + state


def _weight(weight: Any) -> tuple[Any, str]:
    """The weight in a form that is read once, and its digest."""
    if isinstance(weight, (str, os.PathLike)):
        with at("weight"):
            weight = read_bytes(weight, Limits().max_bytes)
    if isinstance(weight, bytes):
        load(weight, field="weight")  # what is wrong with it is wrong for every picture
        return weight, hashlib.sha256(weight).hexdigest()
    array = np.ascontiguousarray(np.asarray(weight))
    return weight, _array_digest({"weight": array})


def _latents_digest(latents: Mapping[str, Any]) -> str:
    return _array_digest({name: np.ascontiguousarray(np.asarray(array)) for name, array in latents.items()})


def _array_digest(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(json.dumps([name, array.dtype.str, list(array.shape)]).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
