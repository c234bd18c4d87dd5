"""Tokens and certificates: can they be used, by whom, and for how long?"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from latent_inv_server.config import ServerConfig
from latent_inv_server.door.credentials import WARN_BEFORE, ServerCertificates, now
from latent_inv_server.door.tokens import TokenFile

from .finding import Finding, fail, ok, told_as, warn


def tokens(config: ServerConfig) -> list[Finding]:
    """The file of clients."""
    if config.tokens is None:
        how = "a certificate is the login" if config.tls_client_ca else "none: whoever reaches the port is let in"
        return [ok("tokens", how)]
    found: list[Finding] = []
    with told_as(found, "tokens", "correct the file, or make a new one with latent-inv tokens add"):
        clients = TokenFile(config.tokens).clients.entries
        if not clients:
            return [fail("tokens", "no client, so nobody can log in", f"latent-inv tokens add {config.tokens} NAME")]
        found.append(ok("tokens", f"clients: {len(clients)}"))
        found += _readers(config.tokens, "tokens")
    return found


def certificates(config: ServerConfig) -> list[Finding]:
    """Certificate, key and CAs of clients."""
    if config.tls_certificate is None or config.tls_key is None:
        return [ok("certificate", "none: nothing is encrypted, which is well on this machine alone")]
    found: list[Finding] = []
    with told_as(found, "certificate", "give a certificate and its key that are valid now, as PEM"):
        loaded = ServerCertificates(config.tls_certificate, config.tls_key, config.tls_client_ca)
        days, until = (loaded.end - now()).days, f"{loaded.end:%Y-%m-%d}"
        if loaded.end - now() < WARN_BEFORE:
            advice = "renew it; the server takes the new files by itself"
            found.append(warn("certificate", f"ends on {until}, in {days} days", advice))
        else:
            found.append(ok("certificate", f"ends on {until}, in {days} days"))
        found += _readers(config.tls_key, "key")
    return found


def _readers(path: Path, about: str) -> list[Finding]:
    if os.name == "posix" and path.stat().st_mode & stat.S_IROTH:
        return [warn(about, f"{path} can be read by everybody on this machine", f"chmod o-r {path}")]
    return []
