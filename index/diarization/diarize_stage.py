"""The diarization stage: who says each sentence, from voices, and from a model's labels where there are any.

    segments → chunks of speech → voice vectors → clusters → names by first appearance

A model that labels speakers is asked window by window, and its labels are laid on the sentences; the
transcript is not changed. What is said of a window is stored in one transaction, so a ``kill -9`` costs the
windows in work. A window on which the model fails has no labels; there the voices alone decide.

Names are estimates: similar voices, a change of microphone and overlapping talk mislead.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from sqlalchemy import delete, func, select, update

from index.audio.decode import read_range
from index.audio.windows import AudioWindow
from index.diarization.alignment import VoiceLabel, align_labels
from index.diarization.constraints import SpeakerLabels, constrained_clusters, incremental_clusters
from index.diarization.moss_speakers import MossSpeakers
from index.diarization.voice_embeddings import SpeechChunks, embed_speech
from index.pipeline.parallel import as_finished
from index.pipeline.stage import Failures, Intake
from index.progress import Meter, Progress
from index.recording_errors import Cancelled, HearingError, MossAgentError
from index.records import Segment, Span
from index.store.database import RecordingRow, SegmentRow, SpeakerRow, WindowRow
from index.store.library import Library
from moss_audio.tasks import TimedText

_VOICE_ONLY = "Some windows were diarized by voice only"
_NOT_ASKED = re.compile(rf"(?:{_VOICE_ONLY}|Who speaks was told by the voices alone in places) \(.*?\)\.")

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
            self.intake.note(f"{_VOICE_ONLY} ({reason}).")

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
            for row, label in zip(rows, align_labels(sentences, turns, window.id), strict=True):
                row.voice_label_part = None if label is None else label.part
                row.voice_label = None if label is None else label.name
            session.execute(update(WindowRow).where(WindowRow.id == window.id).values(labelled=True))
        self.intake.count_time()


def diarize(intake: Intake, speech: Sequence[Span], model: MossSpeakers | None) -> None:
    """Name the sentences that have no speaker; names that there are stay.

    Args:
        intake: The recording.
        speech: Detected speech.
        model: What is asked who speaks; None leaves it to the voices alone.

    Raises:
        Cancelled: The intake's ``cancel`` was set.
    """
    if all(sentence.speaker is not None for sentence in _sentences(intake.library, intake.id)):
        return
    if model is not None:
        SpeakerPass(intake, model).run(speech)
    duration = intake.recording.duration
    intake.report(Progress("telling speakers apart", duration, duration))
    with intake.database.transaction() as session:
        expected = session.get_one(RecordingRow, intake.id).expected_speakers
    try:
        _name_sentences(intake.library, intake.id, speech, expected)
    except MossAgentError as error:
        # The transcript is worth having without names; a late stage must not cost an early one.
        intake.note(f"The speakers could not be told apart: {error}")


def diarize_again(
    intake: Intake, speech: Sequence[Span], model: MossSpeakers | None, speakers: int | None
) -> None:
    """Name every sentence anew, with the number of speakers given or estimated; former names are lost."""
    if model is not None:
        SpeakerPass(intake, model).run(speech, anew=True)
    with intake.database.transaction() as session:
        former = session.scalars(select(SpeakerRow.id).where(SpeakerRow.recording_id == intake.id)).all()
    _name_sentences(intake.library, intake.id, speech, speakers, former)


def _sentences(library: Library, recording: str) -> list[Segment]:
    return [segment for segment in library.segments(recording) if segment.kind == "speech"]


def _name_sentences(
    library: Library,
    recording: str,
    speech: Sequence[Span],
    expected: int | None,
    former: Sequence[int] | None = None,
) -> None:
    """Name sentences: all of them where ``former`` speakers are to go, else those that have no speaker."""
    sentences = _sentences(library, recording)
    anew = former is not None or not any(sentence.speaker for sentence in sentences)
    assign = assign_speakers if anew else assign_remaining_speakers
    stored = stored_labels(library, recording)
    labels = [stored.get(sentence.id) for sentence in sentences]
    names = assign(library.audio_path(recording), sentences, speech, expected, labels)
    with library.database.transaction() as session:
        if former:
            session.execute(delete(SpeakerRow).where(SpeakerRow.id.in_(former)))
        rows = session.scalars(select(SpeakerRow).where(SpeakerRow.recording_id == recording))
        speakers = {row.name: row for row in rows}
        for sentence, name in zip(sentences, names, strict=True):
            if name is None or (former is None and sentence.speaker is not None):
                continue
            if name not in speakers:
                speakers[name] = SpeakerRow(recording_id=recording, name=name)
                session.add(speakers[name])
                session.flush()
            values = {"speaker_id": speakers[name].id}
            session.execute(update(SegmentRow).where(SegmentRow.id == sentence.id).values(**values))


def assign_speakers(
    audio_path: Path,
    segments: Sequence[Segment],
    speech: Sequence[Span],
    speakers: int | None = None,
    labels: Sequence[VoiceLabel | None] = (),
) -> list[str | None]:
    """Find who says each segment of a recording.

    Args:
        audio_path: 16 kHz mono FLAC; only the segments' own audio is read, a little at a time.
        segments: In order of time.
        speech: Detected speech; pauses inside segments are left out with it.
        speakers: Their number when known; by default it is estimated.
        labels: A model's label for each segment, where there is any.

    Returns:
        One name a segment, ``Speaker 1`` being the first to speak; None where nobody can be heard
        (sounds, music, digital silence).

    Raises:
        WeightsError: The encoder's weights are missing or not the published ones.
    """
    chunks = embed_speech(audio_path, segments, speech)
    clusters = constrained_clusters(chunks, _speaker_labels(chunks, labels), speakers)
    heard = _longest_heard(len(segments), chunks, clusters)
    order = dict.fromkeys(cluster for cluster in heard if cluster is not None)
    names = {cluster: f"Speaker {number}" for number, cluster in enumerate(order, 1)}
    return [None if cluster is None else names[cluster] for cluster in heard]


def assign_remaining_speakers(
    audio_path: Path,
    segments: Sequence[Segment],
    speech: Sequence[Span],
    speakers: int | None = None,
    labels: Sequence[VoiceLabel | None] = (),
) -> list[str | None]:
    """Give the segments without a speaker to those that there are, and to new ones where none is near.

    As ``assign_speakers``, but segments that have a speaker keep it.
    """
    chunks = embed_speech(audio_path, segments, speech)
    names = list(dict.fromkeys(segment.speaker for segment in segments if segment.speaker is not None))
    numbers = {name: number for number, name in enumerate(names)}
    known = np.array(
        [-1 if segment.speaker is None else numbers[segment.speaker] for segment in segments], dtype=np.int64
    )
    open_labels = [
        None if segment.speaker is not None else label
        for segment, label in zip(segments, labels or [None] * len(segments), strict=True)
    ]
    clusters = incremental_clusters(
        chunks, known[chunks.owner], len(names), _speaker_labels(chunks, open_labels), speakers
    )
    heard = _longest_heard(len(segments), chunks, clusters)
    count = 1 + max((cluster for cluster in heard if cluster is not None), default=-1)
    while len(names) < count:
        names.append(_new_name(names))
    given = [None if cluster is None else names[cluster] for cluster in heard]
    return [segment.speaker or name for segment, name in zip(segments, given, strict=True)]


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
