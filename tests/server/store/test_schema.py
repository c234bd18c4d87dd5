"""The migrations lead to the tables that queries are written with."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from latent_inv.errors import StateError
from latent_inv_server.store import schema
from latent_inv_server.store.database import Database, sqlite_url


@pytest.fixture
def database(tmp_path: Path, url: str) -> Database:
    return Database(url or sqlite_url(tmp_path / "name with ? and % and #.sqlite"))


def shape(inspector: sa.Inspector, table: str) -> dict[str, object]:
    columns = {
        column["name"]: (str(column["type"]).split()[0], column["nullable"]) for column in inspector.get_columns(table)
    }
    indices = {index["name"]: tuple(index["column_names"]) for index in inspector.get_indexes(table)}
    unique = {tuple(one["column_names"]) for one in inspector.get_unique_constraints(table)}
    foreign = [
        (one["constrained_columns"], one["referred_table"], one["referred_columns"], one["options"].get("ondelete"))
        for one in inspector.get_foreign_keys(table)
    ]
    for columns_of_one in unique:  # PostgreSQL lists the index that stands for it as well
        indices = {name: columns_ for name, columns_ in indices.items() if columns_ != columns_of_one}
    return {
        "columns": columns,
        "primary key": inspector.get_pk_constraint(table)["constrained_columns"],
        "indices": indices,
        "unique": unique,
        "foreign": foreign,
    }


def test_migrations_make_the_tables_of_the_code(database: Database, tmp_path: Path, url: str) -> None:
    assert schema.migrate(database) == 0
    inspector = sa.inspect(database._engine)
    assert set(inspector.get_table_names()) == set(schema.metadata.tables)
    migrated = {name: shape(inspector, name) for name in schema.metadata.tables}
    with database.write() as connection:
        schema.metadata.drop_all(connection)
        schema.metadata.create_all(connection)
    made = sa.inspect(database._engine)
    for name in schema.metadata.tables:
        assert migrated[name] == shape(made, name)
    database.close()


def test_a_migration_happens_once_whoever_comes_first(database: Database) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = sorted(pool.map(lambda _: schema.migrate(database), range(4)))
    assert found == [0, 1, 1, 1]
    database.close()


def test_an_older_database_is_brought_up(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    schema.migrate(database)
    monkeypatch.setitem(schema.MIGRATIONS, 2, ("ALTER TABLE jobs ADD COLUMN more {text} NOT NULL DEFAULT 'x'",))
    monkeypatch.setitem(schema.MIGRATIONS, 3, ("CREATE INDEX more_index ON jobs (more)",))
    assert schema.migrate(database, 3) == 1
    assert "more" in {column["name"] for column in sa.inspect(database._engine).get_columns("jobs")}
    assert schema.migrate(database, 3) == 3
    with pytest.raises(StateError, match="schema version 3, this version of the server knows those up to 1"):
        schema.migrate(database, 1)
    database.close()


def test_a_migration_that_fails_changes_nothing(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    schema.migrate(database)
    monkeypatch.setitem(schema.MIGRATIONS, 2, ("ALTER TABLE jobs ADD COLUMN more {text}", "NO SUCH STATEMENT"))
    with pytest.raises(Exception, match="incident"):
        schema.migrate(database, 2)
    assert "more" not in {column["name"] for column in sa.inspect(database._engine).get_columns("jobs")}
    assert schema.migrate(database, 1) == 1
    database.close()


def test_sqlite_is_set_to_lose_nothing(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path / "file.sqlite"))
    with database.read() as connection:
        wanted = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 20_000}
        assert {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in wanted} == wanted
    database.close()


def test_postgresql_waits_for_its_disk(postgres_url: str) -> None:
    database = Database(postgres_url)
    with database.read() as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
    database.close()
