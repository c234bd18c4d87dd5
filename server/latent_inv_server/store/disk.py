"""Failures of the disk, told in the words of errors.py; and folders that are there after a power cut."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from latent_inv.errors import LimitError
from latent_inv.incidents import as_typed

#: seconds after which a call that met a full disk may be tried again
RETRY_SECONDS = 30.0
FULL = "the disk of the data folder is full"

#: below this many free bytes a failed write is taken for want of room
_LITTLE_BYTES = 2**20
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def typed_disk_errors() -> Iterator[None]:
    """Turn an OSError inside into LimitError (no room) or InternalError (anything else, which the log has)."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise LimitError(FULL, retry_after=RETRY_SECONDS) from error
        raise as_typed(error, "the data folder") from error


def sqlite_found_no_room(text: str, path: Path) -> bool:
    """Does SQLite's message about the database at `path` mean a full disk? One of the two may be another failure."""
    try:
        little = shutil.disk_usage(path.parent).free < _LITTLE_BYTES
    except OSError:
        little = False
    return "is full" in text or ("disk I/O error" in text and little)


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, on disk when this returns. Folders need and allow it on POSIX alone."""
    folder = path.is_dir()
    if folder and os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
