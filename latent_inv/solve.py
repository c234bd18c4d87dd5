"""`invert` and its companions, in this process: the engine's loop and nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .ask import choose_generator, choose_start, given_latents, with_shortcuts
from .device import DTYPES, place
from .engine.engine import Engine
from .errors import InternalError
from .generators import GENERATORS, open_table
from .generators.base import LoadProgress
from .images import Picture, load, with_weight
from .latents import LatentsFile
from .outline import fit_job
from .perceptual import load_metric
from .result import Decoded, Encoded, Event, Finished, GeneratorInfo, JobResult, Preview, Progress, Sampled
from .settings import Settings
from .spec import (
    DEFAULT_GENERATOR,
    DEFAULT_LOSSES,
    Auto,
    Budget,
    DecodeSpec,
    EncodeSpec,
    Identity,
    JobSpec,
    Reporting,
    SampleSpec,
    Spec,
)

Latents = Mapping[str, np.ndarray]


def invert(
    image: Any,
    generator: str = "",
    *,
    space: str = "",
    crop: tuple[int, int, int, int] | None = None,
    weight: Any = None,
    value_range: tuple[float, float] | None = None,
    start: str | Path | bytes | Latents | JobResult | None = None,
    perceptual: str = "stlpips-alex",
    losses: Sequence[Settings] = DEFAULT_LOSSES,
    observation: Settings = Identity(),
    solver: Settings = Auto(),
    initialiser: Settings | None = None,
    encoder: str | Path | None = None,
    budget: Budget = Budget(),
    reporting: Reporting = Reporting(),
    steps: int | None = None,
    seconds: float | None = None,
    target_lpips: float | None = None,
    target_psnr_db: float | None = None,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "float32",
    precision: str = "auto",
    threads: int | None = None,
    lane_width: int = 0,
    conditions: Mapping[str, Any] | str = "",
    on_progress: Callable[[Progress], None] | None = None,
    on_preview: Callable[[Preview], None] | None = None,
    on_load: LoadProgress | None = None,
    stop: Callable[[], bool] | None = None,
) -> JobResult:
    """Find latents of `generator` whose picture is `image`.

    Args:
        image: a path, encoded bytes, a PIL image, an array or a tensor; see `images.load`.
        generator: its name or reference; empty: that of `start`, or "photos".
        crop: (left, top, right, bottom) in pixels of the upright picture; None takes the largest centred part.
        weight: how much each pixel counts, [H, W] in 0 … 1 (or a grey picture: white counts); of the size of `image`.
        value_range: of a float array: (-1, 1), (0, 1) or (0, 255).
        start: latents to start from: a saved file, a mapping, or an earlier result. Excludes `initialiser`.
        encoder: file of `latent-inv train-encoder`, in the place of the generator's own encoder.
        steps, seconds, target_lpips, target_psnr_db: short for the fields of `budget`.
        device: "auto", "cpu", "cuda", "cuda:N", "mps".
        precision: number format of the network, "auto", "float32", "bfloat16" or "float16"; "auto" is that of `dtype`.
        threads: CPU threads of torch, for the whole process; None leaves them as they are.
        conditions: fixed parts that are given, part -> label, number or array, such as {"class": "blue"} or {"text":
            embedding}; else they are drawn.
        on_progress: called after each step that is reported.
        on_load: called while weights are downloaded.
        stop: asked between steps; once it says True, the best so far is returned as "cancelled".
    Returns:
        The result; its `outcome` says how the search ended. Call `.save(folder)` or `.show()` on it.
    Raises:
        LatentInvError: what was wrong, with the field, what was found, and what is accepted.
    """
    spec = make_spec(
        image,
        generator,
        space=space,
        crop=crop,
        weight=weight,
        value_range=value_range,
        start=start,
        perceptual=perceptual,
        losses=losses,
        observation=observation,
        solver=solver,
        initialiser=initialiser,
        budget=with_shortcuts(
            budget, steps=steps, seconds=seconds, target_lpips=target_lpips, target_psnr_db=target_psnr_db
        ),
        reporting=reporting,
        seed=seed,
        dtype=dtype,
        precision=precision,
        lane_width=lane_width,
        conditions=conditions,
    )
    engine = Engine(open_table(), place(device, threads), encoders={spec.generator: Path(encoder)} if encoder else None)
    fit_job(spec, engine.catalogue.find(spec.generator))  # before anything is downloaded
    engine.catalogue.load(spec.generator, spec.dtype, on_load)
    load_metric(perceptual, place(device).torch_device, DTYPES[spec.dtype], on_load)

    def tell(event: Event) -> None:
        if on_progress is not None and isinstance(event, Progress):
            on_progress(event)
        if on_preview is not None and isinstance(event, Preview):
            on_preview(event)

    result: JobResult = run(engine, spec, tell, stop)
    return result


def make_spec(
    image: Any,
    generator: str = "",
    *,
    weight: Any = None,
    value_range: tuple[float, float] | None = None,
    start: Any = None,
    initialiser: Settings | None = None,
    **settings: Any,
) -> JobSpec:
    """The `JobSpec` of `invert`'s arguments, with pictures and latents loaded; `settings` are its other fields."""
    generator = choose_generator(generator, start)
    picture = load(image, value_range=value_range)
    if weight is not None:
        picture = with_weight(picture, weight)
    chosen, warnings = choose_start(start, initialiser, generator, lambda: _info(generator), settings.get("space", ""))
    if warnings:
        picture = dataclasses.replace(picture, warnings=picture.warnings + warnings)
    return JobSpec(picture=picture, generator=generator, initialiser=chosen, **settings)


def _info(generator: str) -> GeneratorInfo:
    return open_table().find(generator).info()


def decode(
    latents: str | Path | bytes | Latents | LatentsFile | JobResult,
    generator: str = "",
    *,
    device: str = "auto",
    dtype: str = "float32",
    precision: str = "auto",
    threads: int | None = None,
) -> Decoded:
    """Pictures of latents: part -> [n, …], a saved file, or an earlier result; without `generator`, of what they are.

    Raises:
        LatentsError: they are of another generator, or do not fit it.
    """
    generator = choose_generator(generator, latents)
    given, _ = given_latents(latents, generator, lambda: _info(generator))
    answer: Decoded = run(
        _engine(device, threads), DecodeSpec(latents=given, generator=generator, dtype=dtype, precision=precision)
    )
    return answer


def sample(
    seeds: int | Sequence[int] = (0,),
    generator: str = "faces",
    *,
    space: str = "",
    height: int = 0,
    width: int = 0,
    conditions: Mapping[str, Any] | str = "",
    device: str = "auto",
    dtype: str = "float32",
    precision: str = "auto",
    threads: int | None = None,
) -> Sampled:
    """Draw latents from the prior and decode them, one a seed."""
    chosen = (seeds,) if isinstance(seeds, int) else tuple(seeds)
    settings: dict[str, Any] = {"space": space, "height": height, "width": width, "dtype": dtype}
    settings |= {"precision": precision, "conditions": conditions}
    spec = SampleSpec(seeds=chosen, generator=generator, **settings)
    answer: Sampled = run(_engine(device, threads), spec)
    return answer


def encode(
    image: Any,
    generator: str = DEFAULT_GENERATOR,
    *,
    space: str = "",
    crop: tuple[int, int, int, int] | None = None,
    value_range: tuple[float, float] | None = None,
    device: str = "auto",
    dtype: str = "float32",
    precision: str = "auto",
    threads: int | None = None,
) -> Encoded:
    """Latents in one pass of the generator's encoder.

    Raises:
        UnsupportedError: it has none.
    """
    picture: Picture = load(image, value_range=value_range)
    spec = EncodeSpec(picture=picture, generator=generator, space=space, crop=crop, dtype=dtype, precision=precision)
    answer: Encoded = run(_engine(device, threads), spec)
    return answer


def list_generators() -> tuple[GeneratorInfo, ...]:
    """What can be inverted here."""
    return tuple(kind.info() for kind in GENERATORS.values())


def _engine(device: str, threads: int | None) -> Engine:
    return Engine(open_table(), place(device, threads))


def run(
    engine: Engine,
    spec: Spec,
    tell: Callable[[Event], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Any:
    """Submit one request and poll until it is done.

    Raises:
        LatentInvError: it was refused, or could not be done.
    """
    engine.submit("job", spec)
    while not engine.idle:
        if stop is not None and stop():
            engine.cancel("job")
        for event in engine.poll():
            if isinstance(event, Finished):
                if event.error is not None:
                    raise event.error
                return event.result
            if tell is not None:
                tell(event)
    raise InternalError("the engine stopped without a result")
