"""What is asked for: messages → specs, and specs → messages."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from latent_inv import spec as specs
from latent_inv.errors import ImageError, SpecError, at
from latent_inv.images import Limits
from latent_inv.v1 import components_pb2, data_pb2, generator_service_pb2, job_pb2

from .settings import read_component, read_fields, read_optional, write_component, write_fields
from .tensors import Contents, image_from, latents_from, latents_to, weighted

#: components of a job that are one oneof each: field → table
COMPONENTS = {
    "observation": specs.OBSERVATIONS,
    "solver": specs.SOLVERS,
    "initialiser": specs.INITIALISERS,
}


def _given(message: components_pb2.Given) -> dict[str, Any]:
    with at("latents"):
        return {"latents": latents_from(message.latents)}


#: oneof field → what it carries beside plain fields
_SPECIAL = {"given": _given}


def job_spec(message: job_pb2.JobSpec, limits: Limits = Limits(), contents: Contents | None = None) -> specs.JobSpec:
    """A job, with its picture decoded; every range is checked.

    Args:
        contents: of pictures that are told by hash; None: there are none.
    Raises:
        LatentInvError: what is wrong, with the path of the field.
    """
    values: dict[str, Any] = read_fields(message, specs.JobSpec)
    for name, table in COMPONENTS.items():
        if message.HasField(name):
            with at(name):
                values[name] = read_component(getattr(message, name), table, _SPECIAL)
    if len(message.losses) > len(specs.LOSSES):
        found = f"at most {len(specs.LOSSES)} losses, one of a kind, found {len(message.losses)}"
        raise SpecError(found, field="losses")
    losses = []
    for index, loss in enumerate(message.losses):
        with at(f"losses[{index}]"):
            losses.append(read_component(loss, specs.LOSSES, _SPECIAL))
    if losses:
        values["losses"] = tuple(losses)
    for name, kind in (("budget", specs.Budget), ("reporting", specs.Reporting)):
        given = read_optional(message, name, kind)
        if given is not None:
            values[name] = given
    values["crop"], values["fixed"] = crop_from(message), _fixed(message)
    # Last, since decoding a picture costs more than all other checks together.
    picture = image_from(message.image, limits=limits, field="image", contents=contents)
    if message.HasField("weight"):
        picture = weighted(picture, message.weight, limits=limits, field="weight", contents=contents)
    return specs.JobSpec(picture=picture, **values)


def job_message(spec: specs.JobSpec, image: data_pb2.Image, weight: data_pb2.Image | None = None) -> job_pb2.JobSpec:
    """The message of a job; its pictures go as they are given, not as `spec.picture`."""
    message = job_pb2.JobSpec(image=image, weight=weight)
    write_fields(spec, message)
    for name, table in COMPONENTS.items():
        settings = getattr(spec, name)
        inner: Any = write_component(settings, getattr(message, name), table)
        if isinstance(settings, specs.Given):
            with at(name):
                inner.latents.CopyFrom(latents_to(settings.latents))
    for loss in spec.losses:
        write_component(loss, message.losses.add(), specs.LOSSES)
    write_fields(spec.budget, message.budget)
    write_fields(spec.reporting, message.reporting)
    if spec.crop is not None:
        message.crop.CopyFrom(crop_to(spec.crop))
    _set_fixed(message, spec)
    return message


def _fixed(message: job_pb2.JobSpec | generator_service_pb2.SampleRequest) -> dict[str, Any]:
    with at("fixed"):
        return latents_from(message.fixed)


def _set_fixed(
    message: job_pb2.JobSpec | generator_service_pb2.SampleRequest, spec: specs.JobSpec | specs.SampleSpec
) -> None:
    if spec.fixed:
        with at("fixed"):
            message.fixed.CopyFrom(latents_to(spec.fixed))


def crop_from(message: job_pb2.JobSpec | generator_service_pb2.EncodeRequest) -> tuple[int, int, int, int] | None:
    """The crop box of a request; whether it is inside the picture is checked with the picture."""
    if not message.HasField("crop"):
        return None
    return message.crop.left, message.crop.top, message.crop.right, message.crop.bottom


def crop_to(crop: tuple[int, int, int, int]) -> data_pb2.Box:
    """The message of a crop box.

    Raises:
        ImageError: not four whole numbers.
    """
    sides = list(crop) if isinstance(crop, (tuple, list)) else []
    if len(sides) != 4 or not all(isinstance(side, Integral) and abs(side) < 2**31 for side in sides):
        text = f"must be four whole numbers (left, top, right, bottom), found {str(crop)[:80]}"
        raise ImageError(text, field="crop")
    left, top, right, bottom = map(int, sides)
    return data_pb2.Box(left=left, top=top, right=right, bottom=bottom)


def sample_spec(message: generator_service_pb2.SampleRequest) -> specs.SampleSpec:
    """Draws from the prior.

    Raises:
        SpecError: a value is out of its range.
    """
    # Counted before they are copied, as a message has room for millions.
    if len(message.seeds) > specs.MAX_SAMPLES:
        raise SpecError(f"1 to {specs.MAX_SAMPLES} seeds are accepted, found {len(message.seeds)}", field="seeds")
    values = read_fields(message, specs.SampleSpec)
    if message.seeds:
        values["seeds"] = tuple(message.seeds)
    values["fixed"] = _fixed(message)
    return specs.SampleSpec(**values)


def sample_message(spec: specs.SampleSpec) -> generator_service_pb2.SampleRequest:
    """The inverse of `sample_spec`."""
    message = generator_service_pb2.SampleRequest(seeds=spec.seeds)
    write_fields(spec, message)
    _set_fixed(message, spec)
    return message


def decode_spec(message: generator_service_pb2.DecodeRequest) -> specs.DecodeSpec:
    """Latents to pictures.

    Raises:
        LatentInvError: a value is out of its range, or a tensor does not fit its bytes.
    """
    with at("latents"):
        latents = latents_from(message.latents)
    return specs.DecodeSpec(latents=latents, **read_fields(message, specs.DecodeSpec))


def encode_spec(
    message: generator_service_pb2.EncodeRequest, limits: Limits = Limits(), contents: Contents | None = None
) -> specs.EncodeSpec:
    """Picture to latents; `contents` as in `job_spec`.

    Raises:
        LatentInvError: a value is out of its range, or the picture cannot be taken.
    """
    values = read_fields(message, specs.EncodeSpec)
    picture = image_from(message.image, limits=limits, field="image", contents=contents)
    return specs.EncodeSpec(picture=picture, crop=crop_from(message), **values)


def decode_message(spec: specs.DecodeSpec) -> generator_service_pb2.DecodeRequest:
    """The inverse of `decode_spec`."""
    message = generator_service_pb2.DecodeRequest(latents=latents_to(spec.latents))
    write_fields(spec, message)
    return message


def encode_message(spec: specs.EncodeSpec, image: data_pb2.Image) -> generator_service_pb2.EncodeRequest:
    """The inverse of `encode_spec`; the picture goes as it is given, not as `spec.picture`."""
    message = generator_service_pb2.EncodeRequest(image=image)
    write_fields(spec, message)
    if spec.crop is not None:
        message.crop.CopyFrom(crop_to(spec.crop))
    return message
