"""How a server is to run: one table of settings, from which flags, environment, file and checks are made."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latent_inv.addresses import is_loopback
from latent_inv.errors import SpecError
from latent_inv.settings import Settings, setting
from latent_inv.spec_requests import PRECISIONS

if TYPE_CHECKING:
    from latent_inv.images import Limits

#: group → what it is about; the file has a table for each, `--help` a panel
GROUPS: Mapping[str, str] = {
    "listen": "where it listens",
    "door": "who may call, and what each may have",
    "worker": "what computes",
    "limits": "what all together may have",
    "store": "what is kept, and for how long",
    "operations": "logs, figures, stopping",
}
#: how the names of environment variables begin
PREFIX = "LATENT_INV_SERVE_"
MIB = 2**20
#: a further generator, as NAME=FAMILY:WHAT
_ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}=[a-z0-9]+:.+")


def _option(
    default: Any, group: str, doc: str, *, key: str = "", scale: int = 1, secret: bool = False, **meta: Any
) -> Any:
    """Declare one setting of the server.

    Args:
        key: its name outside of Python, if it is another one.
        scale: how many of the field's units are one of the key's.
        secret: may hold a password, so it is never shown whole.
        meta: as for `setting`.
    """
    made: Field[Any] = setting(default, doc=doc, **meta)
    extra = {"group": group, "key": key, "scale": scale, "secret": secret}
    return field(default=default, metadata={**made.metadata, **extra}, repr=not secret)


def _image_limits() -> Limits:
    # Pictures need numpy, which `--help` must not wait for.
    from latent_inv.images import Limits

    return Limits()


@dataclass(frozen=True)
class ServerConfig(Settings):
    """Settings of one server; what each means stands in its `doc`, for flags and the file as well.

    Raises:
        SpecError: a value out of its range, or values that do not go together.
    """

    host: str = _option("127.0.0.1", "listen", "Address to bind. Other machines need TLS and a login, or allow_remote.")
    port: int = _option(50051, "listen", "Port; 0 takes a free one.", low=0, high=65535)
    port_file: Path | None = _option(None, "listen", "The port is written into this file once the server listens.")
    allow_remote: bool = _option(
        False, "listen", "Bind an address that other machines reach, though there is no TLS or no login."
    )

    tokens: Path | None = _option(
        None, "door", "File of clients and their tokens, made by `latent-inv tokens add`. Read again when it changes."
    )
    tls_certificate: Path | None = _option(
        None, "door", "Certificate of this server, and those between it and its CA, as PEM. Read again when it changes."
    )
    tls_key: Path | None = _option(None, "door", "Private key of tls_certificate, as PEM, without a password.")
    tls_client_ca: Path | None = _option(
        None, "door", "Clients must show a certificate of these CAs (PEM); its common name is the client's name."
    )
    max_queued_per_client: int | None = _option(
        None, "door", "Most jobs of one client that wait, unless the tokens file says otherwise.", low=0, optional=True
    )
    max_running_per_client: int | None = _option(
        None, "door", "Most jobs of one client that run, unless the tokens file says otherwise.", low=1, optional=True
    )
    max_upload_mb: int | None = _option(
        1024,
        "door",
        "Most uploaded data of one client, unless the tokens file says otherwise.",
        unit="MiB",
        low=0,
        optional=True,
    )
    max_calls_per_client: int | None = _option(
        250, "door", "Most open calls of one client, on a server with a login.", low=1, high=100_000, optional=True
    )

    devices: tuple[str, ...] = _option(
        ("auto",), "worker", "Where to compute, a worker each: auto, cpu, cuda, cuda:N or mps."
    )
    threads: int | None = _option(
        None, "worker", "CPU threads of a worker; none: as many as it likes.", low=1, optional=True
    )
    lane_width: int | None = _option(
        None, "worker", "Rows a kernel call of bulk jobs runs at; none: what suits.", low=1, high=256, optional=True
    )
    precision: str = _option(
        "float32",
        "worker",
        "Number format of networks that have it, for requests with precision auto.",
        choices=PRECISIONS[1:],
    )
    memory_mb: int | None = _option(
        None,
        "worker",
        "Most memory that the jobs of a worker take; none: a share of what there is.",
        unit="MiB",
        low=64,
        optional=True,
    )
    generator_memory_mb: int | None = _option(
        None,
        "worker",
        "Most memory that loaded generators take; the least recently used goes first. None: a share of what there is.",
        unit="MiB",
        low=1,
        optional=True,
    )
    generators: tuple[str, ...] = _option(
        (),
        "worker",
        "Further generators, each NAME=REFERENCE, such as vae=diffusers:/models/vae; clients use the name.",
    )
    checkpoint_steps: int = _option(
        50, "worker", "A running job is saved after so many steps, to go on from there.", unit="steps", low=1
    )
    heartbeat_seconds: float = _option(
        30.0, "worker", "A worker without a sign of life for so long is replaced.", unit="s", low=1, high=86400
    )

    max_message_bytes: int = _option(
        64 * MIB,
        "limits",
        "Largest message, both ways.",
        key="max_message_mb",
        scale=MIB,
        unit="MiB",
        low=2**16,
        high=2**30,
    )
    max_streams: int = _option(1000, "limits", "Most open calls; health checks do not count.", low=1, high=100_000)
    max_jobs: int = _option(64, "limits", "Most jobs that run at once.", low=1, high=100_000)
    max_queued: int = _option(1000, "limits", "Most jobs that wait; more are refused.", low=0, high=1_000_000)
    max_requests: int = _option(
        64, "limits", "Most samples, decodings and other requests without progress at once.", low=1, high=100_000
    )

    data: Path | None = _option(
        None, "store", "Folder for jobs, results and uploads; none: gone when the server stops."
    )
    database: str = _option(
        "", "store", "SQLAlchemy URL of a PostgreSQL database for jobs; empty: SQLite in the data folder.", secret=True
    )
    retention_hours: float = _option(168.0, "store", "Finished jobs are kept for so long.", unit="h", above=0)
    disk_budget_mb: int = _option(
        10240, "store", "Results and uploads take at most so much; the oldest go first.", unit="MiB", low=1
    )

    grace_seconds: float = _option(
        5.0, "operations", "How long open calls may go on after a stop was asked for.", unit="s", low=0, high=86400
    )
    metrics_port: int | None = _option(
        None, "operations", "Port for Prometheus; 0 takes a free one.", low=0, high=65535, optional=True
    )
    metrics_host: str = _option(
        "127.0.0.1", "operations", "Address of metrics_port. There is no login and no TLS there: keep it inside."
    )
    log_format: str = _option("text", "operations", "How log lines look.", choices=("text", "json"))
    log_level: str = _option(
        "info", "operations", "The least that is logged.", choices=("debug", "info", "warning", "error")
    )

    #: of pictures in requests
    image_limits: Limits = field(default_factory=_image_limits)

    def __post_init__(self) -> None:
        super().__post_init__()
        for option in OPTIONS.values():
            value = getattr(self, option.name)
            if option.kind == "path" and value is not None:
                object.__setattr__(self, option.name, _as_path(value, option.name))
        object.__setattr__(self, "devices", _as_devices(self.devices))
        object.__setattr__(self, "generators", _as_aliases(self.generators))
        if (self.tls_certificate is None) != (self.tls_key is None):
            missing = "tls_key" if self.tls_key is None else "tls_certificate"
            raise SpecError("must be given too: TLS needs a certificate and its key", field=missing)
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise SpecError("must be given for tls_client_ca to be used, with tls_key", field="tls_certificate")
        if not (self.allow_remote or is_loopback(self.host) or (self.encrypted and self.guarded)):
            lack = "no login" if self.encrypted else "no TLS" if self.guarded else "neither TLS nor a login"
            needed = "give tls_certificate, tls_key and tokens, or --allow-remote"
            raise SpecError(
                f'"{self.host:.60}" can be reached by other machines and there is {lack}; {needed}', field="host"
            )

    @property
    def aliases(self) -> tuple[tuple[str, str], ...]:
        """`generators` as (name, reference)."""
        return tuple((name, reference) for name, _, reference in (text.partition("=") for text in self.generators))

    @property
    def encrypted(self) -> bool:
        """Is there TLS?"""
        return self.tls_certificate is not None

    @property
    def guarded(self) -> bool:
        """Must callers say who they are?"""
        return self.tokens is not None or self.tls_client_ca is not None


def _as_path(value: Any, name: str) -> Path:
    if not isinstance(value, (str, Path)) or not str(value) or "\0" in str(value):
        raise SpecError(f"must be a path, found {value!r:.40}", field=name)
    return Path(value)


def _as_devices(value: Any) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, (tuple, list)) or not names or not all(isinstance(name, str) and name for name in names):
        raise SpecError(f"must be one device or several, found {value!r:.60}", field="devices")
    if len(set(names)) < len(names):
        raise SpecError(f"names a device twice: {', '.join(names):.60}", field="devices")
    return tuple(names)


def _as_aliases(value: Any) -> tuple[str, ...]:
    texts = tuple(text for text in ((value,) if isinstance(value, str) else value) if text != "")
    for text in texts:
        if not isinstance(text, str) or not _ALIAS.fullmatch(text):
            accepted = "a name of letters, digits, - _ and ., then =, then a reference such as diffusers:/models/vae"
            raise SpecError(f"must be {accepted}, found {text!r:.80}", field="generators")
    names = [text.partition("=")[0] for text in texts]
    if len(set(names)) < len(names):
        raise SpecError(f"names a generator twice: {', '.join(names):.80}", field="generators")
    return texts


@dataclass(frozen=True)
class Option:
    """One setting as flags, environment and file know it.

    Attributes:
        name: the field of `ServerConfig`. key: its name elsewhere.
        kind: "int", "float", "bool", "text", "path" or "list".
    """

    name: str
    key: str
    group: str
    kind: str
    default: Any
    meta: Mapping[str, Any]

    @property
    def flag(self) -> str:
        """As on the command line."""
        return "--" + self.key.replace("_", "-")

    @property
    def variable(self) -> str:
        """As in the environment."""
        return PREFIX + self.key.upper()

    @property
    def optional(self) -> bool:
        """Can it be "none"?"""
        return bool(self.meta["optional"]) or self.kind == "path"

    @property
    def range(self) -> Mapping[str, Any]:
        """Its metadata with the ends of the range in the key's unit."""
        scale, meta = self.meta["scale"], self.meta
        if scale == 1:
            return meta
        return {**meta, "low": math.ceil(meta["low"] / scale), "high": meta["high"] // scale}


_KINDS = {"int": "int", "float": "float", "bool": "bool", "str": "text", "Path": "path", "tuple[str, ...]": "list"}

#: key → setting, in the order of the file
OPTIONS: Mapping[str, Option] = {
    option.key: option
    for option in (
        Option(
            item.name,
            item.metadata["key"] or item.name,
            item.metadata["group"],
            _KINDS[str(item.type).removesuffix(" | None")],
            None if item.default is MISSING else item.default,
            item.metadata,
        )
        for item in fields(ServerConfig)
        if item.metadata
    )
}
