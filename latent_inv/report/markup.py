"""Texts and links as HTML."""

from __future__ import annotations

from html import escape
from urllib.parse import quote, urlsplit


def html_text(text: object) -> str:
    """A text as HTML, also for attributes."""
    # Control characters have no place in HTML, lone surrogates none in UTF-8.
    whole = str(text).encode("utf-8", "replace").decode("utf-8")
    return escape("".join(character for character in whole if character in "\n\t" or ord(character) >= 32))


def link_address(path: str) -> str:
    """A relative path as a link; anything that names a scheme or a host is refused as a link to nothing."""
    parts = urlsplit(path)
    if parts.scheme or parts.netloc or path.startswith("//"):
        return "#"
    try:
        # The bytes of the name on the disk, also where they are no UTF-8.
        return quote(path.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        return "#"
