"""Topics: stretches that are about one thing, with a title and key sentences.

The recording is divided so that sentences within a topic are alike (least sum of squared distances to the
topic's mean, by dynamic programming, as in Utiyama and Isahara, 2001, with embeddings in the place of words),
at a price for each topic that is lower where somebody announces a new subject. A title is made of words that
were said: what an announcement names, else the most telling phrases. Key sentences are what a written summary
would rest on (``index/summary/sentence_scores.py``), near the middle of what was said, and unlike each other.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from index.records import Segment, Topic
from index.text import stem, words
from index.vocabulary import (
    LARGE_NUMBERS,
    ORDINALS,
    STOP_WORDS,
    TENS,
    WEEKDAYS,
    number_words,
    one_of,
    word_set,
)

TITLE_WORDS = 6

_CUE = re.compile(
    rf"""(?:^|[.?!,]\s+|^(?:\w+,?\s+){{1,3}})(?:
      (?:the\s+|our\s+|my\s+)?(?:{one_of([*ORDINALS])}|next|last|final|another|other)\s+
        (?:topic|point|item|thing|question|subject|part|chapter|section|agenda\s+item)\b
        (?:\s+(?:on\s+(?:the|our)\s+(?:list|agenda)(?:\s+is)?|today\s+is|is|on|about))?
    | (?:let['’]s|let\s+us|i['’]d\s+like\s+to|we(?:['’]ll|\s+(?:will|can|should)))\s+(?:now\s+)?
        (?:(?:start|begin|move|continue|turn|switch)(?:\s+on)?\s+(?:with|to|over\s+to)
        | go\s+(?:on\s+(?:with|to)|over\s+to|to) | talk\s+about)\b
    | moving\s+on(?:\s+to)?\b | next\s+up(?:\s+is)?\b | turning\s+to\b | (?:what|how)\s+about\b
    | any\s+other\s+business\b | one\s+more\s+thing(?:\s+about)?\b
    | (?:let\s+me|to)\s+(?:sum\s+up|summari[sz]e)\b
    )""",
    re.IGNORECASE | re.VERBOSE,
)
# These announce something small as often as a topic, so they weigh half.
_WEAK = re.compile(r"(?:what|how)\s+about|one\s+more\s+thing|sum\s+up|summari[sz]e", re.IGNORECASE)
_PLAIN = frozenset((*STOP_WORDS, *WEEKDAYS, *number_words(1, 12), *TENS, *LARGE_NUMBERS[:3])) | word_set(
    """absolutely actually afternoon agree agreed alright basically bit bye called cheers course
    definitely evening exactly fine folks goodbye good great guess guys hello hey hi honestly joining kind
    look lot lots maybe morning new nice obviously perfect pretty probably really right second sense sort
    start started sure thank thanks today tomorrow true way welcome word words work yeah hmm yep yesterday
    first next last even already quite rather little big needs wants know take takes taken makes made make
    come comes came year years month months week weeks day days time times hour hours minute minutes
    people person"""
)
"""Words that no title is made of: beside stop words those of greeting, agreeing, counting and dating."""
DIVERSITY = 0.4
"""How much likeness to chosen sentences counts against one (1 − λ of MMR; Carbonell and Goldstein, 1998)."""

KEYNESS = 0.15
"""How much a unit of the learned log-odds counts beside the likeness to what was said on the whole."""

MIN_WORDS = 5
"""Shorter sentences ("Exactly.", "Good idea.") say nothing by themselves."""

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


def topics(
    segments: Sequence[Segment], embeddings: np.ndarray, keyness: np.ndarray | None = None
) -> list[Topic]:
    """Divide a recording into topics.

    Args:
        segments: In time order.
        embeddings: float32 ``[n_segments, dimensions]``, unit length, of the same segments.
        keyness: Log-odds ``[n_segments]`` that a summary would rest on each; without it only likeness counts.

    Returns:
        Topics in order; every segment belongs to exactly one.
    """
    if not segments:
        return []
    keyness = np.zeros(len(segments)) if keyness is None else keyness
    pieces = list(pairwise(_divide(segments, embeddings)))
    counts = [Counter(stem(word) for word in _title_words(segments[first:last])) for first, last in pieces]
    spread = Counter(word for count in counts for word in count)
    found = []
    for (first, last), own in zip(pieces, counts, strict=True):
        part = segments[first:last]
        telling = {word: own[word] * float(np.log(1 + len(pieces) / spread[word])) for word in own}
        title = _announced(part) or _telling(part, telling) or part[0].text[:60]
        most = 3 if len(part) > 8 else 2
        title = title[:1].upper() + title[1:]
        found.append(topic_of(title, part, embeddings[first:last], keyness[first:last], most))
    return found


def topic_of(
    title: str, segments: Sequence[Segment], embeddings: np.ndarray, keyness: np.ndarray, most: int
) -> Topic:
    """Segments, in order, as a topic with up to ``most`` key sentences; arguments as in ``key_sentences``."""
    points = tuple(segments[at].text for at in key_sentences(segments, embeddings, keyness, most))
    end = max(segment.end for segment in segments)
    return Topic(title, segments[0].start, end, points, tuple(segment.id for segment in segments))


def key_sentences(
    segments: Sequence[Segment], embeddings: np.ndarray, keyness: np.ndarray, count: int
) -> list[int]:
    """Positions of up to ``count`` key sentences, in the order they were said.

    Args:
        segments: Sentences.
        embeddings: float32 ``[n_segments, dimensions]``, unit length.
        keyness: Log-odds ``[n_segments]`` that a summary would rest on each.
    """
    able = [at for at, segment in enumerate(segments) if len(segment.text.split()) >= MIN_WORDS]
    telling = [
        at for at in able if not (segments[at].text.rstrip().endswith("?") or _CUE.search(segments[at].text))
    ]
    able = telling if len(telling) >= min(count, len(able)) else able
    if not able:
        return []
    vectors = embeddings[able]
    centroid = embeddings.mean(axis=0)
    centroid /= max(float(np.linalg.norm(centroid)), 1e-9)
    worth = (1 - DIVERSITY) * (vectors @ centroid) + KEYNESS * keyness[able]
    likeness = np.zeros(len(able))
    chosen: list[int] = []
    while len(chosen) < min(count, len(able)):
        score = worth - DIVERSITY * likeness
        score[chosen] = -np.inf
        chosen.append(int(np.argmax(score)))
        likeness = np.maximum(likeness, vectors @ vectors[chosen[-1]])
    return sorted(able[at] for at in chosen)


def _announced(segments: Sequence[Segment]) -> str | None:
    """What is named after an announcement: "second topic, the sound stage" → the sound stage."""
    for segment in segments[:3]:
        cue = _CUE.search(segment.text)
        if not cue:
            continue
        if re.search("sum|business", cue[0], re.IGNORECASE):
            return cue[0].strip(" .,")
        rest = re.split(r"[.?!,;:]", segment.text[cue.end() :].lstrip(" ,.:;–-"))[0]
        named = re.sub(r"(?i)^(?:(?:is|are|on|about)\s+)?(?:(?:the|our|your|my|an?)\s+)?", "", rest.strip())
        if named and len(named.split()) <= TITLE_WORDS and any(map(_may_stand, words(named))):
            return named
    return None


def _telling(segments: Sequence[Segment], worth: dict[str, float]) -> str | None:
    """Two phrases that tell this topic from the others, as they were said, in the order they were said."""
    phrases = _phrases(segments)

    def score(phrase: tuple[str, ...]) -> float:
        return sum(worth.get(stem(word), 0.0) for word in phrase) / len(phrase) ** 0.6

    chosen: list[tuple[str, ...]] = []
    for phrase in sorted(phrases, key=lambda phrase: (-score(phrase), phrases[phrase][0])):
        used = {stem(word) for earlier in chosen for word in earlier}
        if not used & {stem(word) for word in phrase}:
            chosen.append(phrase)
        if len(chosen) == 2:
            break
    return ", ".join(said for _, said in sorted(phrases[phrase] for phrase in chosen)) or None


def _may_stand(word: str) -> bool:
    return word not in _PLAIN and not word[0].isdigit() and len(word) > 2


def _title_words(segments: Sequence[Segment]) -> list[str]:
    return [word for segment in segments for word in words(segment.text) if _may_stand(word)]


def _phrases(segments: Sequence[Segment]) -> dict[tuple[str, ...], tuple[int, str]]:
    """Every run of up to three title words: where it was first said, and how."""
    out: dict[tuple[str, ...], tuple[int, str]] = {}
    place = 0
    for segment in segments:
        for part in re.split(r"[^\w\s'’-]+", segment.text):
            raw = part.split()
            plain = [(words(word) or [""])[0] for word in raw]
            for first in range(len(raw)):
                place += 1
                for last in range(first + 1, min(first + 3, len(raw)) + 1):
                    if not plain[last - 1] or not _may_stand(plain[last - 1]):
                        break
                    out.setdefault(tuple(plain[first:last]), (place, " ".join(raw[first:last])))
    return out


def _divide(segments: Sequence[Segment], embeddings: np.ndarray) -> list[int]:
    """Positions where topics begin, and the number of segments at the end."""
    size = -(-len(segments) // MOST_BLOCKS)
    starts = [0]
    for at in range(1, len(segments)):
        if at - starts[-1] >= size or _CUE.search(segments[at].text):
            starts.append(at)
    ends = [*starts[1:], len(segments)]
    spread = _spread(segments, embeddings, starts, ends)
    times = np.array([*(segments[first].start for first in starts), segments[-1].end])
    lasts = times[None, 1:] - times[:-1, None]
    least = np.full((len(starts), 1), MIN_SECONDS)
    least[0] = MIN_INTRO_SECONDS
    spread[(lasts < least) & (np.arange(1, len(ends) + 1) < len(ends))[None, :]] = np.inf
    discounts = np.array([_discount(segments[first].text) for first in starts])
    price, borders = PRICE, _cheapest(spread, PRICE - discounts)
    while len(borders) - 1 > MOST_TOPICS:
        price += PRICE / 4
        borders = _cheapest(spread, price - discounts)
    return [([*starts, len(segments)])[at] for at in borders]


def _discount(text: str) -> float:
    cue = _CUE.search(text)
    return 0.0 if cue is None else CUE_DISCOUNT / (2 if _WEAK.search(cue[0]) else 1)


def _spread(
    segments: Sequence[Segment], embeddings: np.ndarray, starts: Sequence[int], ends: Sequence[int]
) -> np.ndarray:
    """How unlike the sentences of each stretch of blocks are, ``[from, to]``, in units of price."""
    sums = np.zeros((len(starts) + 1, embeddings.shape[1]))
    sizes = np.zeros(len(starts) + 1)
    for at, (first, last) in enumerate(zip(starts, ends, strict=True)):
        weight = np.array(
            [min(len(segment.text.split()), 20) for segment in segments[first:last]], dtype=float
        )
        sums[at + 1] = sums[at] + weight @ embeddings[first:last]
        sizes[at + 1] = sizes[at] + weight.sum()
    # |b - a|² = a² + b² - 2ab for all pairs at once; a stretch's spread is its size less |sum|² / size.
    products = sums @ sums.T
    squares = np.diag(products)
    length = squares[:-1, None] + squares[None, 1:] - 2 * products[:-1, 1:]
    size = np.maximum(sizes[None, 1:] - sizes[:-1, None], 1e-9)
    # One unit of price: a twelfth of the words of a topic of ordinary length for a recording this long.
    expected = max(1.0, min(MOST_TOPICS, (segments[-1].end - segments[0].start) / TOPIC_SECONDS))
    out = (size - length / size) / max(float(sizes[-1]) / expected / 12.0, 1e-9)
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
