"""An empty library and its vectors, as most tests of the index begin."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from index.search.vectors import Vectors
from index.store.library import Library
from tests.support.indexed import embedder, open_library


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
