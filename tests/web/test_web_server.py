"""The page: a taken address, the sample that is added once, and what is asked for every second."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from agent.settings import Settings
from agent.workspace import open_workspace
from index.audio.decode import file_id
from index.recording_errors import MossAgentError
from index.store.database import RecordingRow
from tests.support.indexed import sentences, store
from web.app import create_app
from web.jobs import Jobs
from web.server import SAMPLE, add_sample_once, serve


def test_a_taken_address_is_one_sentence(home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(
            MossAgentError, match=r"^The page cannot listen on .*; choose another with --port\.$"
        ):
            serve(open_workspace(Settings(home=home)), port=taken.getsockname()[1])


def test_a_sample_that_was_cancelled_waits_for_the_user_at_the_next_start(home: Path) -> None:
    workspace = open_workspace(Settings(home=home))
    jobs = Jobs(lambda *_, **__: None)  # type: ignore[arg-type, return-value]
    jobs.close(1)  # nothing runs, so that states stay
    add_sample_once(workspace, jobs)
    assert [job.state for job in jobs.list()] == ["waiting"]
    jobs.cancel(jobs.list()[0].id)
    with workspace.library.database.transaction() as session:
        session.add(
            RecordingRow(
                id=file_id(SAMPLE), title="s", source_name="other", duration=1.0, status="listening",
                added_at="2026-01-01T00:00:00+00:00", gaps=[], speech=[],
            )
        )  # fmt: skip
    add_sample_once(workspace, jobs)
    assert [job.state for job in jobs.list()] == ["stopped"]
    workspace.close()


def test_whoever_watches_over_the_page_can_ask_whether_it_works(home: Path) -> None:
    workspace = open_workspace(Settings(home=home))
    jobs = Jobs(lambda *_, **__: None)  # type: ignore[arg-type, return-value]
    page = TestClient(create_app(workspace, jobs), base_url="http://127.0.0.1:7860")
    assert page.get("/health").json() == {"recordings": 0}
    jobs.close(1)
    workspace.close()


def test_what_the_page_asks_for_every_second_differs_only_when_something_is_to_be_drawn(home: Path) -> None:
    workspace = open_workspace(Settings(home=home))
    jobs = Jobs(lambda *_, **__: None)  # type: ignore[arg-type, return-value]
    page = TestClient(create_app(workspace, jobs), base_url="http://127.0.0.1:7860")
    talk = store(workspace.library, sentences("The ferry leaves at ten.", speaker="Speaker 1"), "Talk")

    def state() -> str:
        reply = page.get("/changes", params={"recording": talk})
        assert reply.status_code == 200
        return reply.text

    changes: list[Callable[[], object]] = [
        lambda: workspace.library.add_comment(talk, 1.0, "Check this"),
        lambda: workspace.rename_speaker(talk, "Speaker 1", "Anna"),
        lambda: workspace.rename(talk, "Ferry talk"),
        lambda: store(workspace.library, sentences("Another one."), "Other"),
        lambda: workspace.remove(talk, drop_corrections=True),
    ]
    for change in changes:
        before = state()
        assert state() == before
        change()
        assert state() != before
    jobs.close(1)
    workspace.close()
