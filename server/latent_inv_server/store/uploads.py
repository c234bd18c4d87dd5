"""Files of clients: sent in pieces, taken up again after a broken line, kept once under their hash.

What has come of an unfinished file lies in a file of its own, apart from the finished ones, and its row says how much
of that is on disk for certain. The row is brought up to date every `_SYNC_BYTES`; a crash costs an upload no more.
"""

from __future__ import annotations

import hashlib
import os
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from latent_inv.errors import InputError, LimitError, NotFoundError, SpecError, StateError

from .blobs import FileBlobs, is_sha256
from .database import Database
from .disk import sync, typed_disk_errors
from .jobs import UNFINISHED
from .schema import JOB_FILES, JOBS, UPLOADS

#: received bytes after which they are made durable
_SYNC_BYTES = 8 * 2**20
#: seconds after which an upload that goes on is marked as used
_SYNC_SECONDS = 60.0
_MAX_TYPE_CHARS = 255


@dataclass(frozen=True)
class Upload:
    """A file of one client, as far as it is here. Times are seconds since 1970.

    Attributes:
        sha256: of the whole content, as announced; verified once it is `complete`.
        size, received: bytes in all, and bytes that are here; an upload goes on at `received`.
        content_type: as announced, e.g. "image/png"; nothing relies on it.
        last_used: when a piece came or a job was made with it.
        complete: all is here, its hash was checked, and jobs may refer to it.
    """

    client: str
    sha256: str
    size: int
    received: int
    content_type: str
    create_time: float
    last_used: float
    complete: bool


class SqlUploads:
    """Uploads of all clients; what belongs to another client is not there. Safe to use from several threads.

    Args:
        database: that `schema.migrate` has seen.
        folder: of unfinished files; made if it is not there, cleared of what no upload needs.
        blobs: takes the finished ones; on the same disk.
    """

    def __init__(self, database: Database, folder: Path, blobs: FileBlobs) -> None:
        self._database, self._folder, self._blobs = database, folder, blobs
        self._locks = tuple(threading.RLock() for _ in range(64))
        self._beginning = threading.Lock()
        self._ahead: dict[tuple[str, str], int] = {}  # bytes received, where the row says less
        with typed_disk_errors():
            folder.mkdir(parents=True, exist_ok=True)
            self._tidy()
            sync(folder)

    def begin(
        self, client: str, sha256: str, size: int, content_type: str, now: float, *, max_bytes: int | None = None
    ) -> Upload:
        """Announce a file, or find out how much of it came before.

        Args:
            size: bytes, ≥ 1.
            max_bytes: that the client may have in all, unfinished files with their announced sizes; None: no limit.
        Returns:
            the upload; the next piece begins at its `received`, and there is none if it is `complete`.
        Raises:
            InputError: no hash, no size, or a finished file of that hash has another size.
            LimitError: over `max_bytes`, or over the disk budget.
        """
        _check(sha256, size, content_type)
        with self._lock(client, sha256), self._beginning:
            found = self.get(client, sha256)
            if found is not None and found.complete and self._blobs.size(sha256) == found.size:
                if found.size != size:
                    raise InputError(f"this content has {found.size} bytes, found {size}", field="size")
                return self._set(found, last_used=now)
            if found is not None and found.size == size and not found.complete:
                return self._set(found, last_used=now)
            self._admit(client, size - (found.size if found else 0), max_bytes)
            if found is not None:  # announced with another size, or lost from the disk: all over again
                with typed_disk_errors():
                    self._part(client, sha256).unlink(missing_ok=True)
                self._ahead.pop((client, sha256), None)
                return self._set(found, size=size, received=0, complete=False, last_used=now)
            new = Upload(client, sha256, size, 0, content_type, now, now, complete=False)
            try:
                with self._database.write() as connection:
                    connection.execute(sa.insert(UPLOADS).values(vars(new)))
            except IntegrityError:  # another process was first
                return self._need(client, sha256)
        return new

    def append(self, client: str, sha256: str, offset: int, data: bytes, now: float) -> Upload:
        """Take a piece. One that overlaps what is here takes its place, so a piece may be sent again.

        Args:
            offset: where it begins, in bytes: at most `received`.
        Raises:
            NotFoundError: not begun. StateError: it begins behind `received`, or the upload is complete.
            InputError: it passes the announced size. LimitError: the disk is full.
        """
        with self._lock(client, sha256):
            found = self._need(client, sha256)
            if found.complete:
                raise StateError("the upload is complete", field="sha256")
            if offset > found.received:
                text = f"{found.received} bytes are here, so the next piece begins there or before; found {offset}"
                raise StateError(text, field="offset")
            if offset < 0:
                raise InputError(f"must be ≥ 0, found {offset}", field="offset")
            end = offset + len(data)
            if end > found.size:
                raise InputError(f"{found.size} bytes were announced, found {end} or more", field="size")
            path = self._part(client, sha256)
            # Unbuffered, so that a full disk is met here and not when the file is closed.
            with typed_disk_errors(), open(path, "r+b", 0, opener=_open_or_make) as file:
                _write(file, offset, data)
            received = max(found.received, end)
            self._ahead[client, sha256] = received
            return self._settle(replace(found, received=received), now)

    def _settle(self, upload: Upload, now: float) -> Upload:
        kept = self._row(upload.client, upload.sha256)
        grown = upload.received - (kept.received if kept else 0)
        if grown >= _SYNC_BYTES or upload.received == upload.size or now - upload.last_used > _SYNC_SECONDS:
            return self._make_durable(upload, now)
        return upload

    def _make_durable(self, upload: Upload, now: float) -> Upload:
        with typed_disk_errors():
            sync(self._part(upload.client, upload.sha256))
            sync(self._folder)
        return self._set(upload, received=upload.received, last_used=now)

    def complete(self, client: str, sha256: str, now: float) -> Upload:
        """Check the hash of what came, and keep it. Does nothing to an upload that is complete.

        Raises:
            NotFoundError: not begun. StateError: bytes are missing.
            InputError: the content has another hash; it is forgotten, since nobody knows which byte is wrong.
        """
        with self._lock(client, sha256):
            found = self._need(client, sha256)
            if found.complete:
                return found
            if found.received < found.size:
                raise StateError(f"{found.received} of {found.size} bytes are here; send the others", field="sha256")
            try:
                self._blobs.adopt(self._part(client, sha256), sha256)
            except InputError:
                self.delete(client, sha256)
                raise
            self._ahead.pop((client, sha256), None)
            return self._set(found, complete=True, last_used=now)

    def get(self, client: str, sha256: str) -> Upload | None:
        """An upload of this client; None if there is none."""
        found = self._row(client, sha256)
        if found is not None and not found.complete:
            return replace(found, received=self._ahead.get((client, sha256), found.received))
        return found

    def page(self, client: str, limit: int | None = None, after: tuple[float, str] | None = None) -> list[Upload]:
        """Uploads of a client, newest first; `after`: (create_time, sha256) of the last one of the page before."""
        query = sa.select(UPLOADS).where(UPLOADS.c.client == client)
        if after is not None:
            last = sa.tuple_(sa.literal(after[0], sa.Double), sa.literal(after[1], UPLOADS.c.sha256.type))
            query = query.where(sa.tuple_(UPLOADS.c.create_time, UPLOADS.c.sha256) < last)
        return self._all(query.order_by(UPLOADS.c.create_time.desc(), UPLOADS.c.sha256.desc()).limit(limit))

    def used(self, client: str) -> int:
        """Bytes that count for a client: announced sizes, finished or not."""
        return self._sum(UPLOADS.c.client == client)

    def delete(self, client: str, sha256: str) -> bool:
        """Remove a file, finished or not; False if this client has no such one.

        Its content stays while anything else refers to it.

        Raises:
            StateError: a job of this client that is not over needs it.
        """
        return self._delete(client, sha256, sa.true())

    def _delete(self, client: str, sha256: str, condition: sa.ColumnElement[bool]) -> bool:
        this = _is(client, sha256) & condition
        with self._lock(client, sha256):
            with self._database.write() as connection:
                # Wait for a job that is being made with it, then look whether one needs it: see jobs.py.
                if connection.execute(sa.select(UPLOADS.c.sha256).where(this).with_for_update()).first() is None:
                    return False
                needing = sa.select(JOBS.c.job_id).join(JOB_FILES, JOB_FILES.c.job_id == JOBS.c.job_id)
                needing = needing.where(JOB_FILES.c.sha256 == sha256, JOBS.c.client == client)
                job_id = connection.execute(needing.where(JOBS.c.state.in_(UNFINISHED)).limit(1)).scalar()
                if job_id is not None:
                    raise StateError(f"the job {job_id} needs it, and is not over", field="sha256")
                connection.execute(sa.delete(UPLOADS).where(this))
            self._ahead.pop((client, sha256), None)
            with typed_disk_errors():
                self._part(client, sha256).unlink(missing_ok=True)
        return True

    def expire(self, partial_before: float, unused_before: float) -> int:
        """Remove unfinished uploads without a piece since `partial_before`, and finished ones without a new job since
        `unused_before`, but for those that a job that is not over needs; returns how many.
        """
        partial = sa.not_(UPLOADS.c.complete) & (UPLOADS.c.last_used < partial_before)
        old = partial | (UPLOADS.c.complete & (UPLOADS.c.last_used < unused_before))
        removed = 0
        for upload in self._all(sa.select(UPLOADS).where(old)):
            try:
                removed += self._delete(upload.client, upload.sha256, old)  # if it still is
            except StateError:
                continue
        return removed

    def close(self) -> None:
        """Make durable what came of unfinished uploads."""
        for client, sha256 in list(self._ahead):
            with self._lock(client, sha256):
                found = self.get(client, sha256)
                if found is not None and not found.complete:
                    self._make_durable(found, found.last_used)
        self._ahead.clear()

    def _admit(self, client: str, growth: int, max_bytes: int | None) -> None:
        used = self.used(client)
        if max_bytes is not None and used + growth > max_bytes:
            text = f"{growth} more bytes would pass the {max_bytes} that you may upload, of which {used} are used"
            raise LimitError(f"{text}; delete what you no longer need", field="size")
        self._blobs.check_room(self._sum(sa.not_(UPLOADS.c.complete)) + growth)

    def _sum(self, condition: sa.ColumnElement[bool]) -> int:
        with self._database.read() as connection:
            return int(connection.execute(sa.select(sa.func.sum(UPLOADS.c.size)).where(condition)).scalar() or 0)

    def _set(self, upload: Upload, **values: Any) -> Upload:
        with self._database.write() as connection:
            this = _is(upload.client, upload.sha256)
            connection.execute(sa.update(UPLOADS).where(this).values(values))
        return replace(upload, **values)

    def _need(self, client: str, sha256: str) -> Upload:
        found = self.get(client, sha256)
        if found is None:
            raise NotFoundError(f'there is no upload "{sha256[:64]}"', field="sha256")
        return found

    def _row(self, client: str, sha256: str) -> Upload | None:
        if not is_sha256(sha256):
            return None
        found = self._all(sa.select(UPLOADS).where(_is(client, sha256)))
        return found[0] if found else None

    def _all(self, query: sa.Select[Any]) -> list[Upload]:
        with self._database.read() as connection:
            return [Upload(**row) for row in connection.execute(query).mappings()]

    def _lock(self, client: str, sha256: str) -> threading.RLock:
        return self._locks[hash((client, sha256)) % len(self._locks)]

    def _part(self, client: str, sha256: str) -> Path:
        # A client's name may hold anything, so a hash of it stands in the file's name.
        return self._folder / f"{hashlib.sha256(client.encode()).hexdigest()[:32]}-{sha256}.part"

    def _tidy(self) -> None:
        """After a crash: a file may be longer than what is certain, have no row, or be gone."""
        known = set()
        for upload in self._all(sa.select(UPLOADS).where(sa.not_(UPLOADS.c.complete))):
            path = self._part(upload.client, upload.sha256)
            size = path.stat().st_size if path.exists() else 0
            if size < upload.received:
                self._set(upload, received=0)
            elif size > upload.received:
                os.truncate(path, upload.received)
            known.add(path.name)
        for path in self._folder.glob("*.part"):
            if path.name not in known:
                path.unlink()


def _check(sha256: str, size: int, content_type: str) -> None:
    if not is_sha256(sha256):
        raise SpecError(f'must be 64 lowercase hexadecimal digits, found "{sha256[:80]}"', field="sha256")
    if not 1 <= size < 2**63:
        raise SpecError(f"must be at least 1, found {size}", field="size")
    if len(content_type) > _MAX_TYPE_CHARS or not content_type.isprintable():
        text = f"must be a media type of at most {_MAX_TYPE_CHARS} printable characters, found {len(content_type)}"
        raise SpecError(text, field="content_type")


def _is(client: str, sha256: str) -> sa.ColumnElement[bool]:
    return (UPLOADS.c.client == client) & (UPLOADS.c.sha256 == sha256)


def _open_or_make(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT, 0o600)


def _write(file: Any, offset: int, data: bytes) -> None:
    file.seek(offset)
    view = memoryview(data)
    while view:  # an unbuffered file may take a part
        view = view[file.write(view) :]
