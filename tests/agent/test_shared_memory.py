"""Conversations and the library of two processes over one PostgreSQL database."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from agent.settings import Settings
from agent.workspace import Workspace, open_workspace
from index.recording_errors import DatabaseAway
from index.search.indexing import index_recording
from tests.servers import Postgres, postgres
from tests.support.indexed import embedder, heard, store


def opened(home: Path, url: str) -> Workspace:
    workspace = open_workspace(Settings(home=home, database=url))
    workspace.__dict__["embedder"] = embedder()
    return workspace


@pytest.fixture
def url() -> str:
    return postgres().new_database()


@pytest.fixture
def pair(home: Path, url: str) -> Iterator[list[Workspace]]:
    """Two workspaces over one home and one database, with the sample meeting in it."""
    workspaces = [opened(home, url), opened(home, url)]
    first = workspaces[0]
    index_recording(first.library, embedder(), first.vectors, store(first.library, heard(), "Meeting"))
    # An embedded Chroma is one process's; the other one compares with the vectors of the database.
    workspaces[1].beside_others = True
    yield workspaces
    for workspace in workspaces:
        workspace.close()


def stored(url: str) -> dict[str, int]:
    """How many rows conversations take, by table."""
    tables = ("checkpoints", "checkpoint_writes", "checkpoint_blobs")
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        return {
            table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # type: ignore[index]
            for table in tables
        }


def test_a_conversation_goes_on_in_another_process_and_can_be_forgotten(
    pair: list[Workspace], url: str
) -> None:
    here, there = pair
    for question in ("what was said at minute 1?", "what was said at minute 2?"):
        answer = here.assistant.ask(question, thread="t")
    first = stored(url)
    on = there.assistant.ask("go on", thread="t")
    assert answer.citations and on.citations
    assert min(cited.start for cited in on.citations) >= max(cited.start for cited in answer.citations)
    # One checkpoint, and no more of anything than after the turns before.
    assert stored(url)["checkpoints"] == first["checkpoints"] == 1
    assert stored(url)["checkpoint_blobs"] <= first["checkpoint_blobs"] + 1
    assert here.memory.threads() == there.memory.threads() == ["t"]
    here.memory.forget("t")
    assert there.memory.threads() == [] and not any(stored(url).values())


def test_removing_a_recording_removes_the_conversations_that_quoted_it(pair: list[Workspace]) -> None:
    here, there = pair
    there.assistant.ask("what was said at minute 1?", thread="t")
    here.remove("Meeting")
    assert there.memory.threads() == [] and there.recordings() == []


def test_many_conversations_are_held_at_once(pair: list[Workspace]) -> None:
    def ask(number: int) -> bool:
        return bool(
            pair[number % 2].assistant.ask("what was said at minute 1?", thread=f"{number}").citations
        )

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(ask, range(6)))
    assert len(pair[0].memory.threads()) == 6


def test_conversations_wait_for_a_server_that_is_away(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.shared_memory.PATIENCE_SECONDS", 1.0)
    server = Postgres()
    workspace = opened(home, server.new_database())
    memory = workspace.memory
    assert memory.threads() == []
    server.stop()
    with pytest.raises(DatabaseAway):
        memory.forget("t")
    server.start()
    assert memory.threads() == []
    workspace.close()
    server.stop()
