"""The port where Prometheus reads the figures."""

from __future__ import annotations

import logging
from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server

from latent_inv.addresses import is_loopback
from latent_inv.errors import UnavailableError

logger = logging.getLogger(__name__)


class Exporter:
    """Answers GET /metrics over HTTP, in threads of its own, until it is closed.

    Args:
        port: 0 takes a free one.
    Raises:
        UnavailableError: the port is in use, or the address is none of this machine.
    """

    def __init__(self, registry: CollectorRegistry, host: str, port: int) -> None:
        self._server: WSGIServer
        self._thread: Thread
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as error:
            text = f"metrics_port: port {port} on {host} is in use, or cannot be bound"
            raise UnavailableError(text) from error
        self.port = int(self._server.server_port)
        logger.info("figures for Prometheus on %s:%d", host, self.port)
        if not is_loopback(host):
            logger.warning("other machines can read the figures on %s, which has no login", host)

    def close(self) -> None:
        """Answer no more. May take half a second."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(1.0)
