"""What a worker process logs, told where its orders come from: one log, whose form and level are decided there.

An exception is told by its texts and by where it was. It may be of a class that only the worker has.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from os import getpid
from typing import Any

from latent_inv.incidents import condensed, text_of


@dataclass(frozen=True)
class Line:
    """One line.

    Attributes:
        pid: of the worker.
        fields: of an exception, see `incidents.condensed`; empty: there was none.
        trace: as Python prints it; empty: there was none.
    """

    logger: str
    level: int
    text: str
    created: float
    pid: int
    fields: dict[str, str]
    trace: str


class PipeHandler(logging.Handler):
    """Sends lines; `send` may be changed to another way of sending on the same pipe."""

    def __init__(self, send: Callable[[tuple[Any, ...]], None]) -> None:
        super().__init__()
        self.send = send

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler. Whoever logs is not to hear of a pipe that is gone."""
        try:
            error = record.exc_info[1] if record.exc_info else None
            fields = {} if error is None else condensed(error)
            text = record.getMessage()
        except Exception:
            error, fields, text = None, {}, text_of(record.msg)
        try:
            line = Line(record.name, record.levelno, text, record.created, getpid(), fields, _trace(error))
            self.send(("log", line))
        except Exception:  # noqa: S110
            pass


def _trace(error: BaseException | None) -> str:
    try:
        return "" if error is None else "".join(traceback.format_exception(error)).rstrip()
    except Exception:  # its text cannot be made
        return ""


def log_to(send: Callable[[tuple[Any, ...]], None], level: int) -> PipeHandler:
    """Send all that this process logs from a level on, Python's warnings included, and print nothing."""
    handler = PipeHandler(send)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING))
    logging.getLogger(__name__.partition(".")[0]).setLevel(level)
    logging.captureWarnings(True)
    threading.excepthook = _log_thread
    return handler


def _log_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not issubclass(args.exc_type, SystemExit):
        name = "?" if args.thread is None else args.thread.name
        logging.getLogger(__name__).error('the thread "%s" broke off', name, exc_info=args.exc_value)


def retell(line: Line, device: str) -> None:
    """Log a worker's line here, with its device and process."""
    logger = logging.getLogger(line.logger)
    if not logger.isEnabledFor(line.level):
        return
    record = logging.LogRecord(line.logger, line.level, "", 0, line.text, None, None)
    record.created, record.process, record.processName = line.created, line.pid, f"worker of {device}"
    record.exc_text = line.trace or None
    # For whoever makes fields of lines; not of the call or job that happens to be here.
    record.fields, record.foreign = {"device": device, "pid": line.pid, **line.fields}, True
    logger.handle(record)
