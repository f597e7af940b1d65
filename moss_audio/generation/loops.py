"""Repetition loops: the same words over and over, which speech models write on laughter, music and noise.

There are two questions, each with thresholds of its own. Is an answer that is still being written in a loop
(``is_loop`` on token ids, ``LoopWatch`` on text)? Ending it loses all that would have followed, so this
takes more repeats. And which parts of a finished answer are a loop (``find_loops``, ``cut_loops``)?
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Hashable, Iterable, Sequence
from functools import lru_cache
from operator import eq
from typing import NamedTuple

LONGEST_PERIOD = 64
"""Tokens (or words, in ``LoopWatch``) of the longest phrase whose repetition ends an answer."""

REPETITIONS = 6
"""An answer is ended when it says a phrase this many times in a row, and at least …"""

LOOP_TOKENS = 48
"""… this many tokens in all: "no, no, no" is speech, and so is a chorus sung twice."""

MAX_PHRASE = 32
"""Longest repeated phrase looked for in finished text, in words (in Chinese and Japanese: in characters)."""

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


class Loop(NamedTuple):
    """A phrase said over and over: the indices ``begin`` to ``end`` (half-open) of all its repeats.

    ``again`` is where the second of them begins.
    """

    begin: int
    again: int
    end: int


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
        found += [Word(owner, begin, finish, word_key(text[begin:finish])) for begin, finish in spans]
    return found


@lru_cache(maxsize=1 << 14)
def word_key(word: str) -> str:
    """The form by which words are compared: case-folded letters and digits; of a sign, the sign itself."""
    folded = word.strip().casefold()
    return "".join(filter(str.isalnum, folded)) or folded


def is_loop(ids: Sequence[int]) -> bool:
    """Whether the last tokens of an answer are one phrase over and over, so that it should be ended."""
    for period in range(1, LONGEST_PERIOD + 1):
        length = max(REPETITIONS * period, LOOP_TOKENS)
        if len(ids) < length:
            return False
        # Cheap for almost all periods: the last token alone already differs.
        if ids[-1] == ids[-1 - period]:
            tail = ids[-length:]
            if tail[period:] == tail[:-period]:
                return True
    return False


class LoopWatch:
    """Looks for loops in text that is being written, by its words: a server gives no token ids.

    Attributes:
        looping: Whether the text ran into a loop.
    """

    def __init__(self) -> None:
        self.looping = False
        self._begun = ""
        """A word that may still go on."""
        self._numbers: dict[str, int] = {}
        self._recent: deque[int] = deque(maxlen=max(REPETITIONS * LONGEST_PERIOD, LOOP_TOKENS))

    def feed(self, text: str) -> None:
        """Take more text."""
        text = self._begun + text
        self._begun = _last_word(text)
        for word in words_of(text[: len(text) - len(self._begun)]):
            self._recent.append(self._numbers.setdefault(word.key, len(self._numbers)))
            self.looping = self.looping or is_loop(list(self._recent))


def _last_word(text: str) -> str:
    """The word at the end of a text, if it may go on; one of more than 60 characters is not waited for."""
    words = _WORD.findall(text)
    if not words or not text.endswith(words[-1]) or _IDEOGRAPH.match(words[-1]):
        return ""
    return words[-1] if len(words[-1]) <= _LONG_WORD else ""


def _repeats_needed(phrase: Sequence[Hashable]) -> int:
    """How often a phrase of words must be said; two ideographs are as much as one word."""
    if len(phrase) == 1 or (len(phrase) == 2 and all(_IDEOGRAPH.match(str(key)) for key in phrase)):
        return WORD_REPEATS
    return PHRASE_REPEATS


def find_loops(keys: Sequence[Hashable], longest: int = MAX_PHRASE, needed: int | None = None) -> list[Loop]:
    """Find what a sequence repeats.

    Time is proportional to ``len(keys) * longest``: for each length of phrase, one pass that compares the
    sequence with itself shifted by that length.

    Args:
        keys: Things to compare, such as ``word_key`` of words.
        longest: Longest phrase looked for.
        needed: How many repeats make a loop; None for the rule for words.

    Returns:
        Loops in order, not overlapping. A broken-off last repeat belongs to a loop only where the sequence
        ends with it.
    """
    found: list[Loop] = []
    taken = bytearray(len(keys))
    for length in range(1, min(longest, len(keys) // 2) + 1):
        same = bytes(map(eq, keys, keys[length:]))
        shortest = b"\1" * (length * ((needed or PHRASE_REPEATS) - 1))
        at = same.find(shortest)
        while at >= 0:
            end = same.find(b"\0", at)
            end = len(keys) if end < 0 else at + (end - at + length) // length * length
            repeats = (end - at) // length
            if repeats >= (needed or _repeats_needed(keys[at : at + length])) and not any(taken[at:end]):
                taken[at:end] = b"\1" * (end - at)
                found.append(Loop(at, at + length, end))
            at = same.find(shortest, end)
    return sorted(found)


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
        loops = find_loops([word.key for word in words])
        if not loops:
            break
        bad = bytearray(len(words))
        for loop in loops:
            bad[loop.again : loop.end] = b"\1" * (loop.end - loop.again)
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
