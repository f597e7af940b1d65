"""Topics: stretches that are about one thing, found in the sentences' embeddings and in what people say
when they change the subject.

The recording is divided so that sentences within a topic are alike (least sum of squared distances to
the topic's mean, by dynamic programming, as in Utiyama and Isahara, 2001, with embeddings in the place
of words), at a price for each topic that is lower where somebody announces one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from index.records import Segment
from index.summary.model import Topic
from index.summary.sentences import key_sentences
from index.terms import STOP_WORDS, stem, words

MOST_BLOCKS = 400
"""Sentences are taken together so that there are no more units than this; bounds the time it takes."""

TOPIC_SECONDS = 75.0
"""A topic of a short recording is at least about this long, …"""

MOST_TOPICS = 12
"""… and of a long one long enough that there are no more than this."""

MIN_SECONDS = 15.0
"""No topic is shorter."""

PRICE = 1.6
"""Price of a topic, in units of the squared distance it has to save."""

CUE_DISCOUNT = 2.6
"""What an announcement takes off the price."""

TITLE_WORDS = 6

_CUE = re.compile(
    r"""(?:^|[.?!,]\s+|^(?:\w+,?\s+){1,3})(?:
      (?:the\s+)?(?:first|second|third|fourth|fifth|sixth|next|last|final|another|other)\s+
        (?:topic|point|item|thing|question|subject|part|chapter|section|agenda\s+item)\b
        (?:\s+(?:is|on|about|today\s+is|on\s+the\s+(?:list|agenda)(?:\s+is)?))?
    | (?:let's|let’s|let\s+us|i'd\s+like\s+to|we)\s+(?:now\s+)?
        (?:start|begin|move|go|continue|turn|talk|switch|jump)(?:\s+on)?\s+(?:with|to|over\s+to|into|about)\b
    | moving\s+on(?:\s+to)?\b | (?:now\s+)?on\s+to\b | next\s+up\b | turning\s+to\b | coming\s+to\b
    | what\s+about\b | how\s+about\b | any\s+other\s+business\b | one\s+more\s+thing(?:\s+about)?\b
    | (?:so\s+)?(?:today|now)\s+(?:we(?:'ll|\s+will|'re\s+going\s+to)?|i(?:'ll|\s+will)?)\s+
        (?:talk|look|cover|discuss)\s*(?:about|at)?
    | let\s+me\s+(?:now\s+)?(?:turn|move|come|start)\s+(?:to|on\s+to|with)\b
    | (?:let\s+me|to)\s+(?:sum\s+up|summari[sz]e)\b
    )""",
    re.IGNORECASE | re.VERBOSE,
)
# These announce something small as often as a topic, so they weigh half.
_WEAK = re.compile(
    r"what\s+about|how\s+about|one\s+more\s+thing|sum\s+up|summari[sz]e|on\s+to\b", re.IGNORECASE
)


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
    counts = [_word_counts(segments[first:last]) for first, last in pieces]
    spread = Counter(word for one in counts for word in one)
    return [
        _topic(segments[first:last], embeddings[first:last], own, spread, len(pieces))
        for (first, last), own in zip(pieces, counts, strict=True)
    ]


def announces(text: str) -> re.Match[str] | None:
    """The words with which a sentence changes the subject, if it does."""
    return _CUE.search(text)


def _divide(segments: Sequence[Segment], embeddings: np.ndarray) -> list[int]:
    """Positions where topics begin, and the number of segments at the end."""
    starts = _block_starts(segments)
    ends = [*starts[1:], len(segments)]
    sums = np.zeros((len(starts) + 1, embeddings.shape[1]))
    sizes = np.zeros(len(starts) + 1)
    for at, (first, last) in enumerate(zip(starts, ends, strict=True)):
        weight = np.array([min(len(one.text.split()), 20) for one in segments[first:last]], dtype=float)
        sums[at + 1] = sums[at] + weight @ embeddings[first:last]
        sizes[at + 1] = sizes[at] + weight.sum()
    times = [segments[first].start for first in starts] + [segments[-1].end]
    scale = _scale(times[-1] - times[0], sizes[-1])
    price = [PRICE - _discount(segments[first:last]) for first, last in zip(starts, ends, strict=True)]
    best = np.full(len(starts) + 1, np.inf)
    best[0] = 0.0
    back = [0] * (len(starts) + 1)
    for end in range(1, len(starts) + 1):
        span = sums[end] - sums[:end]
        size = np.maximum(sizes[end] - sizes[:end], 1e-9)
        spread = (size - (span * span).sum(axis=1) / size) / scale
        total = best[:end] + spread + np.array(price[:end])
        short = np.array([times[end] - times[begin] < MIN_SECONDS for begin in range(end)])
        total = np.where(short & (np.arange(end) > 0), np.inf, total)
        back[end] = int(np.argmin(total))
        best[end] = total[back[end]]
    borders = [len(starts)]
    while borders[-1] > 0:
        borders.append(back[borders[-1]])
    return [([*starts, len(segments)])[at] for at in reversed(borders)]


def _scale(seconds: float, size: float) -> float:
    """What one unit of price buys: the words of a topic of ordinary length for a recording this long."""
    expected = max(1.0, min(MOST_TOPICS, seconds / TOPIC_SECONDS))
    return max(size / expected / 12.0, 1e-9)


def _discount(block: Sequence[Segment]) -> float:
    match = announces(block[0].text)
    if not match:
        return 0.0
    return CUE_DISCOUNT / 2 if _WEAK.search(match[0]) else CUE_DISCOUNT


def _block_starts(segments: Sequence[Segment]) -> list[int]:
    size = -(-len(segments) // MOST_BLOCKS)
    starts = [0]
    for at in range(1, len(segments)):
        if at - starts[-1] >= size or announces(segments[at].text):
            starts.append(at)
    return starts


def _word_counts(segments: Sequence[Segment]) -> Counter[str]:
    found = [word for one in segments for word in words(one.text)]
    return Counter(
        stem(word) for word in found if word not in STOP_WORDS and not word[0].isdigit() and len(word) > 2
    )


def _topic(
    segments: Sequence[Segment],
    embeddings: np.ndarray,
    own: Counter[str],
    spread: Counter[str],
    count: int,
) -> Topic:
    chosen = key_sentences(segments, embeddings, 3 if len(segments) > 8 else 2)
    title = _announced(segments) or _telling(segments, own, spread, count) or segments[0].text[:60]
    return Topic(
        title=title[:1].upper() + title[1:],
        start=segments[0].start,
        end=max(one.end for one in segments),
        points=tuple(segments[at].text for at in chosen),
        segments=tuple(one.id for one in segments),
    )


def _announced(segments: Sequence[Segment]) -> str | None:
    """What is named after an announcement: "second topic, the sound stage" → the sound stage."""
    for segment in segments[:2]:
        match = announces(segment.text)
        if not match:
            continue
        if re.search("sum|recap", match[0], re.IGNORECASE):
            return match[0].strip(" .,")
        rest = re.split(r"[.?!,;:]", segment.text[match.end() :].lstrip(" ,.:;–-"))[0]
        found = re.match(
            r"(?:(?:the|our|your|my|a|an)\s+)?((?:[\w'’-]+\s*){1,6})", rest.strip(), re.IGNORECASE
        )
        telling = [word for word in words(found[1]) if word not in STOP_WORDS] if found else []
        if found and telling and len(found[1].split()) <= TITLE_WORDS:
            return found[1].strip()
        if "business" in match[0].casefold():
            return match[0].strip(" .,")
    return None


def _telling(segments: Sequence[Segment], own: Counter[str], spread: Counter[str], count: int) -> str | None:
    """The words that tell this topic from the others, in the form and order they were first said."""
    score = {word: number * np.log(1 + count / spread[word]) for word, number in own.items()}
    best = set(sorted(score, key=lambda word: (-score[word], word))[:3])
    shown: dict[str, str] = {}
    for segment in segments:
        for raw in re.findall(r"[^\W\d_][\w'’-]*", segment.text):
            for word in words(raw)[:1]:
                if stem(word) in best:
                    shown.setdefault(stem(word), raw)
    return ", ".join(shown.values()) or None
