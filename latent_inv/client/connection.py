"""How a client reaches a server: in the open or with TLS, with a token or without, and never a token in the open."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from latent_inv.addresses import stays_here
from latent_inv.errors import SpecError
from latent_inv.pem import certificates_of, check_key, read_pem

#: what is taken where an argument is not given
TOKEN_VARIABLE, CA_VARIABLE = "LATENT_INV_TOKEN", "LATENT_INV_CA"

File = str | os.PathLike[str] | bytes


@dataclass(frozen=True)
class Connection:
    """Where a server is, and what proves who is who; made by `connection`."""

    address: str
    token: str = field(default="", repr=False)
    tls: bool = False
    ca: bytes | None = field(default=None, repr=False)
    certificate: bytes | None = field(default=None, repr=False)
    key: bytes | None = field(default=None, repr=False)

    def channel(self, options: list[tuple[str, int]]) -> Any:
        """A channel for blocking calls."""
        if self.tls:
            return self._with_token(grpc.secure_channel(self.address, self._credentials(), options=options))
        return self._with_token(grpc.insecure_channel(self.address, options=options))

    def aio_channel(self, options: list[tuple[str, int]]) -> Any:
        """A channel for the event loop that runs now."""
        if self.tls:
            return self._with_token(grpc.aio.secure_channel(self.address, self._credentials(), options=options))
        return self._with_token(grpc.aio.insecure_channel(self.address, options=options))

    def _credentials(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(self.ca, self.key, self.certificate)

    def _with_token(self, channel: Any) -> Any:
        return _TokenChannel(channel, self.token) if self.token else channel


def connection(
    address: str,
    *,
    token: str | None = None,
    ca: File | None = None,
    certificate: File | None = None,
    key: File | None = None,
    tls: bool = False,
    insecure_token: bool = False,
    environ: Mapping[str, str] | None = None,
) -> Connection:
    """Check what was given, and read the files.

    Args:
        token: None takes LATENT_INV_TOKEN from the environment; empty sends none.
        ca: certificates of CAs to trust, a path or PEM bytes; None takes the path in LATENT_INV_CA.
        certificate, key: of this client, for servers that want one.
        tls: encrypt though none of these is given; the server's certificate is of a public CA.
        insecure_token: send the token in the open to another machine.
        environ: os.environ, unless given.
    Raises:
        InputError: an argument is wrong, a file cannot be read, or the token would be sent in the open.
    """
    environ = os.environ if environ is None else environ
    if token is None:
        token = environ.get(TOKEN_VARIABLE, "").strip()
    check_token(token)
    if ca is None:
        ca = environ.get(CA_VARIABLE) or None
    if (certificate is None) != (key is None):
        raise SpecError(
            "must be given too, as a certificate needs its key", field="key" if key is None else "certificate"
        )
    made: dict[str, bytes] = {}
    if ca is not None:
        made["ca"] = read_pem(ca, "ca")
        certificates_of(made["ca"], "ca")
    if certificate is not None and key is not None:
        made |= {"certificate": read_pem(certificate, "certificate"), "key": read_pem(key, "key")}
        check_key(made["key"], certificates_of(made["certificate"], "certificate")[0], "key", "certificate")
    encrypted = tls or bool(made)
    if token and not encrypted and not insecure_token and not stays_here(address):
        text = f"would go to {address:.80} unencrypted; give ca or tls, or insecure_token to send it all the same"
        raise SpecError(text, field="token")
    return Connection(address, token, encrypted, **made)


def check_token(token: str) -> None:
    """Refuse what no header can carry. The text holds nothing of the token.

    Raises:
        SpecError: other characters than the printable ones of ASCII, or spaces.
    """
    if not isinstance(token, str) or not all("!" <= letter <= "~" for letter in token):
        raise SpecError("must be text of printable ASCII characters without spaces", field="token")


class _TokenChannel:
    """A channel that sends the token with each call.

    gRPC's call credentials would do so on encrypted channels alone, and its interceptors change how streams are
    cancelled; this works for blocking and for awaited calls.
    """

    def __init__(self, channel: Any, token: str) -> None:
        self._channel, self._entry = channel, ("authorization", f"Bearer {token}")

    def unary_unary(self, *arguments: Any, **settings: Any) -> _TokenCall:
        return _TokenCall(self._channel.unary_unary(*arguments, **settings), self._entry)

    def unary_stream(self, *arguments: Any, **settings: Any) -> _TokenCall:
        return _TokenCall(self._channel.unary_stream(*arguments, **settings), self._entry)

    def stream_unary(self, *arguments: Any, **settings: Any) -> _TokenCall:
        return _TokenCall(self._channel.stream_unary(*arguments, **settings), self._entry)

    def stream_stream(self, *arguments: Any, **settings: Any) -> _TokenCall:
        return _TokenCall(self._channel.stream_stream(*arguments, **settings), self._entry)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)


class _TokenCall:
    """A method of a channel, with the token among its metadata."""

    def __init__(self, call: Any, entry: tuple[str, str]) -> None:
        self._call, self._entry = call, entry

    def __call__(self, *arguments: Any, metadata: Any = None, **settings: Any) -> Any:
        return self._call(*arguments, metadata=(*(metadata or ()), self._entry), **settings)

    def future(self, *arguments: Any, metadata: Any = None, **settings: Any) -> Any:
        return self._call.future(*arguments, metadata=(*(metadata or ()), self._entry), **settings)
