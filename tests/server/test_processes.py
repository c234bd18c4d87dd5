"""Servers and workers as real processes: started, stopped, killed."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from latent_inv.cli import app
from latent_inv.client import AsyncClient, Client
from latent_inv.device import place
from latent_inv.engine.engine import Engine
from latent_inv.errors import InternalError, UnavailableError
from latent_inv.images import encode_png, load
from latent_inv.result import JobResult, Progress
from latent_inv.spec import Adam, Budget, JobSpec, Pixel
from latent_inv_server.config import ServerConfig
from latent_inv_server.fleet import Fleet
from latent_inv_server.testing import running_server
from tests.conftest import make_picture
from tests.engine.awkward import TABLE
from tests.engine.helpers import result_of
from tests.server.fake import FakeEngine

PNG = encode_png(make_picture(32, 32).pixels)
PIXEL = (Pixel(),)
#: seconds after which a test is taken to hang
PATIENCE = 30.0
HAS_PROC = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="this system does not list children")


def wait_until(true: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.02)


# ---- the worker of a server --------------------------------------------------------------------


def test_jobs_of_a_killed_worker_go_on_to_the_same_result() -> None:
    engine = Fleet(("cpu",), catalogue="tests.engine.awkward:TABLE")
    settings = {"generator": "slow", "losses": PIXEL, "solver": Adam(learning_rate=0.05)}
    undisturbed = [
        result_of(
            JobSpec(picture=load(PNG), seed=seed, budget=Budget(steps=16), **settings), Engine(TABLE, place("cpu"))
        )
        for seed in range(2)
    ]
    config = ServerConfig(port=0, grace_seconds=0, checkpoint_steps=4)

    async def follow(client: AsyncClient, seed: int, far: asyncio.Event) -> tuple[list[int], JobResult]:
        steps = []
        async for event in client.invert_stream(PNG, steps=16, seed=seed, **settings):
            if isinstance(event, JobResult):
                return steps, event
            if isinstance(event, Progress):
                steps.append(event.latest.step)
                if len(steps) == 7:
                    far.set()
        raise AssertionError("no result")

    async def scenario() -> None:
        running = running_server(engine, config)
        async with running as application, AsyncClient(f"127.0.0.1:{application.port}") as client:
            far = [asyncio.Event() for _ in undisturbed]
            following = [asyncio.create_task(follow(client, seed, far[seed])) for seed in range(len(far))]
            for event in far:
                await asyncio.wait_for(event.wait(), PATIENCE)
            first = engine.health[0].pid
            assert first is not None
            os.kill(first, signal.SIGKILL)
            # With nobody asking for anything, another worker comes, and takes up what this one did.
            for expected, (steps, result) in zip(undisturbed, await asyncio.gather(*following), strict=True):
                assert steps == sorted(set(steps)), "never back"
                assert steps[-1] == 16
                np.testing.assert_array_equal(result.latents["z"], expected.latents["z"])
                assert [step.loss for step in result.history] == [step.loss for step in expected.history]
            assert engine.health[0].pid != first

    asyncio.run(scenario())


def test_a_job_that_stops_two_workers_is_given_up() -> None:
    engine = Fleet(("cpu",), catalogue="tests.engine.awkward:TABLE")

    async def scenario() -> None:
        running = running_server(engine)
        async with running as application, AsyncClient(f"127.0.0.1:{application.port}") as client:
            with pytest.raises(InternalError, match="stopped 2 workers"):
                await client.invert(PNG, "dies", losses=PIXEL, steps=3)
            assert (await client.invert(PNG, "smooth", losses=PIXEL, steps=3)).steps == 3

    asyncio.run(scenario())


# ---- the command -------------------------------------------------------------------------------


@contextmanager
def serving(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "latent_inv.cli", "serve", "--device", "cpu", "--threads", "1", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def children(pid: int) -> set[int]:
    """Of all its threads."""
    lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return {int(child) for text in lists for child in text.split()}


def started(process: subprocess.Popen[str], port_file: Path) -> int:
    wait_until(lambda: port_file.exists() or process.poll() is not None, "the server is ready")
    assert process.poll() is None, process.communicate()
    return int(port_file.read_text())


@pytest.mark.slow
@HAS_PROC
def test_sigterm_ends_open_streams_and_the_worker(tmp_path: Path) -> None:
    port_file = tmp_path / "port"
    with serving("--port", "0", "--port-file", str(port_file)) as process:
        port = started(process, port_file)
        with Client(f"127.0.0.1:{port}") as client:
            stream = client.invert_stream(PNG, "faces", losses=PIXEL, seconds=3600)
            assert isinstance(next(stream), Progress)
            workers = children(process.pid)
            assert workers
            process.send_signal(signal.SIGTERM)
            with pytest.raises(UnavailableError, match="the server is stopping; the job goes on"):
                list(stream)
        _, log = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, log
        assert "Traceback" not in log
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), "the worker ends, too")


@pytest.mark.slow
@HAS_PROC
def test_a_killed_server_leaves_no_worker_and_no_port(tmp_path: Path) -> None:
    port_file = tmp_path / "port"
    port_file.write_text("1")
    with serving("--port", "0", "--port-file", str(port_file)) as process:
        wait_until(lambda: not port_file.exists(), "the port of an earlier run is removed")
        port = started(process, port_file)
        workers = children(process.pid)
        assert workers
        process.kill()
        process.wait(PATIENCE)
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), "the worker ends, too")
        with (
            Client(f"127.0.0.1:{port}", timeout=5) as client,
            pytest.raises(UnavailableError, match="no server answers"),
        ):
            client.healthy()


def test_a_port_in_use_is_one_line_and_an_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = FakeEngine()
    monkeypatch.setattr("latent_inv_server.main.open_fleet", lambda _: worker)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = ["serve", "--port", str(port), "--port-file", str(tmp_path / "port"), "--log-level", "error"]
        said = CliRunner().invoke(app, command)
    assert said.exit_code == 4
    assert said.stdout == ""
    assert said.stderr == f"error: port {port} on 127.0.0.1 is in use, or cannot be bound\n"
    assert worker.closed
    assert not (tmp_path / "port").exists()


def test_a_port_that_cannot_be_told_stops_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = FakeEngine()
    monkeypatch.setattr("latent_inv_server.main.open_fleet", lambda _: worker)
    monkeypatch.setattr("latent_inv_server.main.write_bytes", full_disk)
    command = ["serve", "--port", "0", "--port-file", str(tmp_path / "port"), "--log-level", "error"]
    said = CliRunner().invoke(app, command)
    assert (said.exit_code, said.stderr) == (2, "error: No space left on device\n")
    assert worker.closed


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_settings_are_checked_before_anything_starts() -> None:
    with serving("--host", "0.0.0.0") as process:
        _, log = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert re.fullmatch(r"error: host: .*--allow-remote \(flag --host\)\n", log), log


def test_a_device_that_cannot_be_stops_the_server() -> None:
    with serving("--port", "0", "--device", "tpu") as process:
        _, log = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2, log
    assert log.splitlines()[-1] == 'error: device: must be auto, cpu, cuda, cuda:N or mps, found "tpu"'
    assert "Traceback" not in log
