"""Libraries with recordings in them, made without audio."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from sqlalchemy import select, text

from agent.workspace import Workspace
from index.diarization.known_voices import ENCODER
from index.records import NoteKind, Recording, Segment
from index.search.embeddings import Embedder
from index.store.database import (
    Database,
    RecordingRow,
    SegmentRow,
    SpeakerRow,
    VoiceMatchRow,
    VoiceRow,
)
from index.store.library import Library
from tests.servers import location

HEARD = Path(__file__).parents[1] / "data" / "harbour_heard.json"


@cache
def embedder() -> Embedder:
    """The packaged embedder, loaded once a run."""
    return Embedder()


class Numbers:
    """An embedder that takes no time: the same text has the same vector."""

    name = Embedder("packaged").name
    dimensions = 8

    def encode_passages(self, texts: list[str]) -> np.ndarray:
        rows = [np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8)[:8] for text in texts]
        matrix = np.array(rows, dtype=np.float32).reshape(len(texts), 8) + 1
        return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)

    def encode_query(self, text: str) -> np.ndarray:
        return self.encode_passages([text])[0]


def open_library(home: Path) -> Library:
    """A library over an empty home."""
    home.mkdir(parents=True, exist_ok=True)
    return Library(Database(location(home)), home)


def heard() -> list[Segment]:
    """What the recogniser heard of the sample meeting."""
    return [
        Segment(start=segment["start"], end=segment["end"], text=segment["text"], speaker=segment["speaker"])
        for segment in json.loads(HEARD.read_text())
    ]


def sentences(*texts: str, seconds: float = 5.0, speaker: str | None = "Speaker 1") -> list[Segment]:
    """One sentence every so many seconds."""
    return [
        Segment(start=at * seconds, end=at * seconds + 0.9 * seconds, text=text, speaker=speaker)
        for at, text in enumerate(texts)
    ]


KEYWORD_TABLES = ("passages_fts", "passage_words", "passage_totals")
"""What tables of a keyword index begin with; they are no models."""


def keyword_index_is_whole(database: Database) -> bool:
    """Whether a keyword index holds the words of its passages and nothing else."""
    with database.transaction() as session:
        if database.engine.dialect.name == "sqlite":
            # FTS5 compares its index with the table it indexes, and raises when they differ.
            session.execute(
                text("INSERT INTO passages_fts(passages_fts, rank) VALUES ('integrity-check', 1)")
            )
            return True
        held = "SELECT passage_id, word, times, words FROM passage_words"
        wanted = "SELECT id, found.* FROM passages, words_of(folded) AS found"
        totals = "SELECT recording_id, passages, words FROM passage_totals WHERE passages > 0"
        summed = (
            "SELECT recording_id, count(*)::int, coalesce(sum(words), 0)::int FROM passages LEFT JOIN "
            "LATERAL (SELECT max(words) AS words FROM words_of(folded)) AS all_words ON true GROUP BY 1"
        )
        pairs = [(held, wanted), (wanted, held), (totals, summed), (summed, totals)]
        return not any(session.execute(text(f"({one}) EXCEPT ({other})")).first() for one, other in pairs)


def kinds(recording: Recording) -> list[NoteKind]:
    """What kinds of problems a recording has, in order."""
    return [note.kind for note in recording.problems]


def store(library: Library, segments: Sequence[Segment], title: str, status: str = "ready") -> str:
    """Put a recording with these segments into the database; returns its id."""
    recording = hashlib.sha256(title.encode()).hexdigest()
    with library.database.transaction() as session:
        session.add(
            RecordingRow(
                id=recording,
                title=title,
                source_name=f"{title}.mp3",
                added_at="2026-01-01T00:00:00+00:00",
                duration=max((segment.end for segment in segments), default=0.0) + 1.0,
                status=status,
                gaps=[],
            )
        )
        session.flush()
        for name in dict.fromkeys(segment.speaker for segment in segments if segment.speaker):
            session.add(SpeakerRow(recording_id=recording, name=name))
        session.flush()
        rows = session.scalars(select(SpeakerRow).where(SpeakerRow.recording_id == recording))
        numbers = {row.name: row.id for row in rows}
        for segment in segments:
            session.add(
                SegmentRow(
                    recording_id=recording,
                    start=segment.start,
                    end=segment.end,
                    text=segment.text,
                    kind=segment.kind,
                    speaker_id=numbers.get(segment.speaker or ""),
                    words=[[word.start, word.end, word.text, word.probability] for word in segment.words],
                    engine="test",
                )
            )
    return recording


def may_be_anna(workspace: Workspace, title: str, speaker: str) -> None:
    """Somebody known as Anna, whom a speaker of a recording may be by the voice."""
    recording = workspace.library.resolve(title).id
    with workspace.library.database.transaction() as session:
        own = select(SpeakerRow.id).where(SpeakerRow.recording_id == recording, SpeakerRow.name == speaker)
        session.add(VoiceRow(id=1, name="Anna", encoder=ENCODER))
        session.flush()
        likeness = {"state": "maybe", "label": speaker, "score": 0.8}
        session.add(VoiceMatchRow(speaker_id=session.scalar(own), voice_id=1, **likeness))
