"""A server that runs: does it answer, let us in, and work?"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from latent_inv.errors import LatentInvError, LoginError, NotFoundError, UnavailableError

from .finding import Finding, fail, ok, warn

if TYPE_CHECKING:
    from latent_inv.client import Client

_SLOW_SECONDS = 1.0


def reach(connect: Callable[[], Client], address: str) -> list[Finding]:
    """Ask a server for its health, and for something that needs a login and its worker."""
    about = f"server {address}"
    try:
        with connect() as client:
            began = time.monotonic()
            healthy = client.healthy()
            seconds = time.monotonic() - began
            if not healthy:
                advice = "its worker is starting, gone, or the server is stopping: read its log"
                return [fail(about, "answers, and says that it does not serve", advice)]
            text = f"answers in {seconds * 1000:.0f} ms"
            slow = warn(about, text, "the network is slow, or the machine has too much to do")
            return [ok(about, text) if seconds < _SLOW_SECONDS else slow, _generators(client)]
    except UnavailableError as error:
        return [fail(about, str(error), "is it running there, and is the port right? With TLS, give --ca or --tls")]
    except LatentInvError as error:
        return [fail(about, str(error), "correct the options of the connection")]


def _generators(client: Client) -> Finding:
    try:
        names = [info.name for info in client.generators()]
    except LoginError as error:
        return fail("login", str(error), "give --token-file, or --certificate and --key")
    except (UnavailableError, NotFoundError) as error:
        return fail("its generators", str(error), "read its log")
    return ok("its generators", ", ".join(names))
