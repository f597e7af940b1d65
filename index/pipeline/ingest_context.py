"""What the stages of one run share: the recording, its audio, whom to tell, and whether to stop."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from sqlalchemy import update
from sqlalchemy.orm import Session

from index.progress import Report, Stopwatch
from index.recording_errors import Cancelled
from index.records import Note, NoteKind, Recording, Span
from index.store.database import Database, RecordingRow
from index.store.library import Library


@dataclass
class IngestContext:
    """One run of the stages for one recording.

    Attributes:
        library: Where the recording is stored.
        id: The recording's id.
        audio: Its 16 kHz copy.
        report: Called with the progress, from the thread of the run.
        cancel: Set from another thread to stop.
        watch: Measures the time taken.
    """

    library: Library
    id: str
    audio: Path
    report: Report
    cancel: threading.Event
    watch: Stopwatch = field(default_factory=Stopwatch)

    @property
    def database(self) -> Database:
        """The library's database."""
        return self.library.database

    @property
    def recording(self) -> Recording:
        """The recording as it stands in the database now."""
        return self.library.recording(self.id)

    def set(self, **values: object) -> None:
        """Write columns of the recording."""
        with self.database.transaction() as session:
            session.execute(update(RecordingRow).where(RecordingRow.id == self.id).values(**values))

    def count_time(self) -> None:
        """Add the time since the last call to what the recording took."""
        self.set(seconds_taken=RecordingRow.seconds_taken + self.watch.lap())

    def add_note(self, note: Note) -> None:
        """Store what could not be done; see ``add_note``."""
        with self.database.transaction() as session:
            add_note(session, self.id, note)

    def forget_notes(self, *kinds: NoteKind) -> None:
        """Drop the notes of these kinds, which are no longer true."""
        with self.database.transaction() as session:
            row = session.get_one(RecordingRow, self.id)
            row.notes = tuple(note for note in row.notes if note.kind not in kinds)

    def check_cancel(self) -> None:
        """Stop here if the user wants that.

        Raises:
            Cancelled: ``cancel`` is set.
        """
        if self.cancel.is_set():
            raise Cancelled(
                "Stopped. What was transcribed so far is kept; add the file again to continue from there."
            )


def add_note(session: Session, recording: str, note: Note) -> None:
    """Add a note to those of a recording; notes that differ in their spans only become one."""
    row = session.get_one(RecordingRow, recording)
    notes = list(row.notes)
    for index, known in enumerate(notes):
        if replace(known, spans=note.spans) == note:
            notes[index] = replace(known, spans=_united(known.spans, note.spans))
            break
    else:
        notes.append(note)
    row.notes = tuple(notes)


def _united(spans: Iterable[Span], others: Iterable[Span]) -> tuple[Span, ...]:
    return tuple(sorted({*spans, *others}, key=lambda span: (span.start, span.end)))
