"""One data folder, one server; and what a damaged or foreign one does to a start."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from latent_inv.errors import InputError, LatentInvError, SpecError, StateError, UnavailableError
from latent_inv_server.store.database import Database
from latent_inv_server.store.folder import Store, open_store
from latent_inv_server.store.records import JobState
from tests.server.store.makers import record

ROOT = Path(__file__).parents[3]


def test_a_second_server_is_refused(tmp_path: Path) -> None:
    with open_store(tmp_path / "data"):
        with pytest.raises(UnavailableError, match=r'^the data folder "data" is used by another server$'):
            open_store(tmp_path / "data")
        code = "import sys; from pathlib import Path; from latent_inv_server.store.folder import open_store\n"
        code += "open_store(Path(sys.argv[1])).close()"
        command = [sys.executable, "-c", code, str(tmp_path / "data")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert "UnavailableError: the data folder" in done.stderr
    open_store(tmp_path / "data").close()


def test_a_second_server_is_refused_by_the_database(tmp_path: Path, postgres_url: str) -> None:
    """Two folders, one database: each would run the other's jobs."""
    with open_store(tmp_path / "one", postgres_url) as store:
        store.jobs.create(record("a"))
        with pytest.raises(UnavailableError, match=r"^the database is used by another server$"):
            open_store(tmp_path / "two", postgres_url)
        # A start that failed holds nothing.
        open_store(tmp_path / "two").close()
    with open_store(tmp_path / "two", postgres_url) as store:
        assert store.jobs.get("a") is not None


def test_a_closed_store_takes_nothing_more(store: Store) -> None:
    """Another server may have the folder by then."""
    store.jobs.create(record("a"))
    store.close()
    store.close()
    for call in (
        lambda: store.jobs.get("a"),
        lambda: store.jobs.create(record("b")),
        lambda: store.uploads.page("ann"),
    ):
        with pytest.raises(UnavailableError, match="the store is closed"):
            call()


def test_closing_waits_for_a_write(store: Store, reopen: Callable[[], Store]) -> None:
    inside, go = threading.Event(), threading.Event()

    def write() -> None:
        with store.jobs._database.write() as connection:
            inside.set()
            go.wait(30)
            connection.exec_driver_sql("UPDATE meta SET value = value")

    writer = threading.Thread(target=write)
    closer = threading.Thread(target=store.close)
    writer.start()
    assert inside.wait(30)
    closer.start()
    closer.join(0.1)
    assert closer.is_alive()
    go.set()
    closer.join(30)
    writer.join(30)
    assert not closer.is_alive()
    assert reopen().jobs.page("ann") == []


def test_without_a_folder_there_is_one_until_the_end() -> None:
    with open_store(None) as store:
        store.jobs.create(record("a"))
        name = store.blobs.put(b"content")
        assert store.blobs.read(name) == b"content"
        assert store.folder.exists()
    assert not store.folder.exists()


@pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")
def test_a_new_folder_is_its_owners_alone(tmp_path: Path) -> None:
    open_store(tmp_path / "above" / "data").close()
    assert (tmp_path / "above" / "data").stat().st_mode & 0o777 == 0o700
    (tmp_path / "given").mkdir(mode=0o750)
    open_store(tmp_path / "given").close()
    assert (tmp_path / "given").stat().st_mode & 0o777 == 0o750


def test_no_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match=f'^data: "{path.name}" is no folder$'):
            open_store(path)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("no url", "database: is not the URL of a database"),
        ("mysql://user:secret@host/name", 'database: a database of the kind "mysql" is not supported'),
        ("what://user:secret@host/name", "database: is not the URL|is not supported"),
        ("postgresql://user:secret@host:port/name", "database: is not the URL of a database"),
    ],
)
def test_a_wrong_url_is_told_without_its_password(tmp_path: Path, url: str, text: str) -> None:
    with pytest.raises(SpecError, match=text) as caught:
        open_store(tmp_path / "data", url)
    assert "secret" not in str(caught.value)
    open_store(tmp_path / "data").close()  # the lock was given back


def test_a_database_that_does_not_answer_is_unavailable(
    tmp_path: Path, postgres_server: str, caplog: pytest.LogCaptureFixture
) -> None:
    for url in ("postgresql://user:secret@127.0.0.1:1/name", postgres_server.replace("/postgres?", "/none?")):
        with pytest.raises(UnavailableError, match="the database does not answer") as caught:
            open_store(tmp_path / "data", url)
        assert caught.value.retry_after is not None
    assert "secret" not in caplog.text


def test_a_lost_connection_is_told_and_made_again(store: Store, url: str) -> None:
    if not url:
        pytest.skip("SQLite has no line to lose")
    store.jobs.create(record("a"))
    other = Database(url)
    with other.write() as connection:
        # All but the other's, the lock's too.
        query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        connection.exec_driver_sql(f"{query} WHERE datname = current_database() AND pid <> pg_backend_pid()")
    other.close()
    told: list[LatentInvError] = []
    for _ in range(3):
        try:
            assert store.jobs.get("a") is not None
        except UnavailableError as error:
            told.append(error)
    assert len(told) < 3, told
    assert store.jobs.start("a", 1.0)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_rights_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o500)
    with pytest.raises(InputError, match='data: the folder "data" may not be read and written'):
        open_store(tmp_path / "data")


def test_a_newer_database_is_left_alone(store: Store, reopen: Callable[[], Store]) -> None:
    store.jobs.create(record("a"))
    with store.jobs._database.write() as connection:
        connection.exec_driver_sql("UPDATE meta SET value = '99' WHERE name = 'schema_version'")
    with pytest.raises(StateError, match="schema version 99, this version of the server knows those up to 1"):
        reopen()


def test_states_of_the_last_run_are_still_there(store: Store, reopen: Callable[[], Store]) -> None:
    for name in ("queued", "running", "over"):
        store.jobs.create(record(name))
    store.jobs.start("running", 2.0)
    store.jobs.save("running", sequence=5, checkpoint_blob=store.blobs.put(b"state", needed=True))
    store.jobs.finish("over", JobState.cancelled, 3.0, sequence=1)
    store = reopen()
    assert {job.job_id: job.state.value for job in store.jobs.unfinished()} == {
        "queued": "queued",
        "running": "running",
    }
    running = store.jobs.get("running")
    assert running is not None
    assert store.blobs.read(running.checkpoint_blob) == b"state"
