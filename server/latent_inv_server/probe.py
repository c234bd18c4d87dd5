"""Asking the server that settings describe how it is, from the machine that it runs on: for health checks."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from latent_inv.errors import InputError
from latent_inv.pem import certificates_of, read_pem

from .config import ServerConfig

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104


def probe(config: ServerConfig, port: int | None = None, seconds: float = 5.0) -> bool | None:
    """Is it healthy?

    With TLS it is trusted by its own certificate, whatever names that has; one that also wants a certificate of its
    clients is asked with its own, which their CA may or may not have signed.

    Args:
        port: the one that it has; None: that of the settings.
    Returns:
        None if nobody answers, or not in this way.
    """
    host = _EVERYWHERE.get(config.host, config.host)
    address = f"[{host}]" if ":" in host else host
    with _channel(config, f"{address}:{port or config.port}") as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=seconds)
        except grpc.RpcError:
            return None
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _channel(config: ServerConfig, target: str) -> grpc.Channel:
    if config.tls_certificate is None or config.tls_key is None:
        return grpc.insecure_channel(target)
    chain, key = read_pem(config.tls_certificate, "tls_certificate"), read_pem(config.tls_key, "tls_key")
    own = (key, chain) if config.tls_client_ca is not None else (None, None)
    credentials = grpc.ssl_channel_credentials(chain, *own)
    return grpc.secure_channel(target, credentials, [("grpc.ssl_target_name_override", _name(chain))])


def _name(chain: bytes) -> str:
    from cryptography import x509

    from latent_inv.pem import common_name

    first = certificates_of(chain, "tls_certificate")[0]
    try:
        names = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found = [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]
    except x509.ExtensionNotFound:
        found = []
    found.append(common_name(first))
    if not found[0]:
        raise InputError("names no host", field="tls_certificate")
    return found[0]
