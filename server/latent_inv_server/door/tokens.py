"""The file of clients: a name, the hash of its token, and what it may have.

    [clients.alice]
    sha256 = "…"               # of the token; without it she can only log in by a certificate
    created = 2026-01-31
    max_queued_jobs = 100      # these three only where she has another limit than the rest; "none": no limit
    max_running_jobs = 2
    max_upload_mb = 4096

A token is 256 random bits. Nobody finds one by trying, so that a plain SHA-256 keeps it as safe as a slow, salted hash
would: those protect secrets that people think up. A slow hash would be computed for every call, of strangers too, which
is a way to keep a server busy.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import stat
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latent_inv.errors import LatentInvError, SpecError, at, unknown_name
from latent_inv_server.config import MIB
from latent_inv_server.toml import read_toml

from .identity import Caller, Quotas

logger = logging.getLogger(__name__)

#: every login looks at all of them
MAX_CLIENTS = 10_000
#: a longer one is no token, and is not hashed
MAX_TOKEN_CHARS = 512
#: setting of a client → (field of `Quotas`, how many of its units are one of the setting's)
QUOTAS: Mapping[str, tuple[str, int]] = {
    "max_queued_jobs": ("queued_jobs", 1),
    "max_running_jobs": ("running_jobs", 1),
    "max_upload_mb": ("upload_bytes", MIB),
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Client:
    """One entry: who may call.

    Attributes:
        sha256: of the token, 32 bytes; None: no token, only a certificate.
        created: date of the token, for people.
        own: the quotas that stand in the entry, by their names there.
    """

    caller: Caller
    sha256: bytes | None
    created: str
    own: Mapping[str, int | None]


class Clients:
    """All entries of a file, as they are at one time.

    Args:
        tables: the content of the file.
        defaults: quotas of those who have none of their own.
    Raises:
        SpecError: an entry that is none; the text holds no hash.
    """

    def __init__(self, tables: Mapping[str, Any], defaults: Quotas = Quotas()) -> None:
        for name in tables:
            if name != "clients":
                raise unknown_name("table", name, ["clients"], field="tokens")
        entries = tables.get("clients", {})
        if not isinstance(entries, Mapping):
            raise SpecError("must be a table of clients, [clients.NAME]", field="tokens.clients")
        if len(entries) > MAX_CLIENTS:
            raise SpecError(f"has {len(entries)} clients, at most {MAX_CLIENTS} are accepted", field="tokens")
        self.entries: Mapping[str, Client] = {name: _client(name, entry, defaults) for name, entry in entries.items()}
        seen: dict[bytes, str] = {}
        for name, client in self.entries.items():
            if client.sha256 is not None and seen.setdefault(client.sha256, name) != name:
                raise SpecError(f'is the token of "{seen[client.sha256]}" as well', field=f"tokens.clients.{name}")

    def of_token(self, token: str) -> Caller | None:
        """Whose token it is. Compares in constant time, and with every entry whichever fits."""
        if len(token) > MAX_TOKEN_CHARS:
            return None
        digest, found = hash_of(token), None
        for client in self.entries.values():
            if hmac.compare_digest(client.sha256 or b"", digest):
                found = client.caller
        return found

    def named(self, name: str) -> Caller | None:
        """The client of that name."""
        client = self.entries.get(name)
        return None if client is None else client.caller


def hash_of(token: str) -> bytes:
    """SHA-256 of a token, 32 bytes."""
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


def check_name(name: str, field: str = "name") -> None:
    """Refuse what cannot be the name of a client.

    Raises:
        SpecError: anything but 1 to 64 letters, digits, ".", "_" or "-", the first a letter or digit.
    """
    if not is_name(name):
        text = 'must be 1 to 64 letters, digits, ".", "_" or "-", and begin with a letter or digit'
        raise SpecError(f"{text}, found {name[:40]!r}", field=field)


def is_name(name: str) -> bool:
    """Can this be the name of a client?"""
    return _NAME.fullmatch(name) is not None


def _client(name: str, entry: Any, defaults: Quotas) -> Client:
    field = f"tokens.clients.{name[:64]}"
    check_name(name, "tokens.clients")
    if not isinstance(entry, Mapping):
        raise SpecError(f"must be a table, [clients.{name}]", field=field)
    known = ["sha256", "created", *QUOTAS]
    for key in entry:
        if key not in known:
            raise unknown_name("setting of a client", key, known, field=field)
    sha256 = entry.get("sha256")
    if sha256 is not None and not (isinstance(sha256, str) and _HASH.fullmatch(sha256)):
        raise SpecError("must be the SHA-256 of the token, as 64 lowercase hexadecimal digits", field=f"{field}.sha256")
    own = {key: _quota(entry[key], f"{field}.{key}") for key in QUOTAS if key in entry}
    quotas: dict[str, int | None] = {}
    for key, (attribute, scale) in QUOTAS.items():
        value = own.get(key)
        quotas[attribute] = getattr(defaults, attribute) if key not in own else None if value is None else value * scale
    digest = None if sha256 is None else bytes.fromhex(sha256)
    return Client(Caller(name, Quotas(**quotas)), digest, str(entry.get("created", "")), own)


def _quota(value: Any, field: str) -> int | None:
    if value == "none":
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise SpecError(f'must be a whole number ≥ 0 or "none", found {value!r:.40}', field=field)
    return value


class TokenFile:
    """A file of clients that is read again when it changes. Safe to use from several threads.

    Args:
        defaults: quotas of those who have none of their own.
    Raises:
        InputError: it cannot be read, or anybody may write to it.
    """

    def __init__(self, path: Path, defaults: Quotas = Quotas()) -> None:
        self._path, self._defaults = path, defaults
        self._lock = threading.Lock()
        self._seen: object = _stamp(path)
        self.clients = self._read()
        if not self.clients.entries:
            logger.warning('"%s" names no client: nobody can log in', path.name)

    def refresh(self, force: bool = False) -> bool:
        """Read the file if it changed since the last look.

        A file that is gone or wrong changes nothing but the log: whoever could log in still can.

        Returns:
            True if there is a new list.
        """
        with self._lock:
            stamp = _stamp(self._path)
            if stamp == self._seen and not force:
                return False
            self._seen = stamp
            try:
                self.clients = self._read()
            except LatentInvError as error:
                logger.error("the clients stay as they were, their file cannot be used: %s", error)
                return False
        logger.info("clients read again: %d", len(self.clients.entries))
        return True

    def _read(self) -> Clients:
        tables = read_toml(self._path, "tokens")
        with at("tokens"):
            check_writers(self._path)
        return Clients(tables, self._defaults)


def check_writers(path: Path) -> None:
    """Refuse a file in which anybody on this machine could make itself a client.

    Raises:
        SpecError: everybody may write to it.
    """
    if os.name == "posix" and path.stat().st_mode & stat.S_IWOTH:
        raise SpecError(f'"{path.name:.80}" can be written by everybody on this machine; chmod o-w it')


def _stamp(path: Path) -> object:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_mode
