"""How a server is to run."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from latent_inv.errors import SpecError
from latent_inv.images import Limits


@dataclass(frozen=True)
class ServerConfig:
    """Settings of one server.

    Attributes:
        host, port: where it listens; port 0 takes a free one.
        port_file: the port is written here once the server is ready.
        data: folder for what it keeps; nothing is kept yet.
        device, threads, lane_width: of the worker, see `latent_inv.device.place`.
        max_message_bytes: largest message, both ways.
        max_jobs: most jobs at once; more are refused with a time to try again.
        max_streams: most calls at once.
        image_limits: of pictures in requests.
        allow_remote: bind an address that other machines can reach, though there is no login.
        grace_seconds: how long running calls may go on after a stop was asked for.
    """

    host: str = "127.0.0.1"
    port: int = 50051
    port_file: Path | None = None
    data: Path | None = None
    device: str = "auto"
    threads: int | None = None
    lane_width: int | None = None
    max_message_bytes: int = 64 * 2**20
    max_jobs: int = 64
    max_streams: int = 1000
    image_limits: Limits = field(default_factory=Limits)
    allow_remote: bool = False
    grace_seconds: float = 5.0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("port", 0, 65535),
            ("max_message_bytes", 2**16, 2**30),
            ("max_jobs", 1, 100_000),
            ("max_streams", 1, 100_000),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise SpecError(f"must be from {low} to {high}, found {value}", field=name)
        if not self.allow_remote and not is_loopback(self.host):
            text = f'"{self.host:.60}" can be reached by other machines and there is no login; give --allow-remote'
            raise SpecError(text, field="host")


def is_loopback(host: str) -> bool:
    """Is this an address of this machine alone?"""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
