"""How a client reaches a server: what is read from where, and a token that never goes in the open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from latent_inv.client import AsyncClient, Client
from latent_inv.client.connection import connection
from latent_inv.errors import SpecError
from tests.server.door.authority import Authority

AUTHORITY = Authority()
REMOTE, SECRET = "192.0.2.1:50051", "linv_secret"


def test_a_token_does_not_go_to_another_machine_in_the_open() -> None:
    with pytest.raises(SpecError, match="unencrypted") as caught:
        connection(REMOTE, token=SECRET, environ={})
    assert caught.value.field == "token"
    assert SECRET not in str(caught.value)
    with pytest.raises(SpecError, match="unencrypted"):
        connection(REMOTE, environ={"LATENT_INV_TOKEN": SECRET})
    with pytest.raises(SpecError, match="unencrypted"):
        Client(REMOTE, token=SECRET)
    with pytest.raises(SpecError, match="unencrypted"):
        AsyncClient(REMOTE, token=SECRET)


@pytest.mark.parametrize(
    "arguments",
    [
        {"token": SECRET, "tls": True},
        {"token": SECRET, "ca": AUTHORITY.pem},
        {"token": SECRET, "insecure_token": True},
        {"token": ""},
        {},
    ],
)
def test_but_it_does_otherwise(arguments: dict[str, Any]) -> None:
    made = connection(REMOTE, environ={}, **arguments)
    assert made.token == arguments.get("token", "")
    assert made.tls == ("tls" in arguments or "ca" in arguments)


def test_to_this_machine_it_goes_as_it_is() -> None:
    assert connection("127.0.0.1:1", token=SECRET, environ={}).token == SECRET
    assert not connection("127.0.0.1:1", token=SECRET, environ={}).tls


def test_the_environment_is_asked_where_nothing_is_given(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(AUTHORITY.pem)
    environ = {"LATENT_INV_TOKEN": f"{SECRET}\n", "LATENT_INV_CA": str(tmp_path / "ca.pem")}
    made = connection(REMOTE, environ=environ)
    assert (made.token, made.ca, made.tls) == (SECRET, AUTHORITY.pem, True)
    other = Authority("other").pem
    made = connection(REMOTE, token="linv_other", ca=other, environ=environ)
    assert (made.token, made.ca) == ("linv_other", other)
    empty = connection("127.0.0.1:1", environ={"LATENT_INV_TOKEN": "", "LATENT_INV_CA": ""})
    assert (empty.token, empty.ca, empty.tls) == ("", None, False)


def test_files_and_bytes_are_the_same(tmp_path: Path) -> None:
    pair = AUTHORITY.sign("alice")
    certificate, key = pair.write(tmp_path)
    one = connection("127.0.0.1:1", certificate=certificate, key=str(key), environ={})
    assert one == connection("127.0.0.1:1", certificate=pair.certificate, key=pair.key, environ={})
    assert one.tls


def test_nothing_secret_is_shown() -> None:
    pair = AUTHORITY.sign("alice")
    made = connection("127.0.0.1:1", token=SECRET, certificate=pair.certificate, key=pair.key, environ={})
    assert SECRET not in repr(made)
    assert "PRIVATE" not in repr(made)
