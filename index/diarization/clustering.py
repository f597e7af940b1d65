"""Clustering by voice: which chunks of a recording are one speaker.

With the number of speakers unknown, chunks are clustered strictly (average linkage), and the clusters are
then merged while their mean voices agree as well as two samples of one voice of that length would. With
the number known, the chunks are clustered spectrally, which measured as more robust to noise and
reverberation.

Constrained clustering uses the labels that a model gave speakers window by window. A label such as ``S01``
means one voice within one window only. Which labels of different windows are the same voice is decided by the
voice vectors, with one rule: two labels of one window cannot be linked. A model is not trusted against the
voices, though: what it gives one label but is several voices, and two labels with voices as similar as two
halves of one speaker, count for nothing. Where that leaves no label, the vectors alone decide.

Incremental clustering gives the chunks of sentences that were transcribed later to the speakers that there
are, and to new ones where none is near.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from index.diarization.voice_embeddings import WINDOW_SECONDS, SpeechChunks

MAX_CHUNKS = 2000
"""Chunks compared with one another (time and memory grow with the square); of more, an even
selection is clustered and the rest go to the nearest voice."""

STRICT_DISTANCE = 0.2
"""Cosine distance up to which average linkage joins chunks; well inside one speaker's spread."""

SAME_VOICE = 0.90
"""Cosine of two mean voices from which they count as one speaker, given enough speech. Halves of one
speaker measured 0.95–1.0, different speakers up to 0.90 (mostly below 0.8)."""

VOICE_SPREAD = 0.72
"""Typical cosine of two short chunks of the same voice; sets what little speech can be expected to show."""

STEADY_SECONDS = 1.6
"""Speech that counts as one independent sample of a voice."""

SIMILARITY_WIDTH = 0.1
"""Cosine distance over which similarity falls to 1/e in spectral clustering; 0.05 and nearest-neighbour
graphs measured worse."""

MIN_SPEAKER_SECONDS = 3.0
MIN_SPEAKER_SHARE = 0.005
"""A voice heard for less than this in all, or for less than this share of all speech, is given to the
nearest speaker, unless it is far away."""

MAX_ESTIMATED = 20
"""Speakers the estimate finds at most; bad sound would otherwise come out as dozens of voices."""

FAR_VOICE = 0.55
"""Cosine below which even a voice heard briefly is a speaker of its own, given one full window of it
(vectors of less speech than that lie far from everything)."""

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

_NEVER = 10.0
"""Taken from the similarity of two clusters that must not be merged: more than any similarity."""


# --- by voice alone -------------------------------------------------------------------------------------


def estimate_clusters(vectors: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Cluster chunks into an unknown number of speakers.

    Args:
        vectors: float32 ``[n, d]``, see ``SpeechChunks``.
        seconds: ``[n]``.

    Returns:
        int ``[n]``, cluster numbers from 0.
    """
    if len(vectors) < 2:
        return np.zeros(len(vectors), dtype=np.int64)
    chosen = selection(seconds)
    some, weights = vectors[chosen], seconds[chosen]
    strict = Clusters.from_assignment(some, weights, _strict_clusters(some))
    merge_similar_clusters(strict)
    clusters = Clusters.from_assignment(some, weights, refine(some, weights, strict.cluster_of))
    merge_similar_clusters(clusters)
    absorb_brief_clusters(clusters)
    merge_similar_clusters(clusters, at_most=MAX_ESTIMATED)
    return nearest(vectors, means(some, weights, refine(some, weights, clusters.cluster_of)))


def known_clusters(vectors: np.ndarray, seconds: np.ndarray, speakers: int) -> np.ndarray:
    """Cluster chunks into ``speakers`` speakers (fewer where there are fewer chunks).

    Returns:
        int ``[n]``, cluster numbers from 0.
    """
    speakers = min(speakers, len(vectors))
    if speakers < 2:
        return np.zeros(len(vectors), dtype=np.int64)
    chosen = selection(seconds)
    if len(chosen) < 2 * speakers:
        chosen = np.arange(len(vectors))
    some, weights = vectors[chosen], seconds[chosen]
    clusters = _spectral_clusters(some, speakers)
    return nearest(vectors, means(some, weights, refine(some, weights, clusters)))


def selection(seconds: np.ndarray) -> np.ndarray:
    """Indices of the chunks to cluster: steady ones, at most ``MAX_CHUNKS``, spread over the recording."""
    long = np.flatnonzero(is_steady(seconds))
    even = np.linspace(0, len(long) - 1, min(len(long), MAX_CHUNKS))
    return long[np.unique(even.round().astype(np.int64))]


def is_steady(seconds: np.ndarray) -> np.ndarray:
    """Which chunks are long enough to know a speaker by, bool ``[n]``.

    The vector of a single word is far from everything, its speaker included, and a word that is often
    said (“yes”, “okay”) would come out as a speaker; such chunks only get the nearest voice. Where
    most speech is in short chunks, the longer ones that make up half of it are taken.
    """
    if not len(seconds):
        return np.zeros(0, dtype=bool)
    longest_first = np.sort(seconds)[::-1]
    half = longest_first[int(np.searchsorted(np.cumsum(longest_first), seconds.sum() / 2))]
    return seconds >= min(WINDOW_SECONDS, float(half))


def _strict_clusters(vectors: np.ndarray) -> np.ndarray:
    from sklearn.cluster import AgglomerativeClustering

    if len(vectors) < 2:
        return np.zeros(len(vectors), dtype=np.int64)
    clustering = AgglomerativeClustering(
        n_clusters=None, distance_threshold=STRICT_DISTANCE, metric="cosine", linkage="average"
    )
    return clustering.fit_predict(unit(vectors))


def _spectral_clusters(vectors: np.ndarray, speakers: int) -> np.ndarray:
    """Normalised cuts of the similarity graph, in a fixed random state: the same voices, the same labels."""
    from sklearn.cluster import SpectralClustering

    if speakers >= len(vectors):
        return np.arange(len(vectors))
    voices = unit(vectors)
    similarity = np.exp((voices @ voices.T - 1) / SIMILARITY_WIDTH)
    clustering = SpectralClustering(speakers, affinity="precomputed", assign_labels="kmeans", random_state=0)
    return clustering.fit_predict(similarity)


@dataclass
class Clusters:
    """Clusters of chunks that are being merged.

    Attributes:
        cluster_of: int ``[n]``, the cluster of each chunk, numbered without holes.
        sums: float64 ``[k, d]``, weighted sums of their vectors.
        seconds: ``[k]``, speech in each.
        cannot_link: bool ``[k, k]``, pairs that are two speakers.
    """

    cluster_of: np.ndarray
    sums: np.ndarray
    seconds: np.ndarray
    cannot_link: np.ndarray

    @classmethod
    def from_assignment(
        cls,
        vectors: np.ndarray,
        seconds: np.ndarray,
        clusters: np.ndarray,
        cannot_link: np.ndarray | None = None,
    ) -> Clusters:
        """Sum up the chunks of each cluster.

        Args:
            vectors: ``[n, d]``.
            seconds: ``[n]``.
            clusters: int ``[n]``.
            cannot_link: bool ``[k, k]``, by the clusters' numbers; None for no such pair.
        """
        cluster_of = compact(clusters)
        count = int(cluster_of.max()) + 1
        pairs = np.zeros((count, count), dtype=bool) if cannot_link is None else cannot_link.copy()
        totals = np.bincount(cluster_of, weights=seconds)
        return cls(cluster_of, sums(vectors, seconds, cluster_of), totals, pairs)

    def merge(self, kept: int, gone: int) -> None:
        """Make one cluster of two; the other's number stays unused until ``compact``."""
        self.sums[kept] += self.sums[gone]
        self.seconds[kept] += self.seconds[gone]
        self.cluster_of[self.cluster_of == gone] = kept
        self.cannot_link[kept] |= self.cannot_link[gone]
        self.cannot_link[:, kept] |= self.cannot_link[:, gone]

    def compact(self) -> None:
        """Number the clusters 0, 1, … without holes."""
        left = np.unique(self.cluster_of)
        self.cluster_of = compact(self.cluster_of)
        self.sums, self.seconds = self.sums[left], self.seconds[left]
        self.cannot_link = self.cannot_link[np.ix_(left, left)]


def merge_similar_clusters(clusters: Clusters, at_most: int | None = None, at_least: int = 1) -> None:
    """Merge the most similar pair of clusters, again and again, while the pair counts as one speaker.

    Args:
        clusters: Changed in place.
        at_most: Pairs that are not one speaker are merged too until so few clusters are left; those that
            cannot be linked only where there are no others.
        at_least: Merging ends at so many clusters.
    """
    similarity = agreement(clusters.sums, clusters.seconds, clusters.sums, clusters.seconds)
    similarity[clusters.cannot_link] -= _NEVER
    np.fill_diagonal(similarity, -np.inf)
    for left in range(len(similarity), at_least, -1):
        kept, gone = np.unravel_index(int(similarity.argmax()), similarity.shape)
        if similarity[kept, gone] < SAME_VOICE and (at_most is None or left <= at_most):
            break
        clusters.merge(int(kept), int(gone))
        # Only the merged cluster's similarities change; the gone one's can never be the largest again.
        row = agreement(clusters.sums[[kept]], clusters.seconds[[kept]], clusters.sums, clusters.seconds)[0]
        row[clusters.cannot_link[kept]] -= _NEVER
        row[np.isneginf(similarity[kept])] = -np.inf
        similarity[kept] = similarity[:, kept] = row
        similarity[gone] = similarity[:, gone] = -np.inf
    clusters.compact()


def agreement(
    sums: np.ndarray, totals: np.ndarray, others: np.ndarray, other_totals: np.ndarray
) -> np.ndarray:
    """Cosines of mean voices over what two samples of one voice that long would show, ``[k, m]``.

    The mean of n independent unit vectors whose pairwise cosine is s has the squared length
    s + (1 - s)/n, so means of n and m of them have an expected cosine of s / sqrt(product of both).
    """
    expected = VOICE_SPREAD / np.sqrt(np.outer(mean_length(totals), mean_length(other_totals)))
    return unit(sums) @ unit(others).T / expected


def mean_length(seconds: np.ndarray) -> np.ndarray:
    """Expected squared length of the mean of that much speech of one voice."""
    return VOICE_SPREAD + (1 - VOICE_SPREAD) / np.maximum(seconds / STEADY_SECONDS, 1.0)


def absorb_brief_clusters(clusters: Clusters, at_least: int = 1, settled: np.ndarray | None = None) -> None:
    """Merge clusters with hardly any speech into the nearest one, briefest first, unless they are far away.

    Args:
        clusters: Changed in place. Those that cannot be linked are merged only where there are no others.
        at_least: All stay once so many are left.
        settled: bool ``[k]``, clusters that stay however brief they are.
    """
    enough = max(MIN_SPEAKER_SECONDS, MIN_SPEAKER_SHARE * float(clusters.seconds.sum()))
    done = clusters.seconds >= enough
    if settled is not None:
        done |= settled
    alive = np.ones(len(done), dtype=bool)
    while not done.all() and alive.sum() > at_least:
        brief = int(np.where(done, np.inf, clusters.seconds).argmin())
        done[brief] = True
        cosines = np.where(alive, unit(clusters.sums) @ unit(clusters.sums[[brief]])[0], -np.inf)
        cosines[brief] = -np.inf
        closest = int((cosines - _NEVER * clusters.cannot_link[brief]).argmax())
        if clusters.seconds[brief] >= WINDOW_SECONDS and cosines[closest] < FAR_VOICE:
            continue
        clusters.merge(closest, brief)
        alive[brief] = False
    clusters.compact()


def refine(vectors: np.ndarray, seconds: np.ndarray, clusters: np.ndarray, rounds: int = 5) -> np.ndarray:
    """Move each chunk to the nearest mean voice until nothing moves (spherical k-means)."""
    clusters = compact(clusters)
    for _ in range(rounds):
        moved = compact(nearest(vectors, means(vectors, seconds, clusters)))
        if np.array_equal(moved, clusters):
            break
        clusters = moved
    return clusters


def nearest(vectors: np.ndarray, voices: np.ndarray) -> np.ndarray:
    """The nearest of some voices for each chunk, int ``[n]``."""
    return (vectors @ voices.T).argmax(axis=1)


# --- under constraints ----------------------------------------------------------------------------------


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


# --- vectors and numbers of clusters --------------------------------------------------------------------


def sums(vectors: np.ndarray, seconds: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Weighted sums of the vectors of clusters 0, 1, … (none empty), float64 ``[k, d]``."""
    order = np.argsort(clusters, kind="stable")
    firsts = np.searchsorted(clusters[order], np.arange(int(clusters.max()) + 1))
    return np.add.reduceat(vectors[order] * seconds[order, None], firsts, axis=0)


def means(vectors: np.ndarray, seconds: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Mean voices at unit length, float64 ``[k, d]``."""
    return unit(sums(vectors, seconds, clusters))


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors ``[n, d]`` at unit length; zero stays zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def compact(clusters: np.ndarray) -> np.ndarray:
    """The same clusters numbered 0, 1, … without holes."""
    return np.unique(clusters, return_inverse=True)[1].astype(np.int64)
