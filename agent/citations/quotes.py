"""Words as they are compared: what is quoted, against what was said."""

from __future__ import annotations

import re

_PUNCTUATION = re.compile(r"[,;:]+(?= )")
_ELLIPSIS = re.compile(r"\[?(?:\.{3,}|…)\]?")


def tidy(text: str) -> str:
    """Text on one line with single spaces."""
    return " ".join(text.split())


def quoted(text: str) -> str:
    """Words of a recording in quotation marks: verbatim, on one line; inner double quotes become single."""
    return "“" + tidy(text).translate(INNER_QUOTES) + "”"


INNER_QUOTES = str.maketrans('“”„"«»「」', "‘’‚'‹›‘’")
_FOLDED = str.maketrans(dict.fromkeys("“”„\"«»‹›「」‘’‚'`´", " ") | dict.fromkeys("‐‑‒–—―", "-"))


def fold(text: str) -> str:
    """Text as it is compared: lower case, single spaces, no quotation marks, commas and outer punctuation.

    Commas go because sentences lose theirs where they are cut.
    """
    return _PUNCTUATION.sub("", tidy(text.casefold().translate(_FOLDED))).strip(" .,;:!?…-")


def contains(folded: str, quote: str) -> bool:
    """Whether the folded text contains the quote's words, in order where an ellipsis divides them."""
    parts = [part for piece in _ELLIPSIS.split(quote) if (part := fold(piece))]
    at = 0
    for part in parts:
        at = _find_words(folded, part, at)
        if at < 0:
            return False
    return bool(parts)


def _find_words(text: str, words: str, start: int) -> int:
    """Where ``words`` end in ``text`` as whole words at or after ``start``; -1 when they do not occur."""
    at = text.find(words, start)
    while at >= 0:
        end = at + len(words)
        before = at == 0 or not (text[at - 1].isalnum() and words[0].isalnum())
        after = end == len(text) or not (text[end].isalnum() and words[-1].isalnum())
        if before and after:
            return end
        at = text.find(words, at + 1)
    return -1
