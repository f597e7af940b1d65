"""Repetition loops: the same words over and over, which speech models emit on noise and laughter.

Has an answer run into a loop? Greedy decoding does so on laughter, music and noise.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Sequence
from functools import lru_cache
from operator import eq
from typing import NamedTuple

LONGEST_PERIOD = 64
"""Tokens of the longest phrase whose repetition is looked for."""

REPETITIONS = 6
"""So many times over, and at least …"""

LOOP_TOKENS = 48
"""… so many tokens in all: "no, no, no" is speech, and so is a chorus sung twice."""


def is_loop(ids: Sequence[int]) -> bool:
    """Whether the last tokens are one phrase over and over."""
    for period in range(1, LONGEST_PERIOD + 1):
        length = max(REPETITIONS * period, LOOP_TOKENS)
        if len(ids) < length:
            return False
        # Cheap for almost all periods: the last token alone already differs.
        if ids[-1] == ids[-1 - period]:
            tail = ids[-length:]
            if all(tail[i] == tail[i - period] for i in range(period, length)):
                return True
    return False


MAX_PHRASE = 32
"""Longest repeated phrase looked for, in words (in Chinese and Japanese: in characters)."""

PHRASE_REPEATS = 4
"""A phrase said this many times in a row is a loop; twice or thrice is emphasis, or a song."""

WORD_REPEATS = 8
"""The same for a single word, since people do say “no, no, no, no, no”."""

_MAX_ROUNDS = 16
_LONG_WORD = 60
_SCRIPT_WITHOUT_SPACES = "぀-ヿ㐀-䶿一-鿿豈-﫿ｦ-ﾟ"
_WORD = re.compile(rf"[{_SCRIPT_WITHOUT_SPACES}]|[^\s{_SCRIPT_WITHOUT_SPACES}]+")
_IDEOGRAPH = re.compile(rf"[{_SCRIPT_WITHOUT_SPACES}]")


class Word(NamedTuple):
    """A word of one of several texts: which text, where in it, and the form by which words are compared."""

    owner: int
    begin: int
    finish: int
    key: str


def words_of(text: str, owner: int = 0) -> list[Word]:
    """Cut a text into words: at spaces, and around each character of a script written without spaces.

    A word of more than 60 characters counts as so many words of one character: “hahaha…” is a loop too.
    """
    found = []
    for match in _WORD.finditer(text):
        if match.end() - match.start() > _LONG_WORD:
            spans: Iterable[tuple[int, int]] = ((at, at + 1) for at in range(match.start(), match.end()))
        else:
            spans = (match.span(),)
        found += [Word(owner, begin, finish, _key(text[begin:finish])) for begin, finish in spans]
    return found


@lru_cache(maxsize=1 << 14)
def _key(word: str) -> str:
    folded = word.casefold()
    return "".join(filter(str.isalnum, folded)) or folded


def _repeats_needed(phrase: Sequence[Hashable]) -> int:
    """How often a phrase of words must be said; two ideographs are as much as one word."""
    if len(phrase) == 1 or (len(phrase) == 2 and all(_IDEOGRAPH.match(str(one)) for one in phrase)):
        return WORD_REPEATS
    return PHRASE_REPEATS


def repeated(keys: Sequence[Hashable], longest: int = MAX_PHRASE, needed: int | None = None) -> list[range]:
    """Find what a sequence repeats.

    Time is proportional to ``len(keys) * longest``: for each length of phrase, one pass that compares the
    sequence with itself shifted by that length.

    Args:
        keys: Things to compare.
        longest: Longest phrase looked for.
        needed: How many repeats make a loop; None for the rule for words.

    Returns:
        Index ranges of the repeats after the first of each loop, in order, not overlapping. A broken-off last
        repeat belongs to the loop only where the sequence ends with it.
    """
    found: list[range] = []
    taken = bytearray(len(keys))
    for length in range(1, min(longest, len(keys) // 2) + 1):
        same = bytes(map(eq, keys, keys[length:]))
        shortest = b"\1" * (length * ((needed or PHRASE_REPEATS) - 1))
        at = same.find(shortest)
        while at >= 0:
            finish = same.find(b"\0", at)
            finish = len(keys) if finish < 0 else at + (finish - at + length) // length * length
            repeats = (finish - at) // length
            if repeats >= (needed or _repeats_needed(keys[at : at + length])) and not any(taken[at:finish]):
                taken[at:finish] = b"\1" * (finish - at)
                found.append(range(at + length, finish))
            at = same.find(shortest, finish)
    return sorted(found, key=lambda one: one.start)


def cut_loops(texts: Sequence[str]) -> tuple[list[str], list[tuple[int, str]]]:
    """Cut loops out of texts read one after another; the first saying of each phrase stays.

    Args:
        texts: For example the texts of successive segments. A loop may run across them.

    Returns:
        The texts without their loops (some may be empty now), and what was cut: (index of the text, words).
    """
    words = [word for owner, text in enumerate(texts) for word in words_of(text, owner)]
    gone: list[Word] = []
    for _ in range(_MAX_ROUNDS):
        loops = repeated([word.key for word in words])
        if not loops:
            break
        bad = bytearray(len(words))
        for loop in loops:
            bad[loop.start : loop.stop] = b"\1" * len(loop)
        gone += [word for word, is_bad in zip(words, bad, strict=True) if is_bad]
        words = [word for word, is_bad in zip(words, bad, strict=True) if not is_bad]
    return _without(texts, sorted(gone))


def _without(texts: Sequence[str], gone: Sequence[Word]) -> tuple[list[str], list[tuple[int, str]]]:
    cuts: list[tuple[int, int, int]] = []
    for word in gone:
        if cuts and cuts[-1][0] == word.owner and not texts[word.owner][cuts[-1][2] : word.begin].strip():
            cuts[-1] = (word.owner, cuts[-1][1], word.finish)
        else:
            cuts.append((word.owner, word.begin, word.finish))
    pieces: dict[int, list[str]] = {}
    reached: dict[int, int] = {}
    for owner, begin, finish in cuts:
        pieces.setdefault(owner, []).append(texts[owner][reached.get(owner, 0) : begin])
        reached[owner] = finish
    kept = list(texts)
    for owner, parts in pieces.items():
        kept[owner] = _join([*parts, texts[owner][reached[owner] :]])
    return kept, [(owner, texts[owner][begin:finish]) for owner, begin, finish in cuts]


def _join(parts: Sequence[str]) -> str:
    joined: list[str] = []
    for part in parts:
        between_spaces = not joined or joined[-1][-1:].isspace()
        piece = part.lstrip() if between_spaces else part
        if piece:
            joined.append(piece)
    return "".join(joined).strip()
