"""What both clients share: arguments → requests, messages → values, failed calls → typed errors."""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import grpc
import numpy as np
from PIL import Image

from latent_inv import convert
from latent_inv.ask import choose_start, no_info, with_shortcuts
from latent_inv.convert.errors import error_from
from latent_inv.errors import DeadlineError, ImageError, LatentInvError, LimitError, UnavailableError, at, unknown_name
from latent_inv.images import Limits, Picture, load
from latent_inv.images.arrays import is_tensor
from latent_inv.images.load import read_file
from latent_inv.result import GeneratorInfo, JobResult, Preview, Progress
from latent_inv.settings import Settings
from latent_inv.spec import Budget, DecodeSpec, EncodeSpec, JobSpec, SampleSpec
from latent_inv.v1 import data_pb2, generator_service_pb2, inversion_service_pb2, job_service_pb2

from .artifact import Artifact

#: largest message both ways, unless the server says otherwise
MAX_MESSAGE_BYTES = 64 * 2**20
Event = Progress | Preview | JobResult
#: arguments of `invert` that are fields of its budget
SHORTCUTS = ("steps", "seconds", "target_lpips", "target_psnr_db")

#: how gRPC's texts begin where there was no connection; all others are of one that ended
_NO_CONNECTION = ("failed to connect", "errors resolving", "DNS resolution failed", "connections to all backends")

#: for specs on this side: the picture itself travels as it is, and is decoded by the server alone
_STAND_IN = Picture(np.zeros((3, 1, 1), np.float32))
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
#: modes that no format has → the same picture in one that has; Pillow 12 cannot read its own TIFFs of YCbCr
_FULL = {"La": "LA", "RGBa": "RGBA", "HSV": "RGB", "YCbCr": "RGB"}


def channel_options(max_message_bytes: int) -> list[tuple[str, int]]:
    """Options of a channel: message limits, and keepalive that servers accept."""
    return [
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # A server that is started anew is found within seconds; gRPC would wait for up to two minutes.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 5_000),
    ]


def image_message(image: Any, value_range: tuple[float, float] | None, field: str) -> data_pb2.Image:
    """A picture as it travels: files as they are, PIL images as files without loss, arrays and tensors as tensors.

    Raises:
        ImageError: it cannot be read. LimitError: the file is too large. SpecError: an unknown `value_range`.
    """
    with at(field):
        if isinstance(image, (bytes, bytearray, memoryview)):
            return convert.image_to(bytes(image), value_range)
        if isinstance(image, (str, os.PathLike)):
            return convert.image_to(read_file(image, Limits()), value_range)
        if isinstance(image, Image.Image):
            return convert.image_to(_pil_file(image), value_range)
        if isinstance(image, np.ndarray) or is_tensor(image):
            return convert.image_to(image, value_range)
        if isinstance(image, Artifact):
            return convert.uploaded_to(image.sha256, value_range)
        accepted = "a path, the bytes of a file, a PIL image, a numpy array, a torch tensor, an Artifact"
        raise ImageError(f"found {type(image).__name__}; accepted: {accepted}")


def _pil_file(image: Image.Image) -> bytes:
    """A PIL image as a PNG, or as a TIFF if its mode is none of PNG's, with orientation and profile."""
    try:
        plain = image.convert(_FULL[image.mode]) if image.mode in _FULL else image
        kind = "PNG" if plain.mode in _PNG_MODES else "TIFF"
        exif = image.info.get("exif")
        more = {"exif": exif} if isinstance(exif, bytes) else {}
        file = io.BytesIO()
        plain.save(file, kind, icc_profile=image.info.get("icc_profile"), **more)
        return file.getvalue()
    except Exception as error:  # damaged data makes decoders raise anything
        load(image, field="")  # which says in one sentence what is wrong with it
        raise ImageError(f"a PIL image of mode {image.mode} cannot be sent; convert it to RGB") from error


def invert_request(
    image: Any,
    generator: str,
    *,
    weight: Any,
    value_range: tuple[float, float] | None,
    start: Any,
    initialiser: Settings | None,
    budget: Budget,
    shortcuts: dict[str, Any],
    settings: dict[str, Any],
    info: Callable[[], GeneratorInfo] = no_info,
    request_id: str = "",
    detach: bool = False,
) -> tuple[inversion_service_pb2.InvertRequest, tuple[str, ...]]:
    """The request and warnings of `invert`'s arguments; ranges are checked here, before anything is sent.

    Raises:
        LatentInvError: an argument is wrong.
    """
    known = [item.name for item in dataclasses.fields(JobSpec) if item.name != "picture"]
    for name in settings:
        if name not in known:
            raise unknown_name("argument of a server's invert", name, known, field=name)
    chosen, warnings = choose_start(start, initialiser, generator, info, settings.get("space", ""))
    spec = JobSpec(
        picture=_STAND_IN,
        generator=generator,
        initialiser=chosen,
        budget=with_shortcuts(budget, **shortcuts),
        **settings,
    )
    mask = None if weight is None else image_message(weight, None, "weight")
    message = convert.job_message(spec, image_message(image, value_range, "image"), mask)
    return inversion_service_pb2.InvertRequest(spec=message, request_id=request_id, detach=detach), warnings


def create_request(
    image: Any,
    generator: str,
    arguments: dict[str, Any],
    *,
    request_id: str,
    labels: Mapping[str, str] | None,
    info: Callable[[], GeneratorInfo] = no_info,
) -> job_service_pb2.CreateJobRequest:
    """The request of a job of its own, of the same arguments as those of `invert`.

    Raises:
        LatentInvError: an argument is wrong.
    """
    named: dict[str, Any] = {"weight": None, "value_range": None, "start": None, "initialiser": None}
    named = {name: arguments.get(name, default) for name, default in {**named, "budget": Budget()}.items()}
    shortcuts = {name: arguments.get(name) for name in SHORTCUTS}
    request, _ = invert_request(
        image,
        generator,
        **named,
        shortcuts=shortcuts,
        settings={name: value for name, value in arguments.items() if name not in {*named, *shortcuts}},
        info=info,
    )
    return job_service_pb2.CreateJobRequest(spec=request.spec, request_id=request_id, labels=labels or {})


def sample_request(
    seeds: int | Sequence[int],
    generator: str,
    *,
    space: str,
    height: int,
    width: int,
    dtype: str,
    precision: str = "auto",
    conditions: Mapping[str, Any] | str = "",
) -> generator_service_pb2.SampleRequest:
    """The request of `sample`'s arguments.

    Raises:
        SpecError: one is out of its range.
    """
    chosen: Any = (seeds,) if isinstance(seeds, int) else seeds  # made a tuple, and checked, by SampleSpec
    settings: dict[str, Any] = {"space": space, "height": height, "width": width, "dtype": dtype}
    settings |= {"precision": precision, "conditions": conditions}
    spec = SampleSpec(seeds=chosen, generator=generator, **settings)
    return convert.sample_message(spec)


def decode_request(
    latents: Mapping[str, np.ndarray], generator: str, dtype: str, precision: str = "auto"
) -> generator_service_pb2.DecodeRequest:
    """The request of `decode`'s arguments.

    Raises:
        SpecError, LatentsError: one cannot be sent.
    """
    spec = DecodeSpec(latents=latents, generator=generator, dtype=dtype, precision=precision)
    return convert.decode_message(spec)


def encode_request(
    image: Any,
    generator: str,
    *,
    space: str,
    crop: tuple[int, int, int, int] | None,
    value_range: tuple[float, float] | None,
    dtype: str,
    precision: str = "auto",
) -> generator_service_pb2.EncodeRequest:
    """The request of `encode`'s arguments.

    Raises:
        SpecError, ImageError: one cannot be sent.
    """
    formats = {"dtype": dtype, "precision": precision}
    spec = EncodeSpec(picture=_STAND_IN, generator=generator, space=space, crop=crop, **formats)
    return convert.encode_message(spec, image_message(image, value_range, "image"))


def outsized(request: Any, pictures: Sequence[data_pb2.Image], limit: int) -> Iterator[data_pb2.Image]:
    """Files of pictures that a request over the message limit cannot hold, largest first. Each is to be uploaded, and
    its hash to take its place, before the next one is asked for.

    Raises:
        LimitError: the request is over the limit without them, too.
    """
    for picture in sorted(pictures, key=lambda each: len(each.encoded), reverse=True):
        if picture.encoded and request.ByteSize() > limit:
            yield picture
    check_size(request, limit)


def check_size(message: Any, limit: int) -> None:
    """Refuse a request that the server would refuse, before it is sent.

    Raises:
        LimitError: over the limit.
    """
    size = message.ByteSize()
    if size > limit:
        text = f"the request has {size} bytes, at most {limit} can be sent; use a smaller picture"
        raise LimitError(f"{text}, or raise max_message_bytes here and --max-message-mb there")


def read_event(
    message: inversion_service_pb2.InvertResponse, job_id: str, warnings: tuple[str, ...] = ()
) -> Event | None:
    """One message of the stream; None for what this version does not know. `warnings` join those of the result."""
    kind = message.WhichOneof("event")
    if kind == "progress":
        return convert.progress_from(message.progress, job_id, message.sequence)
    if kind == "preview":
        return convert.preview_from(message.preview, job_id, message.sequence)
    if kind == "result":
        result = convert.result_from(message.result)
        return dataclasses.replace(result, warnings=result.warnings + warnings)
    return None


def typed(error: grpc.RpcError, address: str) -> LatentInvError:
    """The error of a failed call as the server raised it; fields are named as the arguments here."""
    code = error.code().name if hasattr(error, "code") else "UNKNOWN"
    text = (error.details() if hasattr(error, "details") else "") or ""
    trailers: Any = error.trailing_metadata() if hasattr(error, "trailing_metadata") else None
    details = next((value for key, value in trailers or () if key == "grpc-status-details-bin"), None)
    if isinstance(details, bytes):
        typed = error_from(code, text, details)
        typed.field = typed.field.removeprefix("spec.")
        return typed
    if code == "UNAVAILABLE" and text.startswith(_NO_CONNECTION):
        return _unconnected(text, address)
    if code == "UNAVAILABLE":
        return UnavailableError(f"the server at {address} ended the call: it stopped, or the line broke", retry_after=1)
    if code == "DEADLINE_EXCEEDED":
        return DeadlineError("there was no answer within the timeout; give more time or a smaller budget")
    if code == "RESOURCE_EXHAUSTED" and "larger than max" in text:
        return LimitError(f"a message is over the size limit: {text}; raise max_message_bytes and --max-message-mb")
    return error_from(code, text, None)


#: what TLS says → what it means to a person; of this side's look at the server
_HANDSHAKE = {
    "WRONG_VERSION_NUMBER": "speaks no TLS; connect without ca, certificate and tls, or ask for TLS there",
    "unable to get local issuer": "shows a certificate of a CA that is not trusted here; give the file of its CA as ca",
    "self-signed certificate": "shows a certificate that it signed itself; if it is the right one, give it as ca",
    "self signed certificate": "shows a certificate that it signed itself; if it is the right one, give it as ca",
    "has expired": "shows a certificate that has expired; it must be renewed there",
    "not yet valid": "shows a certificate that is not valid yet; look at the clocks of both machines",
    "Hostname Verification Check failed": "shows a certificate for another name; use the name that stands in it",
}


def _unconnected(text: str, address: str) -> UnavailableError:
    """The error where there was no connection, from gRPC's own words."""
    meant = next((sentence for words, sentence in _HANDSHAKE.items() if words in text), "")
    if meant or "handshake failed" in text:
        return UnavailableError(f"the server at {address} {meant or 'and this client could not agree on TLS'}")
    if "Socket closed" in text or "Connection reset" in text:
        wanted = "it may want TLS (ca) or a certificate of this client (certificate, key), or is just stopping"
        return UnavailableError(f"the server at {address} closed the connection at once: {wanted}", retry_after=1)
    return UnavailableError(f"no server answers at {address}; start one with: latent-inv serve", retry_after=1)
