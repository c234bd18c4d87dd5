"""A server of our own as a process, to be loaded, killed and started again on the same folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from latent_inv.client import Client
from latent_inv.errors import LatentInvError

#: seconds after which a server that does not answer is taken not to come
PATIENCE = 90.0


class Server:
    """`latent-inv serve` on one folder and a port of this machine alone.

    Args:
        folder: data, port file and log; kept from one start to the next.
        flags: further ones of `serve`.
    """

    def __init__(self, folder: Path, *flags: str) -> None:
        self.folder, self._flags = folder, flags
        self._port_file, self._log = folder / "port", folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> psutil.Process:
        """The server's own."""
        if self._process is None:
            raise RuntimeError("it was never started")
        return psutil.Process(self._process.pid)

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self._port_file.read_text().strip()}"

    def client(self) -> Client:
        """A new connection."""
        return Client(self.address, timeout=30)

    def workers(self) -> list[psutil.Process]:
        """Its worker processes; the helper of Python's multiprocessing is none."""
        children = self.process.children()
        return [child for child in children if "resource_tracker" not in " ".join(child.cmdline())]

    def start(self, *, ready: bool = True) -> None:
        """Start it, and wait until it listens, and until its worker is `ready` too if asked."""
        self._port_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "latent_inv.cli", "serve", "--port", "0", "--port-file", str(self._port_file)]
        command += ["--data", str(self.folder / "data"), "--device", "cpu", *self._flags]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        end = time.monotonic() + PATIENCE
        while not self._port_file.exists() or (ready and not self._healthy()):
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the server does not come up: {self._log.read_text()[-2000:]}")
            time.sleep(0.05)

    def _healthy(self) -> bool:
        try:
            with self.client() as client:
                return client.healthy()
        except LatentInvError:
            return False

    def kill(self) -> None:
        """kill -9, and wait until its workers are gone too, as they hold nothing that the next server needs."""
        if self._process is None:
            return
        workers = self.workers() if self._process.poll() is None else []
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        psutil.wait_procs(workers, timeout=PATIENCE)

    def stop(self) -> int:
        """Ask it to stop; returns its exit code."""
        if self._process is None:
            return 0
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(PATIENCE)


def kill_worker(server: Server) -> bool:
    """kill -9 of its first worker; False if there is none just now."""
    for worker in server.workers():
        try:
            os.kill(worker.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        return True
    return False
