"""The stage that tells speakers apart, and stores who says each sentence.

The stage that asks a model who speaks, window by window, and lays its labels on the sentences.

The transcript is not changed. What is said of a window is stored in one transaction, so a ``kill -9`` costs
the windows in work. A window on which the model fails has no labels; there the voices alone decide.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import delete, func, select, update

from index.audio.decode import read_range
from index.audio.windows import AudioWindow
from index.diarization.alignment import Label, labels_of
from index.diarization.moss_speakers import MossSpeakers
from index.pipeline.parallel import as_finished
from index.pipeline.stage import Failures, Intake
from index.progress import Meter, Progress
from index.recording_errors import Cancelled, HearingError, MossAgentError
from index.records import Segment, Span
from index.store.database import RecordingRow, SegmentRow, SpeakerRow, WindowRow
from index.store.library import Library
from moss_audio.tasks import TimedText

_NOT_ASKED = re.compile(r"Who speaks was told by the voices alone in places \(.*?\)\.")

Turns = list[list[TimedText]]


def stored_labels(library: Library, recording: str) -> dict[int, Label]:
    """What a model called the speaker of each sentence, by the sentence's number."""
    query = select(SegmentRow.id, SegmentRow.window_id, SegmentRow.voice_label).where(
        SegmentRow.recording_id == recording, SegmentRow.voice_label.is_not(None)
    )
    with library.database.transaction() as session:
        rows = session.execute(query).all()
    found: dict[int, Label] = {}
    for number, window, told in rows:
        part, _, label = (told or "").partition(".")
        found[number] = ((window, part), label)
    return found


class SpeakerPass:
    """The stage for one recording.

    Args:
        intake: The recording.
        speakers: What labels turns.
    """

    def __init__(self, intake: Intake, speakers: MossSpeakers) -> None:
        self.intake = intake
        self.speakers = speakers

    def missing(self, anew: bool = False) -> Sequence[WindowRow]:
        """Windows with sentences that nobody is known to say, or with any at all, and not asked about."""
        said = select(SegmentRow.id).where(SegmentRow.window_id == WindowRow.id, SegmentRow.kind == "speech")
        if not anew:
            said = said.where(SegmentRow.speaker_id.is_(None))
        query = select(WindowRow).where(
            WindowRow.recording_id == self.intake.id, WindowRow.done, ~WindowRow.labelled, said.exists()
        )
        with self.intake.database.transaction() as session:
            return session.scalars(query.order_by(WindowRow.number)).all()

    def run(self, speech: Sequence[Span], anew: bool = False) -> None:
        """Ask about the windows that are missing; where that fails, a note on the recording says so.

        Args:
            speech: Detected speech.
            anew: Whether also sentences with a speaker count.

        Raises:
            Cancelled: The intake's ``cancel`` was set.
        """
        missing = self.missing(anew)
        if not missing:
            return
        self.intake.forget_note(_NOT_ASKED)
        failures = Failures()
        try:
            self._ask(missing, speech, failures)
        except HearingError as error:
            failures.error = error
        self.intake.check_cancel()
        if failures.error is not None:
            reason = str(failures.error).rstrip(".")
            self.intake.note(f"Who speaks was told by the voices alone in places ({reason}).")

    def _ask(self, missing: Sequence[WindowRow], speech: Sequence[Span], failures: Failures) -> None:
        intake = self.intake
        start, duration, total = missing[0].start, intake.recording.duration, self._count()
        meter = Meter("telling speakers apart", [one.end for one in missing], start, duration)

        def told(progress: Progress, left: int) -> None:
            at = min(total, total - left + 1)
            intake.report(replace(progress, detail=f"window {at} of {total}"))

        def ask(row: WindowRow) -> Turns | HearingError | None:
            inside = tuple(one for one in speech if row.start <= (one.start + one.end) / 2 < row.end)
            audio = read_range(intake.audio, row.start, row.end)
            try:
                return self.speakers.label(AudioWindow(audio, row.start, inside, stop=intake.cancel))
            except HearingError as error:
                return error
            except Cancelled:
                return None

        told(Progress("telling speakers apart", start, duration), len(missing))
        self.speakers.prepare(intake.cancel)
        finished = as_finished(ask, missing, self.speakers.at_once, intake.cancel)
        for done, (row, turns) in enumerate(finished, 1):
            if turns is None:
                continue
            if isinstance(turns, HearingError):
                failures.failed(turns, row.start)
            else:
                failures.heard()
                self._store(row, turns)
            told(meter.finished(row.end), len(missing) - done)

    def _count(self) -> int:
        """Windows in which something was said."""
        said = select(SegmentRow.window_id).where(
            SegmentRow.recording_id == self.intake.id, SegmentRow.kind == "speech"
        )
        with self.intake.database.transaction() as session:
            return session.scalar(select(func.count()).where(WindowRow.id.in_(said))) or 0

    def _store(self, window: WindowRow, turns: Turns) -> None:
        """One transaction: the labels of a window's sentences, and that it was asked about."""
        query = select(SegmentRow).where(SegmentRow.window_id == window.id, SegmentRow.kind == "speech")
        with self.intake.database.transaction() as session:
            rows = session.scalars(query.order_by(SegmentRow.start, SegmentRow.id)).all()
            sentences = [Segment(one.start, one.end, one.text) for one in rows]
            for row, label in zip(rows, labels_of(sentences, turns), strict=True):
                row.voice_label = label
            session.execute(update(WindowRow).where(WindowRow.id == window.id).values(labelled=True))
        self.intake.count_time()


def tell_apart(intake: Intake, speech: Sequence[Span], model: MossSpeakers | None) -> None:
    """Name the sentences that have no speaker; names that there are stay.

    Args:
        intake: The recording.
        speech: Detected speech.
        model: What is asked who speaks; None leaves it to the voices alone.

    Raises:
        Cancelled: The intake's ``cancel`` was set.
    """
    said = _said(intake.library, intake.id)
    if all(one.speaker is not None for one in said):
        return
    if model is not None:
        SpeakerPass(intake, model).run(speech)
    duration = intake.recording.duration
    intake.report(Progress("telling speakers apart", duration, duration))
    with intake.database.transaction() as session:
        expected = session.get_one(RecordingRow, intake.id).expected_speakers
    try:
        _store(intake.library, intake.id, speech, expected)
    except MossAgentError as error:
        # The transcript is worth having without names; a late stage must not cost an early one.
        intake.note(f"The speakers were not told apart: {error}")


def tell_apart_anew(
    intake: Intake, speech: Sequence[Span], model: MossSpeakers | None, speakers: int | None
) -> None:
    """Name every sentence anew, with the number of speakers given or estimated; former names are lost."""
    if model is not None:
        SpeakerPass(intake, model).run(speech, anew=True)
    with intake.database.transaction() as session:
        former = session.scalars(select(SpeakerRow.id).where(SpeakerRow.recording_id == intake.id)).all()
    _store(intake.library, intake.id, speech, speakers, former)


def _said(library: Library, recording: str) -> list[Segment]:
    return [one for one in library.segments(recording) if one.kind == "speech"]


def _store(
    library: Library,
    recording: str,
    speech: Sequence[Span],
    expected: int | None,
    former: Sequence[int] | None = None,
) -> None:
    """Name sentences: all of them where ``former`` speakers are to go, else those that have no speaker."""
    from index.diarization.alignment import assign_rest, assign_speakers

    said = _said(library, recording)
    assign = assign_speakers if former is not None or not any(one.speaker for one in said) else assign_rest
    told = stored_labels(library, recording)
    labels = [told.get(one.id) for one in said]
    names = assign(library.audio_path(recording), said, speech, expected, labels)
    with library.database.transaction() as session:
        if former:
            session.execute(delete(SpeakerRow).where(SpeakerRow.id.in_(former)))
        rows = session.scalars(select(SpeakerRow).where(SpeakerRow.recording_id == recording))
        speakers = {row.name: row for row in rows}
        for segment, name in zip(said, names, strict=True):
            if name is None or (former is None and segment.speaker is not None):
                continue
            if name not in speakers:
                speakers[name] = SpeakerRow(recording_id=recording, name=name)
                session.add(speakers[name])
                session.flush()
            values = {"speaker_id": speakers[name].id}
            session.execute(update(SegmentRow).where(SegmentRow.id == segment.id).values(**values))
