"""Who speaks when: one label a segment, from voices alone.

    segments → pieces of a few seconds → voice vectors → clusters → labels by first appearance

With the number of speakers unknown, pieces are clustered strictly (average linkage), and the clusters are
then joined while their mean voices agree as well as two samples of one voice of that length would. With
the number known, the pieces are clustered spectrally, which measured as more robust to noise and
reverberation. Labels are estimates: similar voices, a change of microphone and overlapping talk mislead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile

from index.audio import SAMPLE_RATE
from index.records import Segment, Span
from index.voice import BATCH, HOP_SAMPLES, WINDOW_FRAMES, WINDOW_SECONDS, VoiceEncoder

WINDOW_STEP = 80
"""Frames between windows: 0.8 s, half a window."""

WAITING_WINDOWS = 8 * BATCH
"""Windows that are embedded at a time (13 MB): some batches for every core."""

PIECE_SECONDS = 3.2
"""Speech that gets one voice vector: long enough to be steady, short enough to hold one speaker."""

MIN_SPEECH_SECONDS = 0.2
"""A segment with less detected speech than this is heard whole instead."""

MAX_PIECES = 2000
"""Pieces compared with one another (time and memory grow with the square); of more, an even
selection is clustered and the rest go to the nearest voice."""

STRICT_DISTANCE = 0.2
"""Cosine distance up to which average linkage joins pieces; well inside one speaker's spread."""

SAME_VOICE = 0.90
"""Cosine of two mean voices from which they count as one speaker, given enough speech. Halves of one
speaker measured 0.95–1.0, different speakers up to 0.90 (mostly below 0.8)."""

VOICE_SPREAD = 0.72
"""Typical cosine of two short pieces of the same voice; sets what little speech can be expected to show."""

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


@dataclass(frozen=True)
class Pieces:
    """Voices along a recording.

    Attributes:
        vectors: float32 ``[n_pieces, 256]``, means of unit window vectors (so shorter than 1 where
            the windows disagree).
        seconds: float64 ``[n_pieces]``, speech behind each.
        owner: int ``[n_pieces]``, index of the segment each was cut from.
    """

    vectors: np.ndarray
    seconds: np.ndarray
    owner: np.ndarray


def assign_speakers(
    audio_path: Path,
    segments: Sequence[Segment],
    speech: Sequence[Span],
    speakers: int | None = None,
) -> list[str | None]:
    """Tell the speakers of a recording apart.

    Args:
        audio_path: 16 kHz mono FLAC; only the segments' own audio is read, a little at a time.
        segments: In order of time.
        speech: Detected speech; pauses inside segments are left out with it.
        speakers: Their number when known; by default it is estimated.

    Returns:
        One label a segment, ``Speaker 1`` being the first to speak; None where nobody can be heard
        (sounds, music, digital silence).

    Raises:
        WeightsError: The encoder's weights are missing or not the published ones.
    """
    pieces = hear_voices(audio_path, segments, speech)
    if speakers is None:
        clusters = estimate_clusters(pieces.vectors, pieces.seconds)
    else:
        clusters = known_clusters(pieces.vectors, pieces.seconds, speakers)
    return _labels(len(segments), pieces, clusters)


def hear_voices(audio_path: Path, segments: Sequence[Segment], speech: Sequence[Span]) -> Pieces:
    """Voice vectors of the segments' speech, cut in pieces of about 3 s.

    Raises:
        WeightsError: The encoder's weights are missing or not the published ones.
    """
    encoder = voice_encoder()
    vectors: list[np.ndarray] = []
    seconds: list[float] = []
    owner: list[int] = []
    waiting: list[np.ndarray] = []
    counts: list[int] = []

    def embed() -> None:
        windows = encoder.embed(waiting)
        ends = np.cumsum(counts)
        vectors.extend(part.mean(axis=0) for part in np.split(windows, ends[:-1]))
        waiting.clear()
        counts.clear()

    with soundfile.SoundFile(audio_path) as flac:
        for index, parts in enumerate(_own_speech(segments, speech)):
            audio = (
                np.concatenate([_read(flac, part) for part in parts]) if parts else np.zeros(0, np.float32)
            )
            if not np.any(audio):
                continue
            windows = _windows(encoder, audio)
            cuts = np.array_split(np.arange(len(windows)), _piece_count(len(audio)))
            for cut in (one for one in cuts if len(one)):
                waiting.extend(windows[at] for at in cut)
                counts.append(len(cut))
                seconds.append(len(audio) / SAMPLE_RATE * len(cut) / len(windows))
                owner.append(index)
            if len(waiting) >= WAITING_WINDOWS:
                embed()
    if waiting:
        embed()
    matrix = np.stack(vectors) if vectors else np.zeros((0, encoder.dimensions), np.float32)
    return Pieces(matrix, np.array(seconds), np.array(owner, dtype=np.int64))


@lru_cache(maxsize=1)
def voice_encoder() -> VoiceEncoder:
    """The one voice encoder of this process; it loads at first use."""
    return VoiceEncoder()


def _own_speech(segments: Sequence[Segment], speech: Sequence[Span]) -> Iterator[list[Span]]:
    """Where each segment's speaker is heard: the segment without its pauses. Nothing for sounds."""
    starts = np.array([span.start for span in speech])
    for segment in segments:
        if segment.kind != "speech" or segment.end <= segment.start:
            yield []
            continue
        first = max(0, int(np.searchsorted(starts, segment.start)) - 1) if len(starts) else 0
        parts = []
        for span in speech[first:]:
            if span.start >= segment.end:
                break
            if span.overlaps(segment.span):
                parts.append(Span(max(span.start, segment.start), min(span.end, segment.end)))
        heard = sum(part.duration for part in parts)
        yield parts if heard >= MIN_SPEECH_SECONDS else [segment.span]


def _read(flac: soundfile.SoundFile, span: Span) -> np.ndarray:
    first = min(max(0, round(span.start * SAMPLE_RATE)), flac.frames)
    last = min(max(first, round(span.end * SAMPLE_RATE)), flac.frames)
    flac.seek(first)
    return flac.read(last - first, dtype="float32")


def _piece_count(samples: int) -> int:
    return max(1, round(samples / SAMPLE_RATE / PIECE_SECONDS))


def _windows(encoder: VoiceEncoder, audio: np.ndarray) -> list[np.ndarray]:
    """Mel windows over all of the audio, about half overlapping; short audio is repeated to fill one.

    Repeating half a second of speech keeps its vector closer to the speaker's than silence or a shorter
    input does (mean cosine 0.78 against 0.62 and 0.73).
    """
    needed = WINDOW_FRAMES * HOP_SAMPLES
    if len(audio) < needed:
        audio = np.tile(audio, -(-needed // len(audio)))[:needed]
    mel = encoder.mel(audio)
    spare = len(mel) - WINDOW_FRAMES
    count = max(1, -(-spare // WINDOW_STEP) + 1)
    starts = [round(spare * number / max(1, count - 1)) for number in range(count)]
    return [mel[start : start + WINDOW_FRAMES] for start in starts]


def estimate_clusters(vectors: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Cluster pieces into an unknown number of speakers.

    Args:
        vectors: float32 ``[n, d]``, see ``Pieces``.
        seconds: ``[n]``.

    Returns:
        int ``[n]``, cluster numbers from 0.
    """
    if len(vectors) < 2:
        return np.zeros(len(vectors), dtype=np.int64)
    chosen = _selection(seconds)
    some, weights = vectors[chosen], seconds[chosen]
    clusters = _join_like_voices(some, weights, _strict_clusters(some))
    clusters = _refine(some, weights, clusters)
    clusters = _join_like_voices(some, weights, clusters)
    clusters = _absorb_brief_voices(some, weights, clusters)
    clusters = _join_like_voices(some, weights, clusters, at_most=MAX_ESTIMATED)
    return _nearest(vectors, _means(some, weights, _refine(some, weights, clusters)))


def known_clusters(vectors: np.ndarray, seconds: np.ndarray, speakers: int) -> np.ndarray:
    """Cluster pieces into ``speakers`` speakers (fewer where there are fewer pieces).

    Returns:
        int ``[n]``, cluster numbers from 0.
    """
    speakers = min(speakers, len(vectors))
    if speakers < 2:
        return np.zeros(len(vectors), dtype=np.int64)
    chosen = _selection(seconds)
    if len(chosen) < 2 * speakers:
        chosen = np.arange(len(vectors))
    some, weights = vectors[chosen], seconds[chosen]
    clusters = _spectral_clusters(some, speakers)
    return _nearest(vectors, _means(some, weights, _refine(some, weights, clusters)))


def _selection(seconds: np.ndarray) -> np.ndarray:
    """Indices of the pieces to cluster: steady ones, at most ``MAX_PIECES``, spread over the recording.

    The vector of a single word is far from everything, its speaker included, and a word that is often
    said (“yes”, “okay”) would come out as a speaker; such pieces only get the nearest voice. Where
    most speech is in short pieces, the longer ones that make up half of it are taken.
    """
    longest_first = np.sort(seconds)[::-1]
    half = longest_first[int(np.searchsorted(np.cumsum(longest_first), seconds.sum() / 2))]
    steady = np.flatnonzero(seconds >= min(WINDOW_SECONDS, float(half)))
    even = np.linspace(0, len(steady) - 1, min(len(steady), MAX_PIECES))
    return steady[np.unique(even.round().astype(np.int64))]


def _strict_clusters(vectors: np.ndarray) -> np.ndarray:
    from sklearn.cluster import AgglomerativeClustering

    if len(vectors) < 2:
        return np.zeros(len(vectors), dtype=np.int64)
    clustering = AgglomerativeClustering(
        n_clusters=None, distance_threshold=STRICT_DISTANCE, metric="cosine", linkage="average"
    )
    return clustering.fit_predict(_unit(vectors))


def _spectral_clusters(vectors: np.ndarray, speakers: int) -> np.ndarray:
    """Normalised cuts of the similarity graph, in a fixed random state: the same voices, the same labels."""
    from sklearn.cluster import SpectralClustering

    if speakers >= len(vectors):
        return np.arange(len(vectors))
    voices = _unit(vectors)
    similarity = np.exp((voices @ voices.T - 1) / SIMILARITY_WIDTH)
    clustering = SpectralClustering(speakers, affinity="precomputed", assign_labels="kmeans", random_state=0)
    return clustering.fit_predict(similarity)


def _join_like_voices(
    vectors: np.ndarray, seconds: np.ndarray, clusters: np.ndarray, at_most: int | None = None
) -> np.ndarray:
    """Join the most alike pair of clusters, again and again, while the pair counts as one speaker.

    With ``at_most``, pairs that do not are joined too until so few clusters are left.
    """
    clusters = _compact(clusters)
    sums = _sums(vectors, seconds, clusters)
    totals = np.bincount(clusters, weights=seconds)
    agreement = _agreement(sums, totals, sums, totals)
    np.fill_diagonal(agreement, -np.inf)
    for left in range(len(sums), 1, -1):
        kept, gone = np.unravel_index(int(agreement.argmax()), agreement.shape)
        if agreement[kept, gone] < SAME_VOICE and (at_most is None or left <= at_most):
            break
        sums[kept] += sums[gone]
        totals[kept] += totals[gone]
        clusters[clusters == gone] = kept
        # Only the joined cluster's agreements change; the gone one's can never be the largest again.
        row = _agreement(sums[[kept]], totals[[kept]], sums, totals)[0]
        row[np.isneginf(agreement[kept])] = -np.inf
        agreement[kept] = agreement[:, kept] = row
        agreement[gone] = agreement[:, gone] = -np.inf
    return _compact(clusters)


def _agreement(
    sums: np.ndarray, totals: np.ndarray, others: np.ndarray, other_totals: np.ndarray
) -> np.ndarray:
    """Cosines of mean voices over what two samples of one voice that long would show, ``[k, m]``.

    The mean of n independent unit vectors whose pairwise cosine is s has the squared length
    s + (1 - s)/n, so means of n and m of them have an expected cosine of s / sqrt(product of both).
    """
    expected = VOICE_SPREAD / np.sqrt(np.outer(_mean_length(totals), _mean_length(other_totals)))
    return _unit(sums) @ _unit(others).T / expected


def _mean_length(seconds: np.ndarray) -> np.ndarray:
    """Expected squared length of the mean of that much speech of one voice."""
    return VOICE_SPREAD + (1 - VOICE_SPREAD) / np.maximum(seconds / STEADY_SECONDS, 1.0)


def _absorb_brief_voices(vectors: np.ndarray, seconds: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Give clusters with hardly any speech to the nearest one, briefest first, unless they are far away."""
    clusters = _compact(clusters)
    sums = _sums(vectors, seconds, clusters)
    totals = np.bincount(clusters, weights=seconds)
    settled = totals >= max(MIN_SPEAKER_SECONDS, MIN_SPEAKER_SHARE * float(seconds.sum()))
    alive = np.ones(len(totals), dtype=bool)
    while not settled.all() and alive.sum() > 1:
        brief = int(np.where(settled, np.inf, totals).argmin())
        settled[brief] = True
        cosines = np.where(alive, _unit(sums) @ _unit(sums[[brief]])[0], -np.inf)
        cosines[brief] = -np.inf
        nearest = int(cosines.argmax())
        if totals[brief] >= WINDOW_SECONDS and cosines[nearest] < FAR_VOICE:
            continue
        sums[nearest] += sums[brief]
        totals[nearest] += totals[brief]
        clusters[clusters == brief] = nearest
        alive[brief] = False
    return _compact(clusters)


def _refine(vectors: np.ndarray, seconds: np.ndarray, clusters: np.ndarray, rounds: int = 5) -> np.ndarray:
    """Move each piece to the nearest mean voice until nothing moves (spherical k-means)."""
    clusters = _compact(clusters)
    for _ in range(rounds):
        moved = _compact(_nearest(vectors, _means(vectors, seconds, clusters)))
        if np.array_equal(moved, clusters):
            break
        clusters = moved
    return clusters


def _nearest(vectors: np.ndarray, voices: np.ndarray) -> np.ndarray:
    return (vectors @ voices.T).argmax(axis=1)


def _sums(vectors: np.ndarray, seconds: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Weighted sums of the vectors of clusters 0, 1, … (none empty), float64 ``[k, d]``."""
    order = np.argsort(clusters, kind="stable")
    firsts = np.searchsorted(clusters[order], np.arange(int(clusters.max()) + 1))
    return np.add.reduceat(vectors[order] * seconds[order, None], firsts, axis=0)


def _means(vectors: np.ndarray, seconds: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Mean voices at unit length, float64 ``[k, d]``."""
    return _unit(_sums(vectors, seconds, clusters))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def _compact(clusters: np.ndarray) -> np.ndarray:
    """The same clusters numbered 0, 1, … without holes."""
    return np.unique(clusters, return_inverse=True)[1].astype(np.int64)


def _labels(count: int, pieces: Pieces, clusters: np.ndarray) -> list[str | None]:
    """The cluster heard longest in each segment, named by first appearance."""
    labels: list[str | None] = [None] * count
    names: dict[int, str] = {}
    for index in range(count):
        own = pieces.owner == index
        if own.any():
            longest = int(np.bincount(clusters[own], weights=pieces.seconds[own]).argmax())
            labels[index] = names.setdefault(longest, f"Speaker {len(names) + 1}")
    return labels
