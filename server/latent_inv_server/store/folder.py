"""The data folder: one server's own, with everything that it keeps.

lock            held while a server runs
jobs.sqlite     jobs and uploads, unless a database server keeps them
blobs/          contents by their hash
uploads/        files that are still being sent
"""

from __future__ import annotations

import logging
import os
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from latent_inv.errors import InputError, UnavailableError

from .blobs import FileBlobs
from .database import Database, sqlite_url
from .disk import typed_disk_errors
from .jobs import SqlJobStore
from .rescue import Rescue, mend
from .schema import migrate
from .uploads import SqlUploads

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Store:
    """All that a server keeps; close it, or use it in a `with`.

    Attributes:
        jobs, uploads, blobs: safe to use from several threads until it is closed.
        folder: where.
        rescue: what was done about a damaged database when it was opened; None: it was sound.
    """

    jobs: SqlJobStore
    uploads: SqlUploads
    blobs: FileBlobs
    folder: Path
    rescue: Rescue | None
    _held: ExitStack = field(repr=False)

    def close(self) -> None:
        """Make durable what is not yet, and let go of folder and database. May be called again."""
        self._held.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_store(data: Path | None, url: str = "", budget: int | None = None) -> Store:
    """Open a data folder for this process alone, new or as another run has left it, however that ended.

    A damaged SQLite file is set aside, with a line in the log, and what can be read from it is kept (see rescue.py). A
    PostgreSQL database is for those to mend who run it.

    Args:
        data: made if it is not there; None takes a temporary folder, which goes when the store is closed.
        url: of a PostgreSQL database for jobs and uploads; empty: SQLite in the folder.
        budget: bytes of contents above which new ones are refused, see `FileBlobs`.
    Raises:
        UnavailableError: another server uses the folder or the database, or the database does not answer.
        InputError: the folder cannot be made or written to. SpecError: the URL is none.
        StateError: the database is of a newer version. LimitError: the disk is full.
    """
    with ExitStack() as stack:
        folder = _temporary(stack) if data is None else _folder(Path(data))
        _lock(folder, stack)
        blobs = FileBlobs(folder / "blobs", budget)
        rescue = None
        if not url:
            file = folder / "jobs.sqlite"
            rescue = mend(file)
            url = sqlite_url(file)
        database = Database(url)
        stack.callback(database.close)
        database.claim()
        migrate(database)
        uploads = SqlUploads(database, folder / "uploads", blobs)
        stack.callback(uploads.close)
        return Store(SqlJobStore(database), uploads, blobs, folder, rescue, stack.pop_all())


def _temporary(stack: ExitStack) -> Path:
    with typed_disk_errors():
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix="latent-inv-", ignore_cleanup_errors=True))
    logger.warning("no data folder is set: jobs and files are kept until the server stops")
    return Path(name)


def _folder(path: Path) -> Path:
    try:
        # It holds the pictures of all clients. One that is there already keeps the mode that its owner gave it.
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(f'"{path.name}" is no folder', field="data") from error
    except PermissionError as error:
        raise InputError(f'the folder "{path.name}" cannot be made: {error.strerror}', field="data") from error
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise InputError(f'the folder "{path.name}" may not be read and written by this user', field="data")
    return path


def _lock(folder: Path, stack: ExitStack) -> None:
    # Released by the system however the process ends. A lock that is a mere file would outlive a killed server.
    lock = FileLock(folder / "lock", timeout=0, mode=0o600, thread_local=False, fallback_to_soft=False)
    with typed_disk_errors():
        try:
            lock.acquire()
        except Timeout as error:
            raise UnavailableError(f'the data folder "{folder.name}" is used by another server') from error
        except NotImplementedError as error:
            raise InputError(
                "the file system of the data folder has no locks; choose a local disk", field="data"
            ) from error
    stack.callback(lock.release)
