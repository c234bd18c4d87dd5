"""A certificate authority for tests: servers and clients, good and bad."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)
CERTIFICATE, KEY = "certificate.pem", "key.pem"


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as PEM."""

    certificate: bytes
    key: bytes
    secret: ec.EllipticCurvePrivateKey

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Paths of certificate and key."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CERTIFICATE).write_bytes(self.certificate)
        (folder / KEY).write_bytes(self.key)
        (folder / KEY).chmod(0o600)
        return folder / CERTIFICATE, folder / KEY

    def locked_key(self) -> bytes:
        """The key, encrypted."""
        return self.secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password"))


class Authority:
    """Makes certificates; `pem` is its own."""

    def __init__(self, name: str = "test authority", days: tuple[float, float] = (-1, 30)) -> None:
        self._secret = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._begin(self._name, self._secret, days).add_extension(x509.BasicConstraints(True, None), True)
        self.pem = builder.sign(self._secret, hashes.SHA256()).public_bytes(Encoding.PEM)

    def _begin(
        self, subject: x509.Name, secret: ec.EllipticCurvePrivateKey, days: tuple[float, float]
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.timezone.utc)
        return x509.CertificateBuilder(
            self._name,
            subject,
            secret.public_key(),
            x509.random_serial_number(),
            now + days[0] * DAY,
            now + days[1] * DAY,
        )

    def sign(self, name: str | None, days: tuple[float, float] = (-1, 30)) -> Pair:
        """A certificate for 127.0.0.1 and for a client called `name`; `days` from now its time begins and ends."""
        secret = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([] if name is None else [x509.NameAttribute(NameOID.COMMON_NAME, name)])
        places = x509.SubjectAlternativeName(
            [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        )
        made = self._begin(subject, secret, days).add_extension(places, False).sign(self._secret, hashes.SHA256())
        key = secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return Pair(made.public_bytes(Encoding.PEM), key, secret)
