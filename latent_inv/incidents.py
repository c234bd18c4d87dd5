"""Unforeseen exceptions: the whole of it goes to the log, and only the id of that line goes on."""

from __future__ import annotations

import logging
import re
import secrets

from latent_inv.errors import InternalError, LatentInvError, LimitError

logger = logging.getLogger(__name__)

#: torch has a class of its own for this, but not on every device, and nothing here loads torch
_NO_MEMORY = re.compile(
    r"out of memory|can't allocate memory|not enough memory|bad_alloc|CUBLAS_STATUS_ALLOC_FAILED", re.IGNORECASE
)


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


def is_out_of_memory(error: Exception) -> bool:
    """Was there too little memory, of the machine or of a card?"""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)) is not None
