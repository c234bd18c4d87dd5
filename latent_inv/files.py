"""Files in and out: only regular ones are read, only whole ones are written."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from latent_inv.errors import InputError, LimitError


def read_bytes(path: str | os.PathLike[str], max_bytes: int) -> bytes:
    """Read a regular file, if it is not too large: no device, pipe or folder.

    Returns:
        the whole file.
    Raises:
        InputError: no regular file, or unreadable; the message holds the file's name and never its folder.
        LimitError: more than `max_bytes`.
    """
    text = os.fspath(path)
    if not isinstance(text, str):
        raise InputError("a path must be text; found a path of bytes")
    name = os.path.basename(text.rstrip("/\\")) or text[-1:]
    shown = name[:100].encode("utf-8", "replace").decode("utf-8")
    try:
        status = os.stat(text)
        if stat.S_ISDIR(status.st_mode):
            raise InputError(f'"{shown}" is a folder; a file is needed')
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f'"{shown}" is not a regular file')
        size = status.st_size
        if size <= max_bytes:
            with open(text, "rb") as file:
                # One byte more than allowed, as the file may have grown since.
                data = file.read(max_bytes + 1)
            size = len(data)
    except FileNotFoundError as error:
        raise InputError(f'there is no file "{shown}"') from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a valid path"
        raise InputError(f'cannot read "{shown}": {reason}') from error
    if size > max_bytes:
        raise LimitError(f'"{shown}" has {size} bytes, at most {max_bytes} are accepted')
    return data


def write_bytes(path: str | os.PathLike[str], data: bytes, *, private: bool = False) -> None:
    """Write a file so that `path` holds the old content or the whole new one, also after a power cut.

    Args:
        path: file to write; its folder must exist.
        private: a new file is for its owner alone, and one that is replaced hands on its owner and mode.
    Raises:
        InputError: the folder is missing or may not be written to.
        OSError: the disk failed or is full; nothing new is left.
    """
    target = Path(path)
    part = target.parent / f".{secrets.token_hex(8)}.part"
    try:
        try:
            with open(part, "xb", opener=_open_private if private else None) as file:
                if private:
                    _take_owner(file.fileno(), target)
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


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _take_owner(handle: int, before: Path) -> None:
    # Written by an administrator, it must stay readable for the service that owns it.
    if os.name != "posix" or not before.exists():
        return
    was, now = before.stat(), os.fstat(handle)
    if (was.st_uid, was.st_gid) != (now.st_uid, now.st_gid):
        os.fchown(handle, was.st_uid, was.st_gid)
    os.fchmod(handle, stat.S_IMODE(was.st_mode))


def _sync_folder(folder: Path) -> None:
    # The rename itself is durable only once the folder is on disk. Windows cannot open folders and needs no such step.
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
