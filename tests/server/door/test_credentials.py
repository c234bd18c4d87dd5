"""TLS and mutual TLS with real servers: good certificates, and all the wrong ones."""

from __future__ import annotations

import asyncio
import datetime
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from latent_inv.client import AsyncClient, Client
from latent_inv.errors import InputError, LatentInvError, LoginError, SpecError, UnavailableError
from latent_inv_server.door import credentials as credentials_module
from latent_inv_server.door import door as door_module
from latent_inv_server.door.credentials import ServerCertificates
from latent_inv_server.door.token_edit import add_client
from tests.server.door.authority import Authority, Pair
from tests.server.door.knocking import clients, door, run
from tests.server.fake import PNG, FakeEngine, address, until

AUTHORITY, STRANGER = Authority(), Authority("another authority")


def tls(folder: Path, pair: Pair | None = None) -> dict[str, Any]:
    certificate, key = (pair or AUTHORITY.sign("server")).write(folder)
    return {"tls_certificate": certificate, "tls_key": key}


def mutual(folder: Path) -> dict[str, Any]:
    settings = tls(folder)
    (folder / "ca.pem").write_bytes(AUTHORITY.pem)
    return {**settings, "tls_client_ca": folder / "ca.pem"}


def shown(pair: Pair) -> dict[str, bytes]:
    return {"certificate": pair.certificate, "key": pair.key}


async def refused(where: str, **connection: Any) -> LatentInvError:
    async with AsyncClient(where, timeout=20, **connection) as client:
        with pytest.raises(LatentInvError) as caught:
            await client.generators()
    return caught.value


# ---- TLS ---------------------------------------------------------------------------------------


def test_calls_over_tls_with_both_clients(tmp_path: Path) -> None:
    token = clients(tmp_path / "tokens.toml", "alice")["alice"]
    (tmp_path / "ca.pem").write_bytes(AUTHORITY.pem)

    def blocking(where: str) -> None:
        with Client(where, token=token, ca=tmp_path / "ca.pem") as client:
            assert len(client.generators()) == len(FakeEngine.names)
            assert client.invert(PNG, "steps", steps=2).steps == 2

    async def scenario() -> None:
        async with door(tokens=tmp_path / "tokens.toml", **tls(tmp_path)) as application:
            where = address(application)
            async with AsyncClient(where, token=token, ca=AUTHORITY.pem) as client:
                assert (await client.invert(PNG, "steps", steps=2)).steps == 2
            await asyncio.to_thread(blocking, where)
            assert isinstance(await refused(where, ca=AUTHORITY.pem), LoginError)

    run(scenario)


def test_a_client_that_does_not_trust_the_server_says_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with door(**tls(tmp_path)) as application:
            for connection, said in (
                ({"ca": STRANGER.pem}, "a CA that is not trusted here"),
                ({"tls": True}, "a CA that is not trusted here"),
                ({}, "it may want TLS"),
            ):
                error = await refused(address(application), **connection)
                assert isinstance(error, UnavailableError)
                assert said in str(error)
        async with door() as application:
            error = await refused(address(application), ca=AUTHORITY.pem)
            assert "speaks no TLS" in str(error)
            assert error.retry_after is None, "trying again is of no use"

    run(scenario)


@pytest.mark.parametrize(("days", "said"), [((-3, -1), "has expired"), ((1, 3), "not valid yet")])
def test_a_server_with_a_certificate_out_of_its_time(days: tuple[float, float], said: str) -> None:
    """One that is not ours, as ours does not start with it."""
    pair = AUTHORITY.sign("server", days)

    async def scenario() -> None:
        server = grpc.aio.server()
        credentials = grpc.ssl_server_credentials([(pair.key, pair.certificate)])
        port = server.add_secure_port("127.0.0.1:0", credentials)
        await server.start()
        assert said in str(await refused(f"127.0.0.1:{port}", ca=AUTHORITY.pem))
        await server.stop(0)

    run(scenario)


def test_a_certificate_for_another_name(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with door(**tls(tmp_path)) as application:
            real = address(application)
            options = [("grpc.ssl_target_name_override", "example.org")]
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("latent_inv.client.asynchronous.channel_options", lambda _: options)
                assert "for another name" in str(await refused(real, ca=AUTHORITY.pem))

    run(scenario)


def locked(folder: Path) -> None:
    (folder / "key.pem").write_bytes(AUTHORITY.sign("server").locked_key())


UNUSABLE: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "no certificate file": (lambda f: (f / "certificate.pem").unlink(), "tls_certificate", "no file"),
    "no key file": (lambda f: (f / "key.pem").unlink(), "tls_key", "no file"),
    "no CA file": (lambda f: (f / "ca.pem").unlink(), "tls_client_ca", "no file"),
    "rubbish": (lambda f: (f / "certificate.pem").write_text("x"), "tls_certificate", "no certificate in PEM"),
    "empty": (lambda f: (f / "certificate.pem").write_text(""), "tls_certificate", "no certificate in PEM"),
    "rubbish as key": (lambda f: (f / "key.pem").write_text("x"), "tls_key", "no private key"),
    "rubbish as CA": (lambda f: (f / "ca.pem").write_text("x"), "tls_client_ca", "no certificate in PEM"),
    "files swapped": (
        lambda f: (f / "certificate.pem").write_bytes((f / "key.pem").read_bytes()),
        *("tls_certificate", "no certificate in PEM"),
    ),
    "encrypted key": (locked, "tls_key", "without its password"),
    "another's key": (
        lambda f: (f / "key.pem").write_bytes(AUTHORITY.sign("x").key),
        *("tls_key", "not the key of tls_certificate"),
    ),
    "expired": (lambda f: AUTHORITY.sign("old", (-9, -1)).write(f), "tls_certificate", 'certificate "old" expired on'),
    "not yet valid": (lambda f: AUTHORITY.sign("new", (1, 9)).write(f), "tls_certificate", "check the clock"),
    "expired in the chain": (
        lambda f: (f / "certificate.pem").write_bytes(
            (f / "certificate.pem").read_bytes() + AUTHORITY.sign("between", (-9, -1)).certificate
        ),
        *("tls_certificate", '"between" expired'),
    ),
    "expired CA": (
        lambda f: (f / "ca.pem").write_bytes(Authority("old", (-9, -1)).pem),
        *("tls_client_ca", '"old" expired'),
    ),
}


@pytest.mark.parametrize("what", UNUSABLE)
def test_files_that_cannot_be_used_are_refused_before_anything_is_bound(what: str, tmp_path: Path) -> None:
    spoil, field, said = UNUSABLE[what]
    settings = mutual(tmp_path)
    ServerCertificates(*settings.values())
    spoil(tmp_path)

    async def scenario() -> None:
        with pytest.raises(InputError) as caught:
            async with door(**settings):
                pass
        assert caught.value.field == field
        assert said in str(caught.value)
        assert str(tmp_path) not in str(caught.value)

    run(scenario)


@pytest.mark.parametrize(("days", "warned"), [(13.9, True), (14.1, False)])
def test_a_warning_two_weeks_before_the_end(
    days: float, warned: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = tls(tmp_path, AUTHORITY.sign("server", (-1, days)))
    ServerCertificates(*settings.values())
    assert ("expires on" in caplog.text) == warned


def test_it_is_warned_of_once_a_day_and_when_it_is_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates = ServerCertificates(*tls(tmp_path, AUTHORITY.sign("server", (-1, 10))).values())
    began = credentials_module.now()
    texts = []
    for hours in (0.1, 1, 23, 25, 26, 24 * 9.9, 24 * 10.1, 24 * 10.2, 24 * 11.2):
        caplog.clear()
        monkeypatch.setattr(credentials_module, "now", lambda hours=hours: began + datetime.timedelta(hours=hours))
        certificates.warn_of_the_end()
        texts.append(re_word(caplog.text))
    assert texts == ["", "", "", "expires", "", "expires", "", "", "expired"]


def re_word(text: str) -> str:
    return next((word for word in ("expires", "expired") if f" {word} on" in text), "")


def test_a_key_that_everybody_can_read_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = tls(tmp_path)
    settings["tls_key"].chmod(0o644)
    ServerCertificates(*settings.values())
    assert "chmod 0600" in caplog.text


def test_a_renewed_certificate_is_used_without_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(door_module, "_LOOK_SECONDS", 0.02)
    caplog.set_level(logging.INFO)

    async def works(where: str, ca: bytes) -> None:
        async with AsyncClient(where, ca=ca, timeout=20) as client:
            assert len(await client.generators()) == len(FakeEngine.names)

    async def scenario() -> None:
        async with door(**tls(tmp_path)) as application:
            where = address(application)
            await works(where, AUTHORITY.pem)
            # Half of it is there: the old pair goes on.
            pair = STRANGER.sign("server")
            (tmp_path / "certificate.pem").write_bytes(pair.certificate)
            await until(lambda: "TLS goes on with the certificate from before" in caplog.text)
            await works(where, AUTHORITY.pem)
            (tmp_path / "key.pem").write_bytes(pair.key)
            await until(lambda: "TLS certificate read again" in caplog.text)
            await works(where, STRANGER.pem)
            await works(where, STRANGER.pem)
            assert "not trusted" in str(await refused(where, ca=AUTHORITY.pem))

    run(scenario)


# ---- mutual TLS --------------------------------------------------------------------------------


def test_a_certificate_is_a_login(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with door(**mutual(tmp_path)) as application:
            where = address(application)
            async with AsyncClient(where, ca=AUTHORITY.pem, **shown(AUTHORITY.sign("alice"))) as client:
                assert (await client.invert(PNG, "steps", steps=2)).steps == 2
            nobody = await refused(where, ca=AUTHORITY.pem, **shown(AUTHORITY.sign(None)))
            assert isinstance(nobody, LoginError)
            for wrong in (
                {},
                shown(STRANGER.sign("alice")),
                shown(AUTHORITY.sign("alice", (-9, -1))),
                shown(AUTHORITY.sign("alice", (1, 9))),
            ):
                error = await refused(where, ca=AUTHORITY.pem, **wrong)
                assert isinstance(error, UnavailableError)
                assert "a certificate of this client" in str(error)

    run(scenario)


def test_token_and_certificate_together(tmp_path: Path) -> None:
    tokens = clients(tmp_path / "tokens.toml", "alice", "bob")
    add_client(tmp_path / "tokens.toml", "carol", with_token=False)

    async def scenario() -> None:
        async with door(tokens=tmp_path / "tokens.toml", **mutual(tmp_path)) as application:
            where = address(application)
            for name, token in (("alice", tokens["alice"]), ("alice", ""), ("carol", "")):
                async with AsyncClient(where, token=token, ca=AUTHORITY.pem, **shown(AUTHORITY.sign(name))) as client:
                    assert len(await client.generators()) == len(FakeEngine.names)
            for name, token in (("alice", tokens["bob"]), ("alice", "linv_x"), ("mallory", ""), ("carol", "linv_x")):
                error = await refused(where, token=token, ca=AUTHORITY.pem, **shown(AUTHORITY.sign(name)))
                assert isinstance(error, LoginError)
            # Without a certificate a token is worth nothing.
            error = await refused(where, token=tokens["alice"], ca=AUTHORITY.pem)
            assert isinstance(error, UnavailableError)

    run(scenario)


# ---- what a client is given ----------------------------------------------------------------------

PAIR = AUTHORITY.sign("alice")
ARGUMENTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "certificate alone": ({"certificate": PAIR.certificate}, "key", "must be given too"),
    "key alone": ({"key": PAIR.key}, "certificate", "must be given too"),
    "another's key": (shown(PAIR) | {"key": STRANGER.sign("x").key}, "key", "not the key of certificate"),
    "encrypted key": (shown(PAIR) | {"key": PAIR.locked_key()}, "key", "without its password"),
    "rubbish as CA": ({"ca": b"x"}, "ca", "no certificate in PEM"),
    "no CA file": ({"ca": "no/such/file.pem"}, "ca", 'no file "file.pem"'),
    "a number": ({"ca": 3}, "ca", "found int"),
    "token with a space": ({"token": "a secret"}, "token", "printable ASCII"),
    "token with a line": ({"token": "secret\n"}, "token", "printable ASCII"),
    "token of other letters": ({"token": "sécret"}, "token", "printable ASCII"),
}


@pytest.mark.parametrize("what", ARGUMENTS)
def test_what_a_client_cannot_use(what: str) -> None:
    arguments, field, said = ARGUMENTS[what]
    with pytest.raises(SpecError if what != "no CA file" else InputError) as caught:
        Client("127.0.0.1:1", **arguments)
    assert caught.value.field == field
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)
