"""Times of the words of a corrected text: kept where words are kept, interpolated where they change."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import replace
from difflib import SequenceMatcher

from index.records import Word
from index.text import UNSPACED

_PIECE = re.compile(rf"{UNSPACED.pattern.removesuffix('+')}[^\w\s]*|(?:(?!{UNSPACED.pattern})\S)+")


def pieces(text: str) -> list[str]:
    """What has a time of its own: words, and single characters of scripts that are written without spaces."""
    return _PIECE.findall(text)


def retime(words: Sequence[Word], text: str, start: float, end: float) -> tuple[Word, ...]:
    """The words of a corrected text with times.

    Old and new words are aligned (the longest matching blocks, Ratcliff and Obershelp, as in ``difflib``).
    A word that is kept, but for case and punctuation, keeps its time; as many words as stood there take
    theirs one by one; any others share the time that is free between those that are kept, by their letters.

    Args:
        words: The words before, seconds; their times run forward inside ``[start, end]``.
        text: The text now.
        start: Where the sentence starts, seconds.
        end: Where it ends.

    Returns:
        Words whose times run forward inside the sentence; none where the words before had no times.
    """
    if not words:
        return ()
    old = [part for word in words for part in _parts(word)]
    new = pieces(text)
    timed: list[Word] = []
    for kind, old_from, old_to, new_from, new_to in _aligned(
        [_key(word.text) for word in old], [_key(piece) for piece in new]
    ):
        added = new[new_from:new_to]
        if kind == "equal" or (kind == "replace" and old_to - old_from == len(added)):
            certain = kind == "equal"
            timed += [
                replace(word, text=piece, probability=word.probability if certain else 1.0)
                for word, piece in zip(old[old_from:old_to], added, strict=True)
            ]
            continue
        if kind == "replace":
            free = old[old_from].start, old[old_to - 1].end
        else:
            free = (
                old[old_from - 1].end if old_from else start,
                old[old_from].start if old_from < len(old) else end,
            )
        timed += spread(added, max(start, free[0]), min(end, free[1]))
    return _spaced(timed, text, words[0].text[:1].isspace())


def _spread_text(text: str, start: float, end: float) -> tuple[Word, ...]:
    return _spaced(spread(pieces(text), start, end), text, leading=True)


def spread(added: Sequence[str], start: float, end: float) -> list[Word]:
    """Words that follow each other without a pause, each as long as its letters; seconds."""
    end = max(start, end)
    letters = [len(piece) for piece in added]
    total, before, timed = sum(letters), 0, []
    for piece, count in zip(added, letters, strict=True):
        first, last = (start + (end - start) * at / total for at in (before, before + count))
        timed.append(Word(first, min(end, last), piece))
        before += count
    return timed


def cut(
    words: Sequence[Word], left: str, right: str, start: float, end: float
) -> tuple[tuple[Word, ...], tuple[Word, ...], float, float]:
    """Cut a sentence in two.

    Args:
        words: Its words with times; none where these are not known.
        left: The text of the first part.
        right: The text of the second.
        start: Where the sentence starts, seconds.
        end: Where it ends.

    Returns:
        The words of both parts, where the first part ends, and where the second starts.
    """
    timed = retime(words, f"{left} {right}", start, end)
    count = len(pieces(left))
    before, after = timed[:count], timed[count:]
    if before and after and start < before[-1].end <= after[0].start < end:
        return before, after, before[-1].end, after[0].start
    share = len(left) / (len(left) + len(right))
    middle = start + (end - start) * share
    if not timed:
        return (), (), middle, middle
    return _spread_text(left, start, middle), _spread_text(right, middle, end), middle, middle


def joined(
    left: Sequence[Word], left_text: str, span: tuple[float, float],
    right: Sequence[Word], right_text: str, right_span: tuple[float, float],
) -> tuple[Word, ...]:  # fmt: skip
    """The words of two sentences in a row; where only one has times, those of the other are interpolated."""
    if not left and not right:
        return ()
    first = left or _spread_text(left_text, *span)
    second = list(right or _spread_text(right_text, *right_span))
    if second and not second[0].text[:1].isspace() and not UNSPACED.match(right_text):
        second[0] = replace(second[0], text=f" {second[0].text}")
    return (*first, *second)


def _aligned(old: list[str], new: list[str]) -> Iterator[tuple[str, int, int, int, int]]:
    """How to turn one list into the other, as ``difflib``'s opcodes: what both begin and end with is kept."""
    most = min(len(old), len(new))
    head = next((at for at in range(most) if old[at] != new[at]), most)
    tail = next((at for at in range(most - head) if old[-1 - at] != new[-1 - at]), most - head)
    inner = old[head : len(old) - tail], new[head : len(new) - tail]
    yield "equal", 0, head, 0, head
    for kind, *places in SequenceMatcher(None, *inner, autojunk=False).get_opcodes():
        old_from, old_to, new_from, new_to = (head + place for place in places)
        yield kind, old_from, old_to, new_from, new_to
    yield "equal", len(old) - tail, len(old), len(new) - tail, len(new)


def _parts(word: Word) -> list[Word]:
    """A word in its pieces, which share its time."""
    found = pieces(word.text)
    if len(found) <= 1:
        return [replace(word, text=piece) for piece in found]
    return [replace(part, probability=word.probability) for part in spread(found, word.start, word.end)]


def _spaced(timed: Sequence[Word], text: str, leading: bool) -> tuple[Word, ...]:
    """Words with the space before them that the text has, so that they can be joined again."""
    spaced, at = [], 0
    for number, word in enumerate(timed):
        found = text.index(word.text, at)
        space = leading if number == 0 else text[at:found].isspace()
        spaced.append(replace(word, text=f" {word.text}" if space else word.text))
        at = found + len(word.text)
    return tuple(spaced)


def _key(piece: str) -> str:
    folded = unicodedata.normalize("NFKC", piece).casefold()
    return "".join(letter for letter in folded if letter.isalnum()) or folded
