"""A server that is told to stop: in good order and in time, at once if told twice; what its supervisor hears."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from latent_inv_server.supervisor import Supervisor

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and sockets of POSIX")

#: seconds after which a test is taken to hang
PATIENCE = 60.0
GRACE = 2.0
#: how long after the grace time a process may still be there; the machine may be busy
LATE = 5.0

#: a server whose engine is the fake one; with "stuck", closing the engine never ends, with "held", one of the threads
SERVER = """
import asyncio, sys, threading
import latent_inv_server.main as main
from latent_inv_server.config import ServerConfig
from pathlib import Path
from tests.server.fake import FakeEngine

class Engine(FakeEngine):
    def close(self):
        if "stuck" in sys.argv:
            threading.Event().wait()
        super().close()

def held(*_):
    # A thread of the event loop that never comes back.
    loop = asyncio.get_running_loop()
    loop.run_in_executor(None, threading.Event().wait)
    return Engine()

main.open_fleet = held if "held" in sys.argv else lambda _: Engine()
config = ServerConfig(port=0, data=Path(sys.argv[1]), grace_seconds=float(sys.argv[2]), log_format="json")
code = main.run(config, lambda port: print(port, flush=True))
sys.exit(code)
"""


@contextmanager
def server(data: Path, *how: str, grace: float = GRACE) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """(the process, its port)"""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(data), str(grace), *how],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def lines(process: subprocess.Popen[str]) -> list[str]:
    """What it logged, once it is over."""
    _, errors = process.communicate(timeout=PATIENCE)
    return [json.loads(line)["event"] for line in errors.splitlines()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_in_good_order(tmp_path: Path, number: signal.Signals) -> None:
    with server(tmp_path) as (process, _):
        process.send_signal(number)
        said = lines(process)
        assert process.returncode == 0
        assert f"stopping, told so by {number.name}" in said
        assert said[-1] == "stopped"


def test_jobs_that_run_go_on_at_the_next_start(tmp_path: Path) -> None:
    from latent_inv.client import Client
    from tests.server.fake import PNG

    with server(tmp_path) as (process, port):
        with Client(f"127.0.0.1:{port}") as client:
            job_id = client.jobs.create(PNG, "forever").job_id
            end = time.monotonic() + PATIENCE
            while client.jobs.get(job_id).state != "running":
                assert time.monotonic() < end
                time.sleep(0.05)
        process.terminate()
        said = lines(process)
        assert process.returncode == 0
        assert "1 jobs are not over; they go on at the next start" in said
    with server(tmp_path) as (process, port), Client(f"127.0.0.1:{port}") as client:
        assert client.jobs.get(job_id).state in ("queued", "running")
        client.jobs.cancel(job_id)
        process.terminate()
        assert "1 jobs of an earlier run go on, 1 were running" in lines(process)


@pytest.mark.parametrize("how", ["stuck", "held"])
def test_whatever_hangs_it_ends_soon_after_the_grace_time_with_0(tmp_path: Path, how: str) -> None:
    with server(tmp_path, how) as (process, _):
        process.terminate()
        began = time.monotonic()
        said = lines(process)
        assert process.returncode == 0
        assert GRACE <= time.monotonic() - began < GRACE + LATE
        assert any("within the grace time" in line for line in said)


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with server(tmp_path, "stuck", grace=PATIENCE * 10) as (process, _):
        process.terminate()
        time.sleep(0.3)
        process.terminate()
        said = lines(process)
        assert process.returncode == 128 + signal.SIGTERM
        assert any("at once" in line for line in said)
    with server(tmp_path) as (process, _):
        process.terminate()
        lines(process)
        assert process.returncode == 0, "the folder is free again"


# ---- the supervisor ------------------------------------------------------------------------------------


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_hears_ready_alive_and_stopping(tmp_path: Path, abstract: bool) -> None:
    if abstract and sys.platform != "linux":
        pytest.skip("only Linux has names without files")
    name = f"@latent-inv-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind("\0" + name[1:] if abstract else name)
        line.settimeout(PATIENCE)

        async def live() -> None:
            supervisor = Supervisor(
                {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "100000", "WATCHDOG_PID": str(os.getpid())}
            )
            supervisor.ready()
            await asyncio.sleep(0.2)
            supervisor.stopping()

        asyncio.run(live())
        heard = [line.recv(100).decode()]
        while heard[-1] != "STOPPING=1":
            heard.append(line.recv(100).decode())
    assert heard[0] == "READY=1"
    assert heard[1:-1].count("WATCHDOG=1") == len(heard) - 2 >= 1


@pytest.mark.parametrize("watched", [{}, {"WATCHDOG_USEC": "20000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "x"}])
def test_no_pulse_where_none_is_wanted(tmp_path: Path, watched: dict[str, str]) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(str(tmp_path / "notify"))
        line.settimeout(PATIENCE)

        async def live() -> None:
            supervisor = Supervisor({"NOTIFY_SOCKET": str(tmp_path / "notify"), **watched})
            supervisor.ready()
            await asyncio.sleep(0.05)
            supervisor.stopping()

        asyncio.run(live())
        assert [line.recv(100), line.recv(100)] == [b"READY=1", b"STOPPING=1"]


@pytest.mark.parametrize("address", ["", "/no/such/socket", "@nobody-listens-here"])
def test_nobody_who_listens_is_no_trouble(address: str) -> None:
    async def live() -> None:
        supervisor = Supervisor({"NOTIFY_SOCKET": address} if address else {})
        supervisor.ready()
        supervisor.stopping()

    asyncio.run(live())
