"""Labels of speakers that an older version stored as one text are data after the migration, and back."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.engine import Engine

import index.store.database
from index.diarization.diarize_stage import stored_labels
from index.diarization.moss_speakers import VoiceLabel
from index.store.database import SegmentRow
from index.store.library import Library
from tests.support.indexed import open_library

LABELS = {1: "0.S01", 2: "12.S02", 3: None, 4: "1.Speaker 1.5", 5: "S01"}
"""Texts of the older version by sentence; the last one it never wrote."""


def revise(engine: Engine, direction: str, revision: str) -> None:
    config = Config()
    folder = Path(index.store.database.__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        getattr(command, direction)(config, revision)


@pytest.fixture
def old(home: Path) -> Engine:
    """The database of an older version, with a sentence for each label."""
    home.mkdir(parents=True, exist_ok=True)
    engine = create_engine(f"sqlite:///{home / 'library.sqlite'}")
    revise(engine, "upgrade", "0003")
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO recordings (id, title, source_name, duration, status, added_at, gaps, engine, "
                "seconds_taken) VALUES ('r', 'Talk', 'talk.wav', 9.0, 'ready', '', '[]', '', 0.0)"
            )
        )
        connection.execute(
            text(
                'INSERT INTO windows (id, recording_id, number, start, "end", done, labelled) '
                "VALUES (7, 'r', 0, 0.0, 9.0, 1, 1)"
            )
        )
        for number, label in LABELS.items():
            connection.execute(
                text(
                    'INSERT INTO segments (id, recording_id, window_id, start, "end", kind, text, words, '
                    "engine, voice_label) VALUES (:id, 'r', 7, :id, :id, 'speech', 'Yes.', '[]', '', :label)"
                ),
                {"id": number, "label": label},
            )
    return engine


def found(home: Path) -> dict[int, VoiceLabel]:
    library: Library = open_library(home)
    try:
        return stored_labels(library, "r")
    finally:
        library.database.close()


EXPECTED = {1: VoiceLabel(7, 0, "S01"), 2: VoiceLabel(7, 12, "S02"), 4: VoiceLabel(7, 1, "Speaker 1.5")}


def test_labels_of_an_older_version_are_data(old: Engine, home: Path) -> None:
    assert found(home) == EXPECTED
    assert found(home) == EXPECTED, "opened again"


def test_a_migration_that_was_killed_half_way_is_done_the_next_time(old: Engine, home: Path) -> None:
    with old.begin() as connection:
        connection.execute(text("ALTER TABLE segments ADD COLUMN voice_label_part INTEGER"))
    assert found(home) == EXPECTED


def test_the_older_version_finds_its_texts_again_after_a_downgrade(old: Engine, home: Path) -> None:
    found(home)
    revise(old, "downgrade", "0003")
    with old.connect() as connection:
        rows = connection.execute(text("SELECT id, voice_label FROM segments"))
        assert {row.id: row.voice_label for row in rows} == {**LABELS, 5: None}


def test_a_library_from_before_corrections_keeps_all_and_never_gives_a_number_again(
    old: Engine, home: Path
) -> None:
    revise(old, "upgrade", "0008")
    library = open_library(home)
    found = library.segments("r")
    assert [(one.id, one.text, one.version) for one in found] == [(at, "Yes.", 0) for at in LABELS]
    assert stored_labels(library, "r")[1] == VoiceLabel(7, 0, "S01")
    with library.database.transaction() as session:
        session.execute(text("DELETE FROM segments WHERE id = 5"))
        row = SegmentRow(recording_id="r", start=9, end=10, text="No.")
        session.add(row)
        session.flush()
        assert row.id == 6
        session.execute(text("DELETE FROM recordings"))
        assert session.scalar(text("SELECT count(*) FROM segments")) == 0
    with library.database.engine.connect() as connection:
        names = {index["name"] for index in inspect(connection).get_indexes("segments")}
    assert {"ix_segments_time", "ix_segments_window_id", "ix_segments_speaker_id"} <= names
    library.database.close()
    revise(old, "downgrade", "0008")
