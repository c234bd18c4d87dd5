"""Unforeseen exceptions: the whole of it goes to the log, and only the id of that line goes on."""

from __future__ import annotations

import logging
import re
import secrets
import traceback

from latent_inv.errors import InternalError, LatentInvError, LimitError

logger = logging.getLogger(__name__)

#: torch has a class of its own for this, but not on every device, and nothing here loads torch
_NO_MEMORY = re.compile(
    r"out of memory|can't allocate memory|not enough memory|bad_alloc|CUBLAS_STATUS_ALLOC_FAILED", re.IGNORECASE
)
#: causes of an exception, and calls on the way to it, that are told
_MAX_CAUSES, _MAX_FRAMES = 4, 12
_BRIEF_CHARS = 200


def as_typed(error: Exception, where: str) -> LatentInvError:
    """The error itself if it is ours; a limit if memory was too little; else one that says where the log has it.

    Args:
        where: what was being done, for the log.
    """
    if isinstance(error, LatentInvError):
        return error
    if is_out_of_memory(error):
        logger.warning("memory was too little in %s", where)
        return LimitError("there was too little memory for this; try again later, or ask for less at once")
    incident = secrets.token_hex(4)
    try:
        logger.error("incident %s in %s", incident, where, exc_info=error)
    except Exception:  # its text cannot be made: log its type alone
        logger.error("incident %s in %s: %s", incident, where, type(error).__name__)
    return InternalError(f"something went wrong inside; the log has it as incident {incident}")


def condensed(error: BaseException) -> dict[str, str]:
    """An exception as fields of a line: what it and its causes say, and where in the code it was, by modules.

    Never raises, whatever the exception does when it is asked for its text. The texts may hold anything.
    """
    said: list[str] = []
    cause = error
    while len(said) < _MAX_CAUSES:
        said.append(f"{type(cause).__name__}: {text_of(cause)}".removesuffix(": "))
        deeper = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
        if deeper is None:
            break
        cause = deeper
    frames = [
        f"{frame.f_globals.get('__name__', '?')}.{frame.f_code.co_name}:{line}"
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    # The innermost come last; a long way leaves out its middle.
    if len(frames) > _MAX_FRAMES:
        frames = [*frames[:2], "…", *frames[3 - _MAX_FRAMES :]]
    return {"error": " < ".join(said), **({"where": " > ".join(frames)} if frames else {})}


def text_of(value: object) -> str:
    """Its text, or that there is none."""
    try:
        return str(value)
    except Exception:
        return f"(a {type(value).__name__} that has no text)"


def brief(error: Exception) -> str:
    """What somebody else's code says of its failure, on one line of a message; never raises."""
    return f"{type(error).__name__}: {' '.join(text_of(error).split())[:_BRIEF_CHARS]}"


def is_out_of_memory(error: Exception) -> bool:
    """Was there too little memory, of the machine or of a card?"""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)) is not None
