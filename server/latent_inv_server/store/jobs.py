"""Jobs in tables: `records.JobStore` over SQLAlchemy Core.

Nothing is looked at first and changed afterwards. A change is one statement whose WHERE says from which states it may
happen, and the number of rows that it met says whether it did. A new job is inserted, and looked for only if a
constraint refused it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from latent_inv.errors import AlreadyExistsError, NotFoundError, SpecError, StateError, UnavailableError

from .database import Database
from .records import JobRecord, JobState
from .schema import JOB_FILES, JOBS, LABELS, RESULT_FILES, UPLOADS

UNFINISHED = tuple(state.value for state in JobState if not state.over)
OVER = tuple(state.value for state in JobState if state.over)
#: times that a creation is tried when the job that it collided with is gone before it can be read
_TRIES = 5


class SqlJobStore:
    """`records.JobStore` in a database that `schema.migrate` has seen; closing it closes the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, record: JobRecord) -> tuple[JobRecord, bool]:
        """See `records.JobStore.create`. The artifacts count as used at its `create_time`."""
        _check_text(record)
        for _ in range(_TRIES):
            try:
                with self._database.write() as connection:
                    insert(connection, record)
                    _use(connection, record)
                return record, True
            except IntegrityError:
                found = self._repeated(record)
            if found is not None:
                return found, False
        raise UnavailableError("the job could not be kept, since others with its id come and go", retry_after=1.0)

    def _repeated(self, record: JobRecord) -> JobRecord | None:
        with self._database.read() as connection:
            mine = (JOBS.c.client == record.client) & (JOBS.c.request_id == record.request_id)
            row = connection.execute(sa.select(JOBS).where(mine)).mappings().first()
            if row is None and connection.execute(sa.select(JOBS.c.job_id).where(_is(record.job_id))).first():
                raise AlreadyExistsError(f'there is another job "{record.job_id[:64]}"', field="job_id")
        if row is not None and row["request_sha256"] != record.request_sha256:
            text = f'"{record.request_id[:64]}" stands for another request, made before; give a new id to a new request'
            raise AlreadyExistsError(text, field="request_id")
        return None if row is None else to_record(row)

    def find(self, client: str, request_id: str) -> JobRecord | None:
        """See `records.JobStore.find`."""
        mine = (JOBS.c.client == client) & (JOBS.c.request_id == request_id)
        found = self._records(sa.select(JOBS).where(mine)) if request_id else []
        return found[0] if found else None

    def get(self, job_id: str, client: str | None = None) -> JobRecord | None:
        """See `records.JobStore.get`."""
        query = sa.select(JOBS).where(_is(job_id))
        found = self._records(query if client is None else query.where(JOBS.c.client == client))
        return found[0] if found else None

    def page(
        self,
        client: str,
        states: Sequence[JobState] = (),
        labels: Mapping[str, str] | None = None,
        limit: int = 50,
        after: tuple[float, str] | None = None,
    ) -> list[JobRecord]:
        """See `records.JobStore.page`."""
        query = sa.select(JOBS).where(JOBS.c.client == client)
        if states:
            query = query.where(JOBS.c.state.in_([state.value for state in states]))
        for name, value in (labels or {}).items():
            labelled = (LABELS.c.name == _plain(name)) & (LABELS.c.value == _plain(value))
            query = query.where(JOBS.c.job_id.in_(sa.select(LABELS.c.job_id).where(labelled)))
        if after is not None:
            last = sa.tuple_(sa.literal(after[0], sa.Double), sa.literal(_plain(after[1]), JOBS.c.job_id.type))
            query = query.where(sa.tuple_(JOBS.c.create_time, JOBS.c.job_id) < last)
        return self._records(query.order_by(JOBS.c.create_time.desc(), JOBS.c.job_id.desc()).limit(limit))

    def unfinished(self) -> list[JobRecord]:
        """See `records.JobStore.unfinished`."""
        query = sa.select(JOBS).where(JOBS.c.state.in_(UNFINISHED))
        return self._records(query.order_by(JOBS.c.create_time, JOBS.c.job_id))

    def start(self, job_id: str, now: float) -> bool:
        """See `records.JobStore.start`."""
        queued = _is(job_id) & (JOBS.c.state == JobState.queued.value)
        first = sa.func.coalesce(JOBS.c.start_time, now)
        return self._change(sa.update(JOBS).where(queued).values(state=JobState.running.value, start_time=first)) == 1

    def requeue(self, job_id: str, strike: bool) -> int:
        """See `records.JobStore.requeue`; 0 for a job that is gone."""
        running = _is(job_id) & (JOBS.c.state == JobState.running.value)
        strikes = JOBS.c.strikes + int(strike)
        with self._database.write() as connection:
            connection.execute(sa.update(JOBS).where(running).values(state=JobState.queued.value, strikes=strikes))
            return connection.execute(sa.select(JOBS.c.strikes).where(_is(job_id))).scalar() or 0

    def save(self, job_id: str, *, sequence: int, progress: bytes | None = None, checkpoint_blob: str = "") -> bool:
        """See `records.JobStore.save`. A smaller `sequence` than the one that is kept does not lower it."""
        values: dict[str, Any] = {"sequence": _grown(sequence)}
        if progress is not None:
            values["progress"] = progress
        if checkpoint_blob:
            values["checkpoint_blob"] = checkpoint_blob
        return self._change(sa.update(JOBS).where(_unfinished(job_id)).values(values)) == 1

    def finish(
        self,
        job_id: str,
        state: JobState,
        now: float,
        *,
        sequence: int,
        result_blob: str = "",
        files: Mapping[str, str] | None = None,
        progress: bytes | None = None,
        error_status: str = "",
        error_message: str = "",
    ) -> bool:
        """See `records.JobStore.finish`."""
        if not state.over:
            raise StateError(f'a job cannot end as "{state.value}", accepted: {", ".join(OVER)}', field="state")
        values: dict[str, Any] = {
            "state": state.value,
            "end_time": now,
            "sequence": sequence,  # of the end itself: numbers that were reserved and not told are given back
            "checkpoint_blob": "",
            "result_blob": result_blob,
            "files": json.dumps(dict(files or {})),
            "error_status": error_status,
            "error_message": _plain(error_message),  # it may quote anything
        }
        if progress is not None:
            values["progress"] = progress
        with self._database.write() as connection:
            if connection.execute(sa.update(JOBS).where(_unfinished(job_id)).values(values)).rowcount != 1:
                return False
            _insert_files(connection, job_id, files or {})
        return True

    def file(self, client: str, sha256: str) -> tuple[str, str] | None:
        """See `records.JobStore.file`."""
        query = sa.select(RESULT_FILES.c.job_id, RESULT_FILES.c.name).join(JOBS, JOBS.c.job_id == RESULT_FILES.c.job_id)
        query = query.where(RESULT_FILES.c.sha256 == _plain(sha256), JOBS.c.client == client)
        with self._database.read() as connection:
            row = connection.execute(query.order_by(JOBS.c.create_time, RESULT_FILES.c.name).limit(1)).first()
        return None if row is None else (row[0], row[1])

    def delete(self, job_id: str, client: str) -> bool:
        """See `records.JobStore.delete`."""
        mine = _is(job_id) & (JOBS.c.client == client)
        with self._database.write() as connection:
            if connection.execute(sa.delete(JOBS).where(mine, JOBS.c.state.in_(OVER))).rowcount == 1:
                return True
            state = connection.execute(sa.select(JOBS.c.state).where(mine)).scalar()
        if state is None:
            return False
        raise StateError(f"the job is {state}; cancel it first, or wait for its end", field="job_id")

    def expire(self, before: float) -> int:
        """See `records.JobStore.expire`."""
        return self._change(sa.delete(JOBS).where(JOBS.c.state.in_(OVER), JOBS.c.end_time < before))

    def oldest_over(self, limit: int) -> list[JobRecord]:
        """See `records.JobStore.oldest_over`."""
        query = sa.select(JOBS).where(JOBS.c.state.in_(OVER))
        return self._records(query.order_by(JOBS.c.end_time, JOBS.c.job_id).limit(limit))

    def counts(self, client: str | None = None) -> Mapping[JobState, int]:
        """See `records.JobStore.counts`; every state is in it."""
        query = sa.select(JOBS.c.state, sa.func.count()).group_by(JOBS.c.state)
        with self._database.read() as connection:
            rows = connection.execute(query if client is None else query.where(JOBS.c.client == client)).all()
        found: dict[str, int] = {row[0]: row[1] for row in rows}
        return {state: found.get(state.value, 0) for state in JobState}

    def blobs(self) -> set[str]:
        """See `records.JobStore.blobs`."""
        own = (JOBS.c.spec_blob, JOBS.c.checkpoint_blob, JOBS.c.result_blob)
        columns = (*own, JOB_FILES.c.sha256, RESULT_FILES.c.sha256)
        uploads = sa.select(UPLOADS.c.sha256).where(UPLOADS.c.complete)
        with self._database.read() as connection:
            found = connection.execute(sa.union(*(sa.select(column) for column in columns), uploads)).scalars()
            return {name for name in found if name}

    def close(self) -> None:
        """See `records.JobStore.close`."""
        self._database.close()

    def _change(self, statement: sa.Update | sa.Delete) -> int:
        with self._database.write() as connection:
            return connection.execute(statement).rowcount

    def _records(self, query: sa.Select[Any]) -> list[JobRecord]:
        with self._database.read() as connection:
            return [to_record(row) for row in connection.execute(query).mappings()]


def insert(connection: sa.Connection, record: JobRecord) -> None:
    """Write all rows of a job, in a transaction of the caller.

    Raises:
        IntegrityError: its job_id, or its client's request_id, is taken.
    """
    values = {column.name: getattr(record, column.name) for column in JOBS.columns}
    values["request_id"] = record.request_id or None
    values["state"] = record.state.value
    values["labels"] = json.dumps(dict(record.labels))
    values["artifacts"] = json.dumps(record.artifacts)
    values["files"] = json.dumps(dict(record.files))
    connection.execute(sa.insert(JOBS).values(values))
    rows = [{"job_id": record.job_id, "name": name, "value": value} for name, value in record.labels.items()]
    if rows:
        connection.execute(sa.insert(LABELS), rows)
    files = [{"job_id": record.job_id, "sha256": name} for name in dict.fromkeys(record.artifacts)]
    if files:
        connection.execute(sa.insert(JOB_FILES), files)
    _insert_files(connection, record.job_id, record.files)


def _insert_files(connection: sa.Connection, job_id: str, files: Mapping[str, str]) -> None:
    rows = [{"job_id": job_id, "name": name, "sha256": sha256} for name, sha256 in files.items()]
    if rows:
        connection.execute(sa.insert(RESULT_FILES), rows)


def to_record(row: Mapping[Any, Any]) -> JobRecord:
    """The record of a row of `JOBS`.

    Raises:
        KeyError, ValueError, TypeError: the row is none of ours, as in a damaged database.
    """
    values = {column.name: row[column.name] for column in JOBS.columns}
    return JobRecord(
        **{
            **values,
            "request_id": values["request_id"] or "",
            "state": JobState(values["state"]),
            "labels": dict(json.loads(values["labels"])),
            "artifacts": tuple(json.loads(values["artifacts"])),
            "files": dict(json.loads(values["files"])),
        }
    )


def _use(connection: sa.Connection, record: JobRecord) -> None:
    """See that a new job's artifacts are there, and keep them from being deleted until its row can be seen."""
    if not record.artifacts:
        return
    mine = (UPLOADS.c.client == record.client) & UPLOADS.c.sha256.in_(record.artifacts) & UPLOADS.c.complete
    # The update locks the rows, so that a deletion waits for this transaction and then finds the job.
    used = sa.case((UPLOADS.c.last_used < record.create_time, record.create_time), else_=UPLOADS.c.last_used)
    connection.execute(sa.update(UPLOADS).where(mine).values(last_used=used))
    missing = set(record.artifacts) - set(connection.execute(sa.select(UPLOADS.c.sha256).where(mine)).scalars())
    if missing:
        raise NotFoundError(
            f'there is no complete upload "{min(missing)[:64]}"; upload the file first', field="artifact"
        )


def _check_text(record: JobRecord) -> None:
    # PostgreSQL keeps no zero characters; both kinds of database shall refuse the same.
    named = {"request_id": record.request_id, "client": record.client}
    for name, value in record.labels.items():
        named[f'labels["{name[:40]}"]'] = name + value
    for field, text in named.items():
        if "\0" in text:
            raise SpecError("must hold no zero character", field=field.replace("\0", ""))


def _plain(text: str) -> str:
    # PostgreSQL does not even take zero characters in a question.
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _is(job_id: str) -> sa.ColumnElement[bool]:
    return JOBS.c.job_id == _plain(job_id)


def _unfinished(job_id: str) -> sa.ColumnElement[bool]:
    return _is(job_id) & JOBS.c.state.in_(UNFINISHED)


def _grown(sequence: int) -> sa.ColumnElement[int]:
    return sa.case((JOBS.c.sequence < sequence, sequence), else_=JOBS.c.sequence)
