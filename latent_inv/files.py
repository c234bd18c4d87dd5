"""Files in and out: only regular ones are read, only whole ones are written."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from latent_inv.errors import InputError, LimitError


def read_bytes(path: str | os.PathLike[str], max_bytes: int) -> bytes:
    """Read a regular file, if it is not too large: no device, pipe or folder.

    Returns:
        the whole file.
    Raises:
        InputError: no regular file, or unreadable; the message holds the file's name and never its folder.
        LimitError: more than `max_bytes`.
    """
    with _reading(path) as shown:
        size = os.stat(path).st_size
        if size <= max_bytes:
            with open(path, "rb") as file:
                # One byte more than allowed, as the file may have grown since.
                data = file.read(max_bytes + 1)
            size = len(data)
    if size > max_bytes:
        raise LimitError(f'"{shown}" has {size} bytes, at most {max_bytes} are accepted')
    return data


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading; close it.

    Raises:
        InputError: as `read_bytes`.
    """
    with _reading(path):
        return open(path, "rb")


@contextmanager
def _reading(path: str | os.PathLike[str]) -> Iterator[str]:
    """See that it is a regular file, and say in one sentence what goes wrong with it; gives its name for messages."""
    text = os.fspath(path)
    if not isinstance(text, str):
        raise InputError("a path must be text; found a path of bytes")
    name = os.path.basename(text.rstrip("/\\")) or text[-1:]
    shown = name[:100].encode("utf-8", "replace").decode("utf-8")
    try:
        # Before it is opened, which would wait at a pipe.
        mode = os.stat(text).st_mode
        if stat.S_ISDIR(mode):
            raise InputError(f'"{shown}" is a folder; a file is needed')
        if not stat.S_ISREG(mode):
            raise InputError(f'"{shown}" is not a regular file')
        yield shown
    except FileNotFoundError as error:
        raise InputError(f'there is no file "{shown}"') from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a valid path"
        raise InputError(f'cannot read "{shown}": {reason}') from error


def write_bytes(path: str | os.PathLike[str], data: bytes, *, private: bool = False) -> None:
    """Write a file so that `path` holds the old content or the whole new one, also after a power cut.

    Args:
        path: file to write; its folder must exist.
        private: a new file is for its owner alone, and one that is replaced hands on its owner and mode.
    Raises:
        InputError: the folder is missing or may not be written to.
        OSError: the disk failed or is full; nothing new is left.
    """
    with writing(path, private=private) as file:
        file.write(data)


@contextmanager
def writing(path: str | os.PathLike[str], *, private: bool = False) -> Iterator[BinaryIO]:
    """The same for what comes in pieces: a file to write to. An error inside leaves `path` as it was.

    Raises:
        InputError, OSError: as `write_bytes`.
    """
    target = Path(path)
    part = target.parent / f".{secrets.token_hex(8)}.part"
    with _refusals(target):
        file = open(part, "xb", opener=_open_private if private else None)  # noqa: SIM115, closed below
    try:
        with file:
            if private:
                with _refusals(target):
                    _take_owner(file.fileno(), target)
            yield file
            file.flush()
            os.fsync(file.fileno())
        with _refusals(target):
            os.replace(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


@contextmanager
def _refusals(target: Path) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        raise InputError(f'cannot write "{target.name}": {error.strerror}', field="path") from error


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


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in lowercase hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()
