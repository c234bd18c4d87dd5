"""The doctor: each thing sound, doubtful and broken, and what is told about it."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
from pathlib import Path

import pytest
from filelock import FileLock
from packaging.requirements import Requirement
from typer.testing import CliRunner

from latent_inv.asset_table import Asset, Local, PackageData
from latent_inv.assets import AssetStore
from latent_inv.cli import app
from latent_inv_server.config import ServerConfig
from latent_inv_server.doctor import Finding, State, examine, machine
from latent_inv_server.doctor import door as door_looks
from latent_inv_server.doctor import weights as weights_looks
from latent_inv_server.doctor.finding import looked, ok
from latent_inv_server.doctor.keeping import database, folder
from latent_inv_server.doctor.ports import bind, ports
from latent_inv_server.door.token_edit import add_client
from latent_inv_server.store.folder import open_store
from latent_inv_server.store.schema import NEWEST
from tests.server.door.authority import Authority

POSIX = pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
NOT_ROOT = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may do anything")


def certified(folder: Path, days: float) -> ServerConfig:
    """Settings with a certificate that ends in so many days."""
    certificate, key = Authority().sign("server", (-10, days)).write(folder)
    return ServerConfig(tls_certificate=certificate, tls_key=key)


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {each.about: each for each in findings}


def test_something_wrong_is_never_told_without_advice() -> None:
    with pytest.raises(ValueError, match="what is to be done"):
        Finding("x", State.fail, "broken")


def test_a_look_that_raises_is_a_finding() -> None:
    def look() -> list[Finding]:
        raise RuntimeError("/secret/path")

    (found,) = looked("x", look, "advice")
    assert (found.about, found.state) == ("x", State.fail)
    assert "/secret" not in found.found


# ---- packages, devices, weights ------------------------------------------------------------------------


def test_packages_against_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(each.state is not State.fail for each in machine.packages())
    asked = ["numpy>=1", "pillow>=9999", "no-such-package>=2.5", 'left-out>=1; extra == "test"']
    monkeypatch.setattr(machine, "requires", lambda _: asked)
    failed = [each for each in machine.packages() if each.state is State.fail]
    assert [each.advice for each in failed] == ["pip install 'pillow>=9999'", "pip install 'no-such-package>=2.5'"]
    assert machine._wrong(Requirement("numpy>=1")) is None


def test_the_processor_is_tried() -> None:
    (found, *more) = machine.devices(["cpu"], 1)
    assert (found.about, found.state) == ("device cpu", State.ok)
    assert "computes rightly" in found.found
    assert [each.state for each in more] in ([], [State.ok])


def test_a_device_that_is_not_there() -> None:
    (found,) = machine.devices(["tpu"], None)
    assert found.state is State.fail
    assert 'found "tpu"' in found.found


@pytest.mark.parametrize(
    ("code", "output", "said"),
    [
        (-signal.SIGILL, "", "SIGILL"),
        (1, "", "exit code 1"),
        (0, "no json", "exit code 0"),
        (0, 'a warning\n{"problem": "none here", "advice": "buy one"}', "none here"),
    ],
)
def test_a_trial_that_ends_badly(code: int, output: str, said: str) -> None:
    (found,) = machine.read_trial("device x", code, output)
    assert found.state is State.fail
    assert said in found.found
    assert found.advice


def test_more_threads_than_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_processors", lambda: 4)
    assert machine.threads(["cpu"], 4)[0].state is State.ok
    (found,) = machine.threads(["cpu", "cpu:1"], 3)
    assert (found.state, found.found) == (State.warn, "6 threads compute on 4 processors")
    assert found.advice == "set threads to at most 2"


@pytest.fixture
def assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[AssetStore, Path]:
    """A table of two: weights that may be fetched, and weights of a package; the cache holds neither."""
    import hashlib

    def asset(name: str, source: Local | PackageData) -> Asset:
        return Asset(name, source, hashlib.sha256(b"good").hexdigest(), 4, "", "", "", "tests")

    table = {
        "faces": asset("faces", Local(tmp_path / "nowhere")),
        "own": asset("own", PackageData("latent_inv", "no such file")),
        "other": asset("other", Local(tmp_path / "nowhere")),
    }
    monkeypatch.setattr(weights_looks, "ASSETS", table)
    cache = tmp_path / "cache"
    cache.mkdir()
    return AssetStore(cache, table), cache


def test_weights_here_missing_and_damaged(assets: tuple[AssetStore, Path]) -> None:
    store, cache = assets
    names = {"faces": "weights faces", "own": "weights own", "other": "weights other"}
    file = {name: cache / store._assets[name].cache_name for name in names}

    def states(environ: dict[str, str] | None = None) -> list[str]:
        return [each.state.value for each in weights_looks.weights(store, environ or {})]

    assert states() == ["warn", "fail", "ok"], "those of default use are wanted, others when they are asked for"
    assert states({"LATENT_INV_OFFLINE": "1"}) == ["fail", "fail", "ok"]
    assert states({"LATENT_INV_OFFLINE": "no"}) == ["warn", "fail", "ok"]
    for path in file.values():
        path.write_bytes(b"good")
    assert states() == ["ok", "ok", "ok"]
    file["other"].write_bytes(b"evil")
    found = by_name(weights_looks.weights(store, {}))["weights other"]
    assert (found.state, str(file["other"]) in found.advice) == (State.fail, True)
    assert store.look("other") == ("damaged", file["other"])


# ---- ports -------------------------------------------------------------------------------------------


def test_ports_that_are_free_taken_and_elsewhere() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = by_name(ports(ServerConfig(port=port, metrics_port=port)))
        assert {each.state for each in found.values()} == {State.fail}
        assert "in use" in found["port"].found
    found = by_name(ports(ServerConfig(port=port, metrics_port=0)))
    assert {each.state for each in found.values()} == {State.ok}
    assert bind("192.0.2.1", 0) == "is no address of this machine"


# ---- what is kept --------------------------------------------------------------------------------------


def test_a_data_folder_from_before_the_first_start_to_its_use(tmp_path: Path) -> None:
    data = tmp_path / "data"
    config = ServerConfig(data=data, disk_budget_mb=1)
    assert [each.state for each in (*folder(config), *database(config))] == [State.ok] * 3
    assert not data.exists(), "nothing was made"
    with open_store(data):
        found = by_name(folder(config))
        assert "held" in found["data lock"].found
    found = by_name([*folder(config), *database(config)])
    assert {each.state for each in found.values()} == {State.ok}
    assert found["data lock"].found == "free"
    assert found["database"].found == f"SQLite, schema version {NEWEST}"
    with FileLock(data / "lock", timeout=0):
        pass  # it was let go


def test_no_folder_and_a_file_in_its_place(tmp_path: Path) -> None:
    assert folder(ServerConfig())[0].state is State.warn
    (tmp_path / "file").write_bytes(b"")
    assert folder(ServerConfig(data=tmp_path / "file"))[0].state is State.fail


@POSIX
@NOT_ROOT
def test_a_folder_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o500)
    (found,) = folder(ServerConfig(data=tmp_path / "data"))
    assert (found.state, "chown" in found.advice) == (State.fail, True)
    assert folder(ServerConfig(data=tmp_path / "data" / "below"))[0].state is State.fail


@POSIX
def test_a_folder_that_others_may_enter(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o755)
    assert by_name(folder(ServerConfig(data=data)))["data folder"].state is State.warn


def test_room_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    config = ServerConfig(data=tmp_path, disk_budget_mb=1000)
    for free, state in ((10, State.fail), (500, State.warn), (5000, State.ok)):
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: usage(0, 0, free * 2**20))
        assert by_name(folder(config))["disk"].state is state


def test_databases_that_are_damaged_or_newer(tmp_path: Path) -> None:
    config = ServerConfig(data=tmp_path)
    with open_store(tmp_path):
        pass
    file = tmp_path / "jobs.sqlite"
    connection = sqlite3.connect(file)
    with connection:
        connection.execute("UPDATE meta SET value = '999'")
    connection.close()
    assert "newer server" in database(config)[0].found
    file.write_bytes(b"SQLite format 3\0" + bytes(5000))
    assert database(config)[0].state is State.fail
    file.write_bytes(b"no database at all" * 100)
    assert database(config)[0].state is State.fail
    (found,) = database(ServerConfig(database="postgresql://user:pass-1@127.0.0.1:1/none"))
    assert found.state is State.fail
    assert "pass-1" not in found.found + found.advice


# ---- the door ------------------------------------------------------------------------------------------


def test_tokens_that_can_be_used_and_not(tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    config = ServerConfig(tokens=file)
    assert door_looks.tokens(ServerConfig())[0].state is State.ok
    assert door_looks.tokens(config)[0].state is State.fail
    file.write_text("")
    assert "nobody can log in" in door_looks.tokens(config)[0].found
    file.unlink()
    add_client(file, "alice")
    assert [each.found for each in door_looks.tokens(config)] == ["clients: 1"]
    file.write_text("[clients.alice]\nsha256 = 3\n")
    assert door_looks.tokens(config)[0].state is State.fail


@pytest.mark.parametrize(("days", "state"), [(90, State.ok), (5, State.warn), (-1, State.fail)])
def test_days_of_a_certificate(tmp_path: Path, days: int, state: State) -> None:
    config = certified(tmp_path, days)
    found = by_name(door_looks.certificates(config))["certificate"]
    assert found.state is state
    if days > 0:
        assert f"in {days - 1} days" in found.found or f"in {days} days" in found.found


def test_a_key_of_another_certificate(tmp_path: Path) -> None:
    one, other = certified(tmp_path / "a", 90), certified(tmp_path / "b", 90)
    mixed = ServerConfig(tls_certificate=one.tls_certificate, tls_key=other.tls_key)
    assert "is not the key" in door_looks.certificates(mixed)[0].found


@POSIX
def test_a_key_that_everybody_reads(tmp_path: Path) -> None:
    config = certified(tmp_path, 90)
    assert config.tls_key is not None
    config.tls_key.chmod(0o644)
    assert by_name(door_looks.certificates(config))["key"].state is State.warn


# ---- as a command --------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices are believed: trying one takes seconds, and is tested above."""
    monkeypatch.setattr("latent_inv_server.doctor.examination.devices", lambda *_: [ok("device cpu", "believed")])
    for name in [name for name in os.environ if name.startswith("LATENT_INV_SERVE_")]:
        monkeypatch.delenv(name)


def test_settings_that_cannot_be_used_are_a_finding_among_others(quick: None, tmp_path: Path) -> None:
    found, config = examine(None, {"LATENT_INV_SERVE_PORT": "no number"})
    assert config is None
    assert found[0].state is State.fail
    assert "LATENT_INV_SERVE_PORT" in found[0].found
    assert {"python", "packages", "device cpu"} <= set(by_name(found)), "the machine was looked at all the same"


def test_the_table_and_the_exit_code(quick: None, tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text(f'[listen]\nport = 0\n[store]\ndata = "{(tmp_path / "data").as_posix()}"\n')
    done = CliRunner().invoke(app, ["doctor", "--config", str(file)])
    assert done.exit_code == 0, done.output
    assert "2 of " in done.output.splitlines()[0]
    assert ", 0 fail" in done.output.splitlines()[-1]
    file.write_text('[door]\ntokens = "nowhere.toml"\n')
    done = CliRunner().invoke(app, ["doctor", "--config", str(file), "--server", "127.0.0.1:1"])
    assert done.exit_code == 1
    failed = [line for line in done.output.splitlines() if line.startswith("FAIL")]
    assert [line.split()[1] for line in failed] == ["tokens", "server"]
    assert all(" → " in line for line in failed)


def test_the_same_as_json(quick: None) -> None:
    done = CliRunner().invoke(app, ["doctor", "--json", "--server", "127.0.0.1:1"])
    said = json.loads(done.output)
    assert (done.exit_code, said["ok"]) == (1, False)
    assert {tuple(each) for each in said["findings"]} == {("about", "state", "found", "advice")}
    assert said["findings"][-1]["state"] == "fail"
