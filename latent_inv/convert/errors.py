"""Typed errors ⇄ google.rpc.Status: the same error on both sides of the wire."""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf import duration_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from latent_inv import errors
from latent_inv.errors import MAX_MESSAGE_CHARS, InputError, LatentInvError

DOMAIN = "latent_inv"
MAX_FIELD_CHARS = 200

#: reason → class, the most general class of a reason first
_BY_REASON: dict[str, type[LatentInvError]] = {
    kind.reason: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, LatentInvError) and kind is not LatentInvError
}
_BY_STATUS: dict[str, type[LatentInvError]] = {
    "INVALID_ARGUMENT": InputError,
    "OUT_OF_RANGE": InputError,
    "NOT_FOUND": errors.NotFoundError,
    "ALREADY_EXISTS": errors.AlreadyExistsError,
    "FAILED_PRECONDITION": errors.AssetError,
    "UNAUTHENTICATED": errors.LoginError,
    "UNAVAILABLE": errors.UnavailableError,
    "RESOURCE_EXHAUSTED": errors.LimitError,
    "UNIMPLEMENTED": errors.UnsupportedError,
    "CANCELLED": errors.CancelledError,
    "DEADLINE_EXCEEDED": errors.DeadlineError,
}


def error_to(error: LatentInvError) -> status_pb2.Status:
    """The status with ErrorInfo, and BadRequest and RetryInfo where they apply; its text is at most 1 kB."""
    status = status_pb2.Status(code=code_pb2.Code.Value(error.status), message=short(str(error)))
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN))
    if error.field:
        # A path may hold names that the caller made up.
        field = short(error.field, MAX_FIELD_CHARS)
        violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=short(error.message))
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    if error.retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(round(1000 * error.retry_after))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def error_from(code: str, text: str, details: bytes | None) -> LatentInvError:
    """The typed error of a failed call.

    Args:
        code: name of the gRPC status code.
        text: its text.
        details: the serialised google.rpc.Status of the trailers, if there was one.
    """
    kind = _BY_STATUS.get(code, errors.InternalError)
    field, retry_after, message = "", None, text
    for detail in _details(details or b""):
        if isinstance(detail, error_details_pb2.ErrorInfo):
            kind = _BY_REASON.get(detail.reason, kind)
        elif isinstance(detail, error_details_pb2.BadRequest) and detail.field_violations:
            field, message = detail.field_violations[0].field, detail.field_violations[0].description
        elif isinstance(detail, error_details_pb2.RetryInfo):
            retry_after = detail.retry_delay.ToMilliseconds() / 1000
    return kind(message, field=field, retry_after=retry_after)


def _details(data: bytes) -> Iterator[Message]:
    """What can be read; a proxy may have spoilt the rest, and code and text are worth more than why."""
    try:
        packed = status_pb2.Status.FromString(data).details
    except DecodeError:
        return
    for item in packed:
        for form in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo):
            detail = form()
            try:
                if item.Unpack(detail):
                    yield detail
            except DecodeError:
                break


def short(text: str, size: int = MAX_MESSAGE_CHARS) -> str:
    """At most `size` bytes in UTF-8, cut at a character."""
    data = text.encode(errors="replace")
    if len(data) <= size:
        return data.decode()
    return data[: size - 3].decode(errors="ignore") + "…"
