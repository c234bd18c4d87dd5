"""Content-addressed files: `folder/ab/abcd…`, where the name is the SHA-256 of what is inside."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

from latent_inv.errors import InputError, InternalError, LimitError, NotFoundError, UnavailableError
from latent_inv.files import sha256_of, write_bytes

from .disk import RETRY_SECONDS, sync, typed_disk_errors

logger = logging.getLogger(__name__)

_HASH = re.compile(r"[0-9a-f]{64}")


def is_sha256(text: str) -> bool:
    """Is this a SHA-256 in lowercase hexadecimal?"""
    return _HASH.fullmatch(text) is not None


class FileBlobs:
    """`records.Blobs` in a folder of this process alone.

    Args:
        folder: made if it is not there; what an interrupted write has left in it is removed.
        budget: bytes above which nothing more is taken, but for what is `needed`; None: as much as the disk holds.
    """

    def __init__(self, folder: Path, budget: int | None = None) -> None:
        self._folder, self._budget = folder, budget
        # One file is written, freshened and removed by one thread at a time: all of a folder have one lock. `_counting`
        # guards the sum of sizes.
        self._locks = tuple(threading.Lock() for _ in range(64))
        self._counting = threading.Lock()
        self._used = 0
        with typed_disk_errors():
            folder.mkdir(parents=True, exist_ok=True)
            sync(folder)  # of one that was killed before it had done so
            sync(folder.parent)
            for entry in self._entries():
                if is_sha256(entry.name):
                    self._used += entry.stat().st_size
                elif entry.name.endswith(".part"):
                    os.unlink(entry.path)

    def put(self, data: bytes, *, needed: bool = False) -> str:
        """See `records.Blobs.put`. A file of that name whose content is damaged is replaced."""
        name = hashlib.sha256(data).hexdigest()
        path = self._path(name)
        with self._lock(name), typed_disk_errors():
            old = _size(path)
            if old == len(data) and path.read_bytes() == data:
                # It may be swept only when this call is long ago, as whoever puts it has not referred to it yet.
                os.utime(path)
                sync(path.parent)  # another call may have written it, and not have come so far
                return name
            growth = len(data) - (old or 0)
            self._reserve(growth, needed)
            try:
                self._make_home(path)
                write_bytes(path, data)
            except BaseException as error:
                self._count((_size(path) or 0) - (old or 0) - growth)
                if isinstance(error, InputError):
                    # The settings of the folder are no matter of the client's.
                    raise UnavailableError("the data folder cannot be written to", retry_after=RETRY_SECONDS) from error
                raise
        return name

    def adopt(self, path: Path, name: str) -> None:
        """Take over a file of the same disk; afterwards it is no longer at `path`.

        Args:
            path: must not be written to any more.
            name: the SHA-256 that its content must have.
        Raises:
            InputError: it has another; the file stays. LimitError: the disk is full.
        """
        with self._lock(name), typed_disk_errors():
            found = sha256_of(path)
            if found != name:
                raise InputError(f"the content has the SHA-256 {found}, {name} was announced", field="sha256")
            sync(path)
            os.utime(path)
            target = self._path(name)
            self._make_home(target)
            old, new = _size(target) or 0, path.stat().st_size
            os.replace(path, target)
            self._count(new - old)
            sync(target.parent)

    def check_room(self, size: int) -> None:
        """Would `size` more bytes be taken?

        Raises:
            LimitError: the disk budget is used up.
        """
        with self._counting:
            self._check(size)

    def read(self, sha256: str) -> bytes:
        """See `records.Blobs.read`."""
        with typed_disk_errors(), _there(sha256):
            data = self._path(sha256).read_bytes()
        if hashlib.sha256(data).hexdigest() != sha256:
            logger.error("the kept content %s is damaged: it has another hash", sha256)
            raise InternalError(f"the kept content {sha256} is damaged; the log says so, too")
        return data

    def piece(self, sha256: str, offset: int, size: int) -> bytes:
        """Part of the content; shorter than `size` at the end, empty behind it. Its hash is not checked.

        Raises:
            NotFoundError: there is none. InputError: a negative offset.
        """
        if offset < 0:
            raise InputError(f"must be ≥ 0, found {offset}", field="offset")
        with typed_disk_errors(), _there(sha256), self._path(sha256).open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def size(self, sha256: str) -> int | None:
        """See `records.Blobs.size`."""
        return _size(self._path(sha256)) if is_sha256(sha256) else None

    def sweep(self, keep: set[str], older_than: float) -> int:
        """See `records.Blobs.sweep`. Whatever was put again since `older_than` stays, too."""
        freed = 0
        with typed_disk_errors():
            for entry in self._entries():
                if entry.name not in keep and is_sha256(entry.name):
                    freed += self._remove(entry.name, older_than)
        return freed

    def _remove(self, name: str, older_than: float) -> int:
        path = self._path(name)
        # Windows refuses to remove what somebody reads; the next sweep comes.
        with self._lock(name), contextlib.suppress(FileNotFoundError, PermissionError):
            status = path.stat()
            if status.st_mtime < older_than:
                path.unlink()
                self._count(-status.st_size)
                return status.st_size
        return 0

    @property
    def used(self) -> int:
        """Bytes on disk."""
        with self._counting:
            return self._used

    def _count(self, size: int) -> None:
        with self._counting:
            self._used += size

    def _reserve(self, size: int, needed: bool) -> None:
        with self._counting:
            if not needed:
                self._check(size)
            self._used += size

    def _check(self, size: int) -> None:
        if self._budget is not None and self._used + size > self._budget:
            text = f"{size} more bytes would pass the disk budget of {self._budget}, of which {self._used} are used"
            raise LimitError(text, retry_after=RETRY_SECONDS)

    def _lock(self, name: str) -> threading.Lock:
        return self._locks[int(name[:2], 16) % len(self._locks)]

    def _path(self, name: str) -> Path:
        # What comes from a client is compared with a hash's form before it becomes part of a path.
        if not is_sha256(name):
            raise _missing(name)
        return self._folder / name[:2] / name

    def _make_home(self, path: Path) -> None:
        # Under the lock of the name, which is that of the whole folder: whoever finds it there finds it on disk.
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            sync(self._folder)

    def _entries(self) -> Iterator[os.DirEntry[str]]:
        for folder in sorted(self._folder.iterdir()):
            if len(folder.name) == 2 and folder.is_dir():
                with os.scandir(folder) as entries:
                    # Made a list first, as files come and go meanwhile.
                    yield from list(entries)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _missing(name: str) -> NotFoundError:
    return NotFoundError(f'there is no content "{name[:64]}" here')


@contextlib.contextmanager
def _there(name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise _missing(name) from error
