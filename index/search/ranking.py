"""How well single sentences answer a question: a score in [0, 1] that can be compared with a threshold.

Meaning (cosine of sentence embeddings) and words (share of the question's words that the sentence has,
sound-alikes included) are added. Then three things that talk does and prose does not are allowed for: the
answer to a question stands in the next sentence, which need not repeat a word of it; a sentence's neighbour
finishes its thought; and a question that somebody asked is not an answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from index.records import Segment
from index.text import SOUND_ALIKE, content_words, search_words, similarity, stem
from index.vocabulary import (
    CLEAR_MONTHS,
    LARGE_NUMBERS,
    STOP_WORDS,
    TENS,
    WEEKDAYS,
    number_words,
    one_of,
    word_set,
)

RELEVANT = 0.34
"""From this score on a sentence is about the question.

Calibrated on what was heard of the sample meeting: of 36 questions about it 35 score 0.36 or more (the
choir, heard as "skilled wire", is not found), of 26 about other things none scores more than 0.32.
"""

WORDS_WEIGHT = 0.35
"""What all of a question's words in one sentence are worth, on the scale of the cosine."""

GENERIC_WEIGHT = 0.3
"""What a word counts that many questions share whatever they are about."""

NUMBER_WEIGHT = 2.0
"""What a number from a hundred on counts: two sentences hardly have the same one by chance."""

NO_WORD_SHARED = 0.85
"""Factor where no sentence at all has any word of the question: a resemblance, not a mention."""

ANSWERS_QUESTION = 0.92
CONTINUES = 0.72
"""Share of its neighbour's score that a sentence inherits: after a question, and in running talk."""

NEIGHBOUR_SECONDS = 8.0
"""Sentences further apart than this are not neighbours."""

RIGHT_KIND = 1.2
"""Factor for a sentence with a number, a time or a name where the question asks for one."""

IS_QUESTION = 0.85
"""Factor for a sentence that is a question itself."""

NO_DECISION = 0.65
DISCUSSION_WEIGHT = 0.5
DISCUSSED_SECONDS = 90.0
"""Where a decision is asked for: factor of sentences that announce none, and what the discussion before an
announcement adds to it."""

GENERIC_WORDS = word_set(
    """agree agreed agreement answer best big choose chosen conclude cost decide decided decision discuss
    discussed discussion end explain first good happen happened happens important last long main meeting new
    number old part people person plan planned point price problem question reason recording second start
    started time topic use used way work year
    1 2"""
)
"""Words that many questions share whatever they are about; “first” and “second” are searched as numbers."""

_AMOUNT = re.compile(
    r"\b(how (much|many|long|often|far|old|big)|what (price|cost|number|percentage)|cost)\b", re.I
)
_TIME = re.compile(
    r"\b(when|what (time|day|date|year|month)|which day|how (soon|late|early)|deadline|due)\b", re.I
)
_PERSON = re.compile(r"\b(who|whom|whose)\b", re.I)

_ASKS_DECISION = re.compile(r"\b(decid\w*|decision\w*|agreed? (on|to)|conclu\w+|outcome|settled?)\b", re.I)
_DECIDES = re.compile(
    r"\b(decided|decision is|approved|it's a deal|leave \w.* open|we( have|'ve)? agreed"
    r"|(it|that)( is|'s) (decided|settled|agreed)|(we'll|we will|let's|to) go (with|for|ahead)"
    r"|we( will|'ll)? (pay|take|choose|chose|hire|buy|book|move|keep|drop|cancel|use|approve))\b",
    re.I,
)
_NUMBER = re.compile(
    # Not “one”, which is mostly a pronoun; without the teens, as `RELEVANT` was calibrated.
    rf"\d|\b({one_of([*number_words(2, 12), *TENS, *LARGE_NUMBERS])}|half|dozen|once|twice)\b",
    re.I,
)
_MOMENT = re.compile(
    rf"\d|\b({one_of([*WEEKDAYS, *CLEAR_MONTHS])}|today|tomorrow|yesterday|tonight|noon|midnight|morning|"
    r"afternoon|evening|week|weekend|month|year|spring|summer|autumn|winter|o'clock)\b",
    re.I,
)
_NAME = re.compile(r"(?<![.?!]\s)(?<!^)\b(?!I\b)[A-Z][a-z]+|\b(I'll|I will|I can|I'm)\b")


def relevance(
    question: str, queries: np.ndarray, segments: Sequence[Segment], embeddings: np.ndarray
) -> np.ndarray:
    """Score each sentence, float ``[n_segments]`` in [0, 1]; see ``RELEVANT``.

    Args:
        question: What was asked.
        queries: Embeddings of its wordings (see ``as_heard``), ``[n_wordings, dimensions]``, unit length.
        segments: Sentences in time order, of one or more recordings.
        embeddings: Theirs, ``[n_segments, dimensions]``, unit length.
    """
    if not segments:
        return np.zeros(0)
    shared = _shared_words(question, segments)
    own = np.clip((embeddings @ queries.T).max(axis=1), 0.0, 1.0) + WORDS_WEIGHT * shared
    if not shared.any():
        own *= NO_WORD_SHARED
    plain = np.array([_with_neighbours(own, segments, at) for at in range(len(segments))])
    ranked = _prefer_decisions(question, own, plain, segments)
    ranked = ranked * [_kind_factor(question, segment.text) for segment in segments]
    # Preferring one kind of sentence orders them; it must not make a talk look more relevant than it is.
    ranked *= plain.max() / max(ranked.max(), 1e-9)
    return np.clip(ranked / (1.0 + WORDS_WEIGHT), 0.0, 1.0)


def as_heard(question: str, segments: Sequence[Segment]) -> str:
    """The question with words that none of the sentences has replaced by what they have that sounds alike.

    Where the recogniser wrote "fairy" for every ferry, asking for the fairy finds them.
    """
    heard = {word for segment in segments for word in search_words(segment.text)} - STOP_WORDS
    stems = {stem(word) for word in heard}
    for word in content_words(question):
        alike = sorted(candidate for candidate in heard if similarity(word, candidate) == SOUND_ALIKE)
        if alike and stem(word) not in stems:
            question = re.sub(rf"\b{re.escape(word)}\b", alike[0], question, flags=re.IGNORECASE)
    return question


def _shared_words(question: str, segments: Sequence[Segment]) -> np.ndarray:
    """Share of the question's words that each sentence has, or its speaker's name; in [0, 1]."""
    wanted = content_words(question)
    weights = np.array([_weight(word) for word in wanted])
    if not wanted:
        return np.zeros(len(segments))
    found = [
        [max((similarity(word, candidate) for candidate in heard), default=0.0) for word in wanted]
        for heard in (search_words(f"{segment.text} {_also(segment)}") for segment in segments)
    ]
    return np.asarray(found) @ weights / weights.sum()


def _weight(word: str) -> float:
    if word in GENERIC_WORDS:
        return GENERIC_WEIGHT
    return NUMBER_WEIGHT if word.isdigit() and len(word) >= 3 else 1.0


def _also(segment: Segment) -> str:
    """What may be asked for beside a segment's own words: who speaks, and that it is music."""
    return "music" if segment.kind == "music" else segment.speaker or ""


def _with_neighbours(own: np.ndarray, segments: Sequence[Segment], at: int) -> float:
    """A sentence's own score, or what it inherits from the sentence before or after it; a sound's own."""
    best = float(own[at])
    for beside in _beside(segments, at) if segments[at].kind == "speech" else ():
        if _touch(segments[min(at, beside)], segments[max(at, beside)]):
            answers = beside < at and _asks(segments[beside].text) and not _asks(segments[at].text)
            best = max(best, float(own[beside]) * (ANSWERS_QUESTION if answers else CONTINUES))
    return best


def _beside(segments: Sequence[Segment], at: int) -> list[int]:
    """The sentences before and after one; sounds between them do not count."""
    found = []
    for step in (-1, 1):
        other = at + step
        while 0 <= other < len(segments) and segments[other].kind != "speech":
            other += step
        if 0 <= other < len(segments):
            found.append(other)
    return found


def _touch(before: Segment, after: Segment) -> bool:
    return before.recording == after.recording and after.start - before.end <= NEIGHBOUR_SECONDS


def _asks(text: str) -> bool:
    return text.rstrip(" \"'”’)").endswith(("?", "？"))


def _prefer_decisions(
    question: str, own: np.ndarray, plain: np.ndarray, segments: Sequence[Segment]
) -> np.ndarray:
    """Where a decision is asked for, put sentences that announce one first.

    "So we go with North Quay" need not name the sound stage; it was talked about in the minute before.
    """
    if not _ASKS_DECISION.search(question):
        return plain
    score = plain * NO_DECISION
    for at, segment in enumerate(segments):
        if _DECIDES.search(segment.text) and not _asks(segment.text):
            before = [
                own[other] * (1.0 - (segment.start - segments[other].end) / (2 * DISCUSSED_SECONDS))
                for other in range(at)
                if segments[other].recording == segment.recording
                and segment.start - segments[other].end <= DISCUSSED_SECONDS
            ]
            score[at] = max(score[at], own[at] + DISCUSSION_WEIGHT * max(before, default=0.0))
    return score


def _kind_factor(question: str, text: str) -> float:
    """More for a sentence that has what is asked for (an amount, a time, a person), less for a question."""
    if _asks(text):
        return IS_QUESTION
    asked = ((_AMOUNT, _NUMBER), (_TIME, _MOMENT), (_PERSON, _NAME))
    right = any(asks.search(question) and has.search(text) for asks, has in asked)
    return RIGHT_KIND if right else 1.0
