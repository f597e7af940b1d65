"""The stage that listens for sounds and music, over the whole recording, also where nobody speaks.

It comes after the transcript and never costs it: what fails is noted and left for another time.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from index.audio.decode import read_range
from index.pipeline.stage import IngestContext, Stage
from index.pipeline.transcribe_stage import segment_row
from index.records import NoteKind, Segment, Span, StageName
from index.sounds.moss_sounds import MossSounds
from index.sounds.sound_segments import cut_sound_windows, merged, sound_window, sounds_of
from index.store.database import SegmentRow, SoundWindowRow
from index.store.library import Library


def is_complete(library: Library, recording: str) -> bool:
    """Whether all of a recording was listened to for sounds."""
    of_recording = SoundWindowRow.recording_id == recording
    with library.database.transaction() as session:
        total = session.scalar(select(func.count()).where(of_recording))
        missing = session.scalar(select(func.count()).where(of_recording, ~SoundWindowRow.done))
    return bool(total) and not missing


class SoundStage(Stage[SoundWindowRow, list[Segment]]):
    """The stage for one recording.

    Args:
        context: The run it is part of.
        sounds: The engine.
        speech: Detected speech.
    """

    name = StageName.LISTENING_FOR_SOUNDS
    failure = NoteKind.SOUNDS_FAILED

    def __init__(self, context: IngestContext, sounds: MossSounds, speech: Sequence[Span]) -> None:
        super().__init__(context)
        self.sounds = sounds
        self.speech = speech
        self.duration = context.recording.duration

    @property
    def at_once(self) -> int:
        """See ``Stage``."""
        return self.sounds.at_once

    def missing(self) -> Sequence[SoundWindowRow]:
        """See ``Stage``; the windows are cut the first time."""
        recording = self.context.id
        of_recording = SoundWindowRow.recording_id == recording
        with self.context.database.transaction() as session:
            if not session.scalar(select(func.count()).where(of_recording)):
                for number, span in enumerate(cut_sound_windows(self.duration)):
                    session.add(
                        SoundWindowRow(recording_id=recording, number=number, start=span.start, end=span.end)
                    )
                session.flush()
            query = select(SoundWindowRow).where(of_recording, ~SoundWindowRow.done)
            return session.scalars(query.order_by(SoundWindowRow.number)).all()

    def prepare(self, missing: Sequence[SoundWindowRow]) -> None:
        """See ``Stage``."""
        self.sounds.prepare(self.context.cancel)

    def process(self, window: SoundWindowRow) -> list[Segment]:
        """See ``Stage``: the sounds of a window, which is heard with a little on either side."""
        widened = sound_window(Span(window.start, window.end), self.duration)
        audio = read_range(self.context.audio, widened.heard.start, widened.heard.end)
        events = self.sounds.listen(audio, self.context.cancel)
        return sounds_of(events, widened, self.speech, self.sounds.name)

    def store(self, session: Session, window: SoundWindowRow, result: list[Segment]) -> None:
        """See ``Stage``."""
        for segment in result:
            session.add(segment_row(self.context.id, segment))
        session.execute(update(SoundWindowRow).where(SoundWindowRow.id == window.id).values(done=True))

    def finish(self) -> None:
        """See ``Stage``."""
        join_sounds(self.context)


def join_sounds(context: IngestContext) -> None:
    """Join the sounds that go on from one window to the next; doing it again changes nothing.

    Sounds are joined after every run that stored some, and again when the file is added: a run that was
    killed after its last window has not done it.
    """
    with context.database.transaction() as session:
        query = select(SoundWindowRow.start).where(SoundWindowRow.recording_id == context.id)
        seams = [start for start in session.scalars(query) if start > 0]
    found = [segment for segment in context.library.segments(context.id) if segment.kind != "speech"]
    kept = {segment.id: segment for segment in merged(found, seams)}
    with context.database.transaction() as session:
        for segment in found:
            joined = kept.get(segment.id)
            if joined is None:
                session.execute(delete(SegmentRow).where(SegmentRow.id == segment.id))
            elif joined != segment:
                changed = {"end": joined.end, "text": joined.text, "embedding": None}
                session.execute(update(SegmentRow).where(SegmentRow.id == segment.id).values(**changed))
