"""A damaged SQLite file never stops a start, and nothing that can be read of it is lost."""

from __future__ import annotations

import os
import random
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from latent_inv.errors import LimitError, UnavailableError
from latent_inv_server.store import rescue
from latent_inv_server.store.folder import Store, open_store
from latent_inv_server.store.records import JobState
from tests.server.store.makers import record, sha, upload

JOBS = 60
PAGE = 4096
MARK = b"of a job"


def filled(folder: Path) -> Path:
    """A folder whose database has jobs over many pages; the path of its file."""
    with open_store(folder) as store:
        for number in range(JOBS):
            name = f"job-{number:03}"
            store.jobs.create(
                record(name, request_id=name, labels={"n": str(number)}, summary=b"summary" + MARK + os.urandom(2000))
            )
        store.jobs.finish("job-005", JobState.succeeded, 2.0, sequence=3)
        upload(store, "ann", b"file")
    return folder / "jobs.sqlite"


def leaves_of_jobs(file: Path) -> list[int]:
    """Where the pages begin that hold rows of jobs: leaves of tables, begun by a 13, with a job in them."""
    data = file.read_bytes()
    places = range(0, len(data) - PAGE + 1, PAGE)
    return [place for place in places if data[place] == 13 and b"summary" + MARK in data[place : place + PAGE]]


def overwrite(file: Path, place: int) -> None:
    with file.open("r+b") as stream:
        stream.seek(place)
        stream.write(os.urandom(PAGE))


def opened(folder: Path, caplog: pytest.LogCaptureFixture) -> Store:
    """Open, with all that must hold after any damage."""
    caplog.clear()
    store = open_store(folder)
    done = store.rescue
    assert done is not None
    lines = [entry.getMessage() for entry in caplog.records if entry.name == rescue.__name__]
    assert len(lines) == 1
    assert re.fullmatch(
        rf'the job database was damaged \(.+\) and is set aside as "{re.escape(done.aside)}"; '
        rf"what could be read is kept: {done.jobs} jobs, {done.uploads} uploads",
        lines[0],
    )
    assert re.fullmatch(r"jobs\.damaged-\d{8}T\d{6}Z(-\d+)?\.sqlite", done.aside)
    assert str(folder) not in caplog.text
    assert len(store.jobs.page("ann", limit=1000)) == done.jobs
    # It works as any other, now and after the next start.
    store.jobs.create(record("new", labels={"k": "v"}))
    assert store.jobs.start("new", 1.0)
    store.close()
    assert not [path.name for path in folder.iterdir() if re.search(r"rescued|part|copy", path.name)]
    store = open_store(folder)
    assert store.rescue is None
    assert [job.job_id for job in store.jobs.page("ann", labels={"k": "v"})] == ["new"]
    return store


@pytest.mark.parametrize("content", [b"", b"garbage" * 5000, b"\0" * 8192, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_file_that_is_no_database(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    file = filled(tmp_path / "data")
    file.write_bytes(content)
    store = opened(tmp_path / "data", caplog)
    store.close()
    asides = list((tmp_path / "data").glob("jobs.damaged-*"))
    assert [path.read_bytes() for path in asides] == [content]
    assert [job.job_id for job in store_jobs(tmp_path / "data")] == ["new"]


def store_jobs(folder: Path) -> list[Any]:
    with open_store(folder) as store:
        return store.jobs.page("ann", limit=1000)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_half_file_gives_what_is_in_it(tmp_path: Path, share: float, caplog: pytest.LogCaptureFixture) -> None:
    file = filled(tmp_path / "data")
    whole = {job.job_id: job for job in store_jobs(tmp_path / "data")}
    os.truncate(file, int(file.stat().st_size * share))
    readable = len(leaves_of_jobs(file))
    with opened(tmp_path / "data", caplog) as store:
        left = {job.job_id: job for job in store.jobs.page("ann", limit=1000) if job.job_id != "new"}
        assert len(left) >= readable > 0, "all that is in the part that is left"
        assert all(whole[name] == job for name, job in left.items()), "as it was"
        for name, job in left.items():
            assert [each.job_id for each in store.jobs.page("ann", labels=job.labels)] == [name]


def test_damage_in_the_middle_costs_only_what_lies_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = filled(tmp_path / "data")
    leaves = leaves_of_jobs(file)
    assert len(leaves) > 20
    for place in leaves[len(leaves) // 2 : len(leaves) // 2 + 2]:
        overwrite(file, place)
    with opened(tmp_path / "data", caplog) as store:
        names = {job.job_id for job in store.jobs.page("ann", limit=1000)} - {"new"}
        assert JOBS - 10 <= len(names) < JOBS
        assert {"job-000", f"job-{JOBS - 1:03}"} <= names, "from both sides of the damage"
        file_ = store.uploads.get("ann", sha(b"file"))
        assert file_ is not None
        assert file_.complete
        ended = store.jobs.get("job-005")
        assert ended is not None
        assert ended.state is JobState.succeeded


def test_values_of_another_type_are_no_rows(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = filled(tmp_path / "data")
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("UPDATE jobs SET create_time = 'noon' WHERE job_id = 'job-001'")
        connection.execute("UPDATE jobs SET state = 'lost' WHERE job_id = 'job-002'")
        connection.execute("UPDATE jobs SET labels = '[[' WHERE job_id = 'job-003'")
        connection.execute("UPDATE jobs SET labels = '3' WHERE job_id = 'job-004'")
        connection.execute("UPDATE jobs SET client = x'ff00' WHERE job_id = 'job-006'")
        connection.commit()
    with opened(tmp_path / "data", caplog) as store:
        names = {job.job_id for job in store.jobs.page("ann", limit=1000)}
        assert not names & {f"job-00{number}" for number in (1, 2, 3, 4, 6)}
        assert {"job-000", "job-005", "job-007"} <= names


def test_what_is_only_in_the_log_is_not_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After a kill the newest jobs are in the write-ahead log alone; the file itself is half."""
    folder, copy = tmp_path / "data", tmp_path / "copy"
    file = filled(folder)
    with open_store(folder) as store:
        store.jobs.create(record("in-the-log", request_id="x"))
        copy.mkdir()
        for suffix in ("", "-wal"):
            shutil.copy(f"{file}{suffix}", copy / f"jobs.sqlite{suffix}")
    assert (copy / "jobs.sqlite-wal").stat().st_size
    leaves = leaves_of_jobs(copy / "jobs.sqlite")
    overwrite(copy / "jobs.sqlite", leaves[len(leaves) // 2])
    with opened(copy, caplog) as store:
        assert store.jobs.get("in-the-log") is not None


def test_a_log_without_its_file_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "data"
    file = filled(folder)
    file.unlink()
    Path(f"{file}-wal").write_bytes(b"log" * 1000)
    opened(folder, caplog).close()
    assert [path.read_bytes() for path in folder.glob("jobs.damaged-*-wal")] == [b"log" * 1000]


@pytest.mark.parametrize("seed", range(15))
def test_no_damage_stops_a_start(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    file = filled(tmp_path / "data")
    data = bytearray(file.read_bytes())
    for _ in range(chance.choice([1, 3, 20])):
        length = chance.choice([1, 8, 512])
        place = chance.randrange(200 if chance.random() < 0.3 else len(data) - length)
        data[place : place + length] = chance.randbytes(length)
    file.write_bytes(data[: chance.randrange(len(data)) if chance.random() < 0.3 else len(data)])
    with open_store(tmp_path / "data") as store:
        kept = len(store.jobs.page("ann", limit=1000))
        # A letter of a client's name may change without a trace; each such place costs one job and no more.
        assert store.rescue is not None or kept >= JOBS - 20
        store.jobs.create(record("new"))
        store.jobs.finish("new", JobState.failed, 1.0, sequence=1)


class Killed(BaseException):
    """Ends a rescue where no handler of errors is asked."""


def rescue_until(file: Path, when: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """A rescue that is cut off before the step on the disk of that number; False: it has fewer."""
    steps = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps == when:
                raise Killed
            return real(*arguments, **named)

        return call

    with monkeypatch.context() as patch:
        for module, name in (
            (rescue.os, "replace"),
            (rescue.os, "rename"),
            (rescue.shutil, "copyfile"),
            (rescue, "sync"),
            (rescue, "_remove"),
        ):
            patch.setattr(module, name, counted(getattr(module, name)))
        with suppress(Killed):
            rescue.mend(file)
            return False
    return True


def test_a_rescue_that_is_killed_is_taken_up_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off before each of its steps on the disk in turn, the next start ends with the same jobs."""
    damaged = tmp_path / "damaged"
    file = filled(damaged)
    os.truncate(file, int(file.stat().st_size * 0.6))
    expected = None
    when = 1
    while True:
        folder = tmp_path / f"data-{when}"
        shutil.copytree(damaged, folder)
        cut = rescue_until(folder / file.name, when, monkeypatch)
        with open_store(folder) as store:
            found = store.jobs.page("ann", limit=1000)
        with open_store(folder) as store:
            assert store.rescue is None
            assert store.jobs.page("ann", limit=1000) == found
        expected = found if expected is None else expected
        assert found == expected != []
        assert not [path.name for path in folder.iterdir() if re.search(r"rescued|part|copy", path.name)]
        assert len(list(folder.glob("jobs.damaged-*.sqlite"))) == 1
        if not cut:
            break
        when += 1
    assert when > 10


def test_without_room_for_a_rescue_nothing_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = filled(tmp_path / "data")
    os.truncate(file, 20_000)
    before = file.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(rescue.shutil, "copyfile", full)
        with pytest.raises(LimitError, match="the disk of the data folder is full"):
            open_store(tmp_path / "data")
    assert file.read_bytes() == before
    assert not list((tmp_path / "data").glob("jobs.damaged*"))
    open_store(tmp_path / "data").close()


def test_a_file_in_use_is_not_taken_for_damaged(tmp_path: Path) -> None:
    file = filled(tmp_path / "data")
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UnavailableError, match="the job database cannot be opened: database is locked"):
            rescue.mend(file)
    assert rescue.mend(file) is None


def test_a_sound_file_is_left_as_it_is(tmp_path: Path) -> None:
    file = filled(tmp_path / "data")
    before = file.read_bytes()
    assert rescue.mend(file) is None
    assert file.read_bytes() == before
    assert rescue.mend(tmp_path / "none.sqlite") is None
