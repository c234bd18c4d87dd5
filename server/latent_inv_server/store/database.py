"""Connections to SQLite in a file or PostgreSQL by URL; what differs between the two is in here and in schema.py."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from latent_inv.errors import LatentInvError, LimitError, SpecError, UnavailableError
from latent_inv.incidents import as_typed

from .disk import FULL, RETRY_SECONDS, sqlite_found_no_room

#: how long one waits for another's write, in seconds
BUSY_SECONDS = 20
#: names the lock that a server holds in PostgreSQL; any number that no other program is likely to use
_CLAIM = 0x6C61_7465_6E74
_MIGRATION = _CLAIM + 1

_DRIVERS: dict[str, str] = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}


def sqlite_url(path: Path) -> str:
    """The URL of a file, whatever characters its name has."""
    return sa.URL.create("sqlite", database=str(path)).render_as_string()


class Database:
    """One database. Safe to use from several threads.

    A write is durable when its block is left: SQLite with a write-ahead log that is synced at each commit, PostgreSQL
    by its own default.

    Args:
        url: "sqlite:///FILE" or "postgresql://USER:PASSWORD@HOST/NAME".
    Raises:
        SpecError: no such URL, another kind of database, or its driver is not installed.
    """

    def __init__(self, url: str) -> None:
        parsed = _parse(url)
        self.dialect = parsed.get_backend_name()
        self._file = Path(parsed.database or "") if self.dialect == "sqlite" else None
        # SQLite has one writer at a time. Threads queue up here, since its own waiting polls.
        self._writer: Any = threading.Lock() if self._file is not None else nullcontext()
        self._claim: sa.Connection | None = None
        self._blocks, self._closed = 0, False
        self._change = threading.Condition()
        try:
            # Parameters are what clients sent; they stand in no error text and so in no log.
            self._engine = sa.create_engine(
                parsed,
                hide_parameters=True,
                pool_size=8,
                max_overflow=32,
                pool_timeout=BUSY_SECONDS,
                pool_pre_ping=self._file is None,
                connect_args={"timeout": BUSY_SECONDS} if self._file is not None else {"connect_timeout": 10},
            )
        except ModuleNotFoundError as error:
            text = "PostgreSQL needs a driver: pip install 'latent-inv[postgres]'"
            raise SpecError(text, field="database") from error
        if self._file is not None:
            event.listen(self._engine, "connect", _prepare_sqlite)
            event.listen(self._engine, "begin", _begin_sqlite)

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A block that only reads.

        Raises:
            UnavailableError: the database does not answer.
        """
        with self._block(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A block that writes: all of it is durable when it is left, or nothing is changed when it raises.

        IntegrityError comes through as it is, for those who insert first and look afterwards.

        Raises:
            LimitError: the disk is full. UnavailableError: the database does not answer, or is too busy.
        """
        with self._block(), self._writer, self._engine.connect() as connection:
            connection = connection.execution_options(latent_inv_write=True)
            with connection.begin():
                yield connection

    def alone(self, connection: sa.Connection) -> None:
        """Let no other process change tables until the block of `connection` is left."""
        if self.dialect == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION})")

    def claim(self) -> None:
        """Hold a database server's database for this process, as a lock file holds a folder, until `close`.

        Raises:
            UnavailableError: another server holds it, or it does not answer.
        """
        if self.dialect != "postgresql":
            return
        with self._block():
            connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            # The lock belongs to the session, so that shall end with it and not go back to the pool.
            connection.detach()
            if not connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({_CLAIM})").scalar():
                connection.close()
                raise UnavailableError("the database is used by another server")
            self._claim = connection

    def close(self) -> None:
        """Let blocks that are open come to their end, open no others, and close all connections."""
        with self._change:
            # When this returns another server may take over, so no thread may be about to write.
            self._closed = True
            self._change.wait_for(lambda: self._blocks == 0, BUSY_SECONDS)
        if self._claim is not None:
            self._claim.close()
            self._claim = None
        self._engine.dispose()

    @contextmanager
    def _block(self) -> Iterator[None]:
        with self._change:
            if self._closed:
                raise UnavailableError("the store is closed, since the server is stopping")
            self._blocks += 1
        try:
            yield
        except sa.exc.IntegrityError:
            raise
        except SQLAlchemyError as error:
            raise self._told(error) from error
        finally:
            with self._change:
                self._blocks -= 1
                self._change.notify_all()

    def _told(self, error: SQLAlchemyError) -> LatentInvError:
        if isinstance(error, PoolTimeout):
            return UnavailableError("the database is busy", retry_after=1.0)
        if not isinstance(error, DBAPIError):
            return as_typed(error, "the database")
        text, state = str(error.orig), getattr(error.orig, "sqlstate", None)
        if self._file is not None:
            if sqlite_found_no_room(text, self._file):
                return LimitError(FULL, retry_after=RETRY_SECONDS)
            if "is locked" in text:
                return UnavailableError("the database is busy", retry_after=1.0)
        elif state == "53100":
            return LimitError("the disk of the database is full", retry_after=RETRY_SECONDS)
        elif state in ("40P01", "40001", "55P03"):  # deadlock, not serialisable, lock not to be had
            return UnavailableError("the database is busy", retry_after=1.0)
        elif error.connection_invalidated or isinstance(error, sa.exc.OperationalError):
            return UnavailableError("the database does not answer", retry_after=5.0)
        return as_typed(error, "the database")


def _parse(url: str) -> sa.URL:
    # No part of the URL is told, since it may hold a password.
    accepted = 'accepted: "postgresql://USER:PASSWORD@HOST/NAME", or nothing for SQLite in the data folder'
    try:
        parsed = sa.make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise SpecError(f"is not the URL of a database; {accepted}", field="database") from error
    if backend not in _DRIVERS:
        raise SpecError(f'a database of the kind "{backend[:40]}" is not supported; {accepted}', field="database")
    return parsed.set(drivername=_DRIVERS[backend])


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # Transactions are begun by `_begin_sqlite`, not by the driver, which would begin them late.
    connection.isolation_level = None
    cursor = connection.cursor()
    for statement in (
        f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}",
        "PRAGMA journal_mode = WAL",
        "PRAGMA synchronous = FULL",
        "PRAGMA foreign_keys = ON",
    ):
        cursor.execute(statement)
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    # SQLite does not wait for a transaction that read before it wrote, but refuses it. So writers say so at once.
    write = connection.get_execution_options().get("latent_inv_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
