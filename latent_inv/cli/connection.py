"""Which server a command works on, and how it is reached: the same options for every command."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .parameters import option, with_options

if TYPE_CHECKING:
    from latent_inv.client import Client

_PANEL = "Server"
_ADDRESS = Annotated[
    str,
    typer.Option(
        "--server", help="HOST:PORT of a running `latent-inv serve`; empty: work here.", rich_help_panel=_PANEL
    ),
]
_NEEDED_ADDRESS = Annotated[
    str, typer.Option("--server", help="HOST:PORT of a running `latent-inv serve`.", rich_help_panel=_PANEL)
]
#: where `latent-inv serve` listens if it is told nothing
LOCAL = "127.0.0.1:50051"
_TOKEN_FILE = Annotated[
    Path | None,
    typer.Option(
        help="File that holds the token of `latent-inv tokens add`. Or LATENT_INV_TOKEN.", rich_help_panel=_PANEL
    ),
]
_CA = Annotated[
    Path | None,
    typer.Option(help="Certificates of CAs to trust (PEM), for TLS. Or LATENT_INV_CA.", rich_help_panel=_PANEL),
]
_CERTIFICATE = Annotated[
    Path | None,
    typer.Option(help="Our certificate (PEM), where the server wants one.", rich_help_panel=_PANEL),
]
_KEY = Annotated[Path | None, typer.Option(help="Private key of --certificate (PEM).", rich_help_panel=_PANEL)]
_TLS = Annotated[
    bool, typer.Option("--tls", help="Encrypt, with a server certificate of a public CA.", rich_help_panel=_PANEL)
]
_INSECURE = Annotated[
    bool,
    typer.Option(
        "--insecure-token", help="Send the token to another machine though there is no TLS.", rich_help_panel=_PANEL
    ),
]
#: parameter of a command → its kind and default
_OPTIONS: dict[str, tuple[Any, Any]] = {
    "server": (_ADDRESS, ""),
    "token_file": (_TOKEN_FILE, None),
    "ca": (_CA, None),
    "certificate": (_CERTIFICATE, None),
    "key": (_KEY, None),
    "tls": (_TLS, False),
    "insecure_token": (_INSECURE, False),
}
#: a token and the end of its line
_MAX_TOKEN_BYTES = 4096


@dataclass(frozen=True)
class Server:
    """What the options say of a server. False if none was named."""

    server: str = ""
    token_file: Path | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    tls: bool = False
    insecure_token: bool = False

    def __bool__(self) -> bool:
        return bool(self.server)

    def client(self) -> Client:
        """A client of it.

        Raises:
            InputError: there is no server, a file cannot be read, or the token would be sent in the open.
        """
        from latent_inv.client import Client

        return Client(
            self.server,
            token=None if self.token_file is None else _token(self.token_file),
            ca=self.ca,
            certificate=self.certificate,
            key=self.key,
            tls=self.tls,
            insecure_token=self.insecure_token,
        )

    def check(self) -> None:
        """Refuse options of a connection where there is none.

        Raises:
            SpecError: one was given without --server.
        """
        from latent_inv.errors import SpecError

        for name, (_, default) in _OPTIONS.items():
            if not self.server and getattr(self, name) != default:
                raise SpecError("is for work on a server; give --server as well", field=name)


def on_server(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command with a parameter `server: Server` the options that it is made of."""
    return _with(function, _OPTIONS)


def always_on_server(function: Callable[..., None]) -> Callable[..., None]:
    """The same for a command that has nothing to do without a server: by default one on this machine."""
    return _with(function, {**_OPTIONS, "server": (_NEEDED_ADDRESS, LOCAL)})


def _with(function: Callable[..., None], options: dict[str, tuple[Any, Any]]) -> Callable[..., None]:
    @functools.wraps(function)
    def command(**given: Any) -> None:
        from .shell import reporting_errors

        server = Server(**{name: given.pop(name) for name in options})
        with reporting_errors():
            server.check()
        function(**given, server=server)

    return with_options(command, "server", [option(name, *made) for name, made in options.items()])


def _token(path: Path) -> str:
    from latent_inv.errors import SpecError, at
    from latent_inv.files import read_bytes

    with at("token_file"):
        words = read_bytes(path, _MAX_TOKEN_BYTES).decode("ascii", "replace").split()
        if len(words) != 1:
            raise SpecError(f'"{path.name:.80}" must hold one token and nothing else')
        return words[0]
