"""The stage that tells speakers apart, and stores who says each sentence."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, select, update

from index.database import RecordingRow, SegmentRow, SpeakerRow
from index.errors import MossAgentError
from index.intake import Intake
from index.library import Library
from index.moss_speakers import MossSpeakers
from index.progress import Progress
from index.records import Segment, Span
from index.speaker_pass import SpeakerPass, stored_labels


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
    from index.speakers import assign_rest, assign_speakers

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
