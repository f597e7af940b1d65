"""Voices of sentences that were heard when the speakers of a recording had their names already.

Voices of a recording, given whom a model takes for the speaker, window by window.

A label such as ``S01`` means one voice within one window only. Which labels of different windows are the
same voice, the voice vectors say, with one rule: two labels of one window are two voices. A model is not
believed against the voices, though: what it gives one label but is several voices, and two labels with
voices as alike as two halves of one speaker, count for nothing. Where that leaves nothing, the vectors
alone decide (``index/diarization/clustering.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from index.diarization.clustering import (
    MAX_ESTIMATED,
    MIN_SPEAKER_SECONDS,
    Clusters,
    absorb_brief_voices,
    agreement,
    compact,
    estimate_clusters,
    join_like_voices,
    known_clusters,
    means,
    steady,
    sums,
    unit,
)
from index.diarization.voice_embeddings import Pieces

ONE_VOICE_SHARE = 0.8
"""Share of the speech under one label that must be one voice for the label to be believed."""

ONE_SPEAKER = 0.95
"""Agreement from which two labels of one window are one speaker after all. Halves of one speaker measured
0.97–1.06, different speakers 0.53–0.76; between this and ``SAME_VOICE`` the labels decide."""

LABEL_BONUS = 0.05
SHORT_BONUS = 0.15
"""Cosine by which another voice must be closer to a piece than that of its label to get it, and the same
for pieces too short to be told by their voice. Twice as much measured worse with a tenth of the labels
wrong, and no better with all of them right."""


@dataclass(frozen=True)
class Told:
    """What a model said of pieces.

    Attributes:
        groups: int ``[n]``, the label of each piece; labels are numbered over the recording; -1 for none.
        scopes: int ``[n_groups]``, where each label is valid: labels of one scope are different voices.
    """

    groups: np.ndarray
    scopes: np.ndarray


@dataclass(frozen=True)
class Units:
    """Pieces that are taken together when voices are clustered.

    Attributes:
        of: int ``[n]``, the unit of each piece; -1 for those too short to be told by their voice.
        apart: bool ``[n_units, n_units]``, units that are two voices.
        groups: int ``[n]``, the label of each piece, where it is believed; else -1.
        scopes: As in ``Told``.
        of_label: The unit of each believed label that has one.
    """

    of: np.ndarray
    apart: np.ndarray
    groups: np.ndarray
    scopes: np.ndarray
    of_label: dict[int, int]


def labelled_clusters(pieces: Pieces, told: Told, speakers: int | None = None) -> np.ndarray:
    """Cluster pieces into speakers, with the help of labels.

    Args:
        pieces: Voices along the recording.
        told: The labels.
        speakers: The number of speakers when known; it goes before what the labels say.

    Returns:
        int ``[n]``, cluster numbers from 0; where the labels tell nothing, those of the vectors alone.
    """
    vectors, seconds = pieces.vectors, pieces.seconds
    alone = known_clusters(vectors, seconds, speakers) if speakers else estimate_clusters(vectors, seconds)
    units = take_together(pieces, told, alone)
    least = speakers or 1
    if not units.apart.any() or len(units.apart) < least:
        return alone
    firm = units.of >= 0
    clusters = Clusters.made(vectors[firm], seconds[firm], units.of[firm], units.apart)
    join_like_voices(clusters, at_least=least)
    absorb_brief_voices(clusters, at_least=least)
    join_like_voices(clusters, at_most=speakers or MAX_ESTIMATED, at_least=least)
    centres = means(vectors[firm], seconds[firm], clusters.of)
    return compact(likeness_to(centres, pieces, units, clusters.of).argmax(axis=1))


def take_together(pieces: Pieces, told: Told, alone: np.ndarray) -> Units:
    """Units of pieces: one for each label that is believed, and voices of what is left.

    Args:
        pieces: Voices along the recording.
        told: The labels.
        alone: int ``[n]``, clusters by the vectors alone, which labels are held against.
    """
    firm = steady(pieces.seconds)
    groups = _believed(pieces, told.groups, alone, firm)
    labels = np.unique(groups[firm & (groups >= 0)])
    of = np.full(len(groups), -1, dtype=np.int64)
    for number, label in enumerate(labels):
        of[firm & (groups == label)] = number
    free = np.flatnonzero(firm & (groups < 0))
    if len(free):
        of[free] = len(labels) + compact(estimate_clusters(pieces.vectors[free], pieces.seconds[free]))
    count = int(of.max(initial=-1)) + 1
    apart = np.zeros((count, count), dtype=bool)
    if len(labels):
        own = (of >= 0) & (of < len(labels))
        whole = sums(pieces.vectors[own], pieces.seconds[own], of[own])
        totals = np.bincount(of[own], weights=pieces.seconds[own])
        scopes = told.scopes[labels]
        long = totals >= MIN_SPEAKER_SECONDS
        differ = (agreement(whole, totals, whole, totals) < ONE_SPEAKER) & np.outer(long, long)
        apart[: len(labels), : len(labels)] = (scopes[:, None] == scopes[None]) & differ
        np.fill_diagonal(apart, False)
    return Units(of, apart, groups, told.scopes, {int(one): at for at, one in enumerate(labels)})


def _believed(pieces: Pieces, groups: np.ndarray, alone: np.ndarray, firm: np.ndarray) -> np.ndarray:
    """The labels without those that are several voices, and without pieces that are plainly another's."""
    kept = groups.copy()
    for label in np.unique(groups[groups >= 0]):
        own = np.flatnonzero(firm & (groups == label))
        if not len(own):
            continue
        heard = np.bincount(alone[own], weights=pieces.seconds[own])
        if heard.max() < ONE_VOICE_SHARE * heard.sum():
            kept[groups == label] = -1
        else:
            kept[own[alone[own] != heard.argmax()]] = -1
    return kept


def likeness_to(centres: np.ndarray, pieces: Pieces, units: Units, clusters: np.ndarray) -> np.ndarray:
    """How likely each piece is of each voice: by its vector, and more so of the one that its label became.

    Args:
        centres: ``[n_clusters, d]``, mean voices.
        pieces: Voices along the recording.
        units: What was clustered.
        clusters: int ``[n_firm]``, the cluster of each piece that is in a unit.

    Returns:
        ``[n, n_clusters]``, cosines and a bonus; for a label of which nothing is long enough to be told by
        its voice, the same for all its pieces, and less so of the voices of its window's other labels.
    """
    firm = units.of >= 0
    of_unit = dict(zip(units.of[firm].tolist(), clusters.tolist(), strict=True))
    of_label = {label: of_unit[one] for label, one in units.of_label.items()}
    found = pieces.vectors @ centres.T
    for label in np.unique(units.groups[units.groups >= 0]).tolist():
        own = units.groups == label
        if label in of_label:
            found[own, of_label[label]] += np.where(firm[own], LABEL_BONUS, SHORT_BONUS)
            continue
        found[own] = unit(pieces.seconds[own] @ pieces.vectors[own][None]) @ centres.T
        rivals = {one for other, one in of_label.items() if units.scopes[other] == units.scopes[label]}
        found[np.ix_(own, sorted(rivals))] -= SHORT_BONUS
    return found


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
