"""One server with a real language model for all tests here; ``make test-mind`` installs and runs it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.mind import qwen_server
from tests.support.conversing import Desk


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """The server's address; MIND_URL names one that runs already."""
    if url := os.environ.get("MIND_URL"):
        yield url
        return
    process, url = qwen_server.start()
    yield url
    process.terminate()
    process.wait(30)


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A home with the sample meeting."""
    opened = Desk(tmp_path_factory.mktemp("mind") / "home")
    opened.add_harbour()
    yield opened
    opened.close()
