"""A process that writes until it is killed, over and over, and what must be left each time. Run by test_kills.py.

One process loads the library and forks the writers, as loading it twenty times would take longer than the test.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

from latent_inv_server.store.folder import open_store
from latent_inv_server.store.records import JobRecord, JobState
from tests.server.store.makers import record, sha


def write_until_killed(folder: Path, url: str, round_: int, say: int) -> None:
    """Lives of jobs, one after another; each step is said once it was acknowledged, and said to begin before that."""

    def tell(*words: Any) -> None:
        os.write(say, json.dumps(words).encode() + b"\n")

    store = open_store(folder, url)
    tell("open")
    for number in range(10**6):
        job_id = f"{round_}-{number}"
        spec = store.blobs.put(os.urandom(random.randrange(1, 200_000)))
        store.jobs.create(record(job_id, request_id=job_id, spec_blob=spec, labels={"round": str(round_)}))
        tell("created", job_id, spec)
        store.jobs.start(job_id, 2.0)
        tell("started", job_id)
        checkpoint = store.blobs.put(os.urandom(random.randrange(1, 200_000)), needed=True)
        store.jobs.save(job_id, sequence=number, checkpoint_blob=checkpoint, progress=b"p")
        tell("saved", job_id, checkpoint)
        data = os.urandom(random.randrange(1, 200_000))
        store.uploads.begin("ann", sha(data), len(data), "", 1.0)
        store.uploads.append("ann", sha(data), 0, data, 1.0)
        tell("received", sha(data), len(data))
        store.uploads.complete("ann", sha(data), 1.0)
        tell("uploaded", sha(data))
        tell("ending", job_id)
        result = store.blobs.put(os.urandom(random.randrange(1, 200_000)), needed=True)
        store.jobs.finish(job_id, JobState.succeeded, 3.0, sequence=number + 1, result_blob=result)
        tell("finished", job_id, result)


def check(folder: Path, url: str, said: list[list[Any]]) -> None:
    """All that was acknowledged is there and whole, and nothing half is to be seen."""
    with open_store(folder, url) as store:
        assert store.rescue is None, "a crash is no damage"
        jobs: dict[str, JobRecord] = {}
        for what, *words in said:
            if what == "created":
                found = store.jobs.get(words[0])
                assert found is not None, f"{words[0]} is lost"
                jobs[words[0]] = found
                assert (found.spec_blob, found.labels["round"]) == (words[1], words[0].split("-")[0])
                assert [job.job_id for job in store.jobs.page("ann", limit=5, labels=found.labels)], "its labels, too"
            elif what == "started":
                assert jobs[words[0]].state is not JobState.queued
            elif what == "saved":
                if ["ending", words[0]] not in said:
                    assert jobs[words[0]].checkpoint_blob == words[1]
                assert jobs[words[0]].progress == b"p"
            elif what == "finished":
                job = jobs[words[0]]
                assert (job.state, job.result_blob, job.checkpoint_blob) == (JobState.succeeded, words[1], "")
            elif what == "received":
                upload = store.uploads.get("ann", words[0])
                assert upload is not None
                assert upload.complete or upload.received in (0, words[1])
            elif what == "uploaded":
                upload = store.uploads.get("ann", words[0])
                assert upload is not None
                assert upload.complete
        for job in store.jobs.page("ann", limit=10**6):
            assert (job.state is JobState.succeeded) == (job.result_blob != "") == (job.end_time is not None)
        for name in store.jobs.blobs():
            assert store.blobs.read(name), "all that a record refers to is there, and has its hash"
        files = [path for path in (folder / "blobs").rglob("*") if path.is_file()]
        assert not [path for path in files if len(path.name) != 64]
        for path in files:
            assert sha(path.read_bytes()) == path.name
        assert store.blobs.used == sum(path.stat().st_size for path in files)


def main(folder: Path, url: str, rounds: int) -> None:
    """Prints what the writers came to."""
    steps = opened = 0
    for round_ in range(rounds):
        hear, say = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(hear)
                random.seed(round_)
                write_until_killed(folder, url, round_, say)
            finally:
                os._exit(1)
        os.close(say)
        with open(hear, "rb") as answers:
            # Some are killed while they open the store, most in the middle of their work.
            first = b"" if round_ % 5 == 4 else answers.readline()
            time.sleep(random.uniform(0.0, 0.02 if round_ % 5 == 4 else 0.1))
            os.kill(pid, signal.SIGKILL)
            lines = (first + answers.read()).splitlines()
        assert os.WIFSIGNALED(os.waitpid(pid, 0)[1]), "it ended by itself"
        said = [json.loads(line) for line in lines]
        opened += len(said) > 0
        steps += len(said)
        check(folder, url, said)
    print(f"{rounds} kills, {opened} while open, {steps} steps")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
