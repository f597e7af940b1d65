"""From timed words to sentences, by punctuation and pauses: the segments people read and cite."""

from __future__ import annotations

import re
from collections.abc import Sequence

from index.records import Word

MAX_SENTENCE_SECONDS = 15.0
"""A sentence longer than this is cut at its longest pause; run-on speech has no full stops."""

MAX_PAUSE_SECONDS = 1.2
"""A pause this long ends a sentence, punctuation or not."""

CAPITAL_PAUSE_SECONDS = 0.25
"""Before a capital letter this much is enough: Whisper now and then leaves a full stop out, but begins
the next sentence with a capital all the same."""

# pysbd splits text no better (docs/dependencies.md) and knows nothing of pauses.
_END = re.compile(r"[.?!…。？！｡]+[\"'”’»)\]]*$")
_ABBREVIATION = re.compile(
    r"^(?:mr|mrs|ms|dr|prof|st|vs|etc|e\.g|i\.e|no|approx|inc|ltd|jr|sr|[a-z](?:\.[a-z])*)\.$", re.IGNORECASE
)

_PRONOUN_I = re.compile(r"^I(?:['’]\w+)?$")


def split_sentences(words: Sequence[Word]) -> list[list[Word]]:
    """Group words into sentences, in order, losing none.

    A sentence ends at closing punctuation that is no abbreviation, at a long pause, and (where it runs
    on for over ``MAX_SENTENCE_SECONDS``) at its longest pause.
    """
    sentences: list[list[Word]] = []
    current: list[Word] = []
    for index, word in enumerate(words):
        current.append(word)
        following = words[index + 1] if index + 1 < len(words) else None
        if following is None or _ends(word, following):
            sentences += _cut_long(current)
            current = []
    return sentences


def join_words(words: Sequence[Word]) -> str:
    """The words as text; Whisper's words carry their own leading spaces."""
    return " ".join("".join(word.text for word in words).split())


def _ends(word: Word, following: Word) -> bool:
    pause = following.start - word.end
    if pause >= MAX_PAUSE_SECONDS:
        return True
    text = word.text.strip()
    nxt = following.text.strip()
    if not _END.search(text):
        return pause >= CAPITAL_PAUSE_SECONDS and nxt[:1].isupper() and not _PRONOUN_I.match(nxt)
    if _ABBREVIATION.match(text) and text.lower() != "i.":
        # "Dr. Smith" goes on; "… at 5 p.m. Then" cannot be told apart and goes on too.
        return False
    return not (nxt[:1].islower() and text.endswith(("…", "...")))


def _cut_long(words: list[Word]) -> list[list[Word]]:
    if len(words) < 2 or words[-1].end - words[0].start <= MAX_SENTENCE_SECONDS:
        return [words]

    def quality(index: int) -> tuple[float, float]:
        pause = words[index].start - words[index - 1].end
        comma = 0.3 if words[index - 1].text.rstrip().endswith((",", ";", ":", "，", "、")) else 0.0
        centre = abs(index - len(words) / 2)
        return pause + comma, -centre

    cut = max(range(1, len(words)), key=quality)
    return _cut_long(words[:cut]) + _cut_long(words[cut:])
