"""Topics: stretches that are about one thing, with a title and key sentences.

The recording is divided so that sentences within a topic are alike (least sum of squared distances to the
topic's mean, by dynamic programming, as in Utiyama and Isahara, 2001, with embeddings in the place of words),
at a price for each topic that is lower where somebody announces a new subject. A title is made of words that
were said: what an announcement names, else the most telling phrases. Key sentences are near the middle of
what was said, and unlike each other.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from index.records import Segment
from index.summary.items import Topic
from index.text import stem, words
from index.vocabulary import LARGE_NUMBERS, STOP_WORDS, TENS, WEEKDAYS, number_words, word_set

TITLE_WORDS = 6

_CUE = re.compile(
    r"""(?:^|[.?!,]\s+|^(?:\w+,?\s+){1,3})(?:
      (?:the\s+|our\s+|my\s+)?
        (?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|next|last|final|another|other)\s+
        (?:topic|point|item|thing|question|subject|part|chapter|section|agenda\s+item)\b
        (?:\s+(?:on\s+(?:the|our|my|today['’]s)\s+(?:list|agenda)(?:\s+(?:today\s+)?is)?|today\s+is|is|on|about))?
    | (?:let['’]s|let\s+us|i['’]d\s+like\s+to|we(?:['’]ll|\s+(?:will|can|should|could)))\s+(?:now\s+)?
        (?:(?:start|begin|move|continue|turn|switch|jump)(?:\s+on)?\s+(?:with|to|over\s+to|into|about)
        | go\s+(?:on\s+(?:with|to)|over\s+to|to|into) | talk\s+about)\b
    | moving\s+on(?:\s+to)?\b | (?:now\s+)?on\s+to\b | next\s+up(?:\s+is)?\b | turning\s+to\b | coming\s+to\b
    | what\s+about\b | how\s+about\b | any\s+other\s+business\b | one\s+more\s+thing(?:\s+about)?\b
    | (?:so\s+)?(?:today|now)\s+(?:we(?:['’]ll|\s+will|['’]re\s+going\s+to)?|i(?:['’]ll|\s+will)?)\s+
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
_PLAIN = frozenset((*STOP_WORDS, *WEEKDAYS, *number_words(1, 12), *TENS, *LARGE_NUMBERS[:3])) | word_set(
    """absolutely actually afternoon agree agreed alright basically bit bye called cheers course definitely
    everyone evening exactly fine folks goodbye goes good great guess guys hello hey hi honestly joining kind
    let look lot lots maybe morning new nice obviously perfect pretty probably really right second sense sort
    start started sure talk talking thank thanks think today tomorrow true way welcome word words work yeah
    yep yesterday first next last also even already quite rather little big much many need needs want wants
    know take takes taken makes made make come comes came year years month months week weeks day days time
    times hour hours minute minutes people person"""
)
"""Words that no title is made of: beside stop words those of greeting, agreeing, counting and dating."""
_BEFORE_NOUN = "the a an our my your his her their this that these those of for with no any some each every"
_BEFORE_VERB = (
    "we i you they he she it who to will can could would should must may might not did do does don ll"
)
_AFTER_VERB = "the a an it them us me him her this that your our my"
_NOUN_CUES = frozenset(_BEFORE_NOUN.split())
_VERB_CUES = frozenset(_BEFORE_VERB.split())
_OBJECTS = frozenset(_AFTER_VERB.split())


@dataclass(frozen=True)
class Announcement:
    """Words with which a sentence changes the subject."""

    text: str
    end: int
    """Where they end in the sentence."""
    weak: bool


def announces(text: str) -> Announcement | None:
    """How a sentence changes the subject, if it does."""
    match = _CUE.search(text)
    return Announcement(match[0], match.end(), _WEAK.search(match[0]) is not None) if match else None


def word_counts(segments: Sequence[Segment]) -> Counter[str]:
    """How often the stem of each word that may stand in a title was said."""
    found = [word for segment in segments for word in words(segment.text)]
    return Counter(stem(word) for word in found if _may_stand(word))


def title(segments: Sequence[Segment], own: Counter[str], spread: Counter[str], count: int) -> str:
    """A title for a topic.

    Args:
        segments: The topic's segments.
        own: Its ``word_counts``.
        spread: In how many topics each stem occurs.
        count: How many topics the recording has.
    """
    found = _announced(segments) or _telling(segments, own, spread, count) or segments[0].text[:60]
    return found[:1].upper() + found[1:]


def _announced(segments: Sequence[Segment]) -> str | None:
    """What is named after an announcement: "second topic, the sound stage" → the sound stage."""
    for segment in segments[:3]:
        cue = announces(segment.text)
        if not cue:
            continue
        if re.search("sum|recap", cue.text, re.IGNORECASE):
            return cue.text.strip(" .,")
        rest = re.split(r"[.?!,;:]", segment.text[cue.end :].lstrip(" ,.:;–-"))[0]
        found = re.match(
            r"(?:(?:is|are|will\s+be|on|about)\s+)?(?:(?:the|our|your|my|a|an)\s+)?((?:[\w'’-]+\s*){1,6})",
            rest.strip(),
            re.IGNORECASE,
        )
        telling = [word for word in words(found[1]) if word not in _PLAIN] if found else []
        if found and telling and len(found[1].split()) <= TITLE_WORDS:
            return found[1].strip()
        if "business" in cue.text.casefold():
            return cue.text.strip(" .,")
    return None


def _telling(segments: Sequence[Segment], own: Counter[str], spread: Counter[str], count: int) -> str | None:
    """Two phrases that tell this topic from the others, as they were said, in the order they were said."""
    phrases = _phrases(segments)
    nouns = _noun_weights(segments)
    worth = {word: own[word] * float(np.log(1 + count / spread[word])) * nouns.get(word, 1.0) for word in own}

    def score(phrase: tuple[str, ...]) -> float:
        parts = [stem(word) for word in phrase]
        whole = sum(worth.get(part, 0.0) for part in parts) / len(parts) ** 0.6
        # A phrase should end in a noun: "boat leaves" is worth less than "last boat".
        return whole * min(1.0, nouns.get(parts[-1], 1.0))

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


def _noun_weights(segments: Sequence[Segment]) -> dict[str, float]:
    """How far each stem is used as a noun (above 1) or a verb (below 1), from the words beside it."""
    noun: Counter[str] = Counter()
    verb: Counter[str] = Counter()
    for segment in segments:
        found = words(segment.text)
        for at, word in enumerate(found):
            if not _may_stand(word):
                continue
            before = found[at - 1] if at else ""
            after = found[at + 1] if at + 1 < len(found) else ""
            noun[stem(word)] += before in _NOUN_CUES or (bool(before) and _may_stand(before))
            verb[stem(word)] += (before in _VERB_CUES) + (after in _OBJECTS)
    return {word: float(np.clip((1 + noun[word]) / (1 + verb[word]), 0.4, 2.0)) for word in {*noun, *verb}}


DIVERSITY = 0.4
"""How much likeness to chosen sentences counts against one (1 − λ of MMR; Carbonell and Goldstein, 1998)."""

MIN_WORDS = 6
"""Shorter sentences ("Exactly.", "Good idea.") say nothing by themselves."""


def key_sentences(segments: Sequence[Segment], embeddings: np.ndarray, count: int) -> list[int]:
    """Positions of up to ``count`` key sentences, in the order they were said.

    Args:
        segments: Sentences.
        embeddings: float32 ``[n_segments, dimensions]``, unit length.
    """
    able = [
        at
        for at, segment in enumerate(segments)
        if segment.kind == "speech" and len(segment.text.split()) >= MIN_WORDS
    ]
    telling = [at for at in able if _states(segments[at].text)]
    able = telling if len(telling) >= min(count, len(able)) else able
    if not able:
        return []
    vectors = embeddings[able]
    centroid = embeddings.mean(axis=0)
    centroid /= max(float(np.linalg.norm(centroid)), 1e-9)
    central = vectors @ centroid
    likeness = np.zeros(len(able))
    chosen: list[int] = []
    while len(chosen) < min(count, len(able)):
        score = (1 - DIVERSITY) * central - DIVERSITY * likeness
        score[chosen] = -np.inf
        best = int(np.argmax(score))
        chosen.append(best)
        likeness = np.maximum(likeness, vectors @ vectors[best])
    return sorted(able[at] for at in chosen)


def _states(text: str) -> bool:
    """Whether a sentence says something, instead of asking or announcing it."""
    return not text.rstrip().endswith("?") and announces(text) is None


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
    spread = Counter(word for count in counts for word in count)
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
        lengths = [min(len(segment.text.split()), 20) for segment in segments[first:last]]
        weight = np.array(lengths, dtype=float)
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
        end=max(segment.end for segment in segments),
        points=tuple(segments[at].text for at in chosen),
        segments=tuple(segment.id for segment in segments),
    )
