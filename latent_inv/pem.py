"""Certificates and keys in PEM, checked before TLS meets them: its own errors name neither file nor reason."""

from __future__ import annotations

import datetime
import os
from typing import TYPE_CHECKING, Any

from latent_inv.errors import SpecError, at
from latent_inv.files import read_bytes

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

#: more than any chain of certificates
_MAX_BYTES = 4 * 2**20


def read_pem(source: str | os.PathLike[str] | bytes, field: str) -> bytes:
    """The content of a file, or bytes as they are.

    Raises:
        InputError: it cannot be read; the text names the file and not its folder.
    """
    if isinstance(source, bytes):
        return source
    with at(field):
        if not isinstance(source, (str, os.PathLike)):
            raise SpecError(f"must be a path or the bytes of a file, found {type(source).__name__}")
        return read_bytes(source, _MAX_BYTES)


def certificates_of(data: bytes, field: str) -> list[Certificate]:
    """All certificates of a file, in its order; at least one.

    Raises:
        SpecError: there is none, or one that cannot be read.
    """
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError:
        text = "holds no certificate in PEM; it must begin with -----BEGIN CERTIFICATE-----"
        raise SpecError(text, field=field) from None


def check_key(key: bytes, certificate: Certificate, field: str, other: str) -> None:
    """Refuse a private key that is not the certificate's.

    Args:
        other: name of the certificate's setting.
    Raises:
        SpecError: not its key, or none that can be used.
    """
    public = _private_key(key, field).public_key()
    if public != certificate.public_key():
        text = f"is not the key of {other}: give the two files that were made together"
        raise SpecError(text, field=field)


def _private_key(data: bytes, field: str) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return load_pem_private_key(data, password=None)
    except TypeError:
        text = "is encrypted: give the key without its password, in a file for the server alone"
        raise SpecError(text, field=field) from None
    except (ValueError, UnsupportedAlgorithm):
        raise SpecError("holds no private key in PEM that can be used", field=field) from None


def check_dates(certificates: list[Certificate], now: datetime.datetime, field: str) -> None:
    """Refuse certificates that are not valid now.

    Args:
        now: with a time zone.
    Raises:
        SpecError: one is over, or not valid yet; the text says what to do.
    """
    for certificate in certificates:
        if now > certificate.not_valid_after_utc:
            ended = _moment(certificate.not_valid_after_utc)
            raise SpecError(f"{_which(certificate)} expired on {ended}: renew it, and give the new one", field=field)
        if now < certificate.not_valid_before_utc:
            begins = _moment(certificate.not_valid_before_utc)
            text = f"{_which(certificate)} is valid from {begins} on, and here it is {_moment(now)}: check the clock"
            raise SpecError(text, field=field)


def common_name(certificate: Certificate) -> str:
    """The common name of a certificate's subject; empty if it has none."""
    from cryptography.x509.oid import NameOID

    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def _which(certificate: Certificate) -> str:
    name = common_name(certificate)
    return f'the certificate "{name:.60}"' if name else "a certificate"


def _moment(time: datetime.datetime) -> str:
    return time.astimezone(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
