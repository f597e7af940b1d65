"""The stage that transcribes: every window that is not done yet is transcribed, checked and stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from index.pipeline.stage import IngestContext, Stage, add_note, reason, spans_of
from index.pipeline.transcribe_file import detect_language, load_window
from index.recording_errors import HearingError
from index.records import Note, NoteKind, Segment, Span, StageName
from index.store.database import SegmentRow, WindowRow
from index.transcription.languages import (
    LanguageGuess,
    LanguageSpan,
    SpokenWindow,
    languages_spoken,
    transcribe_by_language,
)
from index.transcription.transcriber import Transcriber


class TranscribeStage(Stage[WindowRow, SpokenWindow]):
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
        self.guess = LanguageGuess(language)
        self.speech = speech

    @property
    def at_once(self) -> int:
        """See ``Stage``."""
        return self.transcriber.windows_at_once

    def missing(self) -> Sequence[WindowRow]:
        """See ``Stage``."""
        query = select(WindowRow).where(WindowRow.recording_id == self.context.id, ~WindowRow.done)
        with self.context.database.transaction() as session:
            return session.scalars(query.order_by(WindowRow.start)).all()

    def prepare(self, missing: Sequence[WindowRow]) -> None:
        """See ``Stage``: load the engine, then find out which language to expect.

        It is the user's setting, and certain then, also where it was set when an earlier run began; or what
        that run found, or the likeliest of the first windows. Of each window the language is expected that
        was heard before it.
        """
        context = self.context
        context.set(engine=self.transcriber.name)
        self.transcriber.prepare(context.cancel)
        # A window that was never heard has a language only where the user set one.
        self.language = self.language or next((row.language for row in missing if row.language), None)
        if self.language is not None:
            self.guess = LanguageGuess(self.language)
            context.set(language=self.language)
            own = update(WindowRow).where(WindowRow.recording_id == context.id, ~WindowRow.done)
            with context.database.transaction() as session:
                session.execute(own.values(language=self.language))
            return
        with context.database.transaction() as session:
            done = select(WindowRow).where(WindowRow.recording_id == context.id, WindowRow.done)
            for window in session.scalars(done):
                self.guess.heard(window.start, window.language, window.channel)
        known = context.recording.language
        for channel in dict.fromkeys(window.channel for window in missing):
            if self.guess.at(0.0, channel) is None:
                side = [window for window in missing if window.channel == channel]
                found = None if channel is None else known
                found = found or detect_language(context.audio, side, self.transcriber, context.cancel)
                self.guess.heard(0.0, found, channel)
                known = known or found
        context.set(language=known)

    def process(self, window: WindowRow) -> SpokenWindow:
        """See ``Stage``."""
        context = self.context
        expected = self.guess.at(window.start, window.channel)
        loaded = load_window(context.audio, window, self.speech, expected, context.cancel)
        is_guess = self.language is None
        return transcribe_by_language(replace(loaded, language_is_guess=is_guess), self.transcriber)

    def store(self, session: Session, window: WindowRow, result: SpokenWindow) -> None:
        """See ``Stage``: the segments of a window, and what of it could not be heard again.

        A window in several languages becomes one window for each stretch of a language. One that is done
        already stays as it is.
        """
        first, *others = result.spoken or (LanguageSpan(Span(window.start, window.end), None),)
        own = {"end": first.span.end, "language": first.language, "done": True}
        is_open = (WindowRow.id == window.id, ~WindowRow.done)
        mine = update(WindowRow).where(*is_open).values(**own).returning(WindowRow.id)
        if session.execute(mine).first() is None:
            # Another process was faster, or the recording is heard anew: a result counts once.
            return
        rows = [(first.span, window.id)]
        of_recording = WindowRow.recording_id == self.context.id
        for part in others:
            number = (session.scalar(select(func.max(WindowRow.number)).where(of_recording)) or 0) + 1
            row = WindowRow(
                recording_id=self.context.id, number=number, start=part.span.start, end=part.span.end,
                channel=window.channel, language=part.language, done=True,
            )  # fmt: skip
            session.add(row)
            session.flush()
            rows.append((part.span, row.id))
        for segment in result.segments:
            holding = (id for span, id in rows if (segment.start + segment.end) / 2 < span.end)
            session.add(segment_row(self.context.id, segment, next(holding, rows[-1][1])))
        if result.spoken:
            self.guess.heard(window.start, result.spoken[-1].language, window.channel)
        if result.trouble is not None:
            note = Note(NoteKind.NOT_HEARD_AGAIN, self.name, result.gaps, detail=result.trouble)
            add_note(session, self.context.id, note)

    def finish(self) -> None:
        """See ``Stage``: which languages are spoken."""
        spoken = languages_spoken(self.context.library.segments(self.context.id))
        if spoken:
            self.context.set(languages=list(spoken), language=self.language or spoken[0])

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
        language=segment.language,
    )
