"""What a worker logs is told where its orders come from, whole or not at all."""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
import threading
from typing import Any

import pytest

from latent_inv.engine import worker_log
from latent_inv.engine.durations import STEP_SECONDS, StepTimes
from latent_inv.engine.remote import ProcessEngine
from latent_inv.engine.worker_log import Line, PipeHandler, retell
from latent_inv.errors import InternalError
from latent_inv.spec import Budget
from tests.engine.helpers import job
from tests.engine.test_remote import CATALOGUE, finished, until_finished


class OnlyHere(Exception):
    """Does not survive pickling."""

    def __reduce__(self) -> Any:
        raise TypeError("not this one")


class TextlessError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def sent(act: Any) -> list[Line]:
    """Lines that a logger with the handler sends while `act` is called with it, as they arrive."""
    found: list[Line] = []
    handler = PipeHandler(lambda message: found.append(pickle.loads(pickle.dumps(message))[1]))
    logger = logging.Logger("latent_inv.some")
    logger.addHandler(handler)
    act(logger)
    return found


def test_lines_with_exceptions_of_every_kind() -> None:
    def act(logger: logging.Logger) -> None:
        logger.warning("%d of %s", 3, "x")
        for error in (OnlyHere("o"), TextlessError()):
            try:
                raise error
            except Exception:
                logger.exception("broken")
        logger.error("wrong %d", "arguments")

    plain, odd, textless, wrong = sent(act)
    assert (plain.text, plain.level, plain.pid, plain.fields) == ("3 of x", logging.WARNING, os.getpid(), {})
    assert odd.fields["error"] == "OnlyHere: o"
    assert odd.fields["where"].startswith(f"{__name__}.act:")
    assert "Traceback" in odd.trace
    assert "has no text" in textless.fields["error"]
    assert wrong.text == "wrong %d"


def test_a_pipe_that_is_gone_is_nobody_s_trouble(capsys: pytest.CaptureFixture[str]) -> None:
    def gone(_: Any) -> None:
        raise BrokenPipeError

    logger = logging.Logger("x")
    logger.addHandler(PipeHandler(gone))
    logger.error("into the void")
    assert capsys.readouterr().err == ""


def test_a_line_told_again_has_device_process_and_trace(caplog: pytest.LogCaptureFixture) -> None:
    line = Line("latent_inv.some", logging.ERROR, "100 %d", 1.5, 77, {"error": "E: x"}, "Traceback …")
    retell(line, "cuda:1")
    (record,) = caplog.records
    assert (record.getMessage(), record.created, record.process) == ("100 %d", 1.5, 77)
    assert record.fields == {"device": "cuda:1", "pid": 77, "error": "E: x"}  # type: ignore[attr-defined]
    assert "Traceback …" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.CRITICAL, "latent_inv"):
        retell(line, "cpu")
    assert not caplog.records


def test_an_incident_of_a_worker_process_is_in_our_log(caplog: pytest.LogCaptureFixture) -> None:
    engine = ProcessEngine("cpu", catalogue=CATALOGUE)
    try:
        engine.submit("a", job("breaks", steps=3))
        error = finished(until_finished(engine, "a"), "a").error
        pid = engine.pid
    finally:
        engine.close()
    assert isinstance(error, InternalError)
    (record,) = [each for each in caplog.records if str(error).split()[-1] in each.getMessage()]
    assert record.fields["pid"] == record.process == pid  # type: ignore[attr-defined]
    assert record.fields["device"] == "cpu"  # type: ignore[attr-defined]
    assert record.fields["error"] == "KeyError: 'secret /path/to/x'"  # type: ignore[attr-defined]


def test_nothing_of_a_worker_is_printed() -> None:
    code = """
import logging, threading, warnings
from latent_inv.engine.worker_log import log_to
lines = []
log_to(lambda message: lines.append(message[1].text), logging.INFO)
logging.getLogger("latent_inv.x").info("ours")
logging.getLogger("others").info("chatter")
warnings.warn("a warning")
thread = threading.Thread(target=lambda: 1 / 0, name="t")
thread.start(); thread.join()
assert lines[0] == "ours" and "a warning" in lines[1] and lines[2] == 'the thread "t" broke off', lines
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_the_hook_of_threads_knows_threads_without_a_name(caplog: pytest.LogCaptureFixture) -> None:
    for kind, error in ((ValueError, ValueError("x")), (SystemExit, SystemExit())):
        worker_log._log_thread(threading.ExceptHookArgs((kind, error, None, None)))
    assert [record.getMessage() for record in caplog.records] == ['the thread "?" broke off']


# ---- figures -----------------------------------------------------------------------------------------


def test_step_times_are_counted_in_ranges() -> None:
    times = StepTimes()
    for seconds in (0.0, 0.001, 0.0011, 1000.0):
        times.add(seconds, 3, 4)
    assert times.counts[:2] == (2, 1)
    assert times.counts[-1] == 1
    assert (times.steps, times.rows, times.places) == (4, 12, 16)
    assert times.seconds == pytest.approx(1000.0021)
    assert len(times.counts) == len(STEP_SECONDS) + 1


def test_an_engine_counts_its_steps_rows_and_places() -> None:
    from latent_inv.device import place
    from latent_inv.engine.engine import Engine
    from tests.engine.awkward import TABLE

    engine = Engine(TABLE, place("cpu", lane_width=4))
    for name in ("a", "b", "c"):
        engine.submit(name, job("smooth", budget=Budget(steps=5), priority="bulk"))
    engine.poll()
    load = engine.load
    assert (load.rows, load.lanes, load.places) == (3, 1, 4)
    while not engine.idle:
        engine.poll()
    load = engine.load
    # N steps make N + 1 evaluations.
    assert (load.steps, load.row_steps, load.place_steps) == (6, 18, 24)
    assert sum(load.step_counts) == load.steps
    assert load.step_seconds > 0
    assert (load.rows, load.places) == (0, 0)
