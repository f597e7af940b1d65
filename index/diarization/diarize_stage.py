"""The diarization stage: who says each sentence, from voices, and from a model's labels where there are any.

    segments → chunks of speech → voice vectors → clusters → names by first appearance

A model that labels speakers is asked window by window, and its labels are laid on the sentences; the
transcript is not changed. What is said of a window is stored in one transaction, so a ``kill -9`` costs the
windows in work. A window on which the model fails has no labels; there the voices alone decide.

Names are estimates: similar voices, a change of microphone and overlapping talk mislead.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from index.diarization.clustering import (
    SpeakerLabels,
    constrained_clusters,
    estimate_clusters,
    incremental_clusters,
)
from index.diarization.moss_speakers import MossSpeakers, VoiceLabel, align_labels
from index.diarization.voice_embeddings import SpeechChunks, VoiceEncoder, embed_speech
from index.pipeline.stage import IngestContext, Stage
from index.pipeline.transcribe_file import load_window
from index.progress import Progress
from index.recording_errors import MossAgentError, would_lose
from index.records import Note, NoteKind, Segment, Span, StageName
from index.store.database import CorrectionRow, RecordingRow, SegmentRow, SpeakerRow, WindowRow
from index.store.library import SPEAKER_KINDS, Library, correction_count, segments_in
from moss_audio.tasks import TimedText

Turns = list[list[TimedText]]


def stored_labels(library: Library, recording: str) -> dict[int, VoiceLabel]:
    """What a model called the speaker of each sentence, by the sentence's number."""
    query = select(
        SegmentRow.id, SegmentRow.window_id, SegmentRow.voice_label_part, SegmentRow.voice_label
    ).where(SegmentRow.recording_id == recording, SegmentRow.voice_label.is_not(None))
    with library.database.transaction() as session:
        rows = session.execute(query).all()
    return {
        sentence: VoiceLabel(window, part, name)
        for sentence, window, part, name in rows
        if window is not None and part is not None and name is not None
    }


class DiarizeStage(Stage[WindowRow, Turns]):
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
            return session.scalars(query.order_by(WindowRow.start)).all()

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
        for row, label in zip(rows, align_labels(sentences, result, window.id), strict=True):
            row.voice_label_part = None if label is None else label.part
            row.voice_label = None if label is None else label.name
        session.execute(update(WindowRow).where(WindowRow.id == window.id).values(labelled=True))

    def _count(self) -> int:
        """Windows in which something was said."""
        said = select(SegmentRow.window_id).where(
            SegmentRow.recording_id == self.context.id, SegmentRow.kind == "speech"
        )
        with self.context.database.transaction() as session:
            return session.scalar(select(func.count()).where(WindowRow.id.in_(said))) or 0


def diarize(
    context: IngestContext,
    speech: Sequence[Span],
    model: MossSpeakers | None,
    encoder: VoiceEncoder | None = None,
) -> None:
    """Name the sentences that have no speaker; names that there are stay.

    Args:
        context: The run it is part of.
        speech: Detected speech.
        model: What is asked who speaks; None leaves it to the voices alone.
        encoder: What compares voices; by default the one of this process.

    Raises:
        Cancelled: The context's ``cancel`` was set.
    """
    if all(sentence.speaker is not None for sentence in _sentences(context.library, context.id)):
        return
    if model is not None:
        DiarizeStage(context, model, speech).run()
    duration = context.recording.duration
    context.report(Progress(StageName.IDENTIFYING_SPEAKERS, duration, duration))
    with context.database.transaction() as session:
        expected = session.get_one(RecordingRow, context.id).expected_speakers
    try:
        _name_sentences(context.library, context.id, speech, expected, encoder)
        context.forget_notes(NoteKind.NOT_DIARIZED)
    except MossAgentError as error:
        # The transcript is worth having without names; a late stage must not cost an early one.
        note = Note(NoteKind.NOT_DIARIZED, StageName.IDENTIFYING_SPEAKERS, detail=str(error))
        context.add_note(note)


def diarize_again(
    context: IngestContext,
    speech: Sequence[Span],
    model: MossSpeakers | None,
    speakers: int | None,
    drop_corrections: bool,
    encoder: VoiceEncoder | None = None,
) -> None:
    """Name every sentence anew, with the number of speakers given or estimated; former names are lost.

    Raises:
        WouldLoseCorrections: Somebody corrected who speaks, also while it was found out, and that may not be
            dropped; the names stay.
    """
    if model is not None:
        DiarizeStage(context, model, speech, anew=True).run()
    _name_sentences(context.library, context.id, speech, speakers, encoder, again=True, drop=drop_corrections)


def _sentences(library: Library, recording: str) -> list[Segment]:
    return [segment for segment in library.segments(recording) if segment.kind == "speech"]


def _name_sentences(
    library: Library,
    recording: str,
    speech: Sequence[Span],
    expected: int | None,
    encoder: VoiceEncoder | None,
    again: bool = False,
    drop: bool = False,
) -> None:
    """Name sentences: with ``again`` all of them, and former speakers go; else those that have no speaker."""
    sentences = _sentences(library, recording)
    anew = again or not any(sentence.speaker for sentence in sentences)
    assign = assign_speakers if anew else assign_remaining_speakers
    stored = stored_labels(library, recording)
    labels = [stored.get(sentence.id) for sentence in sentences]
    names = assign(library.audio_path(recording), sentences, speech, expected, labels, encoder)
    with library.database.changing() as session:
        if again:
            count = 0 if drop else correction_count(session, recording, of_speakers=True)
            if count:
                raise would_lose("Its speakers have", count, "identify them again")
            session.execute(delete(SpeakerRow).where(SpeakerRow.recording_id == recording))
            _supersede_corrections(session, recording)
        rows = session.scalars(select(SpeakerRow).where(SpeakerRow.recording_id == recording))
        speakers = {row.name: row for row in rows}
        now = [item for item in segments_in(session, recording) if item.kind == "speech"]
        for sentence, name in zip(now, _names_now(now, sentences, names), strict=True):
            if name is None or (not again and sentence.speaker is not None):
                continue
            if name not in speakers:
                speakers[name] = SpeakerRow(recording_id=recording, name=name)
                session.add(speakers[name])
                session.flush()
            named = update(SegmentRow).where(SegmentRow.id == sentence.id)
            if not again:
                # Somebody may have said who speaks while the voices were compared.
                named = named.where(SegmentRow.speaker_id.is_(None))
            session.execute(named.values(speaker_id=speakers[name].id))


def _names_now(
    now: Sequence[Segment], then: Sequence[Segment], names: Sequence[str | None]
) -> list[str | None]:
    """The names that were found for sentences as those of today's: somebody may have split some meanwhile."""
    found = {sentence.id: name for sentence, name in zip(then, names, strict=True)}

    def whole(part: Segment) -> str | None:
        shared = [
            min(part.end, sentence.end) - max(part.start, sentence.start)
            if sentence.channel == part.channel
            else 0.0
            for sentence in then
        ]
        longest = int(np.argmax(shared)) if shared else 0
        return names[longest] if shared and shared[longest] > 0 else None

    return [found[sentence.id] if sentence.id in found else whole(sentence) for sentence in now]


def _supersede_corrections(session: Session, recording: str) -> None:
    """Who speaks was found out anew: what somebody corrected of it before holds no longer."""
    row = session.get_one(RecordingRow, recording)
    row.revision += 1
    spoken = (SegmentRow.recording_id == recording, SegmentRow.kind == "speech")
    session.execute(update(SegmentRow).where(*spoken).values(version=row.revision))
    theirs = update(CorrectionRow).where(
        CorrectionRow.recording_id == recording, CorrectionRow.kind.in_(SPEAKER_KINDS)
    )
    now = datetime.now(UTC).isoformat(timespec="seconds")
    session.execute(theirs.values(undone_at=func.coalesce(CorrectionRow.undone_at, now), superseded=True))


def assign_speakers(
    audio_path: Path,
    segments: Sequence[Segment],
    speech: Sequence[Span],
    speakers: int | None = None,
    labels: Sequence[VoiceLabel | None] = (),
    encoder: VoiceEncoder | None = None,
) -> list[str | None]:
    """Find who says each segment of a recording.

    Args:
        audio_path: 16 kHz FLAC; only the segments' own audio is read, a little at a time.
        segments: In order of time. Sides of a conversation, each on a channel of its own, have no speaker in
            common.
        speech: Detected speech; pauses inside segments are left out with it.
        speakers: Their number when known; by default it is estimated.
        labels: A model's label for each segment, where there is any.
        encoder: What compares voices; by default the one of this process.

    Returns:
        One name a segment, ``Speaker 1`` being the first to speak; None where nobody can be heard
        (sounds, music, digital silence).

    Raises:
        WeightsError: The encoder's weights are missing or not the published ones.
    """
    labels = labels or [None] * len(segments)
    sides = _sides(audio_path, segments, speech, encoder)
    if speakers is not None and speakers < len(sides):
        sides = [_joined(sides)]
    counts = _counts([side.chunks for side in sides], speakers)
    heard: list[Hashable | None] = [None] * len(segments)
    for number, (side, count) in enumerate(zip(sides, counts, strict=True)):
        told = _speaker_labels(side.chunks, [labels[index] for index in side.segments])
        clusters = constrained_clusters(side.chunks, told, count)
        for index, cluster in zip(
            side.segments, _longest_heard(len(side.segments), side.chunks, clusters), strict=True
        ):
            heard[index] = None if cluster is None else (number, cluster)
    order = dict.fromkeys(cluster for cluster in heard if cluster is not None)
    names = {cluster: f"Speaker {number}" for number, cluster in enumerate(order, 1)}
    return [None if cluster is None else names[cluster] for cluster in heard]


def assign_remaining_speakers(
    audio_path: Path,
    segments: Sequence[Segment],
    speech: Sequence[Span],
    speakers: int | None = None,
    labels: Sequence[VoiceLabel | None] = (),
    encoder: VoiceEncoder | None = None,
) -> list[str | None]:
    """Give the segments without a speaker to those that there are, and to new ones where none is near.

    As ``assign_speakers``, but segments that have a speaker keep it.
    """
    labels = labels or [None] * len(segments)
    taken = list(dict.fromkeys(segment.speaker for segment in segments if segment.speaker is not None))
    given = [segment.speaker for segment in segments]
    sides = _sides(audio_path, segments, speech, encoder)
    for side in sides:
        own = [segments[index] for index in side.segments]
        names = list(dict.fromkeys(segment.speaker for segment in own if segment.speaker is not None))
        numbers = {name: number for number, name in enumerate(names)}
        known = np.array(
            [-1 if segment.speaker is None else numbers[segment.speaker] for segment in own], dtype=np.int64
        )
        open_labels = [
            None if segment.speaker is not None else labels[index]
            for index, segment in zip(side.segments, own, strict=True)
        ]
        clusters = incremental_clusters(
            side.chunks,
            known[side.chunks.owner],
            len(names),
            _speaker_labels(side.chunks, open_labels),
            speakers if len(sides) == 1 else None,
        )
        heard = _longest_heard(len(own), side.chunks, clusters)
        count = 1 + max((cluster for cluster in heard if cluster is not None), default=-1)
        while len(names) < count:
            names.append(_new_name(taken))
            taken.append(names[-1])
        for index, cluster in zip(side.segments, heard, strict=True):
            given[index] = given[index] or (None if cluster is None else names[cluster])
    return given


@dataclass(frozen=True)
class _Side:
    """What is said on one channel.

    Attributes:
        segments: Indices of its segments among all.
        chunks: Their voices; a chunk's owner is an index into ``segments``.
    """

    segments: list[int]
    chunks: SpeechChunks


def _sides(
    audio_path: Path, segments: Sequence[Segment], speech: Sequence[Span], encoder: VoiceEncoder | None
) -> list[_Side]:
    """The sides of a conversation, usually one."""
    sides = []
    for channel in dict.fromkeys(segment.channel for segment in segments):
        own = [index for index, segment in enumerate(segments) if segment.channel == channel]
        spoken = [span for span in speech if span.channel == channel]
        chunks = embed_speech(audio_path, [segments[index] for index in own], spoken, encoder=encoder)
        sides.append(_Side(own, chunks))
    return sides


def _joined(sides: Sequence[_Side]) -> _Side:
    """All sides as one."""
    before = np.cumsum([0, *(len(side.segments) for side in sides)])
    chunks = SpeechChunks(
        np.concatenate([side.chunks.vectors for side in sides]),
        np.concatenate([side.chunks.seconds for side in sides]),
        np.concatenate([side.chunks.owner + first for side, first in zip(sides, before, strict=False)]),
    )
    return _Side([index for side in sides for index in side.segments], chunks)


def _counts(sides: Sequence[SpeechChunks], speakers: int | None) -> list[int | None]:
    """How many speakers each side has; None where that is to be estimated."""
    if speakers is None or len(sides) < 2:
        return [speakers] * len(sides)
    counts = [1] * len(sides)
    if speakers > len(sides):
        counts = [len(np.unique(estimate_clusters(side.vectors, side.seconds))) or 1 for side in sides]
    while sum(counts) > speakers:
        counts[counts.index(max(counts))] -= 1
    while sum(counts) < speakers:
        share = [float(side.seconds.sum()) / count for side, count in zip(sides, counts, strict=True)]
        counts[share.index(max(share))] += 1
    return list(counts)


def _speaker_labels(chunks: SpeechChunks, labels: Sequence[VoiceLabel | None]) -> SpeakerLabels:
    """The labels of segments as those of their chunks, in numbers."""
    known = list(dict.fromkeys(label for label in labels if label is not None))
    numbers = {label: number for number, label in enumerate(known)}
    scopes: dict[Hashable, int] = {}
    for label in known:
        scopes.setdefault(label.scope, len(scopes))
    of_segment = np.array([-1 if label is None else numbers[label] for label in labels], dtype=np.int64)
    none = np.full(len(chunks.owner), -1, dtype=np.int64)
    return SpeakerLabels(
        of_segment[chunks.owner] if len(of_segment) else none,
        np.array([scopes[label.scope] for label in known], dtype=np.int64),
    )


def _longest_heard(count: int, chunks: SpeechChunks, clusters: np.ndarray) -> list[int | None]:
    """The cluster heard longest in each of ``count`` segments; None where nobody is heard."""
    heard: list[int | None] = [None] * count
    for segment in np.unique(chunks.owner).tolist():
        own = chunks.owner == segment
        heard[segment] = int(np.bincount(clusters[own], weights=chunks.seconds[own]).argmax())
    return heard


def _new_name(names: Sequence[str]) -> str:
    number = len(names) + 1
    while f"Speaker {number}" in names:
        number += 1
    return f"Speaker {number}"
