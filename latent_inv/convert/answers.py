"""What comes back: results and events ⇄ messages."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from latent_inv.images import Picture, encode_png
from latent_inv.result import (
    Decoded,
    Encoded,
    GeneratorInfo,
    JobResult,
    Metrics,
    Outcome,
    Preview,
    Progress,
    Sampled,
    Step,
)
from latent_inv.scaling import Scaling
from latent_inv.v1 import data_pb2, generator_service_pb2, job_pb2

from .settings import enum_name, enum_number
from .tensors import array_from, array_to, latents_from, latents_to

_OUTCOME, _DTYPE = job_pb2.Outcome.DESCRIPTOR, data_pb2.Dtype.DESCRIPTOR
#: fields of JobResult that have the same name and kind on both sides
_SAME = [
    *("message", "generator", "space", "weights_sha256", "perceptual", "perceptual_sha256", "loss", "steps"),
    *("best_step", "seconds", "seed", "lane_width", "device", "budget", "precision"),
]


def _copy(message: Any, names: list[str]) -> dict[str, Any]:
    return {name: getattr(message, name) for name in names}


def metrics_to(value: Metrics) -> job_pb2.Metrics:
    """The message of metrics."""
    return job_pb2.Metrics(psnr_db=value.psnr_db, lpips=value.lpips, mse=value.mse)


def metrics_from(message: job_pb2.Metrics) -> Metrics:
    """The inverse of `metrics_to`."""
    return Metrics(message.psnr_db, message.lpips if message.HasField("lpips") else None, message.mse)


def step_to(value: Step) -> job_pb2.Step:
    """The message of a step."""
    return job_pb2.Step(
        step=value.step,
        loss=value.loss,
        terms=dict(value.terms),
        metrics=metrics_to(value.metrics),
        seconds=value.seconds,
    )


def step_from(message: job_pb2.Step) -> Step:
    """The inverse of `step_to`."""
    return Step(message.step, message.loss, dict(message.terms), metrics_from(message.metrics), message.seconds)


def progress_to(value: Progress) -> job_pb2.Progress:
    """The message of progress, without its job and sequence number."""
    return job_pb2.Progress(
        latest=step_to(value.latest),
        total_steps=value.total_steps,
        best_step=value.best_step,
        best_loss=value.best_loss,
        best=metrics_to(value.best),
        rows=value.rows,
        seconds_left=value.seconds_left,
    )


def progress_from(message: job_pb2.Progress, job_id: str, sequence: int) -> Progress:
    """The inverse of `progress_to`."""
    return Progress(
        job_id,
        sequence,
        latest=step_from(message.latest),
        total_steps=message.total_steps,
        best_step=message.best_step,
        best_loss=message.best_loss,
        best=metrics_from(message.best),
        rows=message.rows,
        seconds_left=message.seconds_left if message.HasField("seconds_left") else None,
    )


def preview_to(value: Preview) -> job_pb2.Preview:
    """The message of a preview; the picture as a quick PNG."""
    return job_pb2.Preview(step=value.step, png=encode_png(value.image, level=1))


def preview_from(message: job_pb2.Preview, job_id: str, sequence: int) -> Preview:
    """The inverse of `preview_to`."""
    from PIL import Image

    with Image.open(io.BytesIO(message.png), formats=["PNG"]) as image:
        return Preview(job_id, sequence, step=message.step, image=np.asarray(image.convert("RGB")))


def result_to(value: JobResult) -> job_pb2.JobResult:
    """The message of a result."""
    weight = value.target.weight
    return job_pb2.JobResult(
        outcome=enum_number(_OUTCOME, value.outcome.name, "outcome"),  # type: ignore[arg-type]
        metrics=metrics_to(value.metrics),
        dtype=enum_number(_DTYPE, value.dtype, "dtype"),  # type: ignore[arg-type]
        latents=latents_to(value.latents),
        image=array_to(value.image),
        target=array_to(value.target.pixels),
        target_weight=None if weight is None else array_to(weight),
        history=[step_to(step) for step in value.history],
        settings_json=json.dumps(dict(value.settings)),
        picked_json=json.dumps(dict(value.picked)),
        typicality=dict(value.typicality),
        labels=dict(value.labels),
        versions=dict(value.versions),
        warnings=value.warnings,
        scaling=_scaling_to(value.scaling),
        **_copy(value, _SAME),
    )


def result_from(message: job_pb2.JobResult) -> JobResult:
    """The inverse of `result_to`."""
    weight = array_from(message.target_weight).copy() if message.HasField("target_weight") else None
    return JobResult(
        outcome=Outcome[enum_name(_OUTCOME, message.outcome, "outcome")],
        metrics=metrics_from(message.metrics),
        dtype=enum_name(_DTYPE, message.dtype, "dtype"),
        latents=_copies(latents_from(message.latents)),
        image=array_from(message.image).copy(),
        target=Picture(array_from(message.target).copy(), weight),
        history=tuple(step_from(step) for step in message.history),
        settings=json.loads(message.settings_json or "{}"),
        picked=json.loads(message.picked_json or "{}"),
        typicality=dict(message.typicality),
        labels=dict(message.labels),
        versions=dict(message.versions),
        warnings=tuple(message.warnings),
        scaling=_scaling_from(message),
        **_copy(message, _SAME),
    )


def _scaling_to(value: Scaling | None) -> data_pb2.Scaling | None:
    return None if value is None else data_pb2.Scaling(factor=value.factor, shift=value.shift, scaled=value.scaled)


def _scaling_from(message: Any) -> Scaling | None:
    """Of a message with a field of that name."""
    if not message.HasField("scaling"):
        return None
    return Scaling(tuple(message.scaling.factor), tuple(message.scaling.shift), message.scaling.scaled)


def _copies(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Own, writable arrays in the place of views into a message."""
    return {name: array.copy() for name, array in arrays.items()}


def info_to(value: GeneratorInfo) -> generator_service_pb2.Generator:
    """The message of a generator's description."""
    height, width = value.size or (0, 0)
    spaces = {
        name: generator_service_pb2.LatentSpace(
            parts={part: generator_service_pb2.LatentPart(**entry) for part, entry in parts.items()}
        )
        for name, parts in value.spaces.items()
    }
    return generator_service_pb2.Generator(
        height=height,
        width=width,
        spaces=spaces,
        stages=value.stages,
        licence=value.licence,
        halves=value.halves,
        scaling=_scaling_to(value.scaling),
        **_copy(value, _INFO),
    )


_INFO = [
    *("name", "title", "stride", "default_space", "differentiable", "forward_mode", "has_encoder"),
    *("weights_sha256", "source"),
]


def info_from(message: generator_service_pb2.Generator) -> GeneratorInfo:
    """The inverse of `info_to`."""
    spaces = {
        name: {
            part: {
                "shape": list(entry.shape),
                "prior": entry.prior,
                "constraint": entry.constraint,
                "role": entry.role,
                **({"labels": list(entry.labels)} if entry.labels else {}),
            }
            for part, entry in space.parts.items()
        }
        for name, space in message.spaces.items()
    }
    return GeneratorInfo(
        size=(message.height, message.width) if message.height else None,
        spaces=spaces,
        stages=tuple(message.stages),
        licence=tuple(message.licence),
        halves=tuple(message.halves),
        scaling=_scaling_from(message),
        **_copy(message, _INFO),
    )


def sampled_to(value: Sampled) -> generator_service_pb2.SampleResponse:
    """The message of draws."""
    return generator_service_pb2.SampleResponse(
        seeds=value.seeds,
        latents=latents_to(value.latents),
        images=array_to(value.images),
        scaling=_scaling_to(value.scaling),
        warnings=value.warnings,
        **_copy(value, ["generator", "space", "weights_sha256", "precision"]),
    )


def sampled_from(message: generator_service_pb2.SampleResponse) -> Sampled:
    """The inverse of `sampled_to`."""
    return Sampled(
        seeds=tuple(message.seeds),
        latents=_copies(latents_from(message.latents)),
        images=array_from(message.images).copy(),
        scaling=_scaling_from(message),
        warnings=tuple(message.warnings),
        **_copy(message, ["generator", "space", "weights_sha256", "precision"]),
    )


def encoded_to(value: Encoded) -> generator_service_pb2.EncodeResponse:
    """The message of an encoder's answer."""
    return generator_service_pb2.EncodeResponse(
        latents=latents_to(value.latents),
        image=array_to(value.image),
        warnings=value.warnings,
        **_copy(value, ["generator", "space", "weights_sha256", "precision"]),
    )


def encoded_from(message: generator_service_pb2.EncodeResponse) -> Encoded:
    """The inverse of `encoded_to`."""
    return Encoded(
        latents=_copies(latents_from(message.latents)),
        image=array_from(message.image).copy(),
        warnings=tuple(message.warnings),
        **_copy(message, ["generator", "space", "weights_sha256", "precision"]),
    )


def decoded_to(value: Decoded) -> generator_service_pb2.DecodeResponse:
    """The message of pictures."""
    return generator_service_pb2.DecodeResponse(
        images=array_to(value.images),
        warnings=value.warnings,
        **_copy(value, ["generator", "weights_sha256", "precision"]),
    )


def decoded_from(message: generator_service_pb2.DecodeResponse) -> Decoded:
    """The inverse of `decoded_to`."""
    return Decoded(
        images=array_from(message.images).copy(),
        warnings=tuple(message.warnings),
        **_copy(message, ["generator", "weights_sha256", "precision"]),
    )
