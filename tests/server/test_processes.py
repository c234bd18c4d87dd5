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

import pytest
from typer.testing import CliRunner

from latent_inv.cli import app
from latent_inv.client import AsyncClient, Client
from latent_inv.errors import UnavailableError
from latent_inv.images import encode_png
from latent_inv.result import Outcome, Progress
from latent_inv.spec import Pixel
from latent_inv_server.fleet import Fleet
from latent_inv_server.testing import running_server
from tests.conftest import make_picture
from tests.server.fake import FakeEngine
from tests.server.memory_store import MemoryStore

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


def test_a_killed_worker_is_told_to_callers_and_replaced() -> None:
    engine = Fleet(("cpu",), catalogue="tests.engine.awkward:TABLE")

    async def scenario() -> None:
        async with (
            running_server(engine, None, MemoryStore()) as application,
            AsyncClient(f"127.0.0.1:{application.port}") as client,
        ):
            streams = [client.invert_stream(PNG, "slow", losses=PIXEL, steps=10_000, seed=n) for n in range(3)]
            for stream in streams:
                assert isinstance(await anext(stream), Progress)
            (first,) = (one.pid for one in engine.health)
            assert first is not None
            os.kill(first, signal.SIGKILL)
            for stream in streams:
                with pytest.raises(UnavailableError, match="the worker stopped") as caught:
                    async for _ in stream:
                        pass
                assert caught.value.retry_after is not None, "a client may try again"
            assert application.jobs.unfinished <= 1, "but for the server's own look at the worker"
            # With nobody asking for anything, the worker comes back.
            end = time.monotonic() + PATIENCE
            while engine.health[0].pid == first or not await client.healthy():
                assert time.monotonic() < end
                await asyncio.sleep(0.05)
            result = await client.invert(PNG, "smooth", losses=PIXEL, steps=3)
            assert (result.outcome, result.steps) == (Outcome.step_limit, 3)

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
            with pytest.raises(UnavailableError, match=f"server at 127.0.0.1:{port} ended the call"):
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
        command = ["serve", "--port", str(port), "--port-file", str(tmp_path / "port")]
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
    said = CliRunner().invoke(app, ["serve", "--port", "0", "--port-file", str(tmp_path / "port")])
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
