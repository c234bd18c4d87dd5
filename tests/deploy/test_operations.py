"""docs/operations.md and deploy/: commands are run, names are those that there are, files are current."""

from __future__ import annotations

import configparser
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from latent_inv.cli import app
from latent_inv.errors import LatentInvError, SpecError
from latent_inv.result import Outcome
from latent_inv_server.config import OPTIONS, ServerConfig
from latent_inv_server.config_sources import load_config
from latent_inv_server.config_text import default_text
from latent_inv_server.telemetry.collector import Readings, Sources
from latent_inv_server.telemetry.meters import Meters
from tests.conftest import require
from tests.server.door.authority import Authority
from tests.server.telemetry.test_figures import worker

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
TEXT = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
#: seconds for all blocks together
PATIENCE = 240


def commands() -> set[str]:
    """All commands there are, with those below them."""
    import typer

    top: Any = typer.main.get_command(app)
    found = set(top.commands)
    return found | {f"{name} {below}" for name in found for below in getattr(top.commands[name], "commands", {})}


# ---- the page ----------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="a shell is needed")
def test_the_page_s_commands_in_order(tmp_path: Path) -> None:
    for tool in ("bash", "openssl"):
        require(tool, shutil.which(tool) is not None, "install it with the system's packages")
    blocks = re.findall(r"^```bash\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)
    script = "\n".join(["set -euo pipefail", *blocks])
    for port in ("50051", "9464"):
        assert port in script
        script = script.replace(port, str(free_port()))
    # The command as it is installed, from this checkout.
    binaries = tmp_path / "bin"
    binaries.mkdir()
    for name, module in (("latent-inv", "-m latent_inv.cli "), ("python", "")):
        (binaries / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {module}"$@"\n')
        (binaries / name).chmod(0o755)
    folder = tmp_path / "work"
    folder.mkdir()
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("LATENT_INV_SERVE", "OTEL"))}
    environ |= {"PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}", "LATENT_INV_SERVE_DEVICES": "cpu"}
    environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    process = subprocess.Popen(
        ["bash", "-c", script],
        cwd=folder,
        env=environ,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=PATIENCE)
    finally:
        # With what it has begun, if a line in the middle failed.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    log = (folder / "server.log").read_text() if (folder / "server.log").exists() else ""
    assert process.returncode == 0, output + log
    assert "serving" in output
    assert " 0 fail" in output
    assert (folder / "backup" / "jobs.sqlite").stat().st_size > 0
    for token in ("alice", "bob"):
        assert (folder / f"{token}.token").read_text().strip() not in log
    assert str(tmp_path) not in log


def test_every_command_of_the_page_is_there() -> None:
    known = commands()
    found = re.findall(r"(?:^|`|until )latent-inv ([a-z-]+(?: (?:add|list|remove)\b)?)", TEXT, flags=re.MULTILINE)
    assert len(found) > 10
    assert set(found) <= known


def test_every_setting_of_the_page_is_there() -> None:
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)(?: = [^`]*)?`", TEXT))
    figures = {name for name in named if name.startswith("latent_inv_")}
    words = {
        "target_reached",
        "step_limit",
        "limit_exceeded",
        "login_failed",
        "invalid_image",
        "worker_lost",
        "no_worker",
        "no_room",
    }
    labels = {"request_id", "job_id", "pg_dump"}
    assert named - figures - words - labels - set(OPTIONS) == set()
    assert {outcome.name for outcome in Outcome} <= set(re.findall(r"`(\w+)`", TEXT)), "outcomes are in the table"


def families() -> dict[str, str]:
    """All figures: name as it is written there → kind."""
    meters = Meters()
    sources = Sources(
        *(lambda: {}, lambda: 0, lambda: {}, lambda: [worker("cpu")]),
        *(lambda: 0, 1, Path()),
    )
    meters.collect(Readings(sources))
    return {
        family.name + ("_total" if family.type == "counter" else ""): family.type
        for family in meters.registry.collect()
        if family.name.startswith("latent_inv_")
    }


def test_every_figure_is_explained_and_every_explained_figure_is_there() -> None:
    told = dict(re.findall(r"^\| `(latent_inv_\w+)` \| (\w+) \|", TEXT, flags=re.MULTILINE))
    assert told == families()


def test_alerts_are_about_figures_that_there_are_and_are_explained() -> None:
    rules = (DEPLOY / "alerts.yml").read_text(encoding="utf-8")
    names = set(families())
    suffixed = {name + suffix for name, kind in families().items() if kind == "histogram"
                for suffix in ("_bucket", "_count", "_sum")}  # fmt: skip
    assert set(re.findall(r"\blatent_inv_\w+", rules)) <= names | suffixed
    alerts = re.findall(r"alert: (\w+)", rules)
    assert alerts
    assert re.findall(r"^\| `(LatentInv\w+)` \|", TEXT, flags=re.MULTILINE) == alerts


# ---- files of deploy/ ----------------------------------------------------------------------------------


def test_the_file_of_settings_is_current() -> None:
    current = (DEPLOY / "server.toml").read_text(encoding="utf-8")
    assert current == default_text(), "run: latent-inv serve --write-config deploy/server.toml (after removing it)"
    assert load_config(DEPLOY / "server.toml").config == ServerConfig()


def instructions() -> list[tuple[str, str]]:
    """Of the Containerfile: (word, the rest), lines put together, comments left out."""
    text = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
    lines = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines.splitlines() if line)]


def test_the_container_runs_what_there_is_as_nobody_of_importance() -> None:
    found = instructions()
    of: dict[str, list[str]] = {}
    for word, rest in found:
        of.setdefault(word, []).append(rest)
    assert all(" AS " in rest or index == len(of["FROM"]) - 1 for index, rest in enumerate(of["FROM"]))
    assert all("-slim" in rest for rest in of["FROM"])
    for sources in of["COPY"]:
        if not sources.startswith("--from"):
            assert all((ROOT / name).exists() for name in sources.split()[:-1])
    user = of["USER"][-1].split(":")
    assert all(each.isdigit() and int(each) > 0 for each in user)
    last = [word for word, _ in found].index("USER")
    assert "RUN" not in [word for word, _ in found[last:]], "nothing is made by root after that"
    assert of["ENTRYPOINT"] == ['["tini", "--", "latent-inv"]']
    assert of["CMD"] == ['["serve"]']
    health = re.search(r"CMD (\[.*\])", of["HEALTHCHECK"][0])
    assert health is not None
    assert health[1] == '["latent-inv", "health"]'
    assert {"serve", "health"} <= commands()


def test_the_container_s_settings_are_ours_and_want_a_door(tmp_path: Path) -> None:
    (line,) = [rest for word, rest in instructions() if word == "ENV"]
    environ = dict(pair.split("=", 1) for pair in line.split())
    volumes = next(rest for word, rest in instructions() if word == "VOLUME")
    assert f'"{environ["LATENT_INV_SERVE_DATA"]}"' in volumes
    assert f'"{environ["LATENT_INV_CACHE"]}"' in volumes
    with pytest.raises(SpecError, match="neither TLS nor a login"):
        load_config(None, environ)
    assert load_config(None, {**environ, "LATENT_INV_SERVE_ALLOW_REMOTE": "true"}).config.log_format == "json"
    certificate, key = Authority().sign("x").write(tmp_path)
    door = {"TLS_CERTIFICATE": certificate, "TLS_KEY": key, "TOKENS": tmp_path / "tokens.toml"}
    given = {f"LATENT_INV_SERVE_{name}": str(path) for name, path in door.items()}
    config = load_config(None, {**environ, **given}).config
    assert next(rest for word, rest in instructions() if word == "EXPOSE") == str(config.port)


def unit() -> dict[str, dict[str, list[str]]]:
    parser = configparser.RawConfigParser(strict=False, dict_type=_Many, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string((DEPLOY / "latent-inv.service").read_text(encoding="utf-8"))
    return {name: {key: value.split("\n") for key, value in parser[name].items()} for name in parser.sections()}


class _Many(dict[str, Any]):
    """Keeps all values of a key that comes several times."""

    def __setitem__(self, key: str, value: Any) -> None:
        if isinstance(value, list) and key in self:
            self[key].extend(value)
        else:
            super().__setitem__(key, value)


def test_the_unit_waits_longer_than_the_server_takes_to_stop() -> None:
    service = unit()["Service"]
    assert float(service["TimeoutStopSec"][-1]) > ServerConfig().grace_seconds + 1
    assert service["Type"] == ["notify"]
    assert service["ExecStart"] == ["/opt/latent-inv/bin/latent-inv serve --config /etc/latent-inv/server.toml"]
    environ = dict(line.split("=", 1) for line in service["Environment"])
    try:
        load_config(None, environ)
    except LatentInvError as error:
        pytest.fail(str(error))
    assert environ["LATENT_INV_SERVE_DATA"] == f"/var/lib/{service['StateDirectory'][0]}"
    assert environ["LATENT_INV_CACHE"] == f"/var/cache/{service['CacheDirectory'][0]}"


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    require("systemd", shutil.which("systemd-analyze") is not None, "apt-get install systemd")
    text = (DEPLOY / "latent-inv.service").read_text(encoding="utf-8")
    # Neither program nor user is on this machine.
    text = text.replace("/opt/latent-inv/bin/latent-inv", shutil.which("true") or "/bin/true")
    text = re.sub(r"^(User|Group)=.*\n", "", text, flags=re.MULTILINE)
    (tmp_path / "latent-inv.service").write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / "latent-inv.service")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_wheel_is_made_from_what_the_container_copies(tmp_path: Path) -> None:
    import zipfile

    require("network", os.environ.get("LATENT_INV_OFFLINE", "") in ("", "0"), "a package registry is needed")
    for word, rest in instructions():
        if word == "COPY" and not rest.startswith("--from"):
            for name in rest.split()[:-1]:
                source = ROOT / name
                copy = shutil.copytree if source.is_dir() else shutil.copy
                copy(source, tmp_path / name)  # type: ignore[operator]
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", str(tmp_path / "wheels"), "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    if done.returncode and "No matching distribution" in done.stderr:
        require("network", False, "a package registry is needed")
    assert done.returncode == 0, done.stderr
    (wheel,) = (tmp_path / "wheels").glob("latent_inv-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"latent_inv/cli/doctor.py", "latent_inv_server/main.py", "latent_inv_server/telemetry/meters.py"} <= names
