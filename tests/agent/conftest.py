"""A home with the sample meeting in it, of which each test of the agent gets a copy."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.conversing import Desk, prepare_home


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the sample meeting in it, to be copied."""
    return prepare_home(tmp_path_factory.mktemp("prepared") / "home")


@pytest.fixture
def desk(prepared: Path, tmp_path: Path) -> Iterator[Desk]:
    """A desk of the test's own with the sample meeting."""
    home = tmp_path / "home"
    shutil.copytree(prepared, home)
    opened = Desk(home)
    yield opened
    opened.close()
