"""Files that are whole or not there: write beside, flush to the disk, rename."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from latent_inv.errors import InputError


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file so that `path` holds the old content or the whole new one, also after a power cut.

    Args:
        path: file to write; its folder must exist.
    Raises:
        InputError: the folder is missing or may not be written to.
        OSError: the disk failed or is full; nothing new is left.
    """
    target = Path(path)
    part = target.parent / f".{secrets.token_hex(8)}.part"
    try:
        try:
            with part.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        raise InputError(f'cannot write "{target.name}": {error.strerror}', field="path") from error
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    # The rename itself is durable only once the folder is on disk. Windows cannot open folders and needs no such step.
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
