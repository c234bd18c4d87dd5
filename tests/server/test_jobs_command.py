"""`latent-inv jobs …` against a server."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from latent_inv.cli import app
from latent_inv.client import AsyncClient
from latent_inv.errors import SpecError
from latent_inv_server.app import Application
from latent_inv_server.config import ServerConfig
from tests.server.fake import PNG, FakeEngine, address, serve, until


def call(application: Application, *arguments: str) -> Any:
    return CliRunner().invoke(app, ["jobs", *arguments, "--server", address(application)])


async def run(application: Application, *arguments: str) -> Any:
    return await asyncio.to_thread(call, application, *arguments)


def test_create_watch_show_list_delete(tmp_path: Path) -> None:
    picture = tmp_path / "photo.png"
    picture.write_bytes(PNG)
    create = [
        "create",
        str(picture),
        "-g",
        "steps",
        "--steps",
        "5",
        "--label",
        "album=summer 1",
        "--bulk",
        "--seed",
        "7",
    ]

    async def scenario(application: Application, client: AsyncClient) -> None:
        made = await run(application, *create, "--request-id", "once")
        assert made.exit_code == 0, made.output
        job_id = made.stdout.strip()
        assert (await run(application, *create, "--request-id", "once")).stdout.strip() == job_id
        watched = await run(application, "watch", job_id, "--out", str(tmp_path / "out"))
        assert watched.exit_code == 0, watched.output
        assert "step_limit" in watched.stdout
        assert (tmp_path / "out" / "result.json").exists()
        assert (tmp_path / "out" / "latents.safetensors").exists()
        shown = json.loads((await run(application, "show", job_id, "--json")).stdout)
        assert (shown["job_id"], shown["state"], shown["labels"]) == (job_id, "succeeded", {"album": "summer 1"})
        assert (shown["step"], shown["result"]["outcome"]) == (5, "step_limit")
        assert (shown["settings"]["priority"], shown["settings"]["seed"]) == ("PRIORITY_BULK", "7")
        listed = await run(application, "list", "--label", "album=summer 1", "--state", "succeeded")
        assert job_id in listed.stdout
        assert "5/5" in listed.stdout
        assert "album=summer 1" in listed.stdout
        assert json.loads((await run(application, "list", "--state", "failed", "--json")).stdout) == []
        assert "no jobs" in (await run(application, "list", "--label", "album=2")).stderr
        assert (await run(application, "delete", job_id)).exit_code == 0
        gone = await run(application, "show", job_id)
        assert (gone.exit_code, gone.stdout) == (2, "")
        assert "no job with this id" in gone.stderr

    serve(FakeEngine(), scenario)


def test_ends_have_exit_codes(tmp_path: Path) -> None:
    config = ServerConfig(port=0, max_jobs=1, grace_seconds=0)

    async def scenario(application: Application, client: AsyncClient) -> None:
        failed = await client.jobs.create(PNG, "fails")
        watched = await run(application, "watch", failed.job_id, "--quiet")
        assert (watched.exit_code, watched.stdout) == (1, "")
        running = await client.jobs.create(PNG, "forever")
        waiting = await client.jobs.create(PNG, "forever")
        await until(lambda: application.jobs.queued == 1)
        watching = asyncio.create_task(run(application, "watch", running.job_id, "--quiet"))
        await until(lambda: application.jobs.runs.live[running.job_id].watchers == 1)
        assert (await run(application, "delete", running.job_id)).exit_code == 1
        assert (await run(application, "cancel", running.job_id, waiting.job_id)).exit_code == 0
        assert (await watching).exit_code == 130
        nothing = await run(application, "watch", waiting.job_id, "--out", str(tmp_path / "out"))
        assert nothing.exit_code == 130
        assert "no result to write" in nothing.stderr
        assert not (tmp_path / "out").exists()
        table = await run(application, "list")
        assert "failed" in table.stdout
        assert "must be > 0" in table.stdout

    serve(FakeEngine(error=SpecError("must be > 0", field="seed")), scenario, config)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["show", "../x"], 2, "job_id"),
        (["list", "--label", "nothing"], 2, 'label: must be NAME=VALUE, found "nothing"'),
        (["list", "--limit", "0"], 2, "limit: must be ≥ 1, found 0"),
        (["list", "--state", "done"], 2, 'unknown state "done"'),
        (["cancel", "0" * 16], 2, "no job with this id"),
    ],
)
def test_errors_are_one_line(arguments: list[str], code: int, said: str) -> None:
    async def scenario(application: Application, _: AsyncClient) -> None:
        done = await run(application, *arguments)
        assert (done.exit_code, done.stdout) == (code, "")
        assert said in done.stderr
        assert done.stderr.count("\n") == 1

    serve(FakeEngine(), scenario)


def test_no_server_is_an_exit_code() -> None:
    done = CliRunner().invoke(app, ["jobs", "list", "--server", "127.0.0.1:1"])
    assert done.exit_code == 4
    assert "no server answers" in done.stderr
