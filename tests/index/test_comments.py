"""Comments at a moment: kept, changed, exported, and deleted with their recording; older libraries open."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from docx import Document
from markdown_it import MarkdownIt
from sqlalchemy import create_engine, inspect

from agent.settings import Settings
from agent.workspace import open_workspace
from index.export.formats import export
from index.recording_errors import MossAgentError, UnknownRecording
from index.records import Comment, Recording, Segment, Status
from index.store.database import MIGRATIONS, CommentRow, RecordingRow
from index.store.library import Library
from tests.support.indexed import open_library

DATABASES = ("sqlite", "postgresql")


def add_recording(library: Library, name: str = "a") -> str:
    with library.database.transaction() as session:
        session.add(
            RecordingRow(
                id=name * 64,
                title="Talk",
                source_name="t.wav",
                duration=100.0,
                status="ready",
                added_at="2026",
            )
        )
    return name * 64


def test_comments_are_kept_in_order_changed_and_deleted(library: Library) -> None:
    recording = add_recording(library)
    late = library.add_comment(recording, 50, "  check\x00 this  \nand that ")
    early = library.add_comment(recording, 10.12345, "<b>first</b>")
    assert [(one.at, one.text) for one in library.comments(recording)] == [
        (10.123, "<b>first</b>"),
        (50, "check this\nand that"),
    ]
    assert library.comments(recording, 20, 60) == [late]
    library.change_comment(early.id, "better")
    library.remove_comment(late.id)
    assert [one.text for one in library.comments(recording)] == ["better"]
    with pytest.raises(MossAgentError):
        library.remove_comment(late.id)
    with pytest.raises(MossAgentError):
        library.change_comment(late.id, "gone")


@pytest.mark.parametrize(
    ("at", "text"), [(5, " \n "), (5, "x" * 5000), (-1, "x"), (101, "x"), (float("nan"), "x")]
)
def test_what_is_no_comment_is_refused_and_nothing_is_kept(library: Library, at: float, text: str) -> None:
    recording = add_recording(library)
    with pytest.raises(MossAgentError):
        library.add_comment(recording, at, text)
    assert library.comments(recording) == []


@pytest.mark.one_database
def test_comments_go_with_their_recording(library: Library) -> None:
    recording = add_recording(library)
    library.add_comment(recording, 5, "secret plan")
    library.delete(recording)
    with library.database.transaction() as session:
        assert session.query(CommentRow).count() == 0
    with pytest.raises(UnknownRecording):
        library.add_comment(recording, 5, "late")
    assert b"secret plan" not in (library.home / "library.sqlite").read_bytes()


def test_exports_hold_comments_where_they_were_made() -> None:
    recording = Recording("a" * 64, "Talk", "t.wav", 100, Status.READY, "2026-01-01T00:00:00+00:00")
    segments = [Segment(5, 10, "One.", speaker="Ann"), Segment(20, 30, "Two.", speaker="Bo")]
    comments = [
        Comment(1, recording.id, 1, "before", "2026"),
        Comment(2, recording.id, 12, "*between* <i>x</i>\nand more", "2026"),
        Comment(3, recording.id, 99, "after", "2026"),
    ]
    document = json.loads(export(recording, segments, "json", comments))
    assert [(one["at"], one["text"]) for one in document["comments"]][1] == (
        12,
        "*between* <i>x</i>\nand more",
    )
    tokens = MarkdownIt().parse(export(recording, segments, "md", comments).decode())
    texts = [
        "".join(child.content for child in token.children or ()) for token in tokens if token.type == "inline"
    ]
    assert [text for text in texts if text.startswith(("Comment", "One", "Two"))] == [
        "Comment (0:01) before",
        "One.",
        "Comment (0:12) *between* <i>x</i>and more",
        "Two.",
        "Comment (1:39) after",
    ]
    assert sum(token.type == "blockquote_open" for token in tokens) == 3
    paragraphs = [
        one.text for one in Document(BytesIO(export(recording, segments, "docx", comments))).paragraphs
    ]
    assert "Comment (0:12): *between* <i>x</i> and more" in paragraphs
    assert b"between" not in export(recording, segments, "srt", comments)


@pytest.mark.one_database
def test_a_part_is_exported_with_its_own_comments(home: Path) -> None:
    library = open_library(home)
    recording = add_recording(library)
    for at in (5, 50):
        library.add_comment(recording, at, f"at {at}")
    library.database.close()
    workspace = open_workspace(Settings(home=home))
    exported = json.loads(workspace.export(recording, "json", 40, 60))
    assert [one["text"] for one in exported["comments"]] == ["at 50"]
    workspace.close()


@pytest.mark.one_database
def test_a_library_of_before_comments_opens_with_everything_in_it(home: Path) -> None:
    library = open_library(home)
    recording = add_recording(library)
    library.database.close()
    engine = create_engine(f"sqlite:///{home / 'library.sqlite'}")
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0008")
        assert not inspect(connection).has_table("comments")
    engine.dispose()
    library = open_library(home)
    assert library.recording(recording).title == "Talk"
    assert library.add_comment(recording, 5, "now").at == 5
    library.database.close()
