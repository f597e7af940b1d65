"""The database and the door to it: schema, names, time ranges, speakers, and forgetting."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, inspect, select, text

from index.recording_errors import AmbiguousRecording, MossAgentError, UnknownRecording
from index.records import Segment, Span, Word
from index.search.indexing import index_recording
from index.search.passages import PassageStore
from index.search.vectors import Vectors
from index.store.access import NOBODY, acting_as
from index.store.database import (
    MIGRATIONS,
    Base,
    Database,
    PassageRow,
    RecordingRow,
    SegmentRow,
    SpeakerRow,
    WindowRow,
    newest_revision,
)
from index.store.library import Library
from tests.support.indexed import (
    KEYWORD_TABLES,
    Numbers,
    embedder,
    heard,
    keyword_index_is_whole,
    open_library,
    sentences,
    store,
)
from tests.support.preloaded import Program

DATABASES = ("sqlite", "postgresql")

# Schema


def test_an_empty_database_is_migrated_to_what_the_models_say(library: Library) -> None:
    def ours(_object: object, name: str | None, kind: str, *_: object) -> bool:
        return not (kind == "table" and str(name).startswith(KEYWORD_TABLES))

    with library.database.engine.connect() as connection:
        options = {"include_object": ours, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Base.metadata) == []


def test_a_database_of_this_version_is_opened_without_migrating(
    library: Library, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrations = ScriptDirectory(str(MIGRATIONS))
    assert newest_revision() == migrations.get_current_head()
    monkeypatch.setattr("alembic.command.upgrade", lambda *_: pytest.fail("it was migrated again"))
    open_library(home).database.close()


def test_opening_a_migrated_database_again_keeps_what_is_in_it(home: Path) -> None:
    first = open_library(home)
    recording = store(first, sentences("Good morning."), "Call")
    first.database.close()
    second = open_library(home)
    assert [segment.text for segment in second.segments(recording)] == ["Good morning."]
    second.database.close()


@pytest.mark.one_database
def test_the_database_is_durable_and_overwrites_what_it_deletes(library: Library) -> None:
    with library.database.engine.connect() as connection:
        found = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "foreign_keys", "synchronous", "secure_delete")
        }
    assert found == {"journal_mode": "wal", "foreign_keys": 1, "synchronous": 2, "secure_delete": 1}


def test_a_transaction_that_fails_leaves_nothing(library: Library) -> None:
    recording = store(library, [], "Call")

    def fail() -> None:
        with library.database.transaction() as session:
            session.add(SegmentRow(recording_id=recording, start=0, end=1, text="Half done.", words=[]))
            session.flush()
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        fail()
    assert library.segments(recording) == []


def test_a_segments_number_is_never_used_again(library: Library) -> None:
    first = store(library, sentences("One.", "Two."), "First")
    numbers = {segment.id for segment in library.segments(first)}
    library.delete(first)
    second = store(library, sentences("Three.", "Four."), "Second")
    assert numbers.isdisjoint(segment.id for segment in library.segments(second))


# Names


def test_a_recording_is_found_by_id_prefix_and_title(library: Library) -> None:
    recording = store(library, [], "Harbour Lights")
    store(library, [], "Something else")
    for reference in (
        recording,
        recording[:10],
        recording[:10].upper(),
        "harbour lights",
        "  Harbour  Lights ",
        "harbour_lights",
    ):
        assert library.resolve(reference).id == recording


@pytest.mark.parametrize(
    ("title", "reference"),
    [
        ("ÜBER Straße", "über strasse"),
        ("Caf\u00e9", "cafe\u0301"),
        ("会議", "会議"),
        ("100% _sure_", "100% _SURE_"),
    ],
)
def test_titles_are_compared_in_any_script_and_case(library: Library, title: str, reference: str) -> None:
    recording = store(library, [], title)
    assert library.resolve(reference).id == recording


def test_a_title_wins_over_a_prefix_and_a_full_id_over_a_title(library: Library) -> None:
    first = store(library, [], "First")
    called_like_it = store(library, [], first[:6])
    assert library.resolve(first[:6]).id == called_like_it
    assert library.resolve(first).id == first


def test_a_title_of_two_recordings_is_refused_with_their_ids(library: Library) -> None:
    one, other = store(library, [], "call"), store(library, [], "Call")
    with pytest.raises(AmbiguousRecording) as raised:
        library.resolve("CALL")
    assert one[:12] in str(raised.value)
    assert other[:12] in str(raised.value)


@pytest.mark.parametrize("reference", ["nothing", "", "   ", "%", "_", "'"])
def test_an_unknown_name_is_refused_with_what_to_do(library: Library, reference: str) -> None:
    store(library, [], "Call")
    with pytest.raises(UnknownRecording, match="moss-agent list"):
        library.resolve(reference)


def test_an_empty_title_is_refused_and_a_new_one_is_kept(library: Library) -> None:
    recording = store(library, [], "Call")
    with pytest.raises(MossAgentError, match="character"):
        library.rename(recording, "  ")
    library.rename(recording, "  Planning   call ")
    assert library.recording(recording).title == "Planning call"


def test_recordings_come_newest_first_with_their_speakers(library: Library) -> None:
    old = store(library, sentences("Yes.", speaker="Anna"), "Old")
    new = store(library, [], "New")
    with library.database.transaction() as session:
        session.get_one(RecordingRow, new).added_at = "2026-02-01T00:00:00+00:00"
    assert [(recording.id, recording.speakers) for recording in library.recordings()] == [
        (new, ()),
        (old, ("Anna",)),
    ]
    assert library.recording(old).speakers == ("Anna",)


# Time


_TIMES = st.one_of(st.integers(0, 12).map(float), st.floats(0, 12, allow_nan=False))


@given(
    spans=st.lists(st.tuples(_TIMES, _TIMES).map(sorted), max_size=12),
    wanted=st.tuples(_TIMES, _TIMES).map(sorted),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_range_returns_exactly_the_segments_that_overlap_it(
    library: Library, spans: list[list[float]], wanted: list[float]
) -> None:
    with library.database.transaction() as session:
        session.query(RecordingRow).delete()
    made = [Segment(start, end, f"{number}") for number, (start, end) in enumerate(spans) if end > start]
    recording = store(library, made, "Any")
    start, end = wanted
    found = {segment.text for segment in library.segments(recording, start, end)}
    if end > start:
        assert found == {segment.text for segment in made if segment.span.overlaps(Span(start, end))}
    else:  # a moment: what is being said then
        assert found == {segment.text for segment in made if segment.start < start < segment.end}
    assert {segment.text for segment in library.segments(recording)} == {segment.text for segment in made}


def test_a_segment_that_touches_a_range_is_not_in_it(library: Library) -> None:
    talk = [
        Segment(100, 120, "before"),
        Segment(120, 130, "first"),
        Segment(170, 180, "last"),
        Segment(180, 190, "after"),
    ]
    recording = store(library, talk, "Minutes")
    assert [segment.text for segment in library.segments(recording, 120, 180)] == ["first", "last"]


def test_a_segment_comes_back_as_it_was_stored(library: Library) -> None:
    word = Word(0.5, 0.9, " Hello", 0.75)
    recording = store(library, [Segment(0.5, 1.25, "Hello.", speaker="Anna", words=(word,))], "One")
    (found,) = library.segments(recording)
    assert found == Segment(
        0.5, 1.25, "Hello.", "speech", "Anna", (word,), engine="test", id=found.id, recording=recording
    )


def test_segments_by_number_come_once_each_in_time_order_and_unknown_ones_are_left_out(
    library: Library,
) -> None:
    recording = store(library, sentences("One.", "Two.", "Three."), "Call")
    numbers = [segment.id for segment in library.segments(recording)]
    wanted = [numbers[2], numbers[0], numbers[2], 999_999]
    assert [segment.text for segment in library.segments_by_id(wanted)] == ["One.", "Three."]


def test_more_numbers_than_one_statement_takes_are_looked_up(library: Library) -> None:
    recording = store(library, sentences("One."), "Call")
    (only,) = library.segments(recording)
    assert len(library.segments_by_id(range(only.id, only.id + 40_000))) == 1
    assert library.segment_embeddings([only] * 40_000) is None


@pytest.mark.one_database
def test_a_time_range_is_read_through_the_index(library: Library) -> None:
    plans: list[str] = []

    def explain(_c: object, cursor: object, statement: str, parameters: object, *_: object) -> None:
        if statement.startswith("SELECT segments"):
            with sqlite3.connect(library.home / "library.sqlite") as raw:
                plans.extend(str(row) for row in raw.execute(f"EXPLAIN QUERY PLAN {statement}", parameters))

    event.listen(library.database.engine, "before_cursor_execute", explain)
    library.segments("a", 60, 120)
    assert any("ix_segments_time (recording_id=? AND start<?)" in plan for plan in plans), plans


# Speakers


def test_renaming_a_speaker_changes_every_sentence_of_that_voice_only(library: Library) -> None:
    recording = store(library, heard(), "Meeting")
    theirs = [segment.text for segment in library.segments(recording) if segment.speaker == "Speaker 2"]
    assert library.rename_speaker(recording, "speaker 2", "  Ben  Smith ") == len(theirs)
    segments = library.segments(recording)
    assert [segment.text for segment in segments if segment.speaker == "Ben Smith"] == theirs
    assert library.recording(recording).speakers == ("Speaker 1", "Ben Smith", "Speaker 3")


def test_naming_a_speaker_as_another_merges_the_two(library: Library) -> None:
    recording = store(library, heard(), "Meeting")
    count = sum(segment.speaker in ("Speaker 2", "Speaker 3") for segment in library.segments(recording))
    assert library.rename_speaker(recording, "Speaker 3", "Speaker 2") == count
    assert library.recording(recording).speakers == ("Speaker 1", "Speaker 2")


@pytest.mark.parametrize(
    ("there", "new"),
    [
        ("ANNA", "anna"),
        ("Großmann", "GROSSMANN"),
        ("Zo\u00eb", "zoe\u0308"),
        ("Zo\u00eb", "Zoe"),
        ("Anna", "Ａnna"),
    ],
)
def test_names_are_compared_as_they_are_looked_up(library: Library, there: str, new: str) -> None:
    recording = store(library, heard(), "Meeting")
    count = sum(one.speaker in ("Speaker 2", "Speaker 3") for one in library.segments(recording))
    library.rename_speaker(recording, "Speaker 2", there)
    assert library.rename_speaker(recording, "Speaker 3", new) == count
    assert library.recording(recording).speakers == ("Speaker 1", there)


def test_a_name_may_change_its_spelling(library: Library) -> None:
    recording = store(library, heard(), "Meeting")
    library.rename_speaker(recording, "Speaker 2", "anna")
    library.rename_speaker(recording, "ANNA", "Anna")
    assert library.recording(recording).speakers == ("Speaker 1", "Anna", "Speaker 3")


def test_a_speaker_of_another_recording_keeps_their_name(library: Library) -> None:
    one, other = store(library, heard(), "One"), store(library, heard(), "Other")
    library.rename_speaker(one, "Speaker 1", "Anna")
    assert "Speaker 1" in library.recording(other).speakers


@pytest.mark.parametrize(("old", "new"), [("Nobody", "Anna"), ("Speaker 1", " "), ("Speaker 1", "x" * 81)])
def test_a_rename_that_cannot_be_is_refused_and_changes_nothing(library: Library, old: str, new: str) -> None:
    recording = store(library, heard(), "Meeting")
    before = library.segments(recording)
    with pytest.raises(MossAgentError):
        library.rename_speaker(recording, old, new)
    assert library.segments(recording) == before


# Forgetting


def _bytes_under(home: Path) -> bytes:
    return b"".join(file.read_bytes() for file in home.rglob("*") if file.is_file())


@pytest.mark.one_database
@pytest.mark.parametrize("others", [0, 3])
def test_deleting_a_recording_leaves_no_byte_of_it_in_any_file(library: Library, others: int) -> None:
    vectors = Vectors(library.home / "vectors", embedder())
    for number in range(others):
        kept = store(library, heard(), f"Kept {number}")
        index_recording(library, embedder(), vectors, kept)
    secret = []
    for at in range(120):
        start, heard_text = at * 5.0, f"The xylocarp{at % 7} was moved to the quincunx."
        word = Word(start, start + 1, " xylocarp", 1.0)
        secret.append(Segment(start, start + 4, heard_text, speaker="Zebulonia", words=(word,)))
    recording = store(library, secret, "Wunderkammer")
    index_recording(library, embedder(), vectors, recording)
    library.note_thread("some-thread", [recording])
    library.rename_speaker(recording, "Zebulonia", "Melchiora")
    library.audio_path(recording).parent.mkdir(parents=True, exist_ok=True)
    library.audio_path(recording).write_bytes(b"xylocarp")
    segments = library.segments(recording)
    stored = library.segment_embeddings(segments)
    assert stored is not None
    vector = stored[5].astype("float16").tobytes()
    distinctive = [
        b"xylocarp",
        b"quincunx",
        b"Zebulonia",
        b"Melchiora",
        b"Wunderkammer",
        b"some-thread",
        vector,
    ]
    distinctive.append(recording.encode())
    present = _bytes_under(library.home)
    assert all(word in present for word in distinctive if word != b"Zebulonia")

    vectors.delete(recording)
    library.delete(recording)

    left = _bytes_under(library.home)
    assert [word for word in distinctive if word.lower() in left.lower()] == []
    with pytest.raises(UnknownRecording):
        library.recording(recording)
    assert len(library.recordings()) == others
    assert vectors.count() == sum(1 for _ in _passages(library.database))
    vectors.close()


def _passages(database: Database) -> list[int]:
    with database.transaction() as session:
        return list(session.scalars(select(PassageRow.id)))


def test_deleting_takes_every_row_of_every_table_along(library: Library) -> None:
    recording = store(library, heard(), "Meeting")
    with library.database.transaction() as session:
        session.add(WindowRow(recording_id=recording, number=0, start=0, end=30, done=True))
    library.note_thread("thread", [recording])
    library.delete(recording)
    with library.database.engine.connect() as connection:
        for table in inspect(library.database.engine).get_table_names():
            if table in Base.metadata.tables:
                assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar() == 0, table


def test_deleting_leaves_other_recordings_and_the_keyword_index_whole(library: Library) -> None:
    vectors = Vectors(library.home / "vectors", embedder())
    kept, dropped = store(library, heard(), "Kept"), store(library, heard(), "Dropped")
    for recording in (kept, dropped):
        index_recording(library, embedder(), vectors, recording)
    before = library.segments(kept)
    library.delete(dropped)
    assert library.segments(kept) == before
    assert keyword_index_is_whole(library.database)
    with library.database.transaction() as session:
        names = session.scalars(select(SpeakerRow.recording_id).distinct())
        assert list(names) == [kept]
    vectors.close()


def test_the_number_of_passages_follows_what_is_indexed_and_deleted(library: Library) -> None:
    vectors = Vectors(library.home / "vectors", Numbers())
    passages = PassageStore(library.database)
    assert passages.size() == 0
    kept, dropped = store(library, heard(), "Kept"), store(library, sentences("One.", "Two."), "Dropped")
    for recording in (kept, dropped, kept):
        index_recording(library, Numbers(), vectors, recording)
        assert passages.size() == len(_passages(library.database)) > 0
    library.delete(dropped)
    with acting_as(NOBODY):
        seen = passages.count(), passages.size()
    assert seen == (0, len(_passages(library.database)))
    vectors.close()


def test_conversations_that_quoted_a_recording_are_known(library: Library) -> None:
    one, other = store(library, [], "One"), store(library, [], "Other")
    library.note_thread("a", [one, other])
    library.note_thread("a", [one])
    library.note_thread("b", [one])
    assert sorted(library.threads_of(one)) == ["a", "b"]
    assert library.threads_of(other) == ["a"]


def test_programs_that_make_one_library_at_the_same_time_all_open_it(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from index.store.database import Database; "
    code += "Database(Path(sys.argv[1])).close()"
    for number in range(3):
        home = str(tmp_path / f"{number}.db")
        programs = [Program(code, [home], log=tmp_path / f"{number}-{at}.log") for at in range(4)]
        for program in programs:
            program.wait(60)
        assert [program.poll() for program in programs] == [0] * 4
