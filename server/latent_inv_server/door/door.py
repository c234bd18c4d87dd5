"""The door put together: TLS, login and the limits of each client, kept up to date while the server runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import grpc.aio

from latent_inv.addresses import is_loopback
from latent_inv.errors import UnavailableError
from latent_inv.incidents import as_typed
from latent_inv_server.config import MIB, ServerConfig

from .credentials import ServerCertificates
from .guard import Guard
from .identity import Quotas
from .tokens import TokenFile

logger = logging.getLogger(__name__)

#: seconds between two looks at the files
_LOOK_SECONDS = 1.0


class Door:
    """What stands between the network and the handlers.

    Raises:
        InputError: a file of tokens, certificates or keys that cannot be used; nothing is bound yet.
    """

    def __init__(self, config: ServerConfig) -> None:
        upload = config.max_upload_mb
        self._defaults = Quotas(
            config.max_queued_per_client, config.max_running_per_client, None if upload is None else upload * MIB
        )
        self._tokens = None if config.tokens is None else TokenFile(config.tokens, self._defaults)
        self._certificates: ServerCertificates | None = None
        if config.tls_certificate is not None and config.tls_key is not None:
            self._certificates = ServerCertificates(config.tls_certificate, config.tls_key, config.tls_client_ca)
        self.guard = Guard(
            self._tokens,
            config.tls_client_ca is not None,
            quotas=self._defaults,
            max_calls=config.max_streams,
            max_calls_each=config.max_calls_per_client,
        )
        self._host, self._port = config.host, config.port
        self._watch: asyncio.Task[None] | None = None
        if not is_loopback(config.host) and not (config.encrypted and config.guarded):
            lack = "and there is no login" if config.encrypted else "unencrypted"
            logger.warning("other machines can reach %s, %s, as --allow-remote allows", config.host, lack)

    def bind(self, server: grpc.aio.Server) -> int:
        """Open the port.

        Returns:
            its number.
        Raises:
            UnavailableError: it is in use.
        """
        address = f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"
        try:
            if self._certificates is None:
                return server.add_insecure_port(address)
            # Kept here, since the server calls into it at each handshake.
            self._credentials = self._certificates.credentials()
            return server.add_secure_port(address, self._credentials)
        except RuntimeError as error:
            raise UnavailableError(f"port {self._port} on {self._host} is in use, or cannot be bound") from error

    def quotas_of(self, name: str) -> Quotas:
        """What a client may have now; for work that goes on when no call of its is open."""
        found = None if self._tokens is None else self._tokens.clients.named(name)
        return self._defaults if found is None else found.quotas

    def refresh(self, force: bool = False) -> None:
        """Look for changes of the files; what cannot be used is logged and changes nothing. May take a moment."""
        try:
            for files in (self._tokens, self._certificates):
                if files is not None:
                    files.refresh(force)
            if self._certificates is not None:
                self._certificates.warn_of_the_end()
        except Exception as error:
            # Whatever it was, the door must not stop watching its files.
            logger.error("the files of the door: %s", as_typed(error, "looking for changes of the door's files"))

    def start(self) -> None:
        """Begin to look for changes; call it on the event loop."""
        if self._tokens is not None or self._certificates is not None:
            self._watch = asyncio.create_task(self._look())

    async def stop(self) -> None:
        """Stop looking."""
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            await asyncio.to_thread(self.refresh)
