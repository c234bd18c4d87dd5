"""The tables, and the statements that lead from each version of them to the next.

Queries are written with the tables, `MIGRATIONS` is what was sent to databases; a test holds them against each other.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from latent_inv.errors import StateError

from .database import Database

metadata = sa.MetaData()

# Ordered byte by byte on both kinds of database, so that pages go on where the last one ended whatever the locale is.
_TEXT = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")

META = sa.Table(
    "meta",
    metadata,
    sa.Column("name", _TEXT, primary_key=True),
    sa.Column("value", _TEXT, nullable=False),
)

JOBS = sa.Table(
    "jobs",
    metadata,
    sa.Column("job_id", _TEXT, primary_key=True),
    sa.Column("client", _TEXT, nullable=False),
    sa.Column("request_id", _TEXT),  # NULL for none, as NULLs never collide
    sa.Column("request_sha256", _TEXT, nullable=False),
    sa.Column("state", _TEXT, nullable=False),
    sa.Column("summary", sa.LargeBinary, nullable=False),
    sa.Column("spec_blob", _TEXT, nullable=False),
    sa.Column("bulk", sa.Boolean, nullable=False),
    sa.Column("create_time", sa.Double, nullable=False),
    sa.Column("labels", _TEXT, nullable=False),  # JSON; what is shown. `LABELS` is what is searched
    sa.Column("artifacts", _TEXT, nullable=False),  # JSON; `JOB_FILES` is what is searched
    sa.Column("files", _TEXT, nullable=False),  # JSON; `RESULT_FILES` is what is searched
    sa.Column("start_time", sa.Double),
    sa.Column("end_time", sa.Double),
    sa.Column("checkpoint_blob", _TEXT, nullable=False),
    sa.Column("result_blob", _TEXT, nullable=False),
    sa.Column("progress", sa.LargeBinary, nullable=False),
    sa.Column("error_status", _TEXT, nullable=False),
    sa.Column("error_message", _TEXT, nullable=False),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("strikes", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("client", "request_id"),
    sa.Index("jobs_of_client", "client", "create_time", "job_id"),
    sa.Index("jobs_of_client_by_state", "client", "state"),
    sa.Index("jobs_by_state", "state", "end_time"),
)

LABELS = sa.Table(
    "labels",
    metadata,
    sa.Column("job_id", _TEXT, sa.ForeignKey("jobs.job_id", ondelete="CASCADE"), primary_key=True),
    sa.Column("name", _TEXT, primary_key=True),
    sa.Column("value", _TEXT, nullable=False),
    sa.Index("labels_by_value", "name", "value", "job_id"),
)

JOB_FILES = sa.Table(
    "job_files",
    metadata,
    sa.Column("job_id", _TEXT, sa.ForeignKey("jobs.job_id", ondelete="CASCADE"), primary_key=True),
    sa.Column("sha256", _TEXT, primary_key=True),
    sa.Index("job_files_by_hash", "sha256", "job_id"),
)

RESULT_FILES = sa.Table(
    "result_files",
    metadata,
    sa.Column("job_id", _TEXT, sa.ForeignKey("jobs.job_id", ondelete="CASCADE"), primary_key=True),
    sa.Column("name", _TEXT, primary_key=True),
    sa.Column("sha256", _TEXT, nullable=False),
    sa.Index("result_files_by_hash", "sha256", "job_id"),
)

UPLOADS = sa.Table(
    "uploads",
    metadata,
    sa.Column("client", _TEXT, primary_key=True),
    sa.Column("sha256", _TEXT, primary_key=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("received", sa.BigInteger, nullable=False),
    sa.Column("content_type", _TEXT, nullable=False),
    sa.Column("create_time", sa.Double, nullable=False),
    sa.Column("last_used", sa.Double, nullable=False),
    sa.Column("complete", sa.Boolean, nullable=False),
    sa.Index("uploads_by_use", "last_used"),
)

#: words that differ between the two kinds of database
_WORDS: dict[str, dict[str, str]] = {
    "sqlite": {"text": "TEXT", "bytes": "BLOB", "real": "DOUBLE"},
    "postgresql": {"text": 'TEXT COLLATE "C"', "bytes": "BYTEA", "real": "DOUBLE PRECISION"},
}

_META_STATEMENT = "CREATE TABLE IF NOT EXISTS meta (name {text} NOT NULL PRIMARY KEY, value {text} NOT NULL)"

#: version → statements that lead to it from the version before. Never changed once released, only added to.
MIGRATIONS: dict[int, tuple[str, ...]] = {
    1: (
        """
        CREATE TABLE jobs (
            job_id {text} NOT NULL PRIMARY KEY,
            client {text} NOT NULL,
            request_id {text},
            request_sha256 {text} NOT NULL,
            state {text} NOT NULL,
            summary {bytes} NOT NULL,
            spec_blob {text} NOT NULL,
            bulk BOOLEAN NOT NULL,
            create_time {real} NOT NULL,
            labels {text} NOT NULL,
            artifacts {text} NOT NULL,
            files {text} NOT NULL,
            start_time {real},
            end_time {real},
            checkpoint_blob {text} NOT NULL,
            result_blob {text} NOT NULL,
            progress {bytes} NOT NULL,
            error_status {text} NOT NULL,
            error_message {text} NOT NULL,
            sequence BIGINT NOT NULL,
            strikes BIGINT NOT NULL,
            UNIQUE (client, request_id)
        )
        """,
        "CREATE INDEX jobs_of_client ON jobs (client, create_time, job_id)",
        "CREATE INDEX jobs_of_client_by_state ON jobs (client, state)",
        "CREATE INDEX jobs_by_state ON jobs (state, end_time)",
        """
        CREATE TABLE labels (
            job_id {text} NOT NULL,
            name {text} NOT NULL,
            value {text} NOT NULL,
            PRIMARY KEY (job_id, name),
            FOREIGN KEY (job_id) REFERENCES jobs (job_id) ON DELETE CASCADE
        )
        """,
        "CREATE INDEX labels_by_value ON labels (name, value, job_id)",
        """
        CREATE TABLE job_files (
            job_id {text} NOT NULL,
            sha256 {text} NOT NULL,
            PRIMARY KEY (job_id, sha256),
            FOREIGN KEY (job_id) REFERENCES jobs (job_id) ON DELETE CASCADE
        )
        """,
        "CREATE INDEX job_files_by_hash ON job_files (sha256, job_id)",
        """
        CREATE TABLE result_files (
            job_id {text} NOT NULL,
            name {text} NOT NULL,
            sha256 {text} NOT NULL,
            PRIMARY KEY (job_id, name),
            FOREIGN KEY (job_id) REFERENCES jobs (job_id) ON DELETE CASCADE
        )
        """,
        "CREATE INDEX result_files_by_hash ON result_files (sha256, job_id)",
        """
        CREATE TABLE uploads (
            client {text} NOT NULL,
            sha256 {text} NOT NULL,
            size BIGINT NOT NULL,
            received BIGINT NOT NULL,
            content_type {text} NOT NULL,
            create_time {real} NOT NULL,
            last_used {real} NOT NULL,
            complete BOOLEAN NOT NULL,
            PRIMARY KEY (client, sha256)
        )
        """,
        "CREATE INDEX uploads_by_use ON uploads (last_used)",
    ),
}

NEWEST = max(MIGRATIONS)
_VERSION = "schema_version"


def migrate(database: Database, newest: int = NEWEST) -> int:
    """Bring a database to a version, all of it or nothing.

    Args:
        newest: version to reach.
    Returns:
        the version that was found; 0: it was empty.
    Raises:
        StateError: it is newer than that.
    """
    words = _WORDS[database.dialect]
    with database.write() as connection:
        database.alone(connection)
        connection.exec_driver_sql(_META_STATEMENT.format(**words))
        row = connection.execute(sa.select(META.c.value).where(META.c.name == _VERSION)).scalar()
        found = int(row or 0)
        if found > newest:
            raise StateError(
                f"the database has schema version {found}, this version of the server knows those up to {newest}; "
                "use the newer server, or another data folder"
            )
        for version in range(found + 1, newest + 1):
            for statement in MIGRATIONS[version]:
                connection.exec_driver_sql(statement.format(**words))
        if row is None:
            connection.execute(sa.insert(META).values(name=_VERSION, value=str(newest)))
        elif found < newest:
            connection.execute(sa.update(META).where(META.c.name == _VERSION).values(value=str(newest)))
    return found
