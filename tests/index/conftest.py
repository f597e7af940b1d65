"""An empty library and its vectors, as most tests of the index begin."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from index.search.vectors import Vectors
from index.store.library import Library
from tests import servers
from tests.support.indexed import embedder, open_library


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of a module on each kind of database that its ``DATABASES`` names."""
    kinds = getattr(metafunc.module, "DATABASES", ())
    runs_once = metafunc.definition.get_closest_marker("one_database") is not None
    if kinds and "database_kind" in metafunc.fixturenames and not runs_once:
        metafunc.parametrize("database_kind", kinds, indirect=True, scope="module")


@pytest.fixture(scope="module")
def database_kind(request: pytest.FixtureRequest) -> Iterator[str]:
    """The kind of database that ``open_library`` makes, SQLite unless the module says otherwise."""
    servers.KIND[0] = getattr(request, "param", "sqlite")
    yield servers.KIND[0]
    servers.KIND[0] = "sqlite"


@pytest.fixture
def home(tmp_path: Path, database_kind: str) -> Path:
    """An empty home folder, whose library is in a database of the kind."""
    return tmp_path / "home"


@pytest.fixture
def library(home: Path) -> Iterator[Library]:
    """A library over an empty home."""
    opened = open_library(home)
    yield opened
    opened.database.close()


@pytest.fixture
def vectors(library: Library) -> Vectors:
    """The vectors of that library."""
    return Vectors(library.home / "vectors", embedder())
