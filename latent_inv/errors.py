"""Every error that a caller can meet, as one tree.

LatentInvError
├── InputError              INVALID_ARGUMENT     what was asked for is wrong
│   ├── ImageError          a picture that cannot be taken
│   ├── LatentsError        latents that do not fit the generator
│   ├── ShapeError          a tensor of another shape
│   └── SpecError           a setting out of range, an unknown name
├── NotFoundError           NOT_FOUND            a job or artifact that does not exist (or is not yours)
├── AlreadyExistsError      ALREADY_EXISTS       one id, two different bodies
├── AssetError              FAILED_PRECONDITION  weights that are not here and how to get them
├── StateError              FAILED_PRECONDITION  not in the state in which a job or file is
├── LoginError              UNAUTHENTICATED      no token, or one that is not known
├── UnavailableError        UNAVAILABLE          the worker is starting, stopping or gone: try again
├── LimitError              RESOURCE_EXHAUSTED   over a stated limit; `retry_after` says when it may pass
├── UnsupportedError        UNIMPLEMENTED        known, but not in this version or for this generator
├── CancelledError          CANCELLED            stopped on request
├── DeadlineError           DEADLINE_EXCEEDED    no time left
└── InternalError           INTERNAL             our fault; the text carries an id that is in the log

Inner code raises the short error; the outer layer adds the field with `at`.
Nothing here imports grpc: `status` is the *name* of a gRPC status code.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches

#: Text sent to a client is cut here; a longer text is cut, never refused.
MAX_MESSAGE_CHARS = 1000


class LatentInvError(Exception):
    """Base of all errors of this project.

    Args:
        message: one sentence for a person: what was found and what is accepted.
        field: dotted path of the offending field, e.g. "solver.learning_rate"; empty if none.
        retry_after: seconds after which the same call may succeed; None if it never will.
    """

    status = "INTERNAL"
    reason = "INTERNAL"

    def __init__(self, message: str, *, field: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.retry_after = retry_after

    def __str__(self) -> str:
        text = f"{self.field}: {self.message}" if self.field else self.message
        return text if len(text) <= MAX_MESSAGE_CHARS else text[: MAX_MESSAGE_CHARS - 1] + "…"

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with keyword arguments do not survive pickling by themselves,
        # and these cross the pipe between worker and gateway.
        return (_rebuild, (type(self), self.message, self.field, self.retry_after))


def _rebuild(cls: type[LatentInvError], message: str, field: str, retry_after: float | None) -> LatentInvError:
    return cls(message, field=field, retry_after=retry_after)


class InputError(LatentInvError):
    """What was asked for is wrong; the same call will never succeed."""

    status = "INVALID_ARGUMENT"
    reason = "INVALID_INPUT"


class ImageError(InputError):
    """A picture that cannot be taken."""

    reason = "INVALID_IMAGE"


class LatentsError(InputError):
    """Latents that do not fit the generator or the file format."""

    reason = "INVALID_LATENTS"


class ShapeError(InputError):
    """A tensor of another shape than the one accepted."""

    reason = "INVALID_SHAPE"


class SpecError(InputError):
    """A setting out of range or a name that is not known."""

    reason = "INVALID_SETTING"


class NotFoundError(LatentInvError):
    """A resource that does not exist, or belongs to somebody else."""

    status = "NOT_FOUND"
    reason = "NOT_FOUND"


class AlreadyExistsError(LatentInvError):
    """The id is taken by a request with another body."""

    status = "ALREADY_EXISTS"
    reason = "ALREADY_EXISTS"


class AssetError(LatentInvError):
    """Weights that cannot be had here; the message says how to get them."""

    status = "FAILED_PRECONDITION"
    reason = "ASSET_MISSING"


class StateError(LatentInvError):
    """Possible, but not in the state in which the job or file is now."""

    status = "FAILED_PRECONDITION"
    reason = "WRONG_STATE"


class LoginError(LatentInvError):
    """No token, or one that is not known; never says which."""

    status = "UNAUTHENTICATED"
    reason = "LOGIN_FAILED"


class UnavailableError(LatentInvError):
    """Not now: the worker is starting, stopping or gone."""

    status = "UNAVAILABLE"
    reason = "UNAVAILABLE"


class LimitError(LatentInvError):
    """Over a stated limit; the message gives the limit and what was found."""

    status = "RESOURCE_EXHAUSTED"
    reason = "LIMIT_EXCEEDED"


class UnsupportedError(LatentInvError):
    """A known thing that this version or this generator cannot do."""

    status = "UNIMPLEMENTED"
    reason = "UNSUPPORTED"


class CancelledError(LatentInvError):
    """Stopped on request."""

    status = "CANCELLED"
    reason = "CANCELLED"


class DeadlineError(LatentInvError):
    """The caller's time is used up."""

    status = "DEADLINE_EXCEEDED"
    reason = "DEADLINE_EXCEEDED"


class InternalError(LatentInvError):
    """Our fault."""

    status = "INTERNAL"
    reason = "INTERNAL"


@contextmanager
def at(field: str) -> Iterator[None]:
    """Put `field` in front of the field path of any error raised inside.

    >>> with at("solver"):
    ...     raise SpecError("must be > 0, found 0", field="learning_rate")
    Traceback (most recent call last):
    latent_inv.errors.SpecError: solver.learning_rate: must be > 0, found 0
    """
    try:
        yield
    except LatentInvError as error:
        error.field = f"{field}.{error.field}" if error.field else field
        raise


def unknown_name(kind: str, name: str, known: list[str], *, field: str) -> SpecError:
    """Build the error for a name that is in no table, with the closest known one."""
    close = get_close_matches(name, known, n=1)
    hint = f'; did you mean "{close[0]}"?' if close else ""
    return SpecError(f'unknown {kind} "{name[:80]}", accepted: {", ".join(sorted(known))}{hint}', field=field)
