"""Topics: stretches that are about one thing, found in the sentences' embeddings and in what people say
when they change the subject.

The recording is divided so that sentences within a topic are alike (least sum of squared distances to
the topic's mean, by dynamic programming, as in Utiyama and Isahara, 2001, with embeddings in the place
of words), at a price for each topic that is lower where somebody announces one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from index.records import Segment
from index.summary.model import Topic
from index.summary.sentences import key_sentences
from index.summary.titles import announces, title, word_counts

MOST_BLOCKS = 400
"""Sentences are taken together so that there are no more units than this; bounds the time it takes."""

TOPIC_SECONDS = 75.0
"""A topic of a short recording is at least about this long, …"""

MOST_TOPICS = 12
"""… and of a long one long enough that there are no more than this."""

MIN_SECONDS = 15.0
"""No topic is shorter, but the last, …"""

MIN_INTRO_SECONDS = 8.0
"""… and the first, which is at least this long."""

PRICE = 1.6
"""Price of a topic, in units of the squared distance it has to save."""

CUE_DISCOUNT = 2.6
"""What an announcement takes off the price."""


def topics(segments: Sequence[Segment], embeddings: np.ndarray) -> list[Topic]:
    """Divide a recording into topics.

    Args:
        segments: In time order.
        embeddings: float32 ``[n_segments, dimensions]``, unit length, of the same segments.

    Returns:
        Topics in order; every segment belongs to exactly one.
    """
    if not segments:
        return []
    borders = _divide(segments, embeddings)
    pieces = list(pairwise(borders))
    counts = [word_counts(segments[first:last]) for first, last in pieces]
    spread = Counter(word for one in counts for word in one)
    return [
        _topic(segments[first:last], embeddings[first:last], own, spread, len(pieces))
        for (first, last), own in zip(pieces, counts, strict=True)
    ]


def _divide(segments: Sequence[Segment], embeddings: np.ndarray) -> list[int]:
    """Positions where topics begin, and the number of segments at the end."""
    starts = _block_starts(segments)
    ends = [*starts[1:], len(segments)]
    spread = _spread(segments, embeddings, starts, ends)
    times = np.array([*(segments[first].start for first in starts), segments[-1].end])
    lasts = times[None, 1:] - times[:-1, None]
    least = np.full((len(starts), 1), MIN_SECONDS)
    least[0] = MIN_INTRO_SECONDS
    spread[(lasts < least) & (np.arange(1, len(ends) + 1) < len(ends))[None, :]] = np.inf
    discounts = np.array([_discount(segments[first:last]) for first, last in zip(starts, ends, strict=True)])
    borders = _cheapest(spread, PRICE - discounts)
    if len(borders) - 1 > MOST_TOPICS:
        borders = _cheapest_in(MOST_TOPICS, spread, PRICE - discounts)
    return [([*starts, len(segments)])[at] for at in borders]


def _spread(
    segments: Sequence[Segment], embeddings: np.ndarray, starts: Sequence[int], ends: Sequence[int]
) -> np.ndarray:
    """How unlike the sentences of each stretch of blocks are, ``[from, to]``, in units of price."""
    sums = np.zeros((len(starts) + 1, embeddings.shape[1]))
    sizes = np.zeros(len(starts) + 1)
    for at, (first, last) in enumerate(zip(starts, ends, strict=True)):
        weight = np.array([min(len(one.text.split()), 20) for one in segments[first:last]], dtype=float)
        sums[at + 1] = sums[at] + weight @ embeddings[first:last]
        sizes[at + 1] = sizes[at] + weight.sum()
    # |b - a|² = a² + b² - 2ab for all pairs at once; a stretch's spread is its size less |sum|² / size.
    products = sums @ sums.T
    squares = np.diag(products)
    length = squares[:-1, None] + squares[None, 1:] - 2 * products[:-1, 1:]
    size = np.maximum(sizes[None, 1:] - sizes[:-1, None], 1e-9)
    out = (size - length / size) / _scale(segments[-1].end - segments[0].start, float(sizes[-1]))
    out[np.tril_indices(len(starts), -1)] = np.inf
    return out


def _cheapest(spread: np.ndarray, price: np.ndarray) -> list[int]:
    """Borders of the division of least total cost, from 0 to the number of blocks."""
    count = len(price)
    best = np.zeros(count + 1)
    back = np.zeros(count + 1, dtype=int)
    for end in range(1, count + 1):
        total = best[:end] + spread[:end, end - 1] + price[:end]
        back[end] = int(np.argmin(total))
        best[end] = total[back[end]]
    borders = [count]
    while borders[-1] > 0:
        borders.append(int(back[borders[-1]]))
    return borders[::-1]


def _cheapest_in(pieces: int, spread: np.ndarray, price: np.ndarray) -> list[int]:
    """Borders of the division of least total cost among those into at most so many pieces."""
    count = len(price)
    cost = spread + price[:, None]
    best = np.full((pieces + 1, count + 1), np.inf)
    back = np.zeros((pieces + 1, count + 1), dtype=int)
    best[0, 0] = 0.0
    for number in range(1, pieces + 1):
        total = best[number - 1, :count, None] + cost
        back[number, 1:] = total.argmin(axis=0)
        best[number, 1:] = total.min(axis=0)
    number = int(best[:, count].argmin())
    borders = [count]
    while number:
        borders.append(int(back[number, borders[-1]]))
        number -= 1
    return borders[::-1]


def _scale(seconds: float, size: float) -> float:
    """What one unit of price buys: the words of a topic of ordinary length for a recording this long."""
    expected = max(1.0, min(MOST_TOPICS, seconds / TOPIC_SECONDS))
    return max(size / expected / 12.0, 1e-9)


def _discount(block: Sequence[Segment]) -> float:
    cue = announces(block[0].text)
    if not cue:
        return 0.0
    return CUE_DISCOUNT / 2 if cue.weak else CUE_DISCOUNT


def _block_starts(segments: Sequence[Segment]) -> list[int]:
    size = -(-len(segments) // MOST_BLOCKS)
    starts = [0]
    for at in range(1, len(segments)):
        if at - starts[-1] >= size or announces(segments[at].text):
            starts.append(at)
    return starts


def _topic(
    segments: Sequence[Segment],
    embeddings: np.ndarray,
    own: Counter[str],
    spread: Counter[str],
    count: int,
) -> Topic:
    chosen = key_sentences(segments, embeddings, 3 if len(segments) > 8 else 2)
    return Topic(
        title=title(segments, own, spread, count),
        start=segments[0].start,
        end=max(one.end for one in segments),
        points=tuple(segments[at].text for at in chosen),
        segments=tuple(one.id for one in segments),
    )
