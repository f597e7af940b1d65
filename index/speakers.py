"""Who speaks when: one name a sentence, from voices, and from a model's labels where there are any.

    segments → pieces of a few seconds → voice vectors → clusters → names by first appearance

Names are estimates: similar voices, a change of microphone and overlapping talk mislead.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np

from index.labelled_voices import Told, labelled_clusters
from index.later_voices import later_clusters
from index.records import Segment, Span
from index.voice_pieces import Pieces, hear_voices

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
