"""Jobs as they are kept: every call of the store, on both kinds of database."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from latent_inv.errors import AlreadyExistsError, NotFoundError, SpecError, StateError
from latent_inv_server.store.folder import Store
from latent_inv_server.store.jobs import insert
from latent_inv_server.store.records import JobRecord, JobState
from tests.server.store.makers import record, sha, upload

ENDS = [JobState.succeeded, JobState.failed, JobState.cancelled]


def test_all_of_a_record_comes_back(store: Store, reopen: Callable[[], Store]) -> None:
    names = {"project": "faces", "ünï": "猫", "empty": ""}
    file = upload(store, "ann", b"file").sha256
    full = JobRecord(
        "a-job", "ann", "an id", "a" * 64, JobState.failed, bytes(range(256)), "b" * 64, True, 1700000000.123456,
        labels=names, artifacts=(file,), files={"a.png": file, "b.png": file, "ü": "e" * 64},
        start_time=1700000001.5, end_time=1700000002.25, checkpoint_blob="c" * 64,
        result_blob="d" * 64, progress=b"\0p", error_status="INTERNAL", error_message="why", sequence=2**40, strikes=2,
    )  # fmt: skip
    store.jobs.create(full)
    plain = record("plain")
    store.jobs.create(plain)
    for _ in range(2):
        assert store.jobs.get("a-job") == full
        assert store.jobs.get("plain") == plain
        assert store.jobs.get("none") is None
        store = reopen()


def test_a_job_is_its_clients_alone(store: Store) -> None:
    store.jobs.create(record("a", client="ann"))
    assert store.jobs.get("a", "ann") is not None
    assert store.jobs.get("a", "bob") is None
    assert store.jobs.page("bob") == []
    assert store.jobs.counts("bob") == dict.fromkeys(JobState, 0)
    assert not store.jobs.delete("a", "bob")
    store.jobs.finish("a", JobState.failed, 2.0, sequence=1)
    assert not store.jobs.delete("a", "bob")
    assert store.jobs.get("a") is not None


# ---- one id, one job ---------------------------------------------------------------------------


def test_twenty_creations_at_once_make_one_job(store: Store) -> None:
    barrier = threading.Barrier(20)

    def create(number: int) -> tuple[JobRecord, bool]:
        barrier.wait(30)
        return store.jobs.create(record(f"job-{number}", request_id="mine", create_time=float(number)))

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(create, range(20)))
    assert sum(new for _, new in answers) == 1
    assert len({answer.job_id for answer, _ in answers}) == 1
    assert all(answer == answers[0][0] for answer, _ in answers)
    assert [job.job_id for job in store.jobs.page("ann")] == [answers[0][0].job_id]
    with pytest.raises(AlreadyExistsError, match='request_id: "mine" stands for another request'):
        store.jobs.create(record("other", request_id="mine", request_sha256="2" * 64))
    assert len(store.jobs.page("ann")) == 1


_CREATE = """
import sys
from concurrent.futures import ThreadPoolExecutor
from latent_inv_server.store.database import Database
from latent_inv_server.store.jobs import SqlJobStore
from tests.server.store.makers import record
store = SqlJobStore(Database(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
with ThreadPoolExecutor(10) as pool:
    made = list(pool.map(lambda n: store.create(record(f"{sys.argv[2]}-{n}", request_id="mine")), range(10)))
print(*[f"{kept.job_id}:{new}" for kept, new in made])
store.close()
"""


def test_two_processes_at_once_make_one_job(store: Store, url: str) -> None:
    """No two servers share a store, yet nothing of this may rest on a lock in the process."""
    database = url or f"sqlite:///{store.folder / 'jobs.sqlite'}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", _CREATE, database, name],
            cwd=Path(__file__).parents[3],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("first", "second")
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [answer for process in processes for answer in process.communicate(timeout=120)[0].split()]
    assert len(answers) == 20
    assert sum(answer.endswith(":True") for answer in answers) == 1
    assert len({answer.split(":")[0] for answer in answers}) == 1
    assert len(store.jobs.page("ann")) == 1


def test_ids_of_requests_are_each_clients_own_and_none_is_no_id(store: Store) -> None:
    for number in range(2):
        assert store.jobs.create(record(f"none-{number}"))[1]
        assert store.jobs.create(record(f"mine-{number}", client=f"client-{number}", request_id="mine"))[1]
    with pytest.raises(AlreadyExistsError, match='job_id: there is another job "none-0"'):
        store.jobs.create(record("none-0"))


def test_an_id_is_free_again_when_its_job_is_gone(store: Store) -> None:
    store.jobs.create(record("a", request_id="mine"))
    store.jobs.finish("a", JobState.succeeded, 2.0, sequence=1)
    assert store.jobs.create(record("b", request_id="mine"))[0].job_id == "a"
    assert store.jobs.delete("a", "ann")
    assert store.jobs.create(record("b", request_id="mine", request_sha256="2" * 64)) == (
        record("b", request_id="mine", request_sha256="2" * 64),
        True,
    )


def test_zero_characters_are_refused_or_found_nowhere(store: Store) -> None:
    for values, field in (
        ({"request_id": "a\0b"}, "request_id"),
        ({"labels": {"a": "b\0"}}, r'labels\["a"\]'),
        ({"labels": {"a\0": "b"}}, r'labels\["a"\]'),
    ):
        with pytest.raises(SpecError, match=f"^{field}: must hold no zero character"):
            store.jobs.create(record("a", **values))
    store.jobs.create(record("a"))
    assert store.jobs.get("a\0") is None
    assert store.jobs.page("ann", labels={"a\0": "\0"}) == []
    assert store.jobs.page("ann", after=(0.5, "\0")) == []
    assert not store.jobs.start("\0", 1.0)
    assert store.jobs.finish("a", JobState.failed, 2.0, sequence=1, error_message="it said \0")
    found = store.jobs.get("a")
    assert found is not None
    assert found.error_message == "it said �"


# ---- life --------------------------------------------------------------------------------------


def test_a_life(store: Store) -> None:
    store.jobs.create(record("a"))
    assert store.jobs.start("a", 2.0)
    assert not store.jobs.start("a", 3.0), "it runs already"
    assert store.jobs.save("a", sequence=5, progress=b"p", checkpoint_blob="c" * 64)
    assert store.jobs.save("a", sequence=7)
    running = store.jobs.get("a")
    assert running == record(
        "a", state=JobState.running, start_time=2.0, sequence=7, progress=b"p", checkpoint_blob="c" * 64
    )
    assert store.jobs.unfinished() == [running]
    assert store.jobs.requeue("a", strike=True) == 1
    assert store.jobs.requeue("a", strike=True) == 1, "a queued job gets no strike"
    assert store.jobs.start("a", 9.0)
    assert store.jobs.requeue("a", strike=False) == 1
    assert store.jobs.start("a", 10.0)
    assert store.jobs.finish("a", JobState.succeeded, 11.0, sequence=9, result_blob="d" * 64, progress=b"end")
    assert store.jobs.get("a") == record(
        "a",
        state=JobState.succeeded,
        start_time=2.0,
        end_time=11.0,
        sequence=9,
        progress=b"end",
        result_blob="d" * 64,
        strikes=1,
    )
    assert store.jobs.unfinished() == []


def test_a_job_ends_once(store: Store) -> None:
    store.jobs.create(record("a"))
    store.jobs.start("a", 2.0)
    barrier = threading.Barrier(12)

    def end(number: int) -> bool:
        barrier.wait(30)
        return store.jobs.finish("a", ENDS[number % 3], float(number), sequence=number, error_message=str(number))

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(end, range(12)))
    assert sum(answers) == 1
    winner = answers.index(True)
    ended = store.jobs.get("a")
    assert ended is not None
    assert (ended.state, ended.end_time, ended.error_message) == (ENDS[winner % 3], float(winner), str(winner))
    # Nothing moves it any more.
    assert not store.jobs.start("a", 20.0)
    assert not store.jobs.save("a", sequence=99, progress=b"late", checkpoint_blob="c" * 64)
    assert store.jobs.requeue("a", strike=True) == 0
    assert store.jobs.get("a") == ended


def test_a_queued_job_can_end_and_keeps_no_checkpoint(store: Store) -> None:
    store.jobs.create(record("a", checkpoint_blob="c" * 64, progress=b"p"))
    assert store.jobs.finish("a", JobState.cancelled, 3.0, sequence=1)
    assert store.jobs.get("a") == record("a", state=JobState.cancelled, end_time=3.0, sequence=1, progress=b"p")


@pytest.mark.parametrize("state", [JobState.queued, JobState.running])
def test_an_end_is_an_end(store: Store, state: JobState) -> None:
    with pytest.raises(StateError, match=f'"{state.value}", accepted: succeeded, failed, cancelled'):
        store.jobs.finish("a", state, 1.0, sequence=1)


def test_numbers_of_events_never_fall(store: Store) -> None:
    store.jobs.create(record("a"))
    assert store.jobs.save("a", sequence=10)
    assert store.jobs.save("a", sequence=4, progress=b"older")
    assert store.jobs.get("a") == record("a", sequence=10, progress=b"older")
    # The end has its own: numbers that were reserved before it and not told are none.
    assert store.jobs.finish("a", JobState.failed, 2.0, sequence=3)
    assert store.jobs.get("a") == record("a", state=JobState.failed, end_time=2.0, sequence=3, progress=b"older")


def test_a_job_is_found_by_the_request_that_made_it(store: Store) -> None:
    made = record("a", request_id="once", client="ada")
    store.jobs.create(made)
    store.jobs.create(record("b", client="ada"))
    assert store.jobs.find("ada", "once") == made
    assert store.jobs.find("bob", "once") is None
    assert store.jobs.find("ada", "other") is None
    assert store.jobs.find("ada", "") is None


def test_what_is_not_there_cannot_change(store: Store) -> None:
    assert not store.jobs.start("none", 1.0)
    assert not store.jobs.save("none", sequence=1)
    assert not store.jobs.finish("none", JobState.failed, 1.0, sequence=1)
    assert store.jobs.requeue("none", strike=True) == 0
    assert not store.jobs.delete("none", "ann")


@pytest.mark.parametrize("state", list(JobState))
def test_only_jobs_that_are_over_can_be_deleted(store: Store, state: JobState) -> None:
    store.jobs.create(record("a", state=state, end_time=2.0 if state.over else None, labels={"k": "v"}))
    if state.over:
        assert store.jobs.delete("a", "ann")
        assert store.jobs.get("a") is None
        assert store.jobs.page("ann", labels={"k": "v"}) == []
        assert not store.jobs.delete("a", "ann")
    else:
        with pytest.raises(StateError, match=f"the job is {state.value}; cancel it first"):
            store.jobs.delete("a", "ann")
        assert store.jobs.get("a") is not None


# ---- lists -------------------------------------------------------------------------------------


def test_pages_go_through_all_jobs_newest_first(store: Store) -> None:
    # Three of each time, so that the order within one time matters; in both cases, which locales sort otherwise.
    names = [f"{letter}{number}" for number in range(10) for letter in "aBc"]
    for place, name in enumerate(names):
        store.jobs.create(record(name, create_time=1700000000 + place // 3 + 0.1))
    seen: list[str] = []
    after = None
    while page := store.jobs.page("ann", limit=7, after=after):
        seen += [job.job_id for job in page]
        after = (page[-1].create_time, page[-1].job_id)
        # What comes meanwhile is newer, and in none of the pages that follow.
        store.jobs.create(record(f"new-{len(seen)}", create_time=1800000000.0))
    expected = sorted(names, key=lambda name: (int(name[1:]), name), reverse=True)
    assert seen == expected


def test_lists_are_filtered_by_states_and_by_all_labels(store: Store) -> None:
    for number, state in enumerate(JobState):
        for colour in ("red", "blue"):
            labels = {"colour": colour, "number": str(number)}
            store.jobs.create(record(f"{state.value}-{colour}", state=state, labels=labels))
    store.jobs.create(record("plain"))

    def listed(*states: JobState, **labels: str) -> set[str]:
        return {job.job_id for job in store.jobs.page("ann", states, labels)}

    assert len(listed()) == 11
    assert listed(JobState.failed) == {"failed-red", "failed-blue"}
    assert listed(JobState.failed, JobState.running, colour="red") == {"failed-red", "running-red"}
    assert listed(colour="red", number="0") == {"queued-red"}
    assert listed(colour="red", number="9") == set()
    assert listed(JobState.queued, number="1") == set()
    assert store.jobs.counts("ann") == {**dict.fromkeys(JobState, 2), JobState.queued: 3}
    assert store.jobs.counts() == store.jobs.counts("ann")


def test_unfinished_jobs_come_oldest_first(store: Store) -> None:
    for name, state, when in (("a", JobState.running, 3.0), ("b", JobState.queued, 1.0), ("c", JobState.failed, 0.0)):
        store.jobs.create(record(name, state=state, create_time=when, client=name))
    assert [job.job_id for job in store.jobs.unfinished()] == ["b", "a"]


def test_jobs_expire_by_their_end(store: Store) -> None:
    for name, state, end in (
        ("old", JobState.succeeded, 10.0),
        ("new", JobState.failed, 20.0),
        ("at", JobState.cancelled, 15.0),
        ("queued", JobState.queued, None),
    ):
        store.jobs.create(record(name, state=state, end_time=end, labels={"k": "v"}))
    assert [job.job_id for job in store.jobs.oldest_over(2)] == ["old", "at"]
    assert store.jobs.expire(15.0) == 1
    assert store.jobs.get("old") is None
    assert {job.job_id for job in store.jobs.page("ann")} == {"new", "at", "queued"}
    assert store.jobs.expire(100.0) == 2


def test_a_page_of_a_thousand_needs_no_sorting(store: Store, url: str) -> None:
    """Not a matter of seconds, which tests cannot tell, but of the plan: the index has them in order."""
    with store.jobs._database.write() as connection:
        for number in range(4000):
            insert(connection, record(f"{number:05}", client=f"client-{number % 2}", create_time=float(number)))
    asked: list[tuple[str, Any]] = []

    def listen(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    event.listen(store.jobs._database._engine, "before_cursor_execute", listen)
    page = store.jobs.page("client-0", limit=1000, after=(3000.0, "03000"))
    event.remove(store.jobs._database._engine, "before_cursor_execute", listen)
    assert [job.create_time for job in page] == [float(number) for number in range(2998, 998, -2)]
    statement, parameters = next(each for each in asked if each[0].startswith("SELECT jobs"))
    with store.jobs._database.read() as connection:
        if url:  # it would rather sort so few rows; the question is whether it must
            connection.exec_driver_sql("SET LOCAL enable_sort = off")
        explain = "EXPLAIN" if url else "EXPLAIN QUERY PLAN"
        plan = str(connection.exec_driver_sql(f"{explain} {statement}", parameters).all())
    assert "jobs_of_client" in plan
    assert "Sort" not in plan
    assert "TEMP B-TREE" not in plan


# ---- files of jobs -----------------------------------------------------------------------------


def test_a_job_needs_its_files(store: Store) -> None:
    file = upload(store, "ann", b"mine")
    other = upload(store, "bob", b"bob's")
    store.uploads.begin("ann", sha(b"half"), 4, "", 1.0)
    for missing in (other.sha256, sha(b"half"), sha(b"none")):
        with pytest.raises(NotFoundError, match=f'there is no complete upload "{missing}"'):
            store.jobs.create(record("a", request_id="mine", artifacts=(file.sha256, missing)))
        assert store.jobs.get("a") is None
    assert store.jobs.create(record("a", request_id="mine", artifacts=(file.sha256, file.sha256), create_time=9.0))[1]
    assert replace(file, last_used=9.0) == store.uploads.get("ann", file.sha256)


def test_all_that_is_referred_to_is_named(store: Store) -> None:
    file = upload(store, "ann", b"file").sha256
    done = upload(store, "bob", b"done").sha256
    store.uploads.begin("ann", sha(b"half"), 4, "", 1.0)
    store.jobs.create(record("a", spec_blob="1" * 64, checkpoint_blob="2" * 64, artifacts=(file,)))
    store.jobs.create(record("b", spec_blob="1" * 64, result_blob="3" * 64, state=JobState.failed, end_time=2.0))
    assert store.jobs.blobs() == {"1" * 64, "2" * 64, "3" * 64, file, done}
    store.jobs.delete("b", "ann")
    assert store.jobs.blobs() == {"1" * 64, "2" * 64, file, done}


def test_the_files_of_a_result_live_as_long_as_its_job(store: Store, reopen: Callable[[], Store]) -> None:
    files = {"one.png": "1" * 64, "two.png": "1" * 64, "latents": "2" * 64}
    for name, client in (("a", "ann"), ("b", "bob")):
        store.jobs.create(record(name, client=client, spec_blob=""))
        assert store.jobs.file(client, "1" * 64) is None
        assert store.jobs.finish(name, JobState.succeeded, 2.0, sequence=1, files=files)
        # An end that comes second adds nothing.
        assert not store.jobs.finish(name, JobState.failed, 3.0, sequence=2, files={"late": "3" * 64})
    store = reopen()
    found = store.jobs.get("a")
    assert found is not None
    assert found.files == files
    assert store.jobs.file("ann", "1" * 64) == ("a", "one.png")
    assert store.jobs.file("ann", "2" * 64) == ("a", "latents")
    assert store.jobs.file("ann", "3" * 64) is None
    assert store.jobs.file("eve", "1" * 64) is None
    assert store.jobs.file("ann", "no hash \0") is None
    assert store.jobs.blobs() == {"1" * 64, "2" * 64}
    assert store.jobs.delete("a", "ann")
    assert store.jobs.file("ann", "1" * 64) is None
    assert store.jobs.file("bob", "1" * 64) == ("b", "one.png")
    assert store.jobs.expire(9.0) == 1
    assert store.jobs.blobs() == set()


def test_many_threads_on_many_jobs(store: Store) -> None:
    """Reads and writes at once: nobody is turned away, nothing is mixed up."""

    def live(number: int) -> None:
        name = f"job-{number}"
        store.jobs.create(record(name, labels={"n": str(number)}))
        assert store.jobs.start(name, 2.0)
        for sequence in range(3):
            assert store.jobs.save(name, sequence=sequence, progress=str(number).encode())
            found = store.jobs.get(name, "ann")
            assert found is not None
            assert found.progress == str(number).encode()
        assert store.jobs.finish(name, ENDS[number % 3], 3.0, sequence=9)
        assert [job.job_id for job in store.jobs.page("ann", labels={"n": str(number)})] == [name]

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(live, range(48)))
    assert store.jobs.counts() == {**dict.fromkeys(JobState, 0), **dict.fromkeys(ENDS, 16)}
