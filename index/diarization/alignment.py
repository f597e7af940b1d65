"""Who speaks when: one name a sentence, from voices, and from a model's labels where there are any.

    segments → pieces of a few seconds → voice vectors → clusters → names by first appearance

Names are estimates: similar voices, a change of microphone and overlapping talk mislead.

Laying the turns that a model heard on the sentences of a transcript: who says which.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np

from index.diarization.constraints import Told, labelled_clusters, later_clusters
from index.diarization.voice_embeddings import Pieces, hear_voices
from index.records import Segment, Span
from moss_audio.generation.loops import words_of
from moss_audio.tasks import TimedText

LEAST_SHARE = 0.5
"""Share of a sentence, in time and in words together (so at most 2), that its label must have."""

CLEARLY_MORE = 2.0
"""Times as much as that must be of what any other label has."""


def labels_of(sentences: Sequence[Segment], parts: Sequence[Sequence[TimedText]]) -> list[str | None]:
    """Which label each sentence has, by the time and by the words that it shares with turns.

    Args:
        sentences: In time order.
        parts: Turns with labels, on the same clock, for each stretch within which labels mean something.

    Returns:
        One label a sentence, which says its part too; None where no label has most of it.
    """
    turns = [(f"{part}.{one.speaker}", one) for part, found in enumerate(parts) for one in found]
    words = _shared_words(sentences, turns)
    labels: list[str | None] = []
    for sentence, shared in zip(sentences, words, strict=True):
        length = max(sentence.end - sentence.start, 0.01)
        for label, turn in turns:
            overlap = min(turn.end, sentence.end) - max(turn.start, sentence.start)
            if overlap > 0:
                shared[label] = shared.get(label, 0.0) + overlap / length
        labels.append(_clearest(shared))
    return labels


def _shared_words(
    sentences: Sequence[Segment], turns: Sequence[tuple[str, TimedText]]
) -> list[dict[str, float]]:
    """For each sentence the share of its words that turns of each label have in the same order."""
    written = [(word.key, at) for at, one in enumerate(sentences) for word in words_of(one.text)]
    heard = [(word.key, label) for label, turn in turns for word in words_of(turn.text)]
    counts: list[dict[str, float]] = [{} for _ in sentences]
    totals = [len(words_of(one.text)) for one in sentences]
    matcher = SequenceMatcher(None, [key for key, _ in written], [key for key, _ in heard], autojunk=False)
    for mine, theirs, size in matcher.get_matching_blocks():
        for step in range(size):
            at, label = written[mine + step][1], heard[theirs + step][1]
            counts[at][label] = counts[at].get(label, 0.0) + 1 / totals[at]
    return counts


def _clearest(shared: dict[str, float]) -> str | None:
    ranked = sorted(shared, key=lambda label: -shared[label])
    if not ranked or shared[ranked[0]] < LEAST_SHARE:
        return None
    if len(ranked) > 1 and shared[ranked[0]] < CLEARLY_MORE * shared[ranked[1]]:
        return None
    return ranked[0]


Label = tuple[Hashable, str]
"""What a model calls a speaker, after the stretch within which it calls the same voice so."""


def assign_speakers(
    audio_path: Path,
    segments: Sequence[Segment],
    speech: Sequence[Span],
    speakers: int | None = None,
    labels: Sequence[Label | None] = (),
) -> list[str | None]:
    """Tell the speakers of a recording apart.

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
    pieces = hear_voices(audio_path, segments, speech)
    clusters = labelled_clusters(pieces, _told(pieces, labels), speakers)
    found = _longest(len(segments), pieces, clusters)
    order = dict.fromkeys(one for one in found if one is not None)
    names = {cluster: f"Speaker {number}" for number, cluster in enumerate(order, 1)}
    return [None if one is None else names[one] for one in found]


def assign_rest(
    audio_path: Path,
    segments: Sequence[Segment],
    speech: Sequence[Span],
    speakers: int | None = None,
    labels: Sequence[Label | None] = (),
) -> list[str | None]:
    """Give the segments without a speaker to those that there are, and to new ones where none is near.

    As ``assign_speakers``, but speakers that segments have stay.
    """
    pieces = hear_voices(audio_path, segments, speech)
    names = list(dict.fromkeys(one.speaker for one in segments if one.speaker is not None))
    numbers = {name: number for number, name in enumerate(names)}
    of = np.array([-1 if one.speaker is None else numbers[one.speaker] for one in segments], dtype=np.int64)
    later = [None if one.speaker is not None else label for one, label in _with_labels(segments, labels)]
    clusters = later_clusters(pieces, of[pieces.owner], len(names), _told(pieces, later), speakers)
    found = _longest(len(segments), pieces, clusters)
    for _ in range(1 + max((one for one in found if one is not None), default=-1) - len(names)):
        names.append(_new_name(names))
    given = [None if one is None else names[one] for one in found]
    return [one.speaker or name for one, name in zip(segments, given, strict=True)]


def _with_labels(
    segments: Sequence[Segment], labels: Sequence[Label | None]
) -> list[tuple[Segment, Label | None]]:
    return list(zip(segments, labels or [None] * len(segments), strict=True))


def _told(pieces: Pieces, labels: Sequence[Label | None]) -> Told:
    """The labels of segments as those of pieces, in numbers."""
    known = list(dict.fromkeys(one for one in labels if one is not None))
    numbers = {label: number for number, label in enumerate(known)}
    scopes = list(dict.fromkeys(scope for scope, _ in known))
    of = np.array([-1 if one is None else numbers[one] for one in labels], dtype=np.int64)
    groups = of[pieces.owner] if len(of) else np.full(len(pieces.owner), -1, dtype=np.int64)
    return Told(groups, np.array([scopes.index(scope) for scope, _ in known], dtype=np.int64))


def _longest(count: int, pieces: Pieces, clusters: np.ndarray) -> list[int | None]:
    """The cluster heard longest in each segment."""
    found: list[int | None] = [None] * count
    for index in np.unique(pieces.owner).tolist():
        own = pieces.owner == index
        found[index] = int(np.bincount(clusters[own], weights=pieces.seconds[own]).argmax())
    return found


def _new_name(names: Sequence[str]) -> str:
    number = len(names) + 1
    while f"Speaker {number}" in names:
        number += 1
    return f"Speaker {number}"
