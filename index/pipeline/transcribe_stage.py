"""The stage that transcribes: every window that is not done yet is heard, checked and stored."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlalchemy import func, select, update

from index.audio.decode import read_range
from index.audio.windows import AudioWindow
from index.pipeline.parallel import as_finished
from index.pipeline.stage import Failures, Intake
from index.progress import Meter, Progress
from index.recording_errors import Cancelled, HearingError
from index.records import Segment, Span
from index.store.database import SegmentRow, WindowRow
from index.transcription.retry import Heard, hear
from index.transcription.transcriber import Transcriber

LANGUAGE_IS_CLEAR = 0.5
"""Probability from which the language of one window is taken for the recording's."""

LANGUAGE_WINDOWS = 3
"""Windows asked for their language before the likeliest answer is taken."""

_NOT_HEARD = "could not be heard"
_UNHEARD = re.compile(rf"\d+ of \d+ stretches {_NOT_HEARD} \(.*?\); add the file again to try them again\.")


class Transcription:
    """The stage for one recording.

    Args:
        intake: The recording.
        transcriber: What hears windows.
        language: Spoken language when the user set one.
    """

    def __init__(self, intake: Intake, transcriber: Transcriber, language: str | None) -> None:
        self.intake = intake
        self.transcriber = transcriber
        self.language = language

    def run(self, speech: Sequence[Span]) -> None:
        """Hear the windows that are not done; one on which the engine fails is left for another time.

        Windows are stored as they are finished, whatever their order, so that a slow one holds nothing up.

        Raises:
            HearingError: The engine cannot be loaded, or failed on all windows, or on many in a row.
            Cancelled: The intake's ``cancel`` was set.
        """
        missing = self._missing()
        if not missing:
            return
        intake = self.intake
        intake.set(engine=self.transcriber.name)
        intake.forget_note(_UNHEARD)
        duration = intake.recording.duration
        intake.report(Progress("transcribing", missing[0].start, duration))
        self.transcriber.prepare(intake.cancel)
        language = self._language(missing)
        meter = Meter("transcribing", [one.end for one in missing], missing[0].start, duration)

        def heard(row: WindowRow) -> Heard | HearingError | None:
            inside = tuple(one for one in speech if row.start <= (one.start + one.end) / 2 < row.end)
            audio = read_range(intake.audio, row.start, row.end)
            window = AudioWindow(audio, row.start, inside, language, intake.cancel)
            try:
                return hear(window, self.transcriber, self.transcriber.halvings)
            except HearingError as error:
                return error
            except Cancelled:
                return None

        failures = Failures()
        for row, result in as_finished(heard, missing, self.transcriber.windows_at_once, intake.cancel):
            if result is None:
                continue
            if isinstance(result, HearingError):
                failures.failed(result, row.start)
            else:
                failures.heard()
                self._store(row, result.segments)
                if result.trouble:
                    intake.note(f"What is missing could not be heard again ({result.trouble.rstrip('.')}).")
            intake.report(meter.finished(row.end))
        intake.check_cancel()
        self._settle(failures)

    def _missing(self) -> Sequence[WindowRow]:
        query = select(WindowRow).where(WindowRow.recording_id == self.intake.id, ~WindowRow.done)
        with self.intake.database.transaction() as session:
            return session.scalars(query.order_by(WindowRow.number)).all()

    def _settle(self, failures: Failures) -> None:
        """Say how much could not be heard; fail if nothing could, in this run or before."""
        if failures.error is None:
            return
        with self.intake.database.transaction() as session:
            of_recording = WindowRow.recording_id == self.intake.id
            total = session.scalar(select(func.count()).where(of_recording)) or 0
            done = session.scalar(select(func.count()).where(of_recording, WindowRow.done)) or 0
        if not done:
            failures.check_any()
        self.intake.note(
            f"{failures.count} of {total} stretches {_NOT_HEARD} ({str(failures.error).rstrip('.')}); "
            "add the file again to try them again."
        )

    def _language(self, windows: Sequence[WindowRow]) -> str | None:
        """The user's setting, what an earlier run found, or the likeliest language of the first windows."""
        known = self.language or self.intake.recording.language
        if not known:
            guesses: list[tuple[float, str]] = []
            for row in windows[:LANGUAGE_WINDOWS]:
                heard = self.transcriber.detect_language(read_range(self.intake.audio, row.start, row.end))
                if heard is None:
                    break
                guesses.append((heard[1], heard[0]))
                if heard[1] >= LANGUAGE_IS_CLEAR:
                    break
            known = max(guesses)[1] if guesses else None
        self.intake.set(language=known)
        return known

    def _store(self, window: WindowRow, segments: Sequence[Segment]) -> None:
        """One transaction: the window's segments, and that it is done."""
        with self.intake.database.transaction() as session:
            for one in segments:
                session.add(segment_row(self.intake.id, one, window.id))
            session.execute(update(WindowRow).where(WindowRow.id == window.id).values(done=True))
        self.intake.count_time()


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
