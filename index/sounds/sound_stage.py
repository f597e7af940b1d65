"""The stage that listens for sounds and music, over the whole recording, also where nobody speaks.

It comes after the transcript and never costs it: what fails is noted and left for another time. Each window
is stored as it comes, so a ``kill -9`` costs the windows in work.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlalchemy import delete, func, select, update

from index.audio.decode import read_range
from index.pipeline.parallel import as_finished
from index.pipeline.stage import Failures, Intake
from index.pipeline.transcribe_stage import segment_row
from index.progress import Meter, Progress
from index.recording_errors import Cancelled, HearingError
from index.records import Segment, Span
from index.sounds.moss_sounds import MossSounds
from index.sounds.sound_segments import cut_sound_windows, merged, sound_window, sounds_of
from index.store.database import RecordingRow, SegmentRow, SoundWindowRow
from index.store.library import Library

_NOT_HEARD = re.compile(r"Sounds were not listened for everywhere \(.*?\); add the file again to go on\.")


def is_complete(library: Library, recording: str) -> bool:
    """Whether all of a recording was listened to for sounds."""
    of_recording = SoundWindowRow.recording_id == recording
    with library.database.transaction() as session:
        total = session.scalar(select(func.count()).where(of_recording))
        missing = session.scalar(select(func.count()).where(of_recording, ~SoundWindowRow.done))
    return bool(total) and not missing


class SoundPass:
    """The stage for one recording.

    Args:
        intake: The recording.
        sounds: What listens.
    """

    def __init__(self, intake: Intake, sounds: MossSounds) -> None:
        self.intake = intake
        self.sounds = sounds

    def run(self) -> None:
        """Listen to the windows that are not done; where that fails, a note on the recording says so.

        Raises:
            Cancelled: The intake's ``cancel`` was set.
        """
        self.intake.forget_note(_NOT_HEARD)
        failures = Failures()
        try:
            self._listen(failures)
        except HearingError as error:
            failures.error = error
        join_sounds(self.intake)
        self.intake.check_cancel()
        if failures.error is not None:
            reason = str(failures.error).rstrip(".")
            self.intake.note(
                f"Sounds were not listened for everywhere ({reason}); add the file again to go on."
            )

    def _listen(self, failures: Failures) -> None:
        missing = self._missing()
        if not missing:
            return
        intake = self.intake
        with intake.database.transaction() as session:
            recording = session.get_one(RecordingRow, intake.id)
            speech, duration = [Span(*pair) for pair in recording.speech or []], recording.duration
        intake.report(Progress("listening for sounds", missing[0].start, duration))
        self.sounds.prepare(intake.cancel)
        meter = Meter("listening for sounds", [one.end for one in missing], missing[0].start, duration)

        def listen(row: SoundWindowRow) -> list[Segment] | HearingError | None:
            window = sound_window(Span(row.start, row.end), duration)
            audio = read_range(intake.audio, window.heard.start, window.heard.end)
            try:
                events = self.sounds.listen(audio, intake.cancel)
            except HearingError as error:
                return error
            except Cancelled:
                return None
            return sounds_of(events, window, speech, self.sounds.name)

        for row, found in as_finished(listen, missing, self.sounds.at_once, intake.cancel):
            if found is None:
                continue
            if isinstance(found, HearingError):
                failures.failed(found, row.start)
            else:
                failures.heard()
                self._store(row, found)
            intake.report(meter.finished(row.end))

    def _missing(self) -> Sequence[SoundWindowRow]:
        """The windows that are not done; they are cut at the first time."""
        of_recording = SoundWindowRow.recording_id == self.intake.id
        with self.intake.database.transaction() as session:
            if not session.scalar(select(func.count()).where(of_recording)):
                duration = session.get_one(RecordingRow, self.intake.id).duration
                for number, one in enumerate(cut_sound_windows(duration)):
                    session.add(
                        SoundWindowRow(
                            recording_id=self.intake.id,
                            number=number,
                            start=one.start,
                            end=one.end,
                            done=False,
                        )
                    )
                session.flush()
            query = select(SoundWindowRow).where(of_recording, ~SoundWindowRow.done)
            return session.scalars(query.order_by(SoundWindowRow.number)).all()

    def _store(self, window: SoundWindowRow, segments: Sequence[Segment]) -> None:
        """One transaction: the window's sounds, and that it is done."""
        with self.intake.database.transaction() as session:
            for one in segments:
                session.add(segment_row(self.intake.id, one))
            session.execute(update(SoundWindowRow).where(SoundWindowRow.id == window.id).values(done=True))
        self.intake.count_time()


def join_sounds(intake: Intake) -> None:
    """Join the sounds that go on from one window to the next; doing it again changes nothing.

    Sounds are joined after every run that stored some, and again when the file is added: a run that was
    killed after its last window has not done it.
    """
    with intake.database.transaction() as session:
        query = select(SoundWindowRow.start).where(SoundWindowRow.recording_id == intake.id)
        seams = [start for start in session.scalars(query) if start > 0]
    found = [one for one in intake.library.segments(intake.id) if one.kind != "speech"]
    kept = {one.id: one for one in merged(found, seams)}
    with intake.database.transaction() as session:
        for one in found:
            joined = kept.get(one.id)
            if joined is None:
                session.execute(delete(SegmentRow).where(SegmentRow.id == one.id))
            elif joined != one:
                changed = {"end": joined.end, "text": joined.text, "embedding": None}
                session.execute(update(SegmentRow).where(SegmentRow.id == one.id).values(**changed))
