"""A recording on its way in: what the stages of ``index/pipeline/ingest.py`` share."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import update

from index.progress import Report, Stopwatch
from index.recording_errors import Cancelled, HearingError
from index.records import Recording
from index.store.database import Database, RecordingRow
from index.store.library import Library
from moss_audio.timestamps import clock

GONE_AFTER = 5
"""So many windows in a row on which the engine failed mean that it is gone; the rest is not tried."""


@dataclass
class Intake:
    """One run of the stages for one recording.

    Attributes:
        library: Where it goes.
        id: The recording's.
        audio: Its 16 kHz copy.
        report: Told how far the work is.
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
        """The library's."""
        return self.library.database

    @property
    def recording(self) -> Recording:
        """As it stands in the database now."""
        return self.library.recording(self.id)

    def set(self, **values: object) -> None:
        """Write columns of the recording."""
        with self.database.transaction() as session:
            session.execute(update(RecordingRow).where(RecordingRow.id == self.id).values(**values))

    def count_time(self) -> None:
        """Add the time since the last call to what the recording took."""
        self.set(seconds_taken=RecordingRow.seconds_taken + self.watch.lap())

    def note(self, sentence: str) -> None:
        """Add a sentence about what could not be done to those that stand there."""
        with self.database.transaction() as session:
            row = session.get_one(RecordingRow, self.id)
            if sentence not in (row.note or ""):
                row.note = f"{row.note} {sentence}" if row.note else sentence

    def forget_note(self, pattern: re.Pattern[str]) -> None:
        """Take a sentence back that is no longer true."""
        with self.database.transaction() as session:
            row = session.get_one(RecordingRow, self.id)
            if row.note:
                row.note = " ".join(pattern.sub(" ", row.note).split()) or None

    def check_cancel(self) -> None:
        """Stop here if that is wished.

        Raises:
            Cancelled: It is.
        """
        if self.cancel.is_set():
            raise Cancelled("Stopped; what was transcribed is kept. Add the file again to go on from there.")


class Failures:
    """Windows of one stage on which the engine failed: a few cost themselves, many in a row the stage."""

    def __init__(self) -> None:
        self.count = 0
        self.error: HearingError | None = None
        self._in_a_row = 0
        self._any_heard = False

    def heard(self) -> None:
        """A window was heard."""
        self._in_a_row = 0
        self._any_heard = True

    def failed(self, error: HearingError, at: float) -> None:
        """The engine failed on the window that begins at second ``at``.

        Raises:
            HearingError: It failed on so many in a row that it must be gone.
        """
        self.count += 1
        self.error = error
        self._in_a_row += 1
        if self._in_a_row >= GONE_AFTER:
            raise self._gone(error, at)

    def check_any(self) -> None:
        """Fail where not one window was heard.

        Raises:
            HearingError: The engine's own sentence.
        """
        if self.error is not None and not self._any_heard:
            raise self.error

    def _gone(self, error: HearingError, at: float) -> HearingError:
        if not self._any_heard:
            return error
        return HearingError(
            f"The engine stopped answering at {clock(at)}: {error} What was heard is kept; add the file "
            "again to go on from there."
        )
