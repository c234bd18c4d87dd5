"""Log lines: their fields, their two forms, and what must never stand in one."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latent_inv.incidents import as_typed, condensed
from latent_inv_server.logs import fields, logging_to, note, open_scope, scope
from latent_inv_server.scrubbing import MAX_CHARS, scrubbed
from tests.server.fake import UnprintableError

TOKEN = "linv_" + "Ab3-_" * 8
logger = logging.getLogger("latent_inv_server.some")


def lines(act: Callable[[], Any], level: str = "info") -> list[dict[str, Any]]:
    """What is logged meanwhile, from JSON."""
    stream = io.StringIO()
    with logging_to(stream, "json", level):
        act()
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def text(act: Callable[[], Any]) -> str:
    stream = io.StringIO()
    with logging_to(stream):
        act()
    return stream.getvalue()


# ---- fields ----------------------------------------------------------------------------------------


def test_a_line_has_time_level_logger_and_event_first() -> None:
    (line,) = lines(lambda: logger.warning("%d things", 3))
    assert list(line) == ["timestamp", "level", "logger", "event"]
    assert (line["level"], line["logger"], line["event"]) == ("warning", "latent_inv_server.some", "3 things")
    assert line["timestamp"].endswith("Z")


def test_a_scope_gives_its_fields_to_all_lines_inside() -> None:
    def act() -> None:
        with scope(request_id="r"):
            logger.info("a")
            note(client="alice")
            with scope(job_id="j"):
                logger.info("b")
            logger.info("c", extra=fields(seconds=0.5))
        logger.info("d")
        note(client="nobody is meant")
        logger.info("e")

    told = [{key: value for key, value in line.items() if key not in ("timestamp", "level", "logger")}
            for line in lines(act)]  # fmt: skip
    assert told == [
        {"event": "a", "request_id": "r"},
        {"event": "b", "job_id": "j"},
        {"event": "c", "client": "alice", "request_id": "r", "seconds": 0.5},
        {"event": "d"},
        {"event": "e"},
    ]


def test_tasks_and_threads_have_the_scope_they_were_begun_in_and_no_other() -> None:
    async def call(name: str) -> None:
        about = open_scope(request_id=name)

        async def inner() -> None:
            note(client=f"client of {name}")
            await asyncio.to_thread(logger.info, name)

        await asyncio.create_task(inner())
        assert about == {"request_id": name, "client": f"client of {name}"}

    async def both() -> None:
        await asyncio.gather(call("one"), call("two"))

    found = {line["event"]: (line["request_id"], line["client"]) for line in lines(lambda: asyncio.run(both()))}
    assert found == {"one": ("one", "client of one"), "two": ("two", "client of two")}


def test_text_says_the_same_in_one_line() -> None:
    def act() -> None:
        with scope(request_id="r", client="two words"):
            logger.error("broken\nin two", extra=fields(seconds=0.123456789, empty=""))

    said = text(act)
    assert said.count("\n") == 1
    assert said.endswith(
        ' ERROR latent_inv_server.some: broken\\nin two | client="two words" empty="" request_id=r seconds=0.123457\n'
    )


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_the_least_that_is_logged(level: str) -> None:
    def act() -> None:
        for name in ("debug", "info", "warning", "error"):
            logger.log(getattr(logging, name.upper()), name)

    names = [line["event"] for line in lines(act, level)]
    assert names == ["debug", "info", "warning", "error"][("debug", "info", "warning", "error").index(level) :]


def test_libraries_do_not_chatter() -> None:
    def act() -> None:
        for name in ("debug", "info", "warning", "error"):
            logging.getLogger("PIL").log(getattr(logging, name.upper()), name)

    assert [line["event"] for line in lines(act, "debug")] == ["warning", "error"]
    assert [line["event"] for line in lines(act, "error")] == ["error"]


def test_afterwards_logging_is_as_it_was() -> None:
    root, hook = logging.getLogger(), threading.excepthook
    ours = logging.getLogger("latent_inv")
    before = (list(root.handlers), root.level, ours.level)
    lines(lambda: logger.info("a"), "debug")
    assert (list(root.handlers), root.level, ours.level) == before
    assert threading.excepthook is hook


# ---- what must not be there --------------------------------------------------------------------------


def test_an_incident_has_no_trace_and_no_path_and_still_says_where() -> None:
    def act() -> None:
        try:
            with open("/no/such folder/secret.png"):
                pass
        except OSError as error:
            try:
                raise RuntimeError(f"secret /path/to/x with {TOKEN}") from error
            except RuntimeError as outer:
                as_typed(outer, "/latent_inv.v1.JobService/GetJob")

    (line,) = lines(act)
    whole = json.dumps(line)
    assert "Traceback" not in whole
    assert "/path" not in whole
    assert "/no/" not in whole
    assert TOKEN not in whole
    assert line["event"].endswith("in /latent_inv.v1.JobService/GetJob")
    assert line["error"].startswith("RuntimeError: secret …/x with … < FileNotFoundError: ")
    assert f"{__name__}.act:" in line["where"]


def test_an_exception_without_a_text_is_logged_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = lines(lambda: logger.error("broken", exc_info=UnprintableError()))
    assert line["error"] == "UnprintableError: (a UnprintableError that has no text)"
    assert capsys.readouterr().err == ""


def test_a_thread_that_breaks_off_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> None:
        raise ValueError("in /a/thread")

    def act() -> None:
        thread = threading.Thread(target=broken, name="t")
        thread.start()
        thread.join()

    (line,) = lines(act)
    assert (line["event"], line["error"]) == ('the thread "t" broke off', "ValueError: in …/thread")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("said", "logged"),
    [
        ("open '/data/my folder/x.png' failed", "open '…/x.png' failed"),
        ("at /data/x.png: gone", "at …/x.png: gone"),
        ("(/tmp/x)", "(…/x)"),
        ("path=/tmp/x", "path=…/x"),
        ("~/x/y", "…/y"),
        (r"C:\Users\me\x.txt is open", "…/x.txt is open"),
        (r"\\server\share\x.txt", "…/x.txt"),
        ("sqlite:////data/x", "sqlite://…"),
        ("postgresql://user:word@host/name", "postgresql://…"),
        ("connect: host=h password=word user=u", "connect: host=h password=… user=u"),
        (f"with {TOKEN}.", "with …."),
        ("authorization: Bearer abc.def", "authorization: …"),
        ("bearer abc.def", "…"),
        ("/latent_inv.v1.JobService/GetJob", "/latent_inv.v1.JobService/GetJob"),
        ("/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Check"),
        ("3 rows/s, and/or 1/2 of it; ipv4:127.0.0.1:33", "3 rows/s, and/or 1/2 of it; ipv4:127.0.0.1:33"),
        ('cannot read "photo.png": no such file', 'cannot read "photo.png": no such file'),
        (f"sha256 {'0a' * 32}", f"sha256 {'0a' * 32}"),
        ("a\r\nb\x1b[31m\x00\u2028", "a\\r\\nb\\x1b[31m\\x00\\u2028"),
    ],
)
def test_scrubbing(said: str, logged: str) -> None:
    assert scrubbed(said) == logged
    assert scrubbed(logged) == logged, "once is enough"


def test_scrubbing_of_what_is_no_text() -> None:
    assert [scrubbed(value) for value in (None, True, 3, 0.5)] == [None, True, 3, 0.5]
    assert scrubbed(b"\x89PNG" * 100) == "400 bytes"
    assert scrubbed(UnprintableError()) == "(a UnprintableError that has no text)"
    assert len(scrubbed("x" * 10**6)) == MAX_CHARS + 1


@given(st.text(st.characters(codec="utf-8"), max_size=300))
def test_a_line_is_one_line_whatever_is_said(said: str) -> None:
    logged = scrubbed(f"{said} /home/alice/{said}")
    assert len(logged.splitlines()) <= 1
    assert "/home/" not in logged


def test_many_causes_and_frames_are_cut() -> None:
    def deep(levels: int) -> None:
        if levels:
            deep(levels - 1)
        raise ValueError(levels)

    def wrapped(levels: int) -> None:
        try:
            if levels:
                wrapped(levels - 1)
            else:
                deep(40)
        except ValueError as error:
            raise ValueError(f"level {levels}") from error

    with pytest.raises(ValueError, match="level 9") as caught:
        wrapped(9)
    told = condensed(caught.value)
    assert told["error"].split(" < ")[0] == "ValueError: level 9"
    assert len(told["error"].split(" < ")) == 4
    innermost: BaseException = caught.value
    while innermost.__cause__ is not None:
        innermost = innermost.__cause__
    frames = condensed(innermost)["where"].split(" > ")
    assert len(frames) == 12
    assert "…" in frames
