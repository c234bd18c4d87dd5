"""Log lines with who called, which call and which job, as text or JSON; no path, token or trace in any of them.

Code logs through `logging` as anywhere. What a line should say besides its text is in its scope: `scope` opens one for
a call or a job, `note` adds to it from further inside, and every line until its end has it. Fields of a single line go
into `extra=fields(…)`.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import IO, Any

import structlog

from latent_inv.incidents import condensed

from .scrubbing import scrubbed

#: whose lines are logged from the level that is set; those of libraries from "warning" at least, since their chatter is
#: nobody's concern here, and may hold what must not be logged
_OURS = ("latent_inv", "latent_inv_server")
_FIRST = ("timestamp", "level", "logger", "event")

_current: ContextVar[dict[str, str] | None] = ContextVar("log_scope", default=None)


# ---- what a line says besides its text -----------------------------------------------------------


@contextmanager
def scope(**about: str) -> Iterator[None]:
    """Every line inside has these fields and no others from outside; tasks and `to_thread` calls begun inside, too."""
    before = _current.set(dict(about))
    try:
        yield
    finally:
        _current.reset(before)


def open_scope(**about: str) -> Mapping[str, str]:
    """The same until the task ends, for generators, which may be closed elsewhere than they were begun.

    Returns:
        the scope's fields, as they become.
    """
    made = dict(about)
    _current.set(made)
    return made


def note(**about: str) -> None:
    """Add to the scope that is open, for whoever opened it as well; harmless outside of one."""
    fields_now = _current.get()
    if fields_now is not None:
        fields_now.update(about)


def fields(**of_line: Any) -> dict[str, Any]:
    """For the `extra` of one line."""
    return {"fields": of_line}


# ---- how it is written -----------------------------------------------------------------------------


@contextmanager
def logging_to(stream: IO[str] | None = None, form: str = "text", level: str = "info") -> Iterator[None]:
    """Write all log lines of this process until the end of the block.

    Args:
        stream: None: standard error.
        form: "text" or "json", one line an entry either way.
        level: "debug", "info", "warning" or "error".
    """
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(_formatter(form))
    root = logging.getLogger()
    loggers = [root, *map(logging.getLogger, _OURS)]
    before, hook = [each.level for each in loggers], threading.excepthook
    root.addHandler(handler)
    least = int(getattr(logging, level.upper()))
    for each in loggers:
        each.setLevel(max(least, logging.WARNING) if each is root else least)
    # Else Python would print a trace with paths.
    threading.excepthook = _log_thread
    try:
        yield
    finally:
        threading.excepthook = hook
        for each, old in zip(loggers, before, strict=True):
            each.setLevel(old)
        root.removeHandler(handler)
        handler.close()


def _log_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not issubclass(args.exc_type, SystemExit):
        name = "?" if args.thread is None else args.thread.name
        logging.getLogger(__name__).error('the thread "%s" broke off', name, exc_info=args.exc_value)


def _formatter(form: str) -> logging.Formatter:
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_fields,
        _condense,
    ]
    lasts: list[Any] = [_scrub, _in_order, _as_text]
    if form == "json":
        lasts[-1] = structlog.processors.JSONRenderer(ensure_ascii=False)
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    # Scrubbed last: whatever was added before, from wherever.
    return structlog.stdlib.ProcessorFormatter(processors=[remove, *lasts], foreign_pre_chain=shared)


def _add_fields(_logger: Any, _method: str, entry: dict[str, Any]) -> dict[str, Any]:
    record = entry.get("_record")
    of_line = getattr(record, "fields", None) or {}
    # Lines of a worker come with their own scope, which is none.
    about = {} if getattr(record, "foreign", False) else _current.get() or {}
    return {**about, **of_line, **entry}


def _condense(_logger: Any, _method: str, entry: dict[str, Any]) -> dict[str, Any]:
    info = entry.pop("exc_info", None)
    error = info[1] if isinstance(info, tuple) else info
    return entry if not isinstance(error, BaseException) else {**entry, **condensed(error)}


def _scrub(_logger: Any, _method: str, entry: dict[str, Any]) -> dict[str, Any]:
    return {name: scrubbed(value) for name, value in entry.items()}


def _in_order(_logger: Any, _method: str, entry: dict[str, Any]) -> dict[str, Any]:
    return {name: entry[name] for name in (*_FIRST, *sorted(set(entry) - set(_FIRST)))}


def _as_text(_logger: Any, _method: str, entry: dict[str, Any]) -> str:
    more = "".join(f" {name}={_shown(value)}" for name, value in entry.items() if name not in _FIRST)
    level = str(entry["level"]).upper()
    return f"{entry['timestamp']} {level} {entry['logger']}: {entry['event']}{' |' if more else ''}{more}"


def _shown(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return f'"{text}"' if not text or " " in text or '"' in text else text
