"""Clustering by voice: which chunks of a recording are one speaker, from their vectors alone.

With the number of speakers unknown, chunks are clustered strictly (average linkage), and the clusters are
then merged while their mean voices agree as well as two samples of one voice of that length would. With
the number known, the chunks are clustered spectrally, which measured as more robust to noise and
reverberation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from index.diarization.voice_embeddings import WINDOW_SECONDS

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

_NEVER = 10.0
"""Taken from the similarity of two clusters that must not be merged: more than any similarity."""


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
