"""Who is calling."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Quotas:
    """What one client may have at once; None: no limit of its own."""

    queued_jobs: int | None = None
    running_jobs: int | None = None
    upload_bytes: int | None = None


@dataclass(frozen=True)
class Caller:
    """Who calls: the name that stands beside its token; jobs and files belong to it."""

    name: str
    quotas: Quotas = Quotas()


#: whoever calls a server without a login
LOCAL = Caller("local")

#: set by the door around every handler
current_caller: ContextVar[Caller] = ContextVar("current_caller", default=LOCAL)


def caller() -> Caller:
    """Whose call is being handled."""
    return current_caller.get()
