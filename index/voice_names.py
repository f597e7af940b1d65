"""Speakers' names as people type them: in any case, by a part that is theirs alone, or by their sound."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from index.text import similarity
from index.vocabulary import MONTHS, STOP_WORDS, WEEKDAYS

NO_NAMES = STOP_WORDS | frozenset((*WEEKDAYS, *MONTHS, "speaker"))
"""Words that name nobody by themselves."""


def find_voices(text: str, voices: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """Where a text may name a voice: first character, the one behind the last, and the voice's name.

    “E” names Grad E, and “the professor” Professor C, where no other voice has that part; “Kallum” is Callum.
    Names that are written out come first, longer ones before shorter ones.
    """
    ranked = sorted(voices, key=len, reverse=True)
    for voice in ranked:
        for found in re.finditer(rf"(?<!\w){re.escape(voice)}(?!\w)", text, re.IGNORECASE):
            yield *found.span(), voice
    parts = Counter(part.casefold() for voice in voices for part in set(voice.split()))
    for voice in ranked:
        for part in voice.split():
            if parts[part.casefold()] == 1 and part.casefold() not in NO_NAMES:
                for found in re.finditer(r"[^\W\d_]+(?:-[^\W\d_]+)*", text):
                    if _names(found[0], part, alone=" " not in voice):
                        yield *found.span(), voice


def _names(word: str, part: str, alone: bool) -> bool:
    if len(part) == 1:
        # An “I” could be anybody; other initials are written large.
        return word == part != "I" and part.isalpha() and not alone
    if word.casefold() == part.casefold():
        return True
    return word[0].isupper() and similarity(word.casefold(), part.casefold()) > 0
