"""A note is wherever a user looks, and never beside 100 %."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from html import unescape
from io import BytesIO
from itertools import pairwise

import pytest
from sqlalchemy import update

from agent.cli import output
from agent.settings import Settings
from agent.workspace import Workspace, open_workspace
from index.export.formats import FORMATS, export
from index.export.vault_note import make_content
from index.notes import coverage_percent, describe, percent
from index.records import Note, NoteKind, Recording, Segment, Span, StageName, Status
from index.store.database import RecordingRow
from tests.support.indexed import store
from tools.list_recordings import list_recordings
from web.documents import Links, RecordingDocument
from web.page.library_view import render_library
from web.page.transcript_view import render_head, render_player

DAMAGED = Note(NoteKind.DAMAGED, StageName.READING, (Span(20.3, 22.3),), {"packets": 6})
VOICES = Note(NoteKind.NOT_DIARIZED, StageName.IDENTIFYING_SPEAKERS, detail="The voices --> differ.")
RECORDING = Recording(
    "ab" * 32, "Talk", "talk.m4a", 40.0, Status.READY, "2026-11-23T10:00:00+00:00", "en",
    coverage=0.9999, gaps=(Span(20.3, 22.3),), notes=(DAMAGED, VOICES), speakers=("Ana", "Ben"),
)  # fmt: skip
SEGMENTS = [Segment(0.0, 20.0, "Good morning.", speaker="Ana")]


def exported(recording: Recording, format: str) -> str:
    data = export(recording, SEGMENTS, format)
    if format == "docx":
        from docx import Document

        return "\n".join(paragraph.text for paragraph in Document(BytesIO(data)).paragraphs)
    return data.decode()


@pytest.mark.parametrize("format", FORMATS)
def test_every_export_says_what_could_not_be_done(format: str) -> None:
    text = exported(RECORDING, format)
    assert "6 of its audio packets could not be read" in text and "could not be identified" in text
    assert "100 %" not in text
    whole = exported(replace(RECORDING, notes=(), coverage=1.0, gaps=()), format)
    assert "packets" not in whole and "Good morning." in whole


@pytest.mark.parametrize("format", ["srt", "vtt"])
def test_a_note_in_subtitles_is_no_speech_and_breaks_no_player(format: str) -> None:
    from pysubs2 import SSAFile

    read = SSAFile.from_string(exported(RECORDING, format), format_=format)
    assert read[0].end == 7_000 and read[0].plaintext.endswith("Good morning.")
    later = read[1:]
    assert bool(later) == (format == "srt") and all(cue.start >= 40_000 for cue in later)
    assert all(before.end <= after.start for before, after in pairwise(read))


def test_the_command_line_says_it(capsys: pytest.CaptureFixture[str]) -> None:
    for document in (output.added_json(RECORDING, 1), output.listed_json(RECORDING)):
        assert document["notes"] == [describe(DAMAGED), describe(VOICES)]
        assert document["note_spans"] == [[[20.3, 22.3]], []]
    transcript = json.loads(exported(RECORDING, "json"))
    assert transcript["notes"] == document["notes"] and transcript["gaps"] == [[20.3, 22.3]]
    assert transcript["coverage"] < 1
    for show in (lambda: output.show_added(RECORDING, 1), lambda: output.show_list([RECORDING])):
        show()
        said = capsys.readouterr().out
        assert "6 of its audio packets" in said and "99 %" in said and "100 %" not in said


def test_the_page_says_it() -> None:
    for html in (render_library([RECORDING], [], None), render_head(RECORDING)):
        assert "6 of its audio packets" in html and "99 %" in html and "100 %" not in html


def test_the_day_on_which_a_recording_is_deleted_is_said_where_it_is_shown(
    capsys: pytest.CaptureFixture[str], tmp_path
) -> None:
    workspace = open_workspace(Settings(home=tmp_path, keep_days=30))
    until = workspace.kept_until(RECORDING)
    workspace.close()
    assert until == date(2026, 12, 23)
    assert "2026-12-23" in render_head(RECORDING, until=until)
    assert output.listed_json(RECORDING, until)["kept_until"] == "2026-12-23"
    output.show_list([RECORDING], [until])
    assert "2026-12-23" in capsys.readouterr().out
    output.show_list([RECORDING])
    assert "kept until" not in capsys.readouterr().out and "kept until" not in render_head(RECORDING)


def test_all_of_the_speech_beside_another_note_is_no_percentage() -> None:
    assert coverage_percent(replace(RECORDING, coverage=1.0)) is None
    assert coverage_percent(replace(RECORDING, coverage=1.0, notes=())) == "100 %"
    assert coverage_percent(replace(RECORDING, coverage=None)) is None
    assert percent(0.99999) == "99 %"
    for text in (
        exported(replace(RECORDING, coverage=1.0), "md"),
        render_head(replace(RECORDING, coverage=1.0)),
    ):
        assert "100 %" not in text


def test_a_transcript_without_its_media_says_so_where_it_would_play() -> None:
    silent = replace(RECORDING, imported="srt", has_media=False)
    shown = render_player(silent, False)
    assert "<audio" not in shown and f'data-attach="{silent.id}"' in shown
    assert "<audio" in render_player(replace(silent, has_media=True), True)
    assert output.listed_json(silent)["has_media"] is False


NUMBERS = {
    "failed": 1, "total": 3, "packets": 12, "parts": 2, "heard": 1, "others": 1, "other": 2, "backwards": 2,
    "lines": 2, "segments": 2, "tenths": -15,
}  # fmt: skip


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    opened = open_workspace(Settings(home=tmp_path_factory.mktemp("notes") / "home"))
    yield opened
    opened.close()


def documents(value: object) -> Iterator[dict]:
    """Every object within a JSON document."""
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from documents(part)


@pytest.mark.parametrize("kind", NoteKind)
def test_no_door_has_a_note_of_any_kind_beside_all_of_the_speech(
    kind: NoteKind, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    note = Note(kind, StageName.READING, (Span(1.0, 2.0),), NUMBERS, "talk.m4a")
    id = store(workspace.library, SEGMENTS, f"Talk {kind}")
    with workspace.library.database.transaction() as session:
        found = update(RecordingRow).where(RecordingRow.id == id)
        session.execute(found.values(coverage=1.0, notes=(note,)))
    recording = workspace.library.recording(id)
    assert recording.coverage == 1.0 and recording.problems == (note,)
    output.show_added(recording, 1)
    added = capsys.readouterr().out
    output.show_list([recording])
    listed = capsys.readouterr().out
    entries = list_recordings(workspace.toolbox, id)
    told = {
        "add": added,
        "list": listed,
        "add --json": json.dumps(output.added_json(recording, 1)),
        "list --json": json.dumps(output.listed_json(recording)),
        "API and MCP": RecordingDocument.of(recording, Links("http://here")).model_dump_json(),
        "the tool": json.dumps(entries.document()),
        "an answer": workspace.assistant.ask("is everything transcribed?", id).text,
        "the library's card": render_library([recording], [], None),
        "the recording's head": render_head(recording),
        "a synced note": make_content(recording, SEGMENTS, None, "http://here").text,
        **{format: exported(recording, format) for format in FORMATS},
    }
    sentence = " ".join(describe(note).split())
    for door, text in told.items():
        cues = re.sub(r"\d+\n[\d:,]+ --> [\d:,]+\n", "", text)
        said = " ".join(unescape(cues).replace("\\", "").split())
        assert sentence in said, door
        assert not re.search(r"\b100(\.0)? ?%", said), door
        if text.startswith("{"):
            assert all(part.get("coverage") is None for part in documents(json.loads(text))), door
