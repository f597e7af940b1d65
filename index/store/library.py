"""The library: recordings and their segments, read and changed through one door.

Every read goes to the database; nothing here knows audio, models or vectors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from sqlalchemy import Select, delete, func, select, text, update
from sqlalchemy.orm import Session

from index.recording_errors import AmbiguousRecording, MossAgentError, UnknownRecording
from index.records import Recording, Segment, Span, Word
from index.speaker_names import is_label
from index.store.database import Database, RecordingRow, SegmentRow, SpeakerRow, ThreadRecordingRow, WindowRow
from index.text import folded_name

MOST_PARAMETERS = 10_000
"""Values in one ``IN`` list; SQLite takes 32,766 in a statement."""

_WITH_SPEAKERS = (
    select(SegmentRow, SpeakerRow.name, WindowRow.channel)
    .outerjoin(SpeakerRow, SegmentRow.speaker_id == SpeakerRow.id)
    .outerjoin(WindowRow, SegmentRow.window_id == WindowRow.id)
)


class Library:
    """Recordings of one home folder.

    Args:
        database: An open database.
        home: Where the audio copies lie (``home/audio/<id>.flac``).
    """

    def __init__(self, database: Database, home: Path) -> None:
        self.database = database
        self.home = home

    def audio_path(self, recording: str) -> Path:
        """The 16 kHz FLAC copy that player, recogniser and listener share; it may not exist yet."""
        return self.home / "audio" / f"{recording}.flac"

    def recordings(self) -> list[Recording]:
        """All recordings, newest first."""
        with self.database.transaction() as session:
            rows = session.scalars(select(RecordingRow).order_by(RecordingRow.added_at.desc())).all()
            names: dict[str, list[str]] = {}
            for row in session.scalars(select(SpeakerRow).order_by(SpeakerRow.id)):
                names.setdefault(row.recording_id, []).append(row.name)
            return [_recording(row, names.get(row.id, ())) for row in rows]

    def count(self) -> int:
        """How many recordings there are."""
        with self.database.transaction() as session:
            return session.scalar(select(func.count()).select_from(RecordingRow)) or 0

    def people(self) -> tuple[str, ...]:
        """Everybody who is named in some recording, each once, in the spelling used most."""
        with self.database.transaction() as session:
            counted = select(SpeakerRow.name, func.count()).group_by(SpeakerRow.name)
            rows = session.execute(counted.order_by(func.count().desc(), SpeakerRow.name)).all()
        names: dict[str, str] = {}
        for name, _ in rows:
            if not is_label(name):
                names.setdefault(folded_name(name), name)
        return tuple(names.values())

    def recording(self, recording: str) -> Recording:
        """One recording by its full id.

        Raises:
            UnknownRecording: There is none with this id.
        """
        with self.database.transaction() as session:
            row = session.get(RecordingRow, recording)
            if row is None:
                raise _unknown(recording)
            names = session.scalars(
                select(SpeakerRow.name).where(SpeakerRow.recording_id == recording).order_by(SpeakerRow.id)
            )
            return _recording(row, tuple(names))

    def resolve(self, reference: str) -> Recording:
        """Find a recording by full id, unique id prefix, or title (any case).

        Raises:
            UnknownRecording: Nothing answers to it.
            AmbiguousRecording: More than one does.
        """
        wanted = reference.strip()
        if not wanted:
            raise UnknownRecording("No recording was named; run `moss-agent list` to see them all.")
        with self.database.transaction() as session:
            rows = session.execute(select(RecordingRow.id, RecordingRow.title)).all()
        # Compared here, since SQLite's lower() knows ASCII only, and file names may be decomposed Unicode.
        found = [row.id for row in rows if row.id == wanted.lower()]
        found = found or [row.id for row in rows if _folded(row.title) == _folded(wanted)]
        found = found or [row.id for row in rows if row.id.startswith(wanted.lower())]
        if not found:
            raise _unknown(wanted)
        if len(found) > 1:
            ids = ", ".join(recording[:12] for recording in found)
            raise AmbiguousRecording(
                f"“{wanted}” matches {len(found)} recordings ({ids}); give more characters of the id."
            )
        return self.recording(found[0])

    def segments(self, recording: str, start: float | None = None, end: float | None = None) -> list[Segment]:
        """Segments in time order; with a range, exactly those that overlap ``[start, end)``."""
        query = _WITH_SPEAKERS.where(SegmentRow.recording_id == recording)
        if end is not None:
            query = query.where(SegmentRow.start < end)
        if start is not None:
            query = query.where(SegmentRow.end > start)
        return self._segments(query.order_by(SegmentRow.start, SegmentRow.id))

    def segment_count(self, recording: str) -> int:
        """How many segments a recording has so far."""
        with self.database.transaction() as session:
            count = select(func.count()).where(SegmentRow.recording_id == recording)
            return session.scalar(count) or 0

    def speaking_times(self, recording: str) -> dict[str, float]:
        """How long each voice speaks, in seconds: the lengths of its segments added up."""
        query = (
            select(SpeakerRow.name, func.sum(SegmentRow.end - SegmentRow.start))
            .join(SegmentRow, SegmentRow.speaker_id == SpeakerRow.id)
            .where(SpeakerRow.recording_id == recording, SegmentRow.kind == "speech")
            .group_by(SpeakerRow.id)
        )
        with self.database.transaction() as session:
            return {name: round(seconds, 3) for name, seconds in session.execute(query)}

    def segments_by_id(self, ids: Iterable[int]) -> list[Segment]:
        """Segments by their numbers, in time order; numbers that do not exist are left out."""
        wanted = sorted(set(ids))
        found: list[Segment] = []
        for at in range(0, len(wanted), MOST_PARAMETERS):
            part = wanted[at : at + MOST_PARAMETERS]
            found += self._segments(_WITH_SPEAKERS.where(SegmentRow.id.in_(part)))
        return sorted(found, key=lambda segment: (segment.recording, segment.start, segment.id))

    def segment_embeddings(self, segments: Sequence[Segment]) -> np.ndarray | None:
        """Stored sentence embeddings, float32 ``[n_segments, dimensions]`` in the order given.

        Returns None when any of them has none yet (the recording is not indexed).
        """
        ids = [segment.id for segment in segments]
        found: dict[int, bytes] = {}
        with self.database.transaction() as session:
            for at in range(0, len(ids), MOST_PARAMETERS):
                query = select(SegmentRow.id, SegmentRow.embedding)
                stored = session.execute(query.where(SegmentRow.id.in_(ids[at : at + MOST_PARAMETERS])))
                found.update((row.id, row.embedding) for row in stored if row.embedding is not None)
        if not segments or any(number not in found for number in ids):
            return None
        rows = [np.frombuffer(found[number], dtype=np.float16) for number in ids]
        return np.stack(rows).astype(np.float32)

    def rename_speaker(self, recording: str, old: str, new: str) -> int:
        """Give a voice another name everywhere; naming it as another voice merges the two.

        Names are the same as when they are looked up (``folded_name``): “anna” is the voice called “ANNA”,
        which keeps its spelling.

        Returns:
            How many segments carry the new name afterwards.

        Raises:
            MossAgentError: There is no such speaker, or the new name is empty.
        """
        new = " ".join(new.split())
        if not new or len(new) > 80:
            raise MossAgentError("A speaker's name needs 1 to 80 characters.")
        with self.database.transaction() as session:
            names = {row.name: row for row in _speakers(session, recording)}
            speaker = names.get(old.strip()) or _only_match(names, old)
            if speaker is None:
                known = ", ".join(names) or "none"
                raise MossAgentError(f"There is no speaker “{old}” in this recording; it has: {known}.")
            others = {name: row for name, row in names.items() if row is not speaker}
            target = others.get(new) or next(iter(_matches(others, new)), speaker)
            if target is not speaker:
                session.execute(
                    update(SegmentRow).where(SegmentRow.speaker_id == speaker.id).values(speaker_id=target.id)
                )
                session.delete(speaker)
            else:
                speaker.name = new
            session.flush()
            count = select(func.count()).where(SegmentRow.speaker_id == target.id)
            return session.scalar(count) or 0

    def rename(self, recording: str, title: str) -> None:
        """Give a recording another title."""
        title = " ".join(title.split())
        if not title:
            raise MossAgentError("A title needs at least one character.")
        with self.database.transaction() as session:
            session.execute(
                update(RecordingRow).where(RecordingRow.id == recording).values(title=title[:200])
            )

    def note_thread(self, thread: str, recordings: Iterable[str]) -> None:
        """Remember that a conversation quoted these recordings, so that removing one removes it too.

        Where the library is only read, no conversation is kept either, and there is nothing to remember.
        """
        if self.database.read_only is not None:
            return
        with self.database.transaction() as session:
            for recording in set(recordings):
                if session.get(ThreadRecordingRow, (thread, recording)) is None:
                    session.add(ThreadRecordingRow(thread_id=thread, recording_id=recording))

    def threads_of(self, recording: str) -> list[str]:
        """Conversations that quoted this recording."""
        with self.database.transaction() as session:
            query = select(ThreadRecordingRow.thread_id).where(ThreadRecordingRow.recording_id == recording)
            return list(session.scalars(query))

    def delete(self, recording: str) -> None:
        """Delete a recording's rows and audio copy, and the bytes they occupied.

        The vectors and conversations have stores of their own; ``agent.workspace`` removes those too.
        """
        with self.database.transaction() as session:
            session.execute(delete(RecordingRow).where(RecordingRow.id == recording))
            # FTS5's own secure-delete needs SQLite 3.42; merging everything drops deleted words too.
            session.execute(text("INSERT INTO passages_fts(passages_fts) VALUES('optimize')"))
        for suffix in (".flac", ".partial", ".sides", ".reserve"):
            self.audio_path(recording).with_suffix(suffix).unlink(missing_ok=True)
        self.database.rewrite()

    def _segments(self, query: Select[SegmentRow, str, int | None]) -> list[Segment]:
        with self.database.transaction() as session:
            return [_segment(row, name, channel) for row, name, channel in session.execute(query)]


def _speakers(session: Session, recording: str) -> list[SpeakerRow]:
    query = select(SpeakerRow).where(SpeakerRow.recording_id == recording).order_by(SpeakerRow.id)
    return list(session.scalars(query))


def _only_match(names: dict[str, SpeakerRow], wanted: str) -> SpeakerRow | None:
    same = _matches(names, wanted)
    return same[0] if len(same) == 1 else None


def _matches(names: dict[str, SpeakerRow], wanted: str) -> list[SpeakerRow]:
    return [row for name, row in names.items() if folded_name(name) == folded_name(wanted)]


def _folded(title: str) -> str:
    # Underscores became spaces when a file's name became a title.
    return folded_name(title.replace("_", " "))


def _unknown(reference: str) -> UnknownRecording:
    return UnknownRecording(f"There is no recording “{reference}”; run `moss-agent list` to see them all.")


def _recording(row: RecordingRow, speakers: Iterable[str]) -> Recording:
    return Recording(
        id=row.id,
        title=row.title,
        source_name=row.source_name,
        duration=row.duration,
        status=row.status,
        added_at=row.added_at,
        language=row.language,
        languages=tuple(row.languages),
        coverage=row.coverage,
        gaps=tuple(Span(start, end) for start, end in row.gaps),
        engine=row.engine,
        failure=row.failure,
        notes=row.notes,
        seconds_taken=row.seconds_taken,
        speakers=tuple(speakers),
    )


def _segment(row: SegmentRow, speaker: str | None, channel: int | None) -> Segment:
    return Segment(
        start=row.start,
        end=row.end,
        text=row.text,
        kind=row.kind,  # type: ignore[arg-type]
        speaker=speaker,
        words=tuple(Word(start, end, word, probability) for start, end, word, probability in row.words),
        engine=row.engine,
        id=row.id,
        recording=row.recording_id,
        language=row.language,
        channel=channel,
    )
