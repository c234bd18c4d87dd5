"""Data folder and database: may they be used, who uses them, and is there room? Nothing is made or changed."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sa
from filelock import FileLock, Timeout

from latent_inv.errors import LatentInvError
from latent_inv_server.config import MIB, ServerConfig
from latent_inv_server.store.database import Database
from latent_inv_server.store.schema import META, NEWEST

from .finding import Finding, fail, ok, warn

#: with less room than this not even the results of running jobs can be kept
_LEAST_BYTES = 64 * MIB
_VERSION = "schema_version"


def folder(config: ServerConfig) -> list[Finding]:
    """The folder, its owner, its lock, and the room on its disk."""
    path = config.data
    if path is None:
        text = "none is set, so jobs and files are gone when the server stops"
        return [warn("data folder", text, "set data to a folder on a local disk")]
    if not path.exists():
        return [_to_be_made(path), *_room(_nearest(path), config)]
    if not path.is_dir():
        return [fail("data folder", f"{path} is no folder", "set data to a folder")]
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return [fail("data folder", f"{path} may not be read and written by this user", f"chown it: {_owner(path)}")]
    return [_seen(path), _lock(path), *_room(path, config)]


def _to_be_made(path: Path) -> Finding:
    near = _nearest(path)
    if os.access(near, os.W_OK | os.X_OK):
        return ok("data folder", f"{path} is made when the server starts")
    return fail("data folder", f"{path} cannot be made: {near} may not be written by this user", _owner(path))


def _owner(path: Path) -> str:
    return f"run the server as the folder's owner, or give it to this user: chown -R {_user()} {path}"


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else "USER"


def _nearest(path: Path) -> Path:
    """The first folder above it that is there."""
    return next(above for above in path.absolute().parents if above.exists())


def _seen(path: Path) -> Finding:
    if os.name == "posix" and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        text = f"{path} can be entered by others on this machine, and holds the pictures of all clients"
        return warn("data folder", text, f"chmod 700 {path}")
    return ok("data folder", f"{path} is this user's")


def _lock(path: Path) -> Finding:
    lock = path / "lock"
    if not lock.exists():
        return ok("data lock", "no server has used the folder yet")
    try:
        with FileLock(lock, timeout=0, fallback_to_soft=False):
            return ok("data lock", "free")
    except Timeout:
        return ok("data lock", "held: a server uses the folder, so a second one could not")
    except (OSError, NotImplementedError):
        return fail("data lock", "the file system has no locks", "set data to a folder on a local disk")


def _room(path: Path, config: ServerConfig) -> list[Finding]:
    free = shutil.disk_usage(path).free
    used = sum(each.stat().st_size for each in _blobs(config))
    budget = config.disk_budget_mb * MIB
    text = f"{free / MIB:.0f} MiB free, {used / MIB:.0f} of {config.disk_budget_mb} MiB of the budget used"
    if free < _LEAST_BYTES:
        return [fail("disk", text, "make room: with a full disk jobs are refused and wait")]
    if free < budget - used:
        return [warn("disk", text, "lower disk_budget_mb, or make room: the disk is full before the budget is")]
    return [ok("disk", text)]


def _blobs(config: ServerConfig) -> list[Path]:
    root = config.data
    return [] if root is None else [each for each in (root / "blobs").rglob("*") if each.is_file()]


def database(config: ServerConfig) -> list[Finding]:
    """The database: is it reached, sound, and of a version that this server knows?"""
    if config.database:
        return [_server(config.database)]
    file = None if config.data is None else config.data / "jobs.sqlite"
    if file is None or not file.exists():
        return [ok("database", "SQLite, made when the server starts")]
    return [_sqlite(file)]


def _server(url: str) -> Finding:
    advice = "is it running, and are name, user and password those of its setup?"
    try:
        reached = Database(url)
        try:
            with reached.read() as connection:
                there = sa.inspect(connection).has_table(META.name)
                row = (
                    connection.execute(sa.select(META.c.value).where(META.c.name == _VERSION)).scalar() if there else 0
                )
        finally:
            reached.close()
    except LatentInvError as error:
        return fail("database", str(error), advice)
    return _version(int(row or 0), reached.dialect)


def _sqlite(file: Path) -> Finding:
    damaged = "the next start sets the file aside and keeps what can be read; make a copy of the folder before"
    try:
        # Read only, so that a look by another user leaves no file of its own behind.
        with sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True, timeout=2) as connection:
            sound = connection.execute("PRAGMA quick_check(1)").fetchone()
            row = connection.execute("SELECT value FROM meta WHERE name = ?", (_VERSION,)).fetchone()
        connection.close()
    except sqlite3.OperationalError as error:
        if "locked" in str(error) or "busy" in str(error):
            return ok("database", "SQLite, in use")
        return fail("database", f"SQLite cannot read it: {error}", damaged)
    except sqlite3.DatabaseError as error:
        return fail("database", f"SQLite says it is damaged: {error}", damaged)
    if sound is None or sound[0] != "ok":
        return fail("database", "SQLite says it is damaged", damaged)
    return _version(int(row[0]) if row else 0, "SQLite")


def _version(found: int, kind: str) -> Finding:
    if found > NEWEST:
        text = f"{kind}, schema version {found}, of a newer server; this one knows those up to {NEWEST}"
        return fail("database", text, "use the newer server, or the data folder of a backup")
    if found == NEWEST:
        return ok("database", f"{kind}, schema version {found}")
    return ok("database", f"{kind}, schema version {found or 'none'}, brought to {NEWEST} by the next start")
