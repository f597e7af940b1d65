"""From a file to a searchable recording, in stages that each survive a ``kill -9``.

    decode → detect speech → cut windows → hear each window → tell speakers apart → cover → index

The audio copy, the detected speech, the list of windows and every finished window are stored as they
come, each in one transaction. Adding the same file again goes on at the first thing that is missing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import soundfile
from sqlalchemy import delete, select, update

from index.audio import declared_duration, decode_to_flac, file_id, read_range
from index.coverage import coverage, find_gaps
from index.database import RecordingRow, SegmentRow, SpeakerRow, WindowRow
from index.errors import Cancelled, MossAgentError
from index.library import Library
from index.listening import Heard, hear
from index.parallel import in_order
from index.records import Recording, Segment, Span
from index.transcriber import Transcriber
from index.vad import detect_speech
from index.windows import AudioWindow, cut_windows

if TYPE_CHECKING:
    from index.embeddings import Embedder
    from index.vectors import Vectors

Stage = Literal["reading", "finding speech", "transcribing", "telling speakers apart", "indexing", "ready"]

LANGUAGE_IS_CLEAR = 0.5
"""Probability from which the language of one window is taken for the recording's."""

LANGUAGE_WINDOWS = 3
"""Windows asked for their language before the likeliest answer is taken."""


@dataclass(frozen=True)
class Progress:
    """How far a recording is.

    Attributes:
        stage: What is being done.
        done: Seconds of audio this stage has finished.
        total: Seconds of audio in all; 0 while unknown.
        speed: Seconds of audio transcribed per second, in this run; None before the first window.
        seconds_left: Expected until the transcription is complete; None while unknown.
    """

    stage: Stage
    done: float
    total: float
    speed: float | None = None
    seconds_left: float | None = None

    @property
    def fraction(self) -> float:
        """Share of the stage that is done, in [0, 1]."""
        return min(1.0, self.done / self.total) if self.total > 0 else 0.0


class Ingest:
    """Takes recordings in.

    Args:
        library: Where segments go.
        transcriber: What hears windows.
        embedder: What passages are embedded with.
        vectors: Where their vectors go.
        language: Spoken language (ISO 639-1) when the user set one; else it is detected.
    """

    def __init__(
        self,
        library: Library,
        transcriber: Transcriber,
        embedder: Embedder,
        vectors: Vectors,
        language: str | None = None,
    ) -> None:
        self.library = library
        self.transcriber = transcriber
        self.embedder = embedder
        self.vectors = vectors
        self.language = language

    def add(
        self,
        path: Path,
        title: str | None = None,
        speakers: int | None = None,
        progress: Callable[[Progress], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> Recording:
        """Take a file in, or go on with it where an earlier attempt stopped.

        Args:
            path: Any media file.
            title: Shown name; by default the file's name. Kept when the recording exists.
            speakers: Number of speakers when known; by default it is estimated.
            progress: Called often, from this thread.
            cancel: Set it from another thread to stop; what was transcribed is kept.

        Returns:
            The recording; unchanged when it was ready already.

        Raises:
            MediaError: The file cannot be turned into audio; nothing is stored.
            Cancelled: ``cancel`` was set; adding the file again goes on from there.
            WeightsError: The recogniser's weights are missing or wrong.
            IndexOutOfDate: The search index was made with another embedder; nothing is stored.
        """
        if speakers is not None and not 1 <= speakers <= 50:
            raise MossAgentError("The number of speakers must be between 1 and 50.")
        work = _Work(self, path, progress or (lambda _: None), cancel or threading.Event())
        return work.run(title, speakers)

    def relabel_speakers(self, recording: str, speakers: int | None) -> None:
        """Tell the speakers of a recording apart anew, with their number given or estimated."""
        row_speech = [Span(*pair) for pair in self._speech(recording)]
        _store_speakers(self.library, recording, row_speech, speakers)

    def _speech(self, recording: str) -> list[list[float]]:
        with self.library.database.transaction() as session:
            row = session.get(RecordingRow, recording)
            return list(row.speech or []) if row else []


class _Work:
    """One run of the stages for one file."""

    def __init__(
        self, ingest: Ingest, path: Path, report: Callable[[Progress], None], cancel: threading.Event
    ) -> None:
        self.ingest = ingest
        self.library = ingest.library
        self.database = ingest.library.database
        self.path = path
        self.report = report
        self.cancel = cancel
        self.id = ""
        self.began = time.monotonic()

    def run(self, title: str | None, speakers: int | None) -> Recording:
        self.report(Progress("reading", 0.0, 0.0))
        self.id = file_id(self.path)
        if self._is_ready():
            return self.library.recording(self.id)
        # An index made with another embedder is found out now, not after an hour of listening.
        self.ingest.vectors.count()
        audio = self.library.audio_path(self.id)
        note = self._decode(audio)
        self._begin(title, speakers, audio, note)
        try:
            self._listen(audio)
        except (Cancelled, KeyboardInterrupt):
            self._set(status="cancelled")
            raise
        except Exception as error:
            shown = str(error) if isinstance(error, MossAgentError) else f"It failed: {error}"
            self._set(status="failed", error=shown)
            raise
        return self.library.recording(self.id)

    def _is_known(self) -> bool:
        with self.database.transaction() as session:
            return session.get(RecordingRow, self.id) is not None

    def _is_ready(self) -> bool:
        with self.database.transaction() as session:
            row = session.get(RecordingRow, self.id)
            return row is not None and row.status == "ready" and self.library.audio_path(self.id).exists()

    def _decode(self, audio: Path) -> str | None:
        """Make the audio copy; the sentence about what could not be read, if any.

        A copy without a row is made again: what was wrong with the file would else be forgotten.
        """
        if audio.exists() and self._is_known():
            return None
        total = declared_duration(self.path) or 0.0
        decoded = decode_to_flac(
            self.path,
            audio,
            progress=lambda done: self.report(Progress("reading", done, max(total, done))),
            cancelled=self.cancel.is_set,
        )
        return decoded.note

    def _begin(self, title: str | None, speakers: int | None, audio: Path, note: str | None) -> None:
        duration = soundfile.info(audio).duration
        with self.database.transaction() as session:
            row = session.get(RecordingRow, self.id)
            if row is None:
                row = RecordingRow(
                    id=self.id,
                    title=_title(title or self.path.stem),
                    source_name=self.path.name.encode("utf-8", "replace").decode(),
                    added_at=datetime.now(UTC).isoformat(timespec="seconds"),
                    seconds_taken=0.0,
                    gaps=[],
                )
                session.add(row)
            row.duration = duration
            row.status = "listening"
            row.error = None
            row.note = note or row.note
            row.engine = self.ingest.transcriber.name
            row.expected_speakers = speakers or row.expected_speakers

    def _listen(self, audio: Path) -> None:
        speech = self._speech(audio)
        self._transcribe(audio, speech)
        self._check_cancel()
        self._label(speech)
        self._check_cancel()
        segments = self.library.segments(self.id)
        gaps = find_gaps(speech, segments)
        self._set(coverage=coverage(speech, segments), gaps=[[one.start, one.end] for one in gaps])
        self._index()

    def _speech(self, audio: Path) -> list[Span]:
        stored = self.ingest._speech(self.id)
        duration = self.library.recording(self.id).duration
        with self.database.transaction() as session:
            if session.scalars(select(WindowRow.id).where(WindowRow.recording_id == self.id)).first():
                return [Span(*pair) for pair in stored]
        self.report(Progress("finding speech", 0.0, duration))
        found = detect_speech(
            audio,
            progress=lambda done: self.report(Progress("finding speech", done, duration)),
            cancelled=self.cancel.is_set,
        )
        with self.database.transaction() as session:
            row = session.get_one(RecordingRow, self.id)
            row.speech = [[one.start, one.end] for one in found]
            for number, window in enumerate(cut_windows(found, duration)):
                session.add(
                    WindowRow(
                        recording_id=self.id, number=number, start=window.start, end=window.end, done=False
                    )
                )
        return found

    def _transcribe(self, audio: Path, speech: list[Span]) -> None:
        with self.database.transaction() as session:
            rows = session.scalars(
                select(WindowRow).where(WindowRow.recording_id == self.id).order_by(WindowRow.number)
            ).all()
        missing = [row for row in rows if not row.done]
        if not missing:
            return
        duration = self.library.recording(self.id).duration
        self.report(Progress("transcribing", missing[0].start, duration))
        language = self._language(audio, missing)
        meter = _Meter(missing[0].start, duration)
        transcriber = self.ingest.transcriber

        def heard(row: WindowRow) -> Heard:
            inside = tuple(one for one in speech if row.start <= (one.start + one.end) / 2 < row.end)
            audio_of_row = read_range(audio, row.start, row.end)
            return hear(AudioWindow(audio_of_row, row.start, inside, language), transcriber)

        for row, result in in_order(heard, missing, transcriber.windows_at_once, self.cancel):
            self._store(row, result.segments)
            self.report(meter.at(row.end))
        self._check_cancel()

    def _language(self, audio: Path, windows: list[WindowRow]) -> str | None:
        """The user's setting, what an earlier run found, or the likeliest language of the first windows."""
        known = self.ingest.language or self.library.recording(self.id).language
        if not known:
            guesses: list[tuple[float, str]] = []
            for row in windows[:LANGUAGE_WINDOWS]:
                heard = self.ingest.transcriber.detect_language(read_range(audio, row.start, row.end))
                if heard is None:
                    break
                guesses.append((heard[1], heard[0]))
                if heard[1] >= LANGUAGE_IS_CLEAR:
                    break
            known = max(guesses)[1] if guesses else None
        self._set(language=known)
        return known

    def _store(self, window: WindowRow, segments: tuple[Segment, ...]) -> None:
        """One transaction: the window's segments, and that it is done."""
        with self.database.transaction() as session:
            for one in segments:
                session.add(
                    SegmentRow(
                        recording_id=self.id,
                        window_id=window.id,
                        start=one.start,
                        end=one.end,
                        kind=one.kind,
                        text=one.text,
                        words=[[word.start, word.end, word.text, word.probability] for word in one.words],
                        engine=one.engine,
                    )
                )
            session.execute(update(WindowRow).where(WindowRow.id == window.id).values(done=True))
            taken = time.monotonic() - self.began
            session.execute(
                update(RecordingRow)
                .where(RecordingRow.id == self.id)
                .values(seconds_taken=RecordingRow.seconds_taken + taken)
            )
        self.began = time.monotonic()

    def _label(self, speech: list[Span]) -> None:
        recording = self.library.recording(self.id)
        self.report(Progress("telling speakers apart", recording.duration, recording.duration))
        with self.database.transaction() as session:
            expected = session.get_one(RecordingRow, self.id).expected_speakers
        try:
            _store_speakers(self.library, self.id, speech, expected)
        except MossAgentError as error:
            # The transcript is worth having without labels; a late stage must not cost an early one.
            self._note(f"The speakers were not told apart: {error}")

    def _index(self) -> None:
        from index.indexing import index_recording

        recording = self.library.recording(self.id)
        self.report(Progress("indexing", recording.duration, recording.duration))
        index_recording(self.library, self.ingest.embedder, self.ingest.vectors, self.id)
        taken = recording.seconds_taken + time.monotonic() - self.began
        if self.library.segment_count(self.id) == 0:
            self._note("No speech was found in this recording.")
        self._set(status="ready", seconds_taken=taken)
        self.report(Progress("ready", recording.duration, recording.duration))

    def _note(self, sentence: str) -> None:
        """Add a sentence about what could not be done to those that stand there."""
        with self.database.transaction() as session:
            row = session.get_one(RecordingRow, self.id)
            if sentence not in (row.note or ""):
                row.note = f"{row.note} {sentence}" if row.note else sentence

    def _check_cancel(self) -> None:
        if self.cancel.is_set():
            raise Cancelled("Stopped; what was transcribed is kept. Add the file again to go on from there.")

    def _set(self, **values: object) -> None:
        with self.database.transaction() as session:
            session.execute(update(RecordingRow).where(RecordingRow.id == self.id).values(**values))


class _Meter:
    """Speed and time left, from the audio done and the time it took in this run."""

    def __init__(self, start: float, total: float) -> None:
        self.start = start
        self.total = total
        self.began = time.monotonic()

    def at(self, done: float) -> Progress:
        speed = (done - self.start) / max(time.monotonic() - self.began, 1e-6)
        return Progress("transcribing", done, self.total, speed, (self.total - done) / max(speed, 1e-6))


def _store_speakers(library: Library, recording: str, speech: list[Span], expected: int | None) -> None:
    """Label every segment anew; names the user gave before are replaced."""
    from index.speakers import assign_speakers

    segments = [one for one in library.segments(recording) if one.kind == "speech"]
    labels = assign_speakers(library.audio_path(recording), segments, speech, expected)
    with library.database.transaction() as session:
        session.execute(delete(SpeakerRow).where(SpeakerRow.recording_id == recording))
        rows: dict[str, SpeakerRow] = {}
        for label in labels:
            if label is not None and label not in rows:
                rows[label] = SpeakerRow(recording_id=recording, name=label)
                session.add(rows[label])
        session.flush()
        for segment, label in zip(segments, labels, strict=True):
            if label is not None:
                values = {"speaker_id": rows[label].id}
                session.execute(update(SegmentRow).where(SegmentRow.id == segment.id).values(**values))


def _title(text: str) -> str:
    # A file name that is no valid UTF-8 arrives with lone surrogates, which SQLite refuses.
    text = text.encode("utf-8", "replace").decode()
    return " ".join(text.replace("_", " ").split())[:200] or "Untitled recording"
