"""The stage that transcribes: every window that is not done yet is transcribed, checked and stored."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from index.pipeline.ingest_context import IngestContext, add_note
from index.pipeline.stage import Stage, reason, spans_of
from index.pipeline.transcribe_file import detect_language, load_window
from index.recording_errors import HearingError
from index.records import Note, NoteKind, Segment, Span, StageName
from index.store.database import SegmentRow, WindowRow
from index.transcription.retry import WindowTranscript, transcribe_window
from index.transcription.transcriber import Transcriber


class TranscribeStage(Stage[WindowRow, WindowTranscript]):
    """The stage for one recording; without a transcript, the recording has failed.

    Args:
        context: The run it is part of.
        transcriber: The engine.
        language: ISO 639-1 code of the spoken language when the user set one.
        speech: Detected speech.
    """

    name = StageName.TRANSCRIBING
    failure = NoteKind.WINDOWS_FAILED
    essential = True

    def __init__(
        self, context: IngestContext, transcriber: Transcriber, language: str | None, speech: Sequence[Span]
    ) -> None:
        super().__init__(context)
        self.transcriber = transcriber
        self.language = language
        self.speech = speech

    @property
    def at_once(self) -> int:
        """See ``Stage``."""
        return self.transcriber.windows_at_once

    def missing(self) -> Sequence[WindowRow]:
        """See ``Stage``."""
        query = select(WindowRow).where(WindowRow.recording_id == self.context.id, ~WindowRow.done)
        with self.context.database.transaction() as session:
            return session.scalars(query.order_by(WindowRow.number)).all()

    def prepare(self, missing: Sequence[WindowRow]) -> None:
        """See ``Stage``: load the engine, then find out the language.

        It is the user's setting, what an earlier run found, or the likeliest of the first windows.
        """
        context = self.context
        context.set(engine=self.transcriber.name)
        self.transcriber.prepare(context.cancel)
        self.language = (
            self.language
            or context.recording.language
            or detect_language(context.audio, missing, self.transcriber, context.cancel)
        )
        context.set(language=self.language)

    def process(self, window: WindowRow) -> WindowTranscript:
        """See ``Stage``."""
        context = self.context
        loaded = load_window(context.audio, window, self.speech, self.language, context.cancel)
        return transcribe_window(loaded, self.transcriber)

    def store(self, session: Session, window: WindowRow, result: WindowTranscript) -> None:
        """See ``Stage``: the segments of a window, and what of it could not be heard again."""
        for segment in result.segments:
            session.add(segment_row(self.context.id, segment, window.id))
        session.execute(update(WindowRow).where(WindowRow.id == window.id).values(done=True))
        if result.trouble is not None:
            note = Note(NoteKind.NOT_HEARD_AGAIN, self.name, result.gaps, detail=result.trouble)
            add_note(session, self.context.id, note)

    def conclude(self, error: HearingError) -> None:
        """See ``Stage``: the note also says how many windows there are."""
        of_recording = WindowRow.recording_id == self.context.id
        with self.context.database.transaction() as session:
            total = session.scalar(select(func.count()).where(of_recording)) or 0
        failed = self.missing()
        if len(failed) == total:
            raise error
        numbers = {"failed": len(failed), "total": total}
        self.context.add_note(Note(self.failure, self.name, spans_of(failed), numbers, reason(error)))


def segment_row(recording: str, segment: Segment, window: int | None = None) -> SegmentRow:
    """A segment as a row of the database."""
    return SegmentRow(
        recording_id=recording,
        window_id=window,
        start=segment.start,
        end=segment.end,
        kind=segment.kind,
        text=segment.text,
        words=[[word.start, word.end, word.text, word.probability] for word in segment.words],
        engine=segment.engine,
    )
