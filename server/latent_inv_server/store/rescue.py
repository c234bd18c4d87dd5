"""A damaged SQLite file: noticed before it is used, set aside, and what can be read from it kept.

1. If a rescue was interrupted after its last step but one, that step is done: `_swap`.
2. The file is checked. If it is sound, that is all.
3. What can be read goes, row by row, into a new file beside it, which gets its final name but one when it is whole.
4. The damaged file gets a name with the time, and the new one takes its place.

Killed at any moment, the next start begins with 1 and nothing is lost or taken twice.
"""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from latent_inv.errors import LimitError, UnavailableError

from .database import Database, sqlite_url
from .disk import FULL, RETRY_SECONDS, sqlite_found_no_room, sync, typed_disk_errors
from .jobs import insert, to_record
from .schema import JOBS, UPLOADS, migrate

logger = logging.getLogger(__name__)

#: rows are looked for one by one across a gap of at most so many numbers
_MAX_GAP = 100_000
#: and for so many numbers behind the last one that was read, where no end is known
_BEYOND = 1_000
#: files that make up one database
_SUFFIXES = ("", "-wal", "-shm")
_STRANGE = (KeyError, ValueError, TypeError, AttributeError)
_UNREADABLE = (sqlite3.Error, UnicodeError, MemoryError, OverflowError)

_Row = dict[str, Any]


@dataclass(frozen=True)
class Rescue:
    """What was done about a damaged database.

    Attributes:
        reason: what was wrong, in SQLite's words.
        aside: the name in the data folder under which the damaged file is now.
        jobs, uploads: rows that were saved.
    """

    reason: str
    aside: str
    jobs: int
    uploads: int


def mend(path: Path) -> Rescue | None:
    """See that a sound database, or none, is at `path`; nobody else may use it meanwhile.

    Returns:
        what was done; None: nothing had to be.
    Raises:
        LimitError: no room for the rescue; nothing was changed. UnavailableError: the file cannot be opened.
    """
    rescued, part, copy = (path.with_name(f"{path.stem}.{name}{path.suffix}") for name in ("rescued", "part", "copy"))
    with typed_disk_errors():
        _remove(part)
        _remove(copy)
        if rescued.exists():
            logger.warning("a rescue of the job database was interrupted, and is finished now")
            _swap(path, rescued)
        reason = damage(path)
        if not reason:
            return None
        try:
            jobs, uploads = _save(path, copy, part)
            os.replace(part, rescued)
            sync(path.parent)
        finally:
            _remove(part)
            _remove(copy)
        aside = _swap(path, rescued)
    logger.error(
        'the job database was damaged (%s) and is set aside as "%s"; what could be read is kept: %d jobs, %d uploads',
        *(reason, aside, jobs, uploads),
    )
    return Rescue(reason, aside, jobs, uploads)


def damage(path: Path) -> str:
    """What is wrong with a SQLite file, in a few words; empty if it is sound or not there.

    Raises:
        LimitError, UnavailableError: it cannot be looked at, for a reason that is not in the file.
    """
    if not path.exists():
        log = path.with_name(path.name + "-wal")
        return "its main file is missing" if log.exists() and log.stat().st_size else ""
    if path.stat().st_size == 0:
        return "the file is empty"
    if not os.access(path, os.R_OK | os.W_OK):
        raise UnavailableError("the job database may not be read and written by this user")
    try:
        with closing(sqlite3.connect(path, timeout=1.0)) as connection:
            found = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
            return _strange_row(connection) if found == "ok" else " ".join(found.split())[:200]
    except sqlite3.OperationalError as error:
        # What the disk or another process does is no fault of the file's.
        if sqlite_found_no_room(str(error), path):
            raise LimitError(FULL, retry_after=RETRY_SECONDS) from error
        if any(word in str(error) for word in ("locked", "disk I/O")):
            raise UnavailableError(f"the job database cannot be opened: {error}") from error
        return str(error)[:200]
    except sqlite3.DatabaseError as error:
        return str(error)[:200]


def _strange_row(connection: sqlite3.Connection) -> str:
    """SQLite's own check looks at the shape of the tree, not at what the values mean."""
    connection.row_factory = sqlite3.Row
    for table in (JOBS, UPLOADS):
        if not _has(connection, table):
            continue  # new, or of a version that the migrations will bring here
        for row in connection.execute(f"SELECT * FROM {table.name}"):  # noqa: S608, the name is one of ours
            values = _typed(row, table)
            if values is None or (table is JOBS and not _is_job(values)):
                return f"a row of {table.name} cannot be read"
    return ""


def _is_job(row: _Row) -> bool:
    try:
        to_record(row)
    except _STRANGE:
        return False
    return True


def _save(path: Path, copy: Path, part: Path) -> tuple[int, int]:
    """Write what can be read of `path` into a new database at `part`; returns the rows of jobs and of uploads."""
    # A copy is read, since opening a database changes it.
    for suffix in ("", "-wal"):
        source = path.with_name(path.name + suffix)
        if source.exists():
            shutil.copyfile(source, copy.with_name(copy.name + suffix))
    database = Database(sqlite_url(part))
    try:
        migrate(database)
        with database.write() as connection:
            counts = _fill(connection, copy)
    finally:
        database.close()
    with closing(sqlite3.connect(part)) as connection:
        # One file can be renamed at once, a file and its log can not.
        if connection.execute("PRAGMA journal_mode = DELETE").fetchone()[0] != "delete":
            raise UnavailableError("what was saved of the job database could not be put into one file")
    sync(part)
    return counts


def _fill(connection: sa.Connection, copy: Path) -> tuple[int, int]:
    jobs = uploads = 0
    for row in _rows(copy, JOBS):
        try:
            with connection.begin_nested():
                insert(connection, to_record(row))
        except (IntegrityError, *_STRANGE):
            continue  # a row that is no job, or the same one again
        jobs += 1
    for row in _rows(copy, UPLOADS):
        try:
            with connection.begin_nested():
                connection.execute(sa.insert(UPLOADS).values(row))
        except IntegrityError:
            continue
        uploads += 1
    return jobs, uploads


def _rows(path: Path, table: sa.Table) -> Iterator[_Row]:
    """Every row that can be read and has values of the right types; the same one may come twice."""
    if not path.exists() or path.stat().st_size == 0:
        return
    with closing(sqlite3.connect(path, timeout=1.0)) as connection:
        connection.row_factory = sqlite3.Row
        try:
            # Without this, SQLite refuses a file that is shorter than it should be.
            connection.execute("PRAGMA writable_schema = ON")
            if not _has(connection, table):
                return
        except _UNREADABLE:
            return
        for row in _numbered(connection, table.name):
            found = _typed(row, table)
            if found is not None:
                yield found


def _has(connection: sqlite3.Connection, table: sa.Table) -> bool:
    columns = {str(row["name"]) for row in connection.execute(f"PRAGMA table_info({table.name})")}
    return {column.name for column in table.columns} <= columns


def _numbered(connection: sqlite3.Connection, table: str) -> Iterator[sqlite3.Row]:
    """From the front until one cannot be read, from the back until one cannot, then one by one across the gap."""
    query = f"SELECT rowid AS number_, * FROM {table}"  # noqa: S608, the name is one of ours
    front, whole = yield from _walk(connection, f"{query} ORDER BY rowid")
    if whole:
        return
    front = 0 if front is None else front
    back, _ = yield from _walk(connection, f"{query} WHERE rowid > {front} ORDER BY rowid DESC")
    end = back if back is not None else front + _BEYOND
    for number in range(front + 1, min(end, front + _MAX_GAP)):
        yield from _walk(connection, f"{query} WHERE rowid = {number}")


def _walk(connection: sqlite3.Connection, query: str) -> Generator[sqlite3.Row, None, tuple[int | None, bool]]:
    """Rows until one cannot be read; returns the number of the last one, and whether it is the end."""
    last: int | None = None
    try:
        for row in connection.execute(query):
            last = row["number_"]
            yield row
    except _UNREADABLE:
        return last, False
    return last, True


def _typed(row: sqlite3.Row, table: sa.Table) -> _Row | None:
    """The row, if its values are what its columns say: SQLite itself takes any type anywhere."""
    found: _Row = {}
    for column in table.columns:
        value, kind = row[column.name], column.type.python_type
        if kind is bool and value in (0, 1):
            value = bool(value)
        if not (isinstance(value, kind) or (value is None and column.nullable)):
            return None
        found[column.name] = value
    return found


def _swap(path: Path, rescued: Path) -> str:
    """Give the damaged files a name with the time, and the rescued one theirs; returns that name."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    number, aside = 1, path.with_name(f"{path.stem}.damaged-{stamp}{path.suffix}")
    while aside.exists():
        number, aside = number + 1, path.with_name(f"{path.stem}.damaged-{stamp}-{number}{path.suffix}")
    # No old log may lie beside the new file, which would be read as its own.
    for suffix in _SUFFIXES:
        source = path.with_name(path.name + suffix)
        if source.exists():
            os.rename(source, aside.with_name(aside.name + suffix))
    sync(path.parent)
    os.replace(rescued, path)
    sync(path.parent)
    return aside.name


def _remove(path: Path) -> None:
    for suffix in (*_SUFFIXES, "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
