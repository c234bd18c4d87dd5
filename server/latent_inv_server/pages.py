"""Pages of lists: how many entries, and where the last page ended as a token that is opaque to clients."""

from __future__ import annotations

import base64
import json
import math

from latent_inv.errors import InputError

from .admission import check_id

MAX_PAGE = 1000
DEFAULT_PAGE = 50
#: longer ones are none of ours
_MAX_TOKEN_CHARS = 500


def page_size(asked: int) -> int:
    """Entries of a page.

    Raises:
        InputError: too many, or a negative number.
    """
    size = asked or DEFAULT_PAGE
    if not 1 <= size <= MAX_PAGE:
        raise InputError(f"must be from 1 to {MAX_PAGE}, or 0 for {DEFAULT_PAGE}, found {size}", field="page_size")
    return size


def write_place(time: float, name: str, of: str) -> str:
    """The token of a place in a list that is ordered by time and name; `of` tells the list from others."""
    return base64.urlsafe_b64encode(json.dumps([time, name, of]).encode()).decode()


def read_place(token: str, of: str) -> tuple[float, str] | None:
    """The inverse; None: the beginning.

    Raises:
        InputError: it is no token of this server, or one of another list.
    """
    if not token:
        return None
    try:
        if len(token) > _MAX_TOKEN_CHARS:
            raise ValueError(token[:40])
        time, name, found = json.loads(base64.b64decode(token, altchars=b"-_", validate=True))
        if not isinstance(time, float) or not math.isfinite(time) or not isinstance(name, str):
            raise TypeError(token)
        check_id(name, "name")
    except (ValueError, TypeError, RecursionError, InputError) as error:
        text = f"must be the next_page_token of an earlier page, found {token[:40]!r}"
        raise InputError(text, field="page_token") from error
    if found != of:
        text = "belongs to another list, such as one with other states or labels; begin with the first page"
        raise InputError(text, field="page_token")
    return time, name
