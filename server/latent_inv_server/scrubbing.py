"""What must not stand in a log line: paths, tokens, passwords, traces. The last look at every line.

Nobody writes those on purpose; they come in the texts of exceptions, ours and those of libraries.
"""

from __future__ import annotations

import re
from typing import Any

from latent_inv.incidents import text_of

#: longer texts are cut
MAX_CHARS = 2000

_HIDDEN = "…"
_URL = re.compile(r"\b([A-Za-z][A-Za-z0-9+.\-]*)://[^\s\"'<>]*")
_TOKENS = re.compile(r"\blinv_[A-Za-z0-9_\-]{8,}|(?i:\bbearer)\s+[^\s\"',;]+")
_SECRETS = re.compile(r"(?i)\b(password|passwd|token|secret|authorization|api[_-]?key)(\s*[=:]\s*)[^\s\"',;]+")
# A path in quotes may hold spaces; one without ends at the first.
_QUOTED_PATH = re.compile(r"(?<=[\"'`])(?:~?/|~?\\\\|[A-Za-z]:[\\/])[^\"'`\n]*(?=[\"'`])")
_PATH = re.compile(r"(?<![\w/\\:.~\-…])(?:~?/|\\\\|[A-Za-z]:[\\/])[^\s\"'`,;()\[\]{}<>|…]+")
# Methods of gRPC look like paths.
_METHOD = re.compile(r"/(?:latent_inv|grpc)(?:\.\w+)+/\w+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def scrubbed(value: Any) -> Any:
    """A value as it may be logged.

    Args:
        value: numbers and truths stay; anything else becomes text on one line, of at most `MAX_CHARS` characters.
    """
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"{len(value)} bytes"
    text = value if isinstance(value, str) else text_of(value)
    # Cut before anything is looked for, so that a long text costs little; a path that is cut is still one.
    text = text[:MAX_CHARS] + _HIDDEN if len(text) > MAX_CHARS else text
    text = _TOKENS.sub(_HIDDEN, text)
    text = _SECRETS.sub(rf"\1\2{_HIDDEN}", text)
    text = _URL.sub(rf"\1://{_HIDDEN}", text)
    text = _QUOTED_PATH.sub(_without_folder, text)
    text = _PATH.sub(_without_folder, text)
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def _without_folder(found: re.Match[str]) -> str:
    path = found[0]
    if _METHOD.fullmatch(path.rstrip(".:")):
        return path
    name = re.split(r"[\\/]", path.rstrip("\\/"))[-1]
    return f"{_HIDDEN}/{name}" if name else _HIDDEN
