"""Voices of sentences that were heard when the speakers of a recording had their names already."""

from __future__ import annotations

import numpy as np

from index.labelled_voices import Told, Units, likeness_to, take_together
from index.voice_clusters import (
    MAX_ESTIMATED,
    Clusters,
    absorb_brief_voices,
    compact,
    estimate_clusters,
    join_like_voices,
    means,
)
from index.voice_pieces import Pieces


def later_clusters(
    pieces: Pieces, named: np.ndarray, count: int, told: Told, speakers: int | None = None
) -> np.ndarray:
    """Give pieces to the speakers that there are, and to new ones where none is near.

    What is near is what clustering joins. Nobody's own pieces move, and no two speakers are joined.

    Args:
        pieces: Voices along the recording.
        named: int ``[n]``, number of the speaker each piece belongs to; -1 for those to be given.
        count: How many speakers there are.
        told: Labels of the pieces to be given.
        speakers: The number of speakers when known; there are new ones up to this number only.

    Returns:
        int ``[n]``, speakers' numbers; new ones come after those that there are.
    """
    old, new = np.flatnonzero(named >= 0), np.flatnonzero(named < 0)
    if not len(new):
        return named
    fresh = pieces.some(new)
    alone = estimate_clusters(fresh.vectors, fresh.seconds)
    units = take_together(fresh, Told(told.groups[new], told.scopes), alone)
    clusters, centres = _joined(pieces, named, units)
    # A speaker may be several clusters: whom the user merged, and who sounds different at times.
    speaker = dict(zip(clusters.of[: len(old)].tolist(), named[old].tolist(), strict=True))
    likeness = likeness_to(centres, fresh, units, clusters.of[len(old) :])
    unknown = [one for one in range(len(centres)) if one not in speaker]
    unknown.sort(key=lambda one: -clusters.seconds[one])
    room = (speakers or MAX_ESTIMATED) - count
    likeness[:, unknown[max(0 if speaker else 1, room) :]] = -np.inf
    of = named.copy()
    for at, one in zip(new, likeness.argmax(axis=1).tolist(), strict=True):
        if one not in speaker:
            speaker[one] = max(count, *(number + 1 for number in speaker.values())) if speaker else count
        of[at] = speaker[one]
    return of


def _joined(pieces: Pieces, named: np.ndarray, units: Units) -> tuple[Clusters, np.ndarray]:
    """Clusters of the pieces that speakers have, and then of those in units; and their mean voices."""
    old, new = np.flatnonzero(named >= 0), np.flatnonzero(named < 0)
    voices = _voices(pieces, named, old)
    firm = units.of >= 0
    numbers = np.concatenate([voices, int(voices.max(initial=-1)) + 1 + units.of[firm]])
    both = np.concatenate([old, new[firm]])
    owner = dict(zip(voices.tolist(), named[old].tolist(), strict=True))
    vectors, seconds = pieces.vectors[both], pieces.seconds[both]
    clusters = Clusters.made(vectors, seconds, numbers, _apart(owner, units.apart))
    join_like_voices(clusters)
    absorb_brief_voices(clusters, settled=np.isin(np.arange(len(clusters.sums)), clusters.of[: len(old)]))
    return clusters, means(vectors, seconds, clusters.of)


def _voices(pieces: Pieces, named: np.ndarray, old: np.ndarray) -> np.ndarray:
    """Voices of the speakers that there are, int ``[len(old)]``: one or more for each."""
    voices = np.zeros(len(old), dtype=np.int64)
    after = 0
    for speaker in np.unique(named[old]):
        own = named[old] == speaker
        some = pieces.some(old[own])
        voices[own] = after + compact(estimate_clusters(some.vectors, some.seconds))
        after = int(voices[own].max()) + 1
    return voices


def _apart(owner: dict[int, int], apart: np.ndarray) -> np.ndarray:
    """Which voices are not one: those of two speakers, and those of two labels."""
    owners = np.array([owner[one] for one in range(len(owner))], dtype=np.int64)
    whole = np.zeros((len(owner) + len(apart),) * 2, dtype=bool)
    whole[: len(owner), : len(owner)] = owners[:, None] != owners[None]
    whole[len(owner) :, len(owner) :] = apart
    return whole
