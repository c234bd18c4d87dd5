"""What is asked for: messages → specs, and specs → messages."""

from __future__ import annotations

from typing import Any

from latent_inv import spec as specs
from latent_inv.errors import at
from latent_inv.images import Limits, with_weight
from latent_inv.v1 import data_pb2, generator_service_pb2, job_pb2

from .settings import read_component, read_fields, read_optional, write_component, write_fields
from .tensors import image_from, latents_from, latents_to

#: components of a job that are one oneof each: field → table
COMPONENTS = {
    "observation": specs.OBSERVATIONS,
    "solver": specs.SOLVERS,
    "initialiser": specs.INITIALISERS,
}
#: oneof field → what it carries beside plain fields
_SPECIAL = {"given": lambda message: {"latents": latents_from(message.latents)}}


def job_spec(message: job_pb2.JobSpec, limits: Limits = Limits()) -> specs.JobSpec:
    """A job, with its picture decoded; every range is checked.

    Raises:
        LatentInvError: what is wrong, with the path of the field.
    """
    values: dict[str, Any] = read_fields(message, specs.JobSpec)
    for name, table in COMPONENTS.items():
        if message.HasField(name):
            with at(name):
                values[name] = read_component(getattr(message, name), table, _SPECIAL)
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
    values["crop"] = crop_from(message)
    # Last, since decoding a picture costs more than all other checks together.
    picture = image_from(message.image, limits=limits, field="image")
    if message.HasField("weight"):
        picture = with_weight(picture, image_from(message.weight, limits=limits, field="weight"))
    return specs.JobSpec(picture=picture, **values)


def job_message(spec: specs.JobSpec, image: data_pb2.Image, weight: data_pb2.Image | None = None) -> job_pb2.JobSpec:
    """The message of a job; its pictures go as they are given, not as `spec.picture`."""
    message = job_pb2.JobSpec(image=image, weight=weight)
    write_fields(spec, message)
    for name, table in COMPONENTS.items():
        settings = getattr(spec, name)
        inner: Any = write_component(settings, getattr(message, name), table)
        if isinstance(settings, specs.Given):
            inner.latents.CopyFrom(latents_to(settings.latents))
    for loss in spec.losses:
        write_component(loss, message.losses.add(), specs.LOSSES)
    write_fields(spec.budget, message.budget)
    write_fields(spec.reporting, message.reporting)
    if spec.crop is not None:
        message.crop.CopyFrom(crop_to(spec.crop))
    return message


def crop_from(message: job_pb2.JobSpec | generator_service_pb2.EncodeRequest) -> tuple[int, int, int, int] | None:
    """The crop box of a request; whether it is inside the picture is checked with the picture."""
    if not message.HasField("crop"):
        return None
    return message.crop.left, message.crop.top, message.crop.right, message.crop.bottom


def crop_to(crop: tuple[int, int, int, int]) -> data_pb2.Box:
    """The message of a crop box."""
    return data_pb2.Box(left=crop[0], top=crop[1], right=crop[2], bottom=crop[3])


def sample_spec(message: generator_service_pb2.SampleRequest) -> specs.SampleSpec:
    """Raises: SpecError: a value is out of its range."""
    return specs.SampleSpec(seeds=tuple(message.seeds) or (0,), **read_fields(message, specs.SampleSpec))


def decode_spec(message: generator_service_pb2.DecodeRequest) -> specs.DecodeSpec:
    """Raises: LatentInvError: a value is out of its range, or a tensor does not fit its bytes."""
    with at("latents"):
        latents = latents_from(message.latents)
    return specs.DecodeSpec(latents=latents, **read_fields(message, specs.DecodeSpec))


def encode_spec(message: generator_service_pb2.EncodeRequest, limits: Limits = Limits()) -> specs.EncodeSpec:
    """Raises: LatentInvError: a value is out of its range, or the picture cannot be taken."""
    values = read_fields(message, specs.EncodeSpec)
    picture = image_from(message.image, limits=limits, field="image")
    return specs.EncodeSpec(picture=picture, crop=crop_from(message), **values)
