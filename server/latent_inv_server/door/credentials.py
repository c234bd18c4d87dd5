"""TLS and mutual TLS from files, checked before they are used and read again when they are renewed."""

from __future__ import annotations

import datetime
import logging
import os
import stat
import threading
from dataclasses import dataclass
from pathlib import Path

import grpc

from latent_inv.errors import LatentInvError
from latent_inv.pem import certificates_of, check_dates, check_key, read_pem

logger = logging.getLogger(__name__)

#: how long before its end a certificate is warned of, and how often
WARN_BEFORE = datetime.timedelta(days=14)
WARN_EVERY = datetime.timedelta(days=1)


def now() -> datetime.datetime:
    """The time, with its zone."""
    return datetime.datetime.now(datetime.timezone.utc)


@dataclass(frozen=True)
class _Loaded:
    """What the files held: `end` is when the first of the certificates is over."""

    configuration: grpc.ServerCertificateConfiguration
    end: datetime.datetime


class ServerCertificates:
    """Certificate, key and CAs of clients as files. Safe to use from several threads.

    Args:
        certificate: of the server, then those between it and its CA.
        key: its private key, without a password.
        client_ca: clients must show a certificate of these; None: they need none.
    Raises:
        InputError: a file is missing or no PEM, a certificate is not valid now, or the key is another one's.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None = None) -> None:
        self._certificate, self._key, self._client_ca = certificate, key, client_ca
        self._lock = threading.Lock()
        self._seen = self._stamp()
        self._current = self._load()
        self._renewed: grpc.ServerCertificateConfiguration | None = None
        self._warned: datetime.datetime | None = None
        self._check_readers()
        self.warn_of_the_end()

    @property
    def end(self) -> datetime.datetime:
        """When the first of the certificates is over."""
        return self._current.end

    def credentials(self) -> grpc.ServerCredentials:
        """For a port: new connections take what the last `refresh` found."""
        return grpc.dynamic_ssl_server_credentials(
            self._current.configuration,
            self._take_renewed,  # type: ignore[arg-type]  # None is right, the stubs do not know of it
            require_client_authentication=self._client_ca is not None,
        )

    def _take_renewed(self) -> grpc.ServerCertificateConfiguration | None:
        # Called at each handshake, so no file is read here; None: no change.
        with self._lock:
            renewed, self._renewed = self._renewed, None
        return renewed

    def refresh(self, force: bool = False) -> bool:
        """Read the files if one of them changed since the last look. Files that cannot be used change nothing.

        Returns:
            True if new connections get other certificates from now on.
        """
        with self._lock:
            stamp = self._stamp()
            if stamp == self._seen and not force:
                return False
            self._seen = stamp
            try:
                self._current = self._load()
            except LatentInvError as error:
                # Also the moment between the writing of a new certificate and its key.
                logger.error("TLS goes on with the certificate from before, the new one cannot be used: %s", error)
                return False
            self._renewed, self._warned = self._current.configuration, None
        logger.info("TLS certificate read again, it ends on %s", self.end.date())
        return True

    def warn_of_the_end(self) -> None:
        """Log that a certificate ends soon, or is over; at most once a day."""
        left = self.end - now()
        if left > WARN_BEFORE or (self._warned is not None and now() - self._warned < WARN_EVERY):
            return
        self._warned = now()
        if left <= datetime.timedelta():
            logger.error("a TLS certificate expired on %s: clients refuse this server; renew it", self.end.date())
        else:
            logger.warning("a TLS certificate expires on %s, in %d days: renew it", self.end.date(), left.days)

    def _load(self) -> _Loaded:
        certificate, key = read_pem(self._certificate, "tls_certificate"), read_pem(self._key, "tls_key")
        chain = certificates_of(certificate, "tls_certificate")
        check_dates(chain, now(), "tls_certificate")
        check_key(key, chain[0], "tls_key", "tls_certificate")
        authorities, all_of_them = None, chain
        if self._client_ca is not None:
            authorities = read_pem(self._client_ca, "tls_client_ca")
            clients = certificates_of(authorities, "tls_client_ca")
            check_dates(clients, now(), "tls_client_ca")
            all_of_them = [*chain, *clients]
        return _Loaded(
            grpc.ssl_server_certificate_configuration([(key, certificate)], root_certificates=authorities),
            min(each.not_valid_after_utc for each in all_of_them),
        )

    def _check_readers(self) -> None:
        if os.name == "posix" and self._key.stat().st_mode & stat.S_IROTH:
            logger.warning('the key "%s" can be read by everybody on this machine; chmod 0600 it', self._key.name)

    def _stamp(self) -> tuple[object, ...]:
        stamps: list[object] = []
        for path in (self._certificate, self._key, self._client_ca):
            try:
                status = None if path is None else path.stat()
            except OSError:
                status = None
            stamps.append(status and (status.st_mtime_ns, status.st_size, status.st_ino))
        return tuple(stamps)
