"""The stage that tells speakers apart, and stores who says each sentence.

The stage that asks a model who speaks, window by window, and lays its labels on the sentences.

The transcript is not changed. What is said of a window is stored in one transaction, so a ``kill -9`` costs
the windows in work. A window on which the model fails has no labels; there the voices alone decide.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from index.diarization.alignment import Label, labels_of
from index.diarization.moss_speakers import MossSpeakers
from index.pipeline.ingest_context import IngestContext
from index.pipeline.stage import Stage
from index.pipeline.transcribe_file import load_window
from index.progress import Progress
from index.recording_errors import MossAgentError
from index.records import Note, NoteKind, Segment, Span, StageName
from index.store.database import RecordingRow, SegmentRow, SpeakerRow, WindowRow
from index.store.library import Library
from moss_audio.tasks import TimedText

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


class SpeakerPass(Stage[WindowRow, Turns]):
    """The stage for one recording.

    Args:
        context: The run it is part of.
        speakers: The model that labels turns.
        speech: Detected speech.
        anew: Whether also sentences that have a speaker are asked about.
    """

    name = StageName.IDENTIFYING_SPEAKERS
    failure = NoteKind.SPEAKERS_BY_VOICE_ONLY

    def __init__(
        self, context: IngestContext, speakers: MossSpeakers, speech: Sequence[Span], anew: bool = False
    ) -> None:
        super().__init__(context)
        self.speakers = speakers
        self.speech = speech
        self.anew = anew
        self.total = self._count()

    @property
    def at_once(self) -> int:
        """See ``Stage``."""
        return self.speakers.at_once

    def missing(self) -> Sequence[WindowRow]:
        """See ``Stage``: windows not asked about yet, with sentences that are to be asked about."""
        said = select(SegmentRow.id).where(SegmentRow.window_id == WindowRow.id, SegmentRow.kind == "speech")
        if not self.anew:
            said = said.where(SegmentRow.speaker_id.is_(None))
        query = select(WindowRow).where(
            WindowRow.recording_id == self.context.id, WindowRow.done, ~WindowRow.labelled, said.exists()
        )
        with self.context.database.transaction() as session:
            return session.scalars(query.order_by(WindowRow.number)).all()

    def prepare(self, missing: Sequence[WindowRow]) -> None:
        """See ``Stage``."""
        self.speakers.prepare(self.context.cancel)

    def place(self, left: int) -> str:
        """See ``Stage``."""
        return f"window {min(self.total, self.total - left + 1)} of {self.total}"

    def process(self, window: WindowRow) -> Turns:
        """See ``Stage``."""
        context = self.context
        return self.speakers.label(load_window(context.audio, window, self.speech, None, context.cancel))

    def store(self, session: Session, window: WindowRow, result: Turns) -> None:
        """See ``Stage``: the labels of a window's sentences, and that it was asked about."""
        query = select(SegmentRow).where(SegmentRow.window_id == window.id, SegmentRow.kind == "speech")
        rows = session.scalars(query.order_by(SegmentRow.start, SegmentRow.id)).all()
        sentences = [Segment(row.start, row.end, row.text) for row in rows]
        for row, label in zip(rows, labels_of(sentences, result), strict=True):
            row.voice_label = label
        session.execute(update(WindowRow).where(WindowRow.id == window.id).values(labelled=True))

    def _count(self) -> int:
        """Windows in which something was said."""
        said = select(SegmentRow.window_id).where(
            SegmentRow.recording_id == self.context.id, SegmentRow.kind == "speech"
        )
        with self.context.database.transaction() as session:
            return session.scalar(select(func.count()).where(WindowRow.id.in_(said))) or 0


def tell_apart(context: IngestContext, speech: Sequence[Span], model: MossSpeakers | None) -> None:
    """Name the sentences that have no speaker; names that there are stay.

    Args:
        context: The run it is part of.
        speech: Detected speech.
        model: What is asked who speaks; None leaves it to the voices alone.

    Raises:
        Cancelled: The context's ``cancel`` was set.
    """
    said = _said(context.library, context.id)
    if all(one.speaker is not None for one in said):
        return
    if model is not None:
        SpeakerPass(context, model, speech).run()
    duration = context.recording.duration
    context.report(Progress(StageName.IDENTIFYING_SPEAKERS, duration, duration))
    with context.database.transaction() as session:
        expected = session.get_one(RecordingRow, context.id).expected_speakers
    try:
        _store(context.library, context.id, speech, expected)
        context.forget_notes(NoteKind.NOT_DIARIZED)
    except MossAgentError as error:
        # The transcript is worth having without names; a late stage must not cost an early one.
        note = Note(NoteKind.NOT_DIARIZED, StageName.IDENTIFYING_SPEAKERS, detail=str(error))
        context.add_note(note)


def tell_apart_anew(
    context: IngestContext, speech: Sequence[Span], model: MossSpeakers | None, speakers: int | None
) -> None:
    """Name every sentence anew, with the number of speakers given or estimated; former names are lost."""
    if model is not None:
        SpeakerPass(context, model, speech, anew=True).run()
    with context.database.transaction() as session:
        former = session.scalars(select(SpeakerRow.id).where(SpeakerRow.recording_id == context.id)).all()
    _store(context.library, context.id, speech, speakers, former)


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
