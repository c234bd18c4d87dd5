"""Ports: free, taken by a server of ours, or by something else."""

from __future__ import annotations

import errno
import socket

from latent_inv_server.config import ServerConfig
from latent_inv_server.probe import probe

from .finding import Finding, fail, ok


def ports(config: ServerConfig) -> list[Finding]:
    """The port of the service, and that of the figures."""
    found = [_service(config)]
    if config.metrics_port is not None:
        trouble = bind(config.metrics_host, config.metrics_port)
        about, where = "metrics port", f"{config.metrics_host}:{config.metrics_port}"
        if trouble and found[0].found.startswith("a server"):
            found.append(ok(about, f"{where} is in use, as is to be expected while the server runs"))
        elif trouble:
            found.append(fail(about, f"{where} {trouble}", "set metrics_port to another one, or stop what uses it"))
        else:
            found.append(ok(about, _free(where, config.metrics_port)))
    return found


def _service(config: ServerConfig) -> Finding:
    where, trouble = f"{config.host}:{config.port}", bind(config.host, config.port)
    if not trouble:
        return ok("port", _free(where, config.port))
    if trouble == _IN_USE and probe(config, seconds=2) is not None:
        return ok("port", f"a server of ours answers on {where} already")
    return fail("port", f"{where} {trouble}", "set port or host to another one, or stop what uses it")


def _free(where: str, port: int) -> str:
    return f"{where} is free" if port else f"{where}: a free one is taken"


_IN_USE = "is in use by another program"


def bind(host: str, port: int) -> str:
    """Can this port be bound? Empty if so, else what is in the way."""
    try:
        kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError:
        return "is no address of this machine"
    with socket.socket(kind, socket.SOCK_STREAM) as tried:
        # As servers do; on Linux a port that something listens on stays taken all the same.
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(address)
            tried.listen(1)
        except OSError as error:
            reasons = {errno.EADDRINUSE: _IN_USE, errno.EADDRNOTAVAIL: "is no address of this machine"}
            return reasons.get(error.errno or 0, f"cannot be bound: {error.strerror}")
    return ""
