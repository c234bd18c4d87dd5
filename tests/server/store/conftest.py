"""Each test of the store runs on SQLite and on PostgreSQL; see `url`."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from latent_inv_server.store.folder import Store, open_store
from tests.conftest import require

_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a private PostgreSQL server."""
    pytest.importorskip("pwd")  # none on Windows
    from tests.server.store import postgres

    found = postgres.programs()
    driver = importlib.util.find_spec("psycopg") is not None
    require("postgres", found is not None and driver, "apt-get install postgresql, pip install 'psycopg[binary]'")
    assert found is not None
    with postgres.cluster(found) as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server: str) -> str:
    """A schema without tables, which is to a connection what an empty database would be, and made in a moment."""
    name = f"test_{next(_NUMBERS)}"
    url = sa.make_url(postgres_server).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {name}")
    engine.dispose()
    return sa.make_url(postgres_server).update_query_dict({"options": f"-csearch_path={name}"}).render_as_string()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """Empty for SQLite in the data folder, or the URL of an empty database."""
    return "" if request.param == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.fixture
def reopen(tmp_path: Path, url: str) -> Iterator[Callable[[], Store]]:
    """Opens the same store, and closes the one before."""
    opened: list[Store] = []

    def again() -> Store:
        for store in opened:
            store.close()
        opened.append(open_store(tmp_path / "data", url))
        return opened[-1]

    yield again
    for store in opened:
        store.close()


@pytest.fixture
def store(reopen: Callable[[], Store]) -> Store:
    return reopen()
