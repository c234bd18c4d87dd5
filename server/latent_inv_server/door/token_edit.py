"""Adding and removing clients. What a person wrote into the file stays: comments, order, quotas."""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import tomlkit
from tomlkit import TOMLDocument

from latent_inv.errors import AlreadyExistsError, NotFoundError
from latent_inv.files import write_bytes
from latent_inv_server.toml import read_toml

from .tokens import QUOTAS, Client, Clients, check_name, hash_of

#: begins every token, so that scanners for lost secrets can know one
TOKEN_PREFIX = "linv_"  # noqa: S105
_HEAD = (
    "Clients of a latent-inv server, and the hashes of their tokens: latent-inv tokens add|list|remove.",
    "The server reads this file again when it changes.",
)


def list_clients(path: Path) -> Mapping[str, Client]:
    """All clients of a file, by name.

    Raises:
        InputError: it cannot be read.
    """
    return Clients(read_toml(path, "tokens")).entries


def add_client(
    path: Path,
    name: str,
    quotas: Mapping[str, int | None] | None = None,
    *,
    replace: bool = False,
    with_token: bool = True,
) -> str:
    """Enter a client, and make its token.

    Args:
        path: made, for its owner alone, if there is none.
        quotas: by their names in the file; those that are not named stay, or are the server's.
        replace: give a client that is there already a new token; the old one is worth nothing from then on.
        with_token: False for one that logs in by its certificate alone.
    Returns:
        the token, which is kept nowhere; empty without one.
    Raises:
        AlreadyExistsError: there is such a client.
        InputError: no name, or a file that cannot be read or written.
    """
    check_name(name)
    token = TOKEN_PREFIX + secrets.token_urlsafe(32) if with_token else ""
    with _edited(path, make=True) as document:
        clients = document.setdefault("clients", tomlkit.table(is_super_table=True))
        if name in clients and not replace:
            text = f'"{name}" is there already; give --replace for a new token in place of the old one'
            raise AlreadyExistsError(text, field="name")
        if name not in clients:
            clients[name] = tomlkit.table()
        entry = clients[name]
        entry.pop("sha256", None)
        if token:
            entry["sha256"] = hash_of(token).hex()
        entry["created"] = datetime.datetime.now(datetime.timezone.utc).date()
        for key, value in (quotas or {}).items():
            entry[key] = "none" if value is None else value
    return token


def remove_client(path: Path, name: str) -> None:
    """Take a client out; its token is worth nothing from then on.

    Raises:
        NotFoundError: there is none of that name. InputError: a file that cannot be read or written.
    """
    with _edited(path, make=False) as document:
        clients = document.get("clients", {})
        if name not in clients:
            raise NotFoundError(f'there is no client "{name[:64]}"', field="name")
        del clients[name]


@contextmanager
def _edited(path: Path, *, make: bool) -> Iterator[TOMLDocument]:
    """The file's content to change; written back only if what comes out is a list of clients."""
    path = path.resolve()  # the file behind a link is replaced, not the link
    if make and not path.exists():
        document = tomlkit.document()
        for line in _HEAD:
            document.add(tomlkit.comment(line))
    else:
        Clients(read_toml(path, "tokens"))
        document = tomlkit.parse(path.read_bytes())
    yield document
    Clients(document.unwrap())
    write_bytes(path, document.as_string().encode(), private=True)


def quotas_text(client: Client) -> str:
    """The quotas that are a client's own, in words; empty if there are none."""
    texts = (f"{key} {'none' if client.own[key] is None else client.own[key]}" for key in QUOTAS if key in client.own)
    return ", ".join(texts)
