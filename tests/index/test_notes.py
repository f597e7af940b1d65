"""What could not be done is data: stored by kind, worded at the edge, and read out of older libraries."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine, event, text

from index.notes import describe, describe_all
from index.pipeline.stage import IngestContext
from index.records import Note, NoteKind, Span, StageName, Status
from index.store import migrations
from index.store.database import Database, RecordingRow
from index.store.migrations.versions import m0004_notes
from tests.support.indexed import open_library, store


@pytest.fixture
def context(home: Path):
    library = open_library(home)
    recording = store(library, [], "Call")
    yield IngestContext(library, recording, library.audio_path(recording), lambda _: None, threading.Event())
    library.database.close()


NOTES = (
    Note(NoteKind.CUT_SHORT, StageName.READING, (Span(35.5, 50.0),)),
    Note(
        NoteKind.WINDOWS_FAILED,
        StageName.TRANSCRIBING,
        (Span(0.0, 60.0), Span(90.0, 95.5)),
        {"failed": 2, "total": 3},
        "The server broke down.",
    ),
    Note(NoteKind.NO_SPEECH),
)


def test_notes_come_back_as_they_were_stored(context: IngestContext) -> None:
    for note in NOTES:
        context.add_note(note)
    context.set(status=Status.FAILED, failure=Note(NoteKind.UNEXPECTED, detail="bad \ud800 name"))
    found = context.recording
    assert found.notes == NOTES and found.status is Status.FAILED
    assert found.problems == (Note(NoteKind.UNEXPECTED, detail="bad ? name"),)
    context.set(status=Status.READY, failure=None)
    assert context.recording.problems == NOTES


def test_what_is_missing_within_a_second_is_told_apart_from_nothing() -> None:
    cut = describe(Note(NoteKind.CUT_SHORT, StageName.READING, (Span(7.2, 7.9),)))
    assert "0:07.2" in cut and "0:07.9" in cut
    holes = (Span(20.1, 20.12), Span(20.5, 20.53))
    damaged = describe(Note(NoteKind.DAMAGED, StageName.READING, holes))
    assert "0:20.1–0:20.5" in damaged and "less than 0.1 s" in damaged


def test_notes_are_forgotten_by_kind_and_added_once(context: IngestContext) -> None:
    for note in NOTES + NOTES:
        context.add_note(note)
    assert context.recording.notes == NOTES
    context.forget_notes(NoteKind.CUT_SHORT, NoteKind.SOUNDS_FAILED)
    assert context.recording.notes == NOTES[1:]


def test_the_same_trouble_in_two_places_is_one_note(context: IngestContext) -> None:
    for start in (60.0, 0.0):
        context.add_note(
            Note(NoteKind.NOT_HEARD_AGAIN, StageName.TRANSCRIBING, (Span(start, start + 5),), detail="Gone.")
        )
    context.add_note(Note(NoteKind.NOT_HEARD_AGAIN, StageName.TRANSCRIBING, (Span(9.0, 10.0),), detail="No."))
    spans = [[(span.start, span.end) for span in note.spans] for note in context.recording.notes]
    assert spans == [[(0.0, 5.0), (60.0, 65.0)], [(9.0, 10.0)]]


def test_a_word_that_is_no_status_is_refused(context: IngestContext) -> None:
    with pytest.raises(Exception, match="no such status"):
        context.set(status="no such status")
    assert context.recording.status is Status.READY


@pytest.mark.parametrize("kind", NoteKind)
def test_every_kind_is_worded_in_whole_sentences(kind: NoteKind) -> None:
    numbers = {"failed": 1, "total": 3, "packets": 12, "parts": 2, "heard": 1, "others": 1, "other": 2}
    numbers |= {"backwards": 2, "ends": 1, "lines": 2, "segments": 2, "tenths": -15}
    note = Note(kind, StageName.READING, (Span(35.0, 50.0),), numbers, "The server broke down.")
    sentence = describe(note)
    assert sentence[0].isupper() and sentence.endswith(".") and ".." not in sentence
    without_detail = (
        NoteKind.NO_SPEECH, NoteKind.TIMES_MENDED, NoteKind.LINES_LEFT_OUT, NoteKind.SEGMENTS_LEFT_OUT,
        NoteKind.CLOCK_MOVED
    )  # fmt: skip
    assert ("The server broke down" in sentence) == (kind not in without_detail)
    assert describe_all([note, note]) == f"{sentence} {sentence}"


# --- from an older library ---------------------------------------------------------------------------------

GONE = (
    "The engine stopped answering at 1:02:03: Connection refused. What was heard is kept; "
    "add the file again to go on from there."
)

OLD_NOTES = {
    "talk. No. 2.mp4 is cut short: 0:35 of 1:00:50 could be read.": [
        ("cut_short", "reading", [[35.0, 3650.0]], {}, "")
    ],
    "other.mp3 is damaged: 12 of its audio packets were unreadable. No speech was found in this recording.": [
        ("damaged", "reading", [], {"packets": 12}, "other.mp3"),
        ("no_speech", "finding speech", [], {}, ""),
    ],
    "1 of 3 stretches could not be heard (The server broke down); add the file again to try them again. "
    "The speakers were not told apart: The voices differ (too much). Try again. "
    "What is missing could not be heard again (The server at box refused (413). Ask (again)).": [
        ("windows_failed", "transcribing", [], {"failed": 1, "total": 3}, "The server broke down"),
        ("not_diarized", "identifying speakers", [], {}, "The voices differ (too much). Try again."),
        ("not_heard_again", "transcribing", [], {}, "The server at box refused (413). Ask (again)"),
    ],
    "Who speaks was told by the voices alone in places (It is gone). "
    f"Sounds were not listened for everywhere ({GONE.rstrip('.')}); add the file again to go on.": [
        ("speakers_by_voice_only", "identifying speakers", [], {}, "It is gone"),
        ("sounds_failed", "listening for sounds", [], {}, GONE.rstrip(".")),
    ],
    "Something else. No speech was found in this recording. And more.": [
        ("other", None, [], {}, "Something else."),
        ("no_speech", "finding speech", [], {}, ""),
        ("other", None, [], {}, "And more."),
    ],
}
OLD_ERRORS = {
    GONE: ("engine_stopped", [[3723.0, 3723.0]], "Connection refused."),
    "It failed: [Errno 5] Input/output error": ("unexpected", [], "[Errno 5] Input/output error"),
    "The weights are damaged.": ("failed", [], "The weights are damaged."),
}


def config(engine: Engine, direction: str, revision: str) -> None:
    settings = Config()
    settings.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with engine.begin() as connection:
        settings.attributes["connection"] = connection
        getattr(command, direction)(settings, revision)


def columns(engine: Engine) -> list[tuple[str, str | None, str | None]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text("SELECT id, note, error FROM recordings"))]


def as_tuple(note: Note) -> tuple[str, str | None, list[list[float]], dict[str, int], str]:
    return note.kind, note.stage, [[span.start, span.end] for span in note.spans], note.numbers, note.detail


@pytest.fixture
def old(home: Path) -> Engine:
    """A library as the version before this one left it, with every sentence that it could write."""
    home.mkdir()
    engine = create_engine(f"sqlite:///{home / 'library.sqlite'}")
    config(engine, "upgrade", "0003")
    rows = [(f"n{at}", "ready", note, None) for at, note in enumerate(OLD_NOTES)]
    rows += [(f"e{at}", "failed", None, error) for at, error in enumerate(OLD_ERRORS)]
    rows += [("both", "failed", next(iter(OLD_NOTES)), GONE), ("none", "ready", None, None)]
    statement = text(
        "INSERT INTO recordings (id, title, source_name, duration, status, added_at, gaps, engine,"
        " seconds_taken, note, error) VALUES"
        " (:id, 'Old', 'talk. No. 2.mp4', 9, :status, '2026', '[]', 'whisper-base', 1, :note, :error)"
    )
    with engine.begin() as connection:
        for id, status, note, error in rows:
            values = {"id": id, "status": status, "note": note, "error": error}
            connection.execute(statement, values)
    return engine


def test_the_sentences_of_an_older_library_become_data(old: Engine, home: Path) -> None:
    old.dispose()
    library = open_library(home)
    for at, expected in enumerate(OLD_NOTES.values()):
        found = library.recording(f"n{at}")
        assert found.failure is None and found.status is Status.READY
        assert [
            (
                note.kind,
                note.stage,
                [[span.start, span.end] for span in note.spans],
                note.numbers,
                note.detail,
            )
            for note in found.notes
        ] == expected
    for at, (kind, spans, detail) in enumerate(OLD_ERRORS.values()):
        failure = library.recording(f"e{at}").failure
        assert as_tuple(failure) == (kind, None, spans, {}, detail)
        assert library.recording(f"e{at}").notes == ()
    both = library.recording("both")
    assert both.failure.kind is NoteKind.ENGINE_STOPPED and both.notes[0].kind is NoteKind.CUT_SHORT
    assert library.recording("none").problems == ()
    library.database.close()


def test_going_back_gives_the_older_version_its_sentences(old: Engine) -> None:
    before = columns(old)
    config(old, "upgrade", "0004")
    config(old, "downgrade", "0003")
    assert columns(old) == before


def test_an_older_version_is_told_of_every_kind_of_note(home: Path) -> None:
    library = open_library(home)
    numbers = {"parts": 2, "heard": 1, "others": 3, "other": 2, "failed": 1, "total": 4, "packets": 5}
    with library.database.transaction() as session:
        for kind in NoteKind:
            note = Note(kind, spans=(Span(1.0, 2.0),), numbers=numbers, detail="It said so.")
            bare = Note(kind, spans=(Span(1.0, 2.0),), numbers=numbers)
            for which, one in (("detailed", note), ("bare", bare)):
                session.add(
                    RecordingRow(
                        id=f"{kind} {which}", title="New", source_name="talk.mp4", duration=9.0,
                        status="ready", added_at="2026", notes=(one,),
                    )
                )  # fmt: skip
    library.database.close()
    engine = create_engine(f"sqlite:///{home / 'library.sqlite'}")
    config(engine, "downgrade", "0003")
    notes = {name: note for name, note, _ in columns(engine)}
    assert len(notes) == 2 * len(NoteKind)
    said_nothing = {f"{kind} bare" for kind in (NoteKind.OTHER, NoteKind.FAILED)}
    assert all(note and "None" not in note for name, note in notes.items() if name not in said_nothing)
    assert "2" in notes["parts_left_out bare"] and "track 1" in notes["tracks_not_heard bare"]


def test_a_migration_that_is_cut_off_leaves_the_library_as_it_was(old: Engine, home: Path) -> None:
    before = columns(old)

    def cut_off(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("ALTER TABLE recordings DROP"):
            raise KeyboardInterrupt

    event.listen(Engine, "before_cursor_execute", cut_off)
    try:
        with pytest.raises(KeyboardInterrupt):
            Database(f"sqlite:///{home / 'library.sqlite'}")
    finally:
        event.remove(Engine, "before_cursor_execute", cut_off)
    assert columns(old) == before
    old.dispose()
    library = open_library(home)
    assert library.recording("n0").notes[0].kind is NoteKind.CUT_SHORT
    library.database.close()


_PARTS = st.sampled_from([*OLD_NOTES, "x (y).", "The speakers were not told apart: ", "(", ")", "?"])


@given(st.lists(_PARTS, min_size=1, max_size=4).map(" ".join) | st.text(max_size=60))
def test_whatever_an_older_note_says_none_of_it_is_lost(note: str) -> None:
    found = m0004_notes.notes_in(note, "talk.mp3")
    assert bool(found) == bool(note.strip())
    said = " ".join(str(value) for part in found for value in part.values())
    for word in ("x", "y", "?"):
        if word in note.split():
            assert word in said
