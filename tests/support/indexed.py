"""Libraries with recordings in them, made without audio."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from sqlalchemy import select

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

HEARD = Path(__file__).parents[1] / "data" / "harbour_heard.json"


@cache
def embedder() -> Embedder:
    """The packaged embedder, loaded once a run."""
    return Embedder()


def open_library(home: Path) -> Library:
    """A library over an empty home."""
    home.mkdir(parents=True, exist_ok=True)
    return Library(Database(home / "library.sqlite"), home)


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
