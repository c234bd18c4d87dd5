"""Unforeseen exceptions: the whole of it goes to the log, and only the id of that line goes on."""

from __future__ import annotations

import logging
import secrets

from latent_inv.errors import InternalError, LatentInvError

logger = logging.getLogger(__name__)


def as_typed(error: Exception, where: str) -> LatentInvError:
    """The error itself if it is ours; else one that says nothing but where the log has it.

    Args:
        where: what was being done, for the log.
    """
    if isinstance(error, LatentInvError):
        return error
    incident = secrets.token_hex(4)
    try:
        logger.error("incident %s in %s", incident, where, exc_info=error)
    except Exception:  # its text cannot be made: log its type alone
        logger.error("incident %s in %s: %s", incident, where, type(error).__name__)
    return InternalError(f"something went wrong inside; the log has it as incident {incident}")
