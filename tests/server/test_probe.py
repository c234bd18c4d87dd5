"""Health as containers and supervisors ask for it: by the server's own settings, or by an address."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from latent_inv.cli import app
from latent_inv.client import AsyncClient
from latent_inv_server.app import Application
from latent_inv_server.config import ServerConfig
from latent_inv_server.probe import probe
from tests.server.door.authority import Authority
from tests.server.fake import FakeEngine, address, until
from tests.server.telemetry.watching import serve_watched


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("LATENT_INV_")]:
        monkeypatch.delenv(name)


def test_serving_not_serving_and_nobody() -> None:
    engine = FakeEngine()

    async def scenario(application: Application, client: AsyncClient) -> None:
        def asked() -> bool | None:
            return probe(application.config, application.port)

        assert await asyncio.to_thread(asked) is True
        await application._health.enter_graceful_shutdown()
        assert await asyncio.to_thread(asked) is False

    serve_watched(scenario, engine)
    assert probe(ServerConfig(port=1), seconds=0.5) is None


@pytest.mark.parametrize("mutual", [False, True])
def test_over_tls_it_is_known_by_its_own_certificate(tmp_path: Path, mutual: bool) -> None:
    authority = Authority()
    certificate, key = authority.sign("gpu.example.org").write(tmp_path)
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    door = {
        "tls_certificate": certificate,
        "tls_key": key,
        **({"tls_client_ca": tmp_path / "ca.pem"} if mutual else {}),
    }

    async def scenario(application: Application, _: AsyncClient) -> None:
        assert await asyncio.to_thread(probe, application.config, application.port) is True
        other = Authority("another")
        paths = other.sign("gpu.example.org").write(tmp_path / "other")
        stranger = ServerConfig(tls_certificate=paths[0], tls_key=paths[1])
        assert await asyncio.to_thread(probe, stranger, application.port, 1.0) is None

    serve_watched(scenario, **door)


def test_as_a_command() -> None:
    async def scenario(application: Application, client: AsyncClient) -> None:
        def run(*arguments: str, **environ: str) -> tuple[int, str]:
            done = CliRunner().invoke(app, ["health", *arguments], env=environ)
            return done.exit_code, done.output.strip()

        port = str(application.port)
        by_address = await asyncio.to_thread(run, "--server", address(application))
        by_settings = await asyncio.to_thread(lambda: run(LATENT_INV_SERVE_PORT=port))
        assert by_address == by_settings == (0, "serving")
        await application._health.enter_graceful_shutdown()
        assert await asyncio.to_thread(run, "--server", address(application)) == (1, "not serving")

    serve_watched(scenario)
    done = CliRunner().invoke(app, ["health", "--server", "127.0.0.1:1", "--seconds", "1"])
    assert (done.exit_code, done.output.strip()) == (1, "nobody answers")


def test_settings_that_are_wrong_are_no_health() -> None:
    done = CliRunner().invoke(app, ["health"], env={"LATENT_INV_SERVE_PORT": "x"})
    assert done.exit_code == 2


def test_the_doctor_knows_a_server_of_ours() -> None:
    from latent_inv_server.doctor import reach
    from latent_inv_server.doctor.ports import ports

    async def scenario(application: Application, client: AsyncClient) -> None:
        from latent_inv.client import Client

        taken = ServerConfig(port=application.port, metrics_port=application.telemetry.port)
        found = await asyncio.to_thread(ports, taken)
        assert [each.state.value for each in found] == ["ok", "ok"]
        assert "answers" in found[0].found
        well = await asyncio.to_thread(reach, lambda: Client(address(application)), address(application))
        assert [each.state.value for each in well] == ["ok", "ok"]
        await application._health.enter_graceful_shutdown()
        ill = await asyncio.to_thread(reach, lambda: Client(address(application)), address(application))
        assert [each.state.value for each in ill] == ["fail"]
        await until(lambda: True)

    serve_watched(scenario, metrics_port=0)
