"""Any order of calls does to the store what it does to a plain dict."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from latent_inv.errors import AlreadyExistsError, StateError
from latent_inv_server.store.database import Database
from latent_inv_server.store.folder import open_store
from latent_inv_server.store.records import JobRecord, JobState
from latent_inv_server.store.schema import JOBS
from tests.server.store.makers import record

CLIENTS = st.sampled_from(["ann", "bob"])
IDS = st.sampled_from([f"job-{number}" for number in range(6)])
REQUESTS = st.sampled_from(["", "", "first", "second"])
BODIES = st.sampled_from(["1" * 64, "2" * 64])
STATES = st.sampled_from(list(JobState))
ENDS = st.sampled_from([state for state in JobState if state.over])
TIMES = st.integers(0, 20).map(float)
LABELS = st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from(["x", "y"]))
SEQUENCES = st.integers(0, 50)


class Life(RuleBasedStateMachine):
    """The dict `jobs` is the model; every rule does one thing to both."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.jobs: dict[str, JobRecord] = {}
        if self.url:
            database = Database(self.url)
            with database.write() as connection:
                if connection.exec_driver_sql("SELECT to_regclass('jobs')").scalar():
                    connection.execute(JOBS.delete())
            database.close()
        self.store = open_store(Path(self.folder.name) / "data", self.url)

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    @rule(job_id=IDS, client=CLIENTS, request=REQUESTS, body=BODIES, labels=LABELS, when=TIMES, state=STATES)
    def create(
        self, job_id: str, client: str, request: str, body: str, labels: dict[str, str], when: float, state: JobState
    ) -> None:
        new = record(job_id, client=client, request_id=request, request_sha256=body, labels=labels, create_time=when)
        new = replace(new, state=state, end_time=when if state.over else None)
        same = [job for job in self.jobs.values() if request and (job.client, job.request_id) == (client, request)]
        if same and same[0].request_sha256 == body:
            assert self.store.jobs.create(new) == (same[0], False)
        elif same or job_id in self.jobs:
            with pytest.raises(AlreadyExistsError):
                self.store.jobs.create(new)
        else:
            assert self.store.jobs.create(new) == (new, True)
            self.jobs[job_id] = new

    @rule(job_id=IDS, now=TIMES)
    def start(self, job_id: str, now: float) -> None:
        job = self.jobs.get(job_id)
        can = job is not None and job.state is JobState.queued
        assert self.store.jobs.start(job_id, now) == can
        if job is not None and can:
            first = now if job.start_time is None else job.start_time
            self.jobs[job_id] = replace(job, state=JobState.running, start_time=first)

    @rule(job_id=IDS, strike=st.booleans())
    def requeue(self, job_id: str, strike: bool) -> None:
        job = self.jobs.get(job_id)
        if job is not None and job.state is JobState.running:
            job = self.jobs[job_id] = replace(job, state=JobState.queued, strikes=job.strikes + strike)
        assert self.store.jobs.requeue(job_id, strike) == (job.strikes if job else 0)

    @rule(
        job_id=IDS, sequence=SEQUENCES, progress=st.none() | st.binary(max_size=3), blob=st.sampled_from(["", "c" * 64])
    )
    def save(self, job_id: str, sequence: int, progress: bytes | None, blob: str) -> None:
        job = self.jobs.get(job_id)
        can = job is not None and not job.state.over
        assert self.store.jobs.save(job_id, sequence=sequence, progress=progress, checkpoint_blob=blob) == can
        if job is not None and can:
            self.jobs[job_id] = replace(
                job,
                sequence=max(job.sequence, sequence),
                progress=job.progress if progress is None else progress,
                checkpoint_blob=blob or job.checkpoint_blob,
            )

    @rule(
        job_id=IDS,
        state=ENDS,
        now=TIMES,
        sequence=SEQUENCES,
        blob=st.sampled_from(["", "d" * 64]),
        text=st.text("ab", max_size=2),
    )
    def finish(self, job_id: str, state: JobState, now: float, sequence: int, blob: str, text: str) -> None:
        job = self.jobs.get(job_id)
        can = job is not None and not job.state.over
        end = self.store.jobs.finish(
            job_id, state, now, sequence=sequence, result_blob=blob, error_status=text, error_message=text
        )
        assert end == can
        if job is not None and can:
            self.jobs[job_id] = replace(
                job,
                state=state,
                end_time=now,
                sequence=max(job.sequence, sequence),
                checkpoint_blob="",
                result_blob=blob,
                error_status=text,
                error_message=text,
            )

    @rule(job_id=IDS, client=CLIENTS)
    def delete(self, job_id: str, client: str) -> None:
        job = self.jobs.get(job_id)
        if job is None or job.client != client:
            assert not self.store.jobs.delete(job_id, client)
        elif job.state.over:
            assert self.store.jobs.delete(job_id, client)
            del self.jobs[job_id]
        else:
            with pytest.raises(StateError):
                self.store.jobs.delete(job_id, client)

    @rule(before=TIMES)
    def expire(self, before: float) -> None:
        gone = [name for name, job in self.jobs.items() if job.state.over and (job.end_time or 0.0) < before]
        assert self.store.jobs.expire(before) == len(gone)
        for name in gone:
            del self.jobs[name]

    @precondition(lambda self: self.jobs)
    @rule(client=CLIENTS, states=st.lists(STATES, max_size=2), labels=LABELS, limit=st.integers(1, 3), data=st.data())
    def page(
        self, client: str, states: list[JobState], labels: dict[str, str], limit: int, data: st.DataObject
    ) -> None:
        after = data.draw(st.none() | st.tuples(TIMES, IDS))
        expected = [
            job
            for job in sorted(self.jobs.values(), key=lambda job: (job.create_time, job.job_id), reverse=True)
            if job.client == client
            and (not states or job.state in states)
            and labels.items() <= job.labels.items()
            and (after is None or (job.create_time, job.job_id) < after)
        ]
        assert self.store.jobs.page(client, states, labels, limit, after) == expected[:limit]

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = open_store(Path(self.folder.name) / "data", self.url)

    @invariant()
    def all_is_as_it_should_be(self) -> None:
        if not hasattr(self, "store"):
            return
        for number in range(6):
            assert self.store.jobs.get(f"job-{number}") == self.jobs.get(f"job-{number}")
        over = sorted((job.end_time, job.job_id) for job in self.jobs.values() if job.state.over)
        assert [(job.end_time, job.job_id) for job in self.store.jobs.oldest_over(100)] == over
        waiting = sorted((job.create_time, job.job_id) for job in self.jobs.values() if not job.state.over)
        assert [(job.create_time, job.job_id) for job in self.store.jobs.unfinished()] == waiting
        states = [job.state for job in self.jobs.values()]
        assert self.store.jobs.counts() == {state: states.count(state) for state in JobState}
        named = {(job.spec_blob, job.checkpoint_blob, job.result_blob) for job in self.jobs.values()}
        assert self.store.jobs.blobs() == {name for names in named for name in names if name}


def test_lives_of_jobs(url: str) -> None:
    machine = type("LifeHere", (Life,), {"url": url})
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=12 if url else 25, stateful_step_count=25, deadline=None, suppress_health_check=checks
        ),
    )
