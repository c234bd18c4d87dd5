"""What both clients share: arguments → requests, messages → values, failed calls → typed errors."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grpc

from latent_inv import convert
from latent_inv.ask import choose_start, with_shortcuts
from latent_inv.convert.errors import error_from
from latent_inv.errors import ImageError, LatentInvError, LimitError, UnavailableError
from latent_inv.images import Limits
from latent_inv.result import JobResult, Preview, Progress
from latent_inv.settings import Settings
from latent_inv.spec import Budget, JobSpec
from latent_inv.v1 import data_pb2, generator_service_pb2, inversion_service_pb2

#: largest message both ways, unless the server says otherwise
MAX_MESSAGE_BYTES = 64 * 2**20
Event = Progress | Preview | JobResult


def channel_options(max_message_bytes: int) -> list[tuple[str, int]]:
    """Options of a channel: message limits, and keepalive that servers accept."""
    return [
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
    ]


def image_message(image: Any, value_range: tuple[float, float] | None, field: str) -> data_pb2.Image:
    """A picture as it travels: files as they are, PIL images as PNG, arrays as tensors.

    Raises:
        ImageError: it cannot be read. LimitError: the file is too large.
    """
    if isinstance(image, (bytes, bytearray)):
        return convert.image_to(bytes(image))
    if isinstance(image, (str, os.PathLike)):
        return convert.image_to(_read(Path(image), field))
    if hasattr(image, "save") and hasattr(image, "mode"):  # a PIL image
        file = io.BytesIO()
        image.save(file, "PNG")
        return convert.image_to(file.getvalue())
    array = image.detach().cpu().numpy() if hasattr(image, "detach") else image
    return convert.image_to(array, value_range)


def _read(path: Path, field: str) -> bytes:
    try:
        Limits().check_bytes(path.stat().st_size)
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f'"{path.name}" cannot be read: {error.strerror}', field=field) from error


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
    weights_sha256: Callable[[], str],
    max_message_bytes: int,
) -> inversion_service_pb2.InvertRequest:
    """The request of `invert`'s arguments; ranges are checked here, before anything is sent.

    Raises:
        LatentInvError: an argument is wrong, or the request is over the message limit.
    """
    spec = JobSpec(
        picture=None,  # type: ignore[arg-type]  # it travels as it is, and is decoded by the server alone
        generator=generator,
        initialiser=choose_start(start, initialiser, generator, weights_sha256),
        budget=with_shortcuts(budget, **shortcuts),
        **settings,
    )
    mask = None if weight is None else image_message(weight, None, "weight")
    message = convert.job_message(spec, image_message(image, value_range, "image"), mask)
    request = inversion_service_pb2.InvertRequest(spec=message)
    check_size(request, max_message_bytes)
    return request


def sample_request(
    seeds: Sequence[int], generator: str, space: str, height: int, width: int
) -> generator_service_pb2.SampleRequest:
    """The request of `sample`'s arguments."""
    return generator_service_pb2.SampleRequest(
        seeds=seeds, generator=generator, space=space, height=height, width=width
    )


def check_size(message: Any, limit: int) -> None:
    """Refuse a request that the server would refuse, before it is sent.

    Raises:
        LimitError: over the limit.
    """
    size = message.ByteSize()
    if size > limit:
        text = f"the request has {size} bytes, at most {limit} can be sent; use a smaller picture"
        raise LimitError(f"{text}, or raise max_message_bytes here and --max-message-mb there")


def read_event(message: inversion_service_pb2.InvertResponse, job_id: str) -> Event | None:
    """One message of the stream; None for what this version does not know."""
    kind = message.WhichOneof("event")
    if kind == "progress":
        return convert.progress_from(message.progress, job_id, message.sequence)
    if kind == "preview":
        return convert.preview_from(message.preview, job_id, message.sequence)
    if kind == "result":
        return convert.result_from(message.result)
    return None


def typed(error: grpc.RpcError, address: str) -> LatentInvError:
    """The error of a failed call as the server raised it."""
    code = error.code().name if hasattr(error, "code") else "UNAVAILABLE"
    text = (error.details() if hasattr(error, "details") else "") or ""
    trailers: Any = error.trailing_metadata() if hasattr(error, "trailing_metadata") else None
    details = next((value for key, value in trailers or () if key == "grpc-status-details-bin"), None)
    if details is None and code == "UNAVAILABLE":
        return UnavailableError(f"no server answers at {address}; start one with: latent-inv serve", retry_after=1)
    if details is None and code == "RESOURCE_EXHAUSTED" and "larger than max" in text:
        return LimitError(f"a message is over the size limit: {text}; raise max_message_bytes and --max-message-mb")
    return error_from(code, text, details if isinstance(details, bytes) else None)
