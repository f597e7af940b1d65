"""Clustering under constraints: by voice, given a model's labels or the speakers that there are already.

Constrained clustering uses the labels that a model gave speakers window by window. A label such as ``S01``
means one voice within one window only. Which labels of different windows are the same voice is decided by the
voice vectors, with one rule: two labels of one window cannot be linked. A model is not trusted against the
voices, though: what it gives one label but is several voices, and two labels with voices as similar as two
halves of one speaker, count for nothing. Where that leaves no label, the vectors alone decide
(``index/diarization/clustering.py``).

Incremental clustering gives the chunks of sentences that were transcribed later to the speakers that there
are, and to new ones where none is near.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from index.diarization.clustering import (
    MAX_ESTIMATED,
    MIN_SPEAKER_SECONDS,
    Clusters,
    absorb_brief_clusters,
    agreement,
    compact,
    estimate_clusters,
    is_steady,
    known_clusters,
    means,
    merge_similar_clusters,
    sums,
    unit,
)
from index.diarization.voice_embeddings import SpeechChunks

ONE_VOICE_SHARE = 0.8
"""Share of the speech under one label that must be one voice for the label to be trusted."""

ONE_SPEAKER = 0.95
"""Agreement from which two labels of one window are one speaker after all. Halves of one speaker measured
0.97–1.06, different speakers 0.53–0.76; between this and ``SAME_VOICE`` the labels decide."""

LABEL_BONUS = 0.05
SHORT_BONUS = 0.15
"""Cosine by which another voice must be closer to a chunk than that of its label to get it, and the same
for chunks too short to know a speaker by. Twice as much measured worse with a tenth of the labels
wrong, and no better with all of them right."""


@dataclass(frozen=True)
class SpeakerLabels:
    """What a model called the speakers of chunks.

    Attributes:
        labels: int ``[n]``, the label of each chunk; labels are numbered over the recording; -1 for none.
        scopes: int ``[n_labels]``, where each label is valid: labels of one scope are different speakers.
    """

    labels: np.ndarray
    scopes: np.ndarray


@dataclass(frozen=True)
class ClusterUnits:
    """Chunks that must be linked, and pairs of such units that cannot be.

    Attributes:
        unit_of: int ``[n]``, the unit of each chunk; -1 for those too short to know a speaker by.
        cannot_link: bool ``[n_units, n_units]``, units that are two speakers.
        labels: int ``[n]``, the label of each chunk where it is trusted; else -1.
        scopes: As in ``SpeakerLabels``.
        unit_of_label: The unit of each trusted label that has one.
    """

    unit_of: np.ndarray
    cannot_link: np.ndarray
    labels: np.ndarray
    scopes: np.ndarray
    unit_of_label: dict[int, int]


def constrained_clusters(
    chunks: SpeechChunks, told: SpeakerLabels, speakers: int | None = None
) -> np.ndarray:
    """Cluster chunks into speakers, with the help of labels.

    Args:
        chunks: Voices along the recording.
        told: The labels.
        speakers: The number of speakers when known; it goes before what the labels say.

    Returns:
        int ``[n]``, cluster numbers from 0; where the labels tell nothing, those of the vectors alone.
    """
    vectors, seconds = chunks.vectors, chunks.seconds
    by_voice = known_clusters(vectors, seconds, speakers) if speakers else estimate_clusters(vectors, seconds)
    units = cluster_units(chunks, told, by_voice)
    least = speakers or 1
    if not units.cannot_link.any() or len(units.cannot_link) < least:
        return by_voice
    steady = units.unit_of >= 0
    clusters = Clusters.from_assignment(
        vectors[steady], seconds[steady], units.unit_of[steady], units.cannot_link
    )
    merge_similar_clusters(clusters, at_least=least)
    absorb_brief_clusters(clusters, at_least=least)
    merge_similar_clusters(clusters, at_most=speakers or MAX_ESTIMATED, at_least=least)
    centres = means(vectors[steady], seconds[steady], clusters.cluster_of)
    return compact(similarity_to(centres, chunks, units, clusters.cluster_of).argmax(axis=1))


def cluster_units(chunks: SpeechChunks, told: SpeakerLabels, by_voice: np.ndarray) -> ClusterUnits:
    """Make one unit for each label that is trusted, and one for each voice of the chunks that are left.

    Args:
        chunks: Voices along the recording.
        told: The labels.
        by_voice: int ``[n]``, clusters by the vectors alone, which labels are checked against.
    """
    steady = is_steady(chunks.seconds)
    labels = _trusted_labels(chunks, told.labels, by_voice, steady)
    trusted = np.unique(labels[steady & (labels >= 0)])
    unit_of = np.full(len(labels), -1, dtype=np.int64)
    for number, label in enumerate(trusted):
        unit_of[steady & (labels == label)] = number
    free = np.flatnonzero(steady & (labels < 0))
    if len(free):
        unit_of[free] = len(trusted) + compact(estimate_clusters(chunks.vectors[free], chunks.seconds[free]))
    count = int(unit_of.max(initial=-1)) + 1
    cannot_link = np.zeros((count, count), dtype=bool)
    if len(trusted):
        own = (unit_of >= 0) & (unit_of < len(trusted))
        whole = sums(chunks.vectors[own], chunks.seconds[own], unit_of[own])
        totals = np.bincount(unit_of[own], weights=chunks.seconds[own])
        scopes = told.scopes[trusted]
        long = totals >= MIN_SPEAKER_SECONDS
        differ = (agreement(whole, totals, whole, totals) < ONE_SPEAKER) & np.outer(long, long)
        cannot_link[: len(trusted), : len(trusted)] = (scopes[:, None] == scopes[None]) & differ
        np.fill_diagonal(cannot_link, False)
    unit_of_label = {int(label): number for number, label in enumerate(trusted)}
    return ClusterUnits(unit_of, cannot_link, labels, told.scopes, unit_of_label)


def _trusted_labels(
    chunks: SpeechChunks, labels: np.ndarray, by_voice: np.ndarray, steady: np.ndarray
) -> np.ndarray:
    """The labels without those that are several voices, and without chunks that are plainly another's."""
    kept = labels.copy()
    for label in np.unique(labels[labels >= 0]):
        own = np.flatnonzero(steady & (labels == label))
        if not len(own):
            continue
        heard = np.bincount(by_voice[own], weights=chunks.seconds[own])
        if heard.max() < ONE_VOICE_SHARE * heard.sum():
            kept[labels == label] = -1
        else:
            kept[own[by_voice[own] != heard.argmax()]] = -1
    return kept


def similarity_to(
    centres: np.ndarray, chunks: SpeechChunks, units: ClusterUnits, clusters: np.ndarray
) -> np.ndarray:
    """How likely each chunk is of each voice: by its vector, and more so of the one that its label became.

    Args:
        centres: ``[n_clusters, d]``, mean voices.
        chunks: Voices along the recording.
        units: What was clustered.
        clusters: int ``[n_steady]``, the cluster of each chunk that is in a unit.

    Returns:
        ``[n, n_clusters]``, cosines and a bonus; for a label of which nothing is long enough to know a
        speaker by, the same for all its chunks, and less so of the voices of its window's other labels.
    """
    steady = units.unit_of >= 0
    cluster_of_unit = dict(zip(units.unit_of[steady].tolist(), clusters.tolist(), strict=True))
    cluster_of_label = {label: cluster_of_unit[number] for label, number in units.unit_of_label.items()}
    found = chunks.vectors @ centres.T
    for label in np.unique(units.labels[units.labels >= 0]).tolist():
        own = units.labels == label
        if label in cluster_of_label:
            found[own, cluster_of_label[label]] += np.where(steady[own], LABEL_BONUS, SHORT_BONUS)
            continue
        found[own] = unit(chunks.seconds[own] @ chunks.vectors[own][None]) @ centres.T
        rivals = {
            cluster
            for other, cluster in cluster_of_label.items()
            if units.scopes[other] == units.scopes[label]
        }
        found[np.ix_(own, sorted(rivals))] -= SHORT_BONUS
    return found


def incremental_clusters(
    chunks: SpeechChunks,
    known: np.ndarray,
    count: int,
    told: SpeakerLabels,
    speakers: int | None = None,
) -> np.ndarray:
    """Give chunks to the speakers that there are, and to new ones where none is near.

    A speaker is near whose voice clustering would merge with the chunk's. Chunks that have a speaker keep it,
    and no two speakers become one.

    Args:
        chunks: Voices along the recording.
        known: int ``[n]``, number of the speaker each chunk belongs to; -1 for those to be given.
        count: How many speakers there are.
        told: Labels of the chunks to be given.
        speakers: The number of speakers when known; there are new ones up to this number only.

    Returns:
        int ``[n]``, speakers' numbers; new ones come after those that there are.
    """
    old, new = np.flatnonzero(known >= 0), np.flatnonzero(known < 0)
    if not len(new):
        return known
    fresh = chunks.some(new)
    by_voice = estimate_clusters(fresh.vectors, fresh.seconds)
    units = cluster_units(fresh, SpeakerLabels(told.labels[new], told.scopes), by_voice)
    clusters, centres = _merged(chunks, known, units)
    cluster_of = clusters.cluster_of
    # A speaker may be several clusters: whom the user merged, and who sounds different at times.
    speaker = dict(zip(cluster_of[: len(old)].tolist(), known[old].tolist(), strict=True))
    similarity = similarity_to(centres, fresh, units, cluster_of[len(old) :])
    unknown = [cluster for cluster in range(len(centres)) if cluster not in speaker]
    unknown.sort(key=lambda cluster: -clusters.seconds[cluster])
    room = (speakers or MAX_ESTIMATED) - count
    similarity[:, unknown[max(0 if speaker else 1, room) :]] = -np.inf
    found = known.copy()
    for chunk, cluster in zip(new, similarity.argmax(axis=1).tolist(), strict=True):
        if cluster not in speaker:
            speaker[cluster] = max(count, *(number + 1 for number in speaker.values())) if speaker else count
        found[chunk] = speaker[cluster]
    return found


def _merged(chunks: SpeechChunks, known: np.ndarray, units: ClusterUnits) -> tuple[Clusters, np.ndarray]:
    """Clusters of the chunks that have a speaker, then of those in units, merged; and their mean voices."""
    old, new = np.flatnonzero(known >= 0), np.flatnonzero(known < 0)
    voices = _voices(chunks, known, old)
    steady = units.unit_of >= 0
    numbers = np.concatenate([voices, int(voices.max(initial=-1)) + 1 + units.unit_of[steady]])
    both = np.concatenate([old, new[steady]])
    speaker_of_voice = dict(zip(voices.tolist(), known[old].tolist(), strict=True))
    vectors, seconds = chunks.vectors[both], chunks.seconds[both]
    cannot_link = _cannot_link(speaker_of_voice, units.cannot_link)
    clusters = Clusters.from_assignment(vectors, seconds, numbers, cannot_link)
    merge_similar_clusters(clusters)
    settled = np.isin(np.arange(len(clusters.sums)), clusters.cluster_of[: len(old)])
    absorb_brief_clusters(clusters, settled=settled)
    return clusters, means(vectors, seconds, clusters.cluster_of)


def _voices(chunks: SpeechChunks, known: np.ndarray, old: np.ndarray) -> np.ndarray:
    """Voices of the speakers that there are, int ``[len(old)]``: one or more for each speaker."""
    voices = np.zeros(len(old), dtype=np.int64)
    after = 0
    for speaker in np.unique(known[old]):
        own = known[old] == speaker
        some = chunks.some(old[own])
        voices[own] = after + compact(estimate_clusters(some.vectors, some.seconds))
        after = int(voices[own].max()) + 1
    return voices


def _cannot_link(speaker_of_voice: dict[int, int], units: np.ndarray) -> np.ndarray:
    """Pairs that cannot be linked, bool: voices of two speakers, and units of two labels behind them."""
    count = len(speaker_of_voice)
    speakers = np.array([speaker_of_voice[voice] for voice in range(count)], dtype=np.int64)
    whole = np.zeros((count + len(units),) * 2, dtype=bool)
    whole[:count, :count] = speakers[:, None] != speakers[None]
    whole[count:, count:] = units
    return whole
