"""Folders on a server: full, away, started anew, forgetful; nothing is done twice and every picture has its end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from latent_inv.batch import FolderSummary, invert_folder, on_server
from latent_inv.client import Client
from latent_inv.errors import InternalError, LimitError, LoginError, SpecError, UnavailableError
from latent_inv.result import Event, Finished
from latent_inv_server.app import Application
from latent_inv_server.config import ServerConfig
from latent_inv_server.store.folder import open_store
from latent_inv_server.testing import running_server
from tests.batch.folders import (
    FAULTY,
    PICTURES,
    SKIPPED,
    awkward_folder,
    counts,
    files,
    outputs,
    picture,
    pictures,
    rows,
)
from tests.server.fake import FakeEngine, address
from tests.server.memory_store import MemoryStore


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_server, "_LONGEST_LOOK", 0.2)
    monkeypatch.setattr(on_server, "_LONGEST_PAUSE", 0.2)


class Server:
    """A server in a thread, which can be stopped and started anew on the same port and store."""

    def __init__(self, engine: Any = None, store: Any = None, **settings: Any) -> None:
        self.store, self.settings = store or MemoryStore(), {"port": 0, "grace_seconds": 0, **settings}
        self.engine = engine or FakeEngine()
        self.application: Application
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.settings['port']}"

    def start(self) -> None:
        ready, self._stop = threading.Event(), threading.Event()

        async def serve() -> None:
            config = ServerConfig(**self.settings)
            async with running_server(self.engine, config, self.store) as application:
                self.application = application
                self.settings["port"] = int(address(application).rpartition(":")[2])
                ready.set()
                while not self._stop.is_set():
                    await asyncio.sleep(0.01)

        self._thread = threading.Thread(target=asyncio.run, args=(serve(),))
        self._thread.start()
        assert ready.wait(30)

    def stop(self) -> None:
        if self._thread is not None:
            self._stop.set()
            self._thread.join(30)
            assert not self._thread.is_alive()
            self._thread = None
            self.engine = FakeEngine()

    def states(self) -> Counter[str]:
        return Counter(record.state.name for record in self.store.jobs.records.values())


def go(server: Server, folder: Path, out: Path, **settings: Any) -> FolderSummary:
    with Client(server.address) as client:
        return invert_folder(folder, out, client=client, **{"generator": "steps", "steps": 2, **settings})


def in_thread(call: Callable[[], FolderSummary]) -> Callable[[], FolderSummary]:
    """Begin a call; the answer waits for its end."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(call())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def wait() -> FolderSummary:
        thread.join(60)
        assert not thread.is_alive()
        if isinstance(found[0], BaseException):
            raise found[0]
        summary: FolderSummary = found[0]
        return summary

    return wait


def until(condition: Callable[[], bool]) -> None:
    for _ in range(4000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("waited in vain")


def test_an_awkward_folder(tmp_path: Path) -> None:
    folder, out = awkward_folder(tmp_path), tmp_path / "out"
    with Server() as server:
        summary = go(server, folder, out)
        assert str(summary) == "5 done, 2 failed, 3 skipped"
        assert {name: row["status"] for name, row in rows(out).items()} == {
            **dict.fromkeys(PICTURES, "done"),
            **dict.fromkeys(FAULTY, "failed"),
            **dict.fromkeys(SKIPPED, "skipped"),
        }
        assert "0 bytes" in rows(out)["empty.png"]["reason"]
        assert "plain text" in rows(out)["text.png"]["reason"]
        assert files(out) == outputs(*(Path(name).stem for name in PICTURES))
        # good.jpg and UPPER.JPG are the same picture.
        assert server.states() == {"succeeded": 4}
        assert all(spec.priority == "bulk" for spec in server.engine.jobs)
        again = go(server, folder, out)
        assert str(again) == "0 done, 2 failed, 3 skipped, 5 done before"
        assert len(server.engine.jobs) == 4


def test_a_full_server_is_waited_for(tmp_path: Path) -> None:
    folder, out = pictures(tmp_path, 12), tmp_path / "out"
    refused: list[float | None] = []
    with Server(max_jobs=1, max_queued=2) as server, pytest.MonkeyPatch.context() as patch:
        honest = on_server.OnServer._create

        def create(self: on_server.OnServer, *given: Any) -> Any:
            try:
                return honest(self, *given)
            except LimitError as error:
                refused.append(error.retry_after)
                raise

        patch.setattr(on_server.OnServer, "_create", create)
        assert counts(go(server, folder, out)) == (12, 0, 0, 0, 0)
        assert server.states() == {"succeeded": 12}
        assert len(server.engine.jobs) == 12
    assert refused, "the server was full"
    assert None not in refused
    assert set(rows(out)) == {f"{number:02}.png" for number in range(12)}


def test_no_more_are_in_flight_than_allowed(tmp_path: Path) -> None:
    folder, most = pictures(tmp_path, 8), [0]
    with Server(max_jobs=1) as server:

        def look(_: object) -> None:
            states = server.states()
            most[0] = max(most[0], states["queued"] + states["running"])

        assert counts(go(server, folder, tmp_path / "out", steps=60, in_flight=3, on_progress=look)) == (8, 0, 0, 0, 0)
    assert most[0] == 3


def test_a_server_that_is_started_anew_in_the_middle(tmp_path: Path) -> None:
    folder, out = pictures(tmp_path, 9), tmp_path / "out"
    with Server(max_jobs=2, max_queued=4) as server:
        wait = in_thread(lambda: go(server, folder, out, steps=40))
        until(lambda: server.states()["succeeded"] >= 2)
        server.stop()
        time.sleep(0.3)
        server.start()
        assert counts(wait()) == (9, 0, 0, 0, 0)
        assert server.states() == {"succeeded": 9}, "each was made once"


def test_a_server_that_forgets_everything(tmp_path: Path) -> None:
    folder, out = pictures(tmp_path, 5), tmp_path / "out"
    with Server(max_jobs=1) as server:
        wait = in_thread(lambda: go(server, folder, out, steps=30))
        until(lambda: server.states()["succeeded"] >= 1)
        server.stop()
        server.store = MemoryStore()
        server.start()
        assert counts(wait()) == (5, 0, 0, 0, 0)
    assert files(out) == outputs(*(f"{number:02}" for number in range(5)))


def test_a_server_that_stays_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out = pictures(tmp_path, 6), tmp_path / "out"
    honest = on_server.OnServer.__init__
    monkeypatch.setattr(
        on_server.OnServer, "__init__", lambda self, *given, **named: honest(self, *given, **named, patience=0.5)
    )
    with Server(max_jobs=1) as server:
        wait = in_thread(lambda: go(server, folder, out, steps=100))
        until(lambda: (out / "00.png").exists())
        server.stop()
        with pytest.raises(UnavailableError):
            wait()
        done = rows(out)
        assert {row["status"] for row in done.values()} == {"done"}
        assert 1 <= len(done) < 6
        assert (out / "index.html").exists()
        server.start()
        assert counts(go(server, folder, out, steps=100)) == (6 - len(done), 0, 0, len(done), 0)
        assert len(server.store.jobs.records) == 6, "what it had taken went on"


def test_no_server(tmp_path: Path) -> None:
    with Server() as server:
        pass
    with pytest.raises(UnavailableError, match="no server answers"):
        go(server, pictures(tmp_path, 1), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_stop_cancels_what_is_in_flight(tmp_path: Path) -> None:
    folder, out = pictures(tmp_path, 4), tmp_path / "out"
    with Server(max_jobs=2) as server:
        summary = go(server, folder, out, generator="forever", stop=lambda: server.states()["running"] == 2)
        assert counts(summary) == (0, 0, 0, 0, 4)
        until(lambda: set(server.states()) == {"cancelled"})
        cancelled = set(server.store.jobs.records)
        # The next run does not take those for its own.
        go(server, folder, out, generator="forever", stop=lambda: server.states()["running"] == 2)
        until(lambda: set(server.states()) == {"cancelled"})
        assert len(set(server.store.jobs.records) - cancelled) >= 2
        assert len(server.store.jobs.records) <= 4


def test_jobs_that_ended_badly_in_an_earlier_run_are_made_anew(tmp_path: Path) -> None:
    folder, out = pictures(tmp_path, 3), tmp_path / "out"

    class Failing(FakeEngine):
        failing = True

        def _step(self, job_id: str) -> list[Event]:
            if not self.failing:
                return super()._step(job_id)
            del self._jobs[job_id]
            return [Finished(job_id, self._next(job_id), error=InternalError("the loss fell off the table"))]

    engine = Failing()
    with Server(engine) as server:
        assert counts(go(server, folder, out)) == (0, 3, 0, 0, 0)
        assert "fell off the table" in rows(out)["00.png"]["reason"]
        assert server.states() == {"failed": 3}
        engine.failing = False
        assert counts(go(server, folder, out)) == (3, 0, 0, 0, 0)
        assert server.states() == {"succeeded": 3}


def test_redo_makes_jobs_anew_and_a_lost_folder_does_not(tmp_path: Path) -> None:
    folder, out = pictures(tmp_path, 3), tmp_path / "out"
    with Server() as server:
        go(server, folder, out)
        assert counts(go(server, folder, tmp_path / "another")) == (3, 0, 0, 0, 0)
        assert len(server.engine.jobs) == 3, "the server had their results"
        assert counts(go(server, folder, out, redo=True)) == (3, 0, 0, 0, 0)
        assert len(server.engine.jobs) == 6


def test_a_job_that_somebody_cancels(tmp_path: Path) -> None:
    folder, out = pictures(tmp_path, 2), tmp_path / "out"
    with Server(max_jobs=1) as server:
        wait = in_thread(lambda: go(server, folder, out, generator="forever"))
        until(lambda: server.states() == {"running": 1, "queued": 1})
        with Client(server.address) as client:
            for job in client.jobs.list():
                client.jobs.cancel(job.job_id)
        assert counts(wait()) == (0, 2, 0, 0, 0)
        assert rows(out)["00.png"]["reason"] == "the job was cancelled on the server"


def test_a_job_that_is_removed_again_and_again(tmp_path: Path) -> None:
    folder, out = pictures(tmp_path, 1), tmp_path / "out"
    with Server() as server:
        wait = in_thread(lambda: go(server, folder, out, generator="forever"))
        for _ in range(3):
            until(lambda: server.states()["running"] == 1)
            server.application.jobs.runs.live.clear()
            server.store.jobs.records.clear()
        assert counts(wait()) == (0, 1, 0, 0, 0)
        assert "no job with this id" in rows(out)["00.png"]["reason"]
        server.engine.lose()


def test_pictures_too_large_for_a_message_are_uploaded(tmp_path: Path) -> None:
    folder, out = pictures(tmp_path, 2), tmp_path / "out"
    (folder / "large.bmp").write_bytes(picture(kind="BMP") + bytes(2**21))
    with Server(store=open_store(None)) as server, Client(server.address, max_message_bytes=2**20) as client:
        summary = invert_folder(folder, out, client=client, generator="steps", steps=2)
        assert [upload.size for upload in client.artifacts.list()] == [(folder / "large.bmp").stat().st_size]
    assert counts(summary) == (3, 0, 0, 0, 0)


def test_one_that_the_server_has_no_place_for_stops_no_other(tmp_path: Path) -> None:
    folder, out = pictures(tmp_path, 2), tmp_path / "out"
    (folder / "large.bmp").write_bytes(picture(kind="BMP") + bytes(2**21))
    with (
        Server(store=open_store(None), max_upload_mb=1) as server,
        Client(server.address, max_message_bytes=2**20) as client,
    ):
        summary = invert_folder(folder, out, client=client, generator="steps", steps=2)
    assert counts(summary) == (2, 1, 0, 0, 0)
    assert "1048576" in rows(out)["large.bmp"]["reason"]


def test_a_login_that_is_lost_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out = pictures(tmp_path, 4), tmp_path / "out"
    with Server() as server:

        def refuse(*_: Any) -> Any:
            raise LoginError("a token is needed")

        monkeypatch.setattr(on_server.OnServer, "_create", refuse)
        with pytest.raises(LoginError, match="a token is needed"):
            go(server, folder, out)
    assert rows(out) == {}


def test_settings_of_this_process_are_refused(tmp_path: Path) -> None:
    folder = pictures(tmp_path, 1)
    with Server() as server:
        for settings in ({"device": "cpu"}, {"threads": 1}, {"generator": "unknown"}):
            with pytest.raises(SpecError):
                go(server, folder, tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_progress_on_a_server(tmp_path: Path) -> None:
    parts: list[float] = []
    with Server(max_jobs=1) as server:
        go(
            server,
            pictures(tmp_path, 2),
            tmp_path / "out",
            steps=400,
            on_progress=lambda tally: parts.append(tally.part_done),
        )
    assert any(0 < part < 1 for part in parts)
