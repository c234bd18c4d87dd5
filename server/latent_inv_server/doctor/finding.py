"""What a look at one thing found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import Enum

from latent_inv.errors import LatentInvError
from latent_inv.incidents import as_typed


class State(Enum):
    """How a thing is."""

    ok = "ok"
    warn = "warn"
    fail = "fail"


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    Attributes:
        about: the thing, in a word or two, the same on every machine.
        found: how it is, in a sentence.
        advice: what to do; never empty if something is wrong.
    """

    about: str
    state: State
    found: str
    advice: str = ""

    def __post_init__(self) -> None:
        if self.state is not State.ok and not self.advice:
            raise ValueError(f"{self.about}: what is to be done?")

    def as_json(self) -> dict[str, str]:
        """For programs."""
        return {**asdict(self), "state": self.state.value}


def ok(about: str, found: str) -> Finding:
    """All is well."""
    return Finding(about, State.ok, found)


def warn(about: str, found: str, advice: str) -> Finding:
    """It works, but not as it should, or not for long."""
    return Finding(about, State.warn, found, advice)


def fail(about: str, found: str, advice: str) -> Finding:
    """A server would not start, or would not do its work."""
    return Finding(about, State.fail, found, advice)


Look = Callable[[], list[Finding]]


def looked(about: str, look: Look, advice: str) -> list[Finding]:
    """All that a look finds; one that raises has found that, too.

    Args:
        advice: what to do if it raises.
    """
    found: list[Finding] = []
    try:
        found.extend(look())
    except LatentInvError as error:
        found.append(fail(about, str(error), advice))
    except Exception as error:
        found.append(fail(about, str(as_typed(error, f"looking at {about}")), "report this with the log line"))
    return found


@contextmanager
def told_as(findings: list[Finding], about: str, advice: str) -> Iterator[None]:
    """A typed error inside becomes a finding."""
    try:
        yield
    except LatentInvError as error:
        findings.append(fail(about, str(error), advice))
