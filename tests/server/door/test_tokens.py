"""The file of clients: written by the command, by hand, while the server runs, and wrongly."""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import re
import signal
import stat
from pathlib import Path

import pytest

from latent_inv.client import AsyncClient
from latent_inv.errors import AlreadyExistsError, InputError, LoginError, NotFoundError, SpecError
from latent_inv_server.config import ServerConfig
from latent_inv_server.door import door as door_module
from latent_inv_server.door.identity import Quotas
from latent_inv_server.door.token_edit import TOKEN_PREFIX, add_client, list_clients, remove_client
from latent_inv_server.door.tokens import Clients, TokenFile, hash_of
from latent_inv_server.main import _serve
from latent_inv_server.stopping import Stop
from tests.server.door.knocking import clients, door, run
from tests.server.fake import FakeEngine, address, until

POSIX = pytest.mark.skipif(os.name != "posix", reason="modes and owners are POSIX's")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.toml"


# ---- the file ----------------------------------------------------------------------------------


def test_a_token_is_random_and_only_its_hash_is_kept(path: Path) -> None:
    tokens = [*clients(path, "alice", "bob").values()]
    for token in tokens:
        assert re.fullmatch(TOKEN_PREFIX + r"[A-Za-z0-9_-]{43}", token), "256 bits"
        assert token not in path.read_text()
        assert hash_of(token).hex() in path.read_text()
    assert tokens[0] != tokens[1]


@POSIX
def test_a_new_file_is_for_its_owner_alone_and_an_old_one_keeps_its_mode(path: Path) -> None:
    add_client(path, "alice")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)
    add_client(path, "bob")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can give files away")
def test_written_by_root_it_stays_the_service_s(path: Path) -> None:
    add_client(path, "alice")
    os.chown(path, 65534, 65534)
    remove_client(path, "alice")
    assert (path.stat().st_uid, path.stat().st_gid) == (65534, 65534)


@POSIX
def test_the_file_behind_a_link_is_written(tmp_path: Path, path: Path) -> None:
    add_client(tmp_path / "real.toml", "alice")
    path.symlink_to(tmp_path / "real.toml")
    add_client(path, "bob")
    assert path.is_symlink()
    assert list(list_clients(tmp_path / "real.toml")) == ["alice", "bob"]


def test_what_a_person_wrote_stays(path: Path) -> None:
    add_client(path, "alice", {"max_queued_jobs": 3})
    path.write_text(path.read_text() + "# on holiday until May\nmax_running_jobs = 2 # enough\n")
    add_client(path, "bob", {"max_upload_mb": None})
    add_client(path, "alice", replace=True)
    text = path.read_text()
    assert "# on holiday until May" in text
    assert "# enough" in text
    entries = list_clients(path)
    assert entries["alice"].own == {"max_queued_jobs": 3, "max_running_jobs": 2}
    assert entries["bob"].own == {"max_upload_mb": None}


def test_a_name_is_given_once(path: Path) -> None:
    first = add_client(path, "alice")
    before = path.read_bytes()
    with pytest.raises(AlreadyExistsError, match="--replace"):
        add_client(path, "alice")
    assert path.read_bytes() == before
    second = add_client(path, "alice", replace=True)
    table = TokenFile(path).clients
    assert table.of_token(first) is None
    found = table.of_token(second)
    assert found is not None
    assert found.name == "alice"


def test_removing(path: Path) -> None:
    clients(path, "alice", "bob")
    remove_client(path, "alice")
    assert list(list_clients(path)) == ["bob"]
    with pytest.raises(NotFoundError, match='no client "alice"'):
        remove_client(path, "alice")
    remove_client(path, "bob")
    assert list_clients(path) == {}
    with pytest.raises(InputError, match="no file"):
        remove_client(path.with_name("none.toml"), "alice")


@pytest.mark.parametrize("name", ["", "a b", "../x", "-x", ".x", "ä", "x" * 65, "a/b", "a\n", 'a"', "a]\n[x"])
def test_names_that_are_none(name: str, path: Path) -> None:
    with pytest.raises(SpecError, match="letters, digits"):
        add_client(path, name)
    assert not path.exists()


@pytest.mark.parametrize("name", ["alice", "a.b-c_d", "7", "x" * 64])
def test_names_with_signs(name: str, path: Path) -> None:
    token = add_client(path, name)
    found = TokenFile(path).clients.of_token(token)
    assert found is not None
    assert found.name == name


HASH = "ab" * 32
BAD = {
    "not TOML": ("[clients\nx = 1\n", "as TOML at line 1"),
    "not text": ("\xff\xfe", "UTF-8"),
    "another table": ("[users.alice]\n", 'unknown table "users"'),
    "no table of clients": ("clients = 3\n", "tokens.clients: must be a table"),
    "no table of a client": ("[clients]\nalice = 'x'\n", "tokens.clients.alice: must be a table"),
    "name": (f'[clients."a b"]\nsha256 = "{HASH}"\n', "letters, digits"),
    "unknown setting": ("[clients.alice]\nsha265 = 'x'\n", 'did you mean "sha256"'),
    "short hash": (f'[clients.alice]\nsha256 = "{HASH[:-1]}"\n', "64 lowercase"),
    "upper hash": (f'[clients.alice]\nsha256 = "{HASH.upper()}"\n', "64 lowercase"),
    "number as hash": ("[clients.alice]\nsha256 = 3\n", "64 lowercase"),
    "one token of two": (
        f'[clients.alice]\nsha256 = "{HASH}"\n[clients.bob]\nsha256 = "{HASH}"\n',
        'tokens.clients.bob: is the token of "alice" as well',
    ),
    "quota": ("[clients.alice]\nmax_queued_jobs = -1\n", 'max_queued_jobs: must be a whole number ≥ 0 or "none"'),
    "truth as quota": ("[clients.alice]\nmax_queued_jobs = true\n", "found True"),
}


@pytest.mark.parametrize("what", BAD)
def test_files_that_are_none(what: str, path: Path) -> None:
    text, said = BAD[what]
    path.write_bytes(text.encode("latin-1" if what == "not text" else "utf-8"))
    with pytest.raises(InputError) as caught:
        TokenFile(path)
    assert said in str(caught.value)
    assert HASH not in str(caught.value).lower()
    assert str(path.parent) not in str(caught.value)
    with pytest.raises(InputError):
        add_client(path, "carol")
    assert path.read_bytes() == text.encode("latin-1" if what == "not text" else "utf-8"), "left as it was"


@POSIX
def test_a_file_that_anybody_may_write_is_refused(path: Path) -> None:
    add_client(path, "alice")
    path.chmod(0o602)
    with pytest.raises(SpecError, match="chmod o-w") as caught:
        TokenFile(path)
    assert caught.value.field == "tokens"


def test_too_many_clients() -> None:
    with pytest.raises(SpecError, match="at most 10000"):
        Clients({"clients": {f"c{number}": {} for number in range(10_001)}})


def test_nobody_can_log_in_to_an_empty_list(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_text("")
    assert TokenFile(path).clients.of_token("") is None
    assert "nobody can log in" in caplog.text


# ---- comparing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("of", ["first", "last", "nobody"])
def test_every_entry_is_compared_in_constant_time(of: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = {**clients(path, "first"), **clients(path, "middle", "last")}
    add_client(path, "certificate", with_token=False)
    table = TokenFile(path).clients
    compared: list[tuple[bytes, bytes]] = []
    honest = hmac.compare_digest

    def counting(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return honest(a, b)

    monkeypatch.setattr(hmac, "compare_digest", counting)
    found = table.of_token(tokens.get(of, "linv_nobody"))
    assert (found.name if found else "nobody") == of
    assert len(compared) == 4
    assert {b for _, b in compared} == {hash_of(tokens.get(of, "linv_nobody"))}, "hashes, not tokens"


def test_the_empty_token_is_nobody_s(path: Path) -> None:
    add_client(path, "certificate", with_token=False)
    table = TokenFile(path).clients
    assert table.of_token("") is None
    assert table.named("certificate") is not None
    assert table.named("nobody") is None


def test_quotas_are_one_s_own_or_the_server_s(path: Path) -> None:
    add_client(path, "alice", {"max_queued_jobs": 3, "max_upload_mb": None})
    add_client(path, "bob", {"max_upload_mb": 2})
    defaults = Quotas(queued_jobs=10, running_jobs=4, upload_bytes=99)
    table = TokenFile(path, defaults).clients
    alice, bob = table.named("alice"), table.named("bob")
    assert alice is not None
    assert bob is not None
    assert alice.quotas == Quotas(3, 4, None)
    assert bob.quotas == Quotas(10, 4, 2 * 2**20)


# ---- changed while the server runs ---------------------------------------------------------------


def test_a_change_is_taken_without_a_restart(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(door_module, "_LOOK_SECONDS", 0.02)
    tokens = dict(clients(path, "alice"))

    async def scenario() -> None:
        async with door(tokens=path, max_queued_per_client=9) as application:

            def known() -> set[str]:
                file = application.door._tokens
                assert file is not None
                return set(file.clients.entries)

            async def login(name: str) -> None:
                async with AsyncClient(address(application), token=tokens[name]) as client:
                    await client.generators()

            await login("alice")
            tokens["bob"] = add_client(path, "bob", {"max_queued_jobs": 2})
            await until(lambda: known() == {"alice", "bob"})
            await login("bob")
            assert application.door.quotas_of("bob").queued_jobs == 2
            remove_client(path, "alice")
            await until(lambda: known() == {"bob"})
            with pytest.raises(LoginError):
                await login("alice")
            assert application.door.quotas_of("alice").queued_jobs == 9
            # A file that is half written, wrong or gone locks nobody out.
            for spoil in (lambda: path.write_text("[clients.bob]\nsha256 = 'x'"), path.unlink):
                caplog.clear()
                spoil()
                await until(lambda: "the clients stay as they were" in caplog.text)
                await login("bob")
            tokens["carol"] = add_client(path, "carol")
            await until(lambda: known() == {"carol"})
            await login("carol")

    with caplog.at_level(logging.DEBUG):
        run(scenario)
    for token in tokens.values():
        assert token not in caplog.text
        assert hash_of(token).hex() not in caplog.text


def test_an_unchanged_file_is_not_read_again(path: Path) -> None:
    add_client(path, "alice")
    file = TokenFile(path)
    assert not file.refresh()
    assert file.refresh(force=True), "as SIGHUP does"
    add_client(path, "bob")
    assert file.refresh()
    assert not file.refresh()


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_sighup_reads_it_again(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(door_module, "_LOOK_SECONDS", 3600)
    monkeypatch.setattr("latent_inv_server.main.open_fleet", lambda _: FakeEngine())
    add_client(path, "alice")

    async def scenario() -> None:
        ready = asyncio.Event()
        config = ServerConfig(port=0, grace_seconds=0, tokens=path)
        stop = Stop(config.grace_seconds)
        serving = asyncio.create_task(_serve(config, stop, lambda _: ready.set()))
        await asyncio.wait_for(ready.wait(), 30)
        add_client(path, "bob")
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: "clients read again: 2" in caplog.text)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(serving, 30)
        stop.close()

    with caplog.at_level(logging.INFO):
        run(scenario)
