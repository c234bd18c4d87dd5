"""`latent-inv tokens`, and commands on a server that wants a token."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from latent_inv.cli import app
from latent_inv_server.config import ServerConfig
from latent_inv_server.door.tokens import TokenFile
from latent_inv_server.testing import running_server
from tests.server.door.authority import Authority
from tests.server.door.knocking import clients
from tests.server.fake import FakeEngine, address

runner = CliRunner()
AUTHORITY = Authority()


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def call(*arguments: Any) -> Any:
    return runner.invoke(app, [str(argument) for argument in arguments])


# ---- the file ----------------------------------------------------------------------------------


def test_a_token_is_printed_once_and_alone() -> None:
    done = call("tokens", "add", "tokens.toml", "alice", "--max-queued-jobs", 3)
    assert done.exit_code == 0, done.output
    (token,) = done.stdout.splitlines()
    found = TokenFile(Path("tokens.toml")).clients.of_token(token)
    assert found is not None
    assert (found.name, found.quotas.queued_jobs) == ("alice", 3)
    assert "cannot be shown again" in done.stderr
    listed = call("tokens", "list", "tokens.toml")
    assert "alice  token of 20" in listed.stdout
    assert "max_queued_jobs 3" in listed.stdout
    assert token not in listed.output


def test_as_json() -> None:
    told = json.loads(call("tokens", "add", "tokens.toml", "alice", "--json").stdout)
    assert told["name"] == "alice"
    assert TokenFile(Path("tokens.toml")).clients.of_token(told["token"]) is not None
    told = json.loads(call("tokens", "add", "tokens.toml", "bob", "--no-token", "--json").stdout)
    assert told == {"name": "bob", "token": None}
    listed = json.loads(call("tokens", "list", "tokens.toml", "--json").stdout)
    assert [(entry["name"], entry["token"]) for entry in listed] == [("alice", True), ("bob", False)]


def test_replacing_and_removing() -> None:
    first = call("tokens", "add", "tokens.toml", "alice").stdout.strip()
    refused = call("tokens", "add", "tokens.toml", "alice")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "--replace" in refused.stderr
    second = call("tokens", "add", "tokens.toml", "alice", "--replace").stdout.strip()
    table = TokenFile(Path("tokens.toml")).clients
    assert (table.of_token(first), table.of_token(second) is None) == (None, False)
    assert "certificate only" not in call("tokens", "list", "tokens.toml").stdout
    assert call("tokens", "remove", "tokens.toml", "alice").exit_code == 0
    gone = call("tokens", "remove", "tokens.toml", "alice")
    assert gone.exit_code == 2
    assert 'no client "alice"' in gone.stderr
    assert call("tokens", "list", "tokens.toml").stdout == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["add", "tokens.toml", "a b"], "name: must be 1 to 64 letters"),
        (["add", "no/folder/tokens.toml", "alice"], 'cannot write "tokens.toml"'),
        (["list", "none.toml"], 'no file "none.toml"'),
        (["list", "."], "is a folder"),
        (["remove", "none.toml", "alice"], 'no file "none.toml"'),
    ],
)
def test_an_error_is_one_line_and_2(arguments: list[str], said: str) -> None:
    done = call("tokens", *arguments)
    assert done.exit_code == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


# ---- commands on a server ------------------------------------------------------------------------


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Address of a server with TLS and tokens, in a thread of its own, and a token; its CA is in ca.pem."""
    token = clients(tmp_path / "tokens.toml", "alice")["alice"]
    (tmp_path / "ca.pem").write_bytes(AUTHORITY.pem)
    certificate, key = AUTHORITY.sign("server").write(tmp_path)
    config = ServerConfig(
        port=0, grace_seconds=0, tokens=tmp_path / "tokens.toml", tls_certificate=certificate, tls_key=key
    )
    where: list[str] = []
    ready, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        async with running_server(FakeEngine(), config) as application:
            where.append(address(application))
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(60)
        yield where[0], token
    finally:
        stop.set()
        thread.join(30)


def test_commands_log_in(guarded: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    where, token = guarded
    Path("token").write_text(token + "\n")
    done = call("generators", "--server", where, "--ca", "ca.pem", "--token-file", "token")
    assert done.exit_code == 0, done.output
    assert "A fake" in done.stdout
    drawn = call(
        "sample", 1, "-g", "steps", "-o", "drawn", "--server", where, "--ca", "ca.pem", "--token-file", "token"
    )
    assert drawn.exit_code == 0, drawn.output
    refused = call("generators", "--server", where, "--ca", "ca.pem")
    assert refused.exit_code == 4
    assert "LATENT_INV_TOKEN" in refused.stderr
    assert call("generators", "--server", where).exit_code == 4
    monkeypatch.setenv("LATENT_INV_TOKEN", token)
    monkeypatch.setenv("LATENT_INV_CA", "ca.pem")
    done = call("decode", "drawn/1.safetensors", "-g", "steps", "-o", "again.png", "--server", where)
    assert done.exit_code == 0, done.output
    inverted = call("invert", "again.png", "-g", "steps", "--steps", 2, "--server", where, "-q")
    assert inverted.exit_code == 0, inverted.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--server", "192.0.2.1:1", "--token-file", "token"], "token: would go to 192.0.2.1:1 unencrypted"),
        (["--server", "127.0.0.1:1", "--token-file", "none"], 'token_file: there is no file "none"'),
        (["--server", "127.0.0.1:1", "--token-file", "two"], "token_file: "),
        (["--server", "127.0.0.1:1", "--certificate", "token"], "key: must be given too"),
        (["--token-file", "token"], "token_file: is for work on a server"),
        (["--tls"], "tls: is for work on a server"),
    ],
)
def test_options_that_do_not_go_together(arguments: list[str], said: str) -> None:
    Path("token").write_text("linv_secret")
    Path("two").write_text("linv_secret linv_secret")
    for command in (["generators"], ["sample", "0"], ["decode", "x.npz"], ["invert", "x.png"]):
        done = call(*command, *arguments)
        assert done.exit_code == 2, done.output
        if command[0] in ("generators", "sample"):  # the others look for their file first
            assert said in done.stderr
        assert "secret" not in done.output
