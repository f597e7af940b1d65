"""The words of time: text to tokens, and tokens to numbers, lengths and units.

Everything here is about one token after another; what a whole expression means is decided in
``agent.time_expressions``. All lengths are seconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

TokenKind = Literal["clock", "compact", "ordinal", "number", "word", "other"]

UNITS = {
    name: seconds
    for seconds, names in (
        (1, ("s", "sec", "secs", "second", "seconds")),
        (60, ("min", "mins", "minute", "minutes")),
        (3600, ("h", "hr", "hrs", "hour", "hours")),
    )
    for name in names
}
_SMALL = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
_SMALL += " sixteen seventeen eighteen nineteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
NUMBERS = {word: value for value, word in enumerate(_SMALL.split())}
TENS = {word: 10 * value for value, word in enumerate(_TENS.split(), start=2)}
_ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth"
_ORDINALS += " fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth"
ORDINALS = {word: value for value, word in enumerate(_ORDINALS.split(), start=1)}
FEW = 3
"""What “a few minutes” is taken to be."""

_CLOCK = r"[0-9]{1,3}:[0-5][0-9](?::[0-5][0-9])?(?:\.[0-9]{1,3})?"
_AMOUNT = r"[0-9]{1,6}(?:\.[0-9]{1,3})?"
_COMPACT_UNIT = r"hrs?|h|mins?|m|secs?|s"
_COMPACT = rf"(?:{_AMOUNT}(?:{_COMPACT_UNIT}))+(?:[0-9]{{1,2}})?"
_COMPACT_PART = re.compile(rf"({_AMOUNT})({_COMPACT_UNIT})", re.IGNORECASE)
_TOKEN = re.compile(
    rf"""
      (?P<clock>   (?<![\w:.,]){_CLOCK}(?!:?\w)(?!\.[0-9]) )
    | (?P<compact> (?<![\w:.,]){_COMPACT}(?!\w) )
    | (?P<ordinal> (?<![\w:.,])[0-9]{{1,4}}(?:st|nd|rd|th)(?!\w) )
    | (?P<junk>    [$€£¥]\s?[0-9][\w.,:]* | [0-9][\w.,:]*\s?[$€£¥%] | [0-9]+(?::[0-9]+)+\w* )
    | (?P<number>  (?<![\w:.,])[0-9]{{1,6}}(?:\.[0-9]{{1,3}})?(?!:?\w)(?!\.[0-9]) )
    | (?P<word>    [^\W\d_]+(?:['’][^\W\d_]+)* )
    | (?P<other>   [0-9][\w.,:]*(?<![.,:]) | \S )
    """,
    re.VERBOSE | re.IGNORECASE,
)
_DASHES = str.maketrans(dict.fromkeys("‐‑‒–—−", "-"))


@dataclass(frozen=True)
class Token:
    """One word, number, time or mark, with its place in the text."""

    kind: TokenKind
    text: str
    """In lower case, dashes and apostrophes made plain."""
    start: int
    end: int
    seconds: float = 0.0
    """Of a clock time or a compact length."""
    unit: int = 0
    """Seconds of the smallest unit that a compact length names."""
    number: float = 0.0
    """Of a number or an ordinal in digits."""
    capital: bool = False
    """Whether it starts with a capital, as a name does."""


END = Token("other", "", 0, 0)
"""What stands behind the last token."""


class Tokens:
    """The tokens of a text; reading past either end gives ``END``."""

    def __init__(self, text: str) -> None:
        self.source = text
        plain = text.translate(_DASHES).replace("’", "'")
        self._tokens = [_token(found) for found in _TOKEN.finditer(plain)]

    def __len__(self) -> int:
        return len(self._tokens)

    def __iter__(self) -> Iterator[Token]:
        return iter(self._tokens)

    def __getitem__(self, index: int) -> Token:
        return self._tokens[index] if 0 <= index < len(self._tokens) else END

    def word(self, index: int) -> str:
        """The token's text in lower case; empty past the ends."""
        return self[index].text

    def words(self, index: int, count: int) -> list[str]:
        """The next ``count`` tokens' texts; empty ones past the ends."""
        return [self.word(index + step) for step in range(count)]

    def phrase(self, first: int, behind: int) -> str:
        """The original text of tokens ``first`` up to, not with, ``behind``."""
        return self.source[self[first].start : self[behind - 1].end]

    def skip(self, index: int, *words: str) -> int:
        """The place behind the token at ``index`` if it is one of ``words``, else ``index``."""
        return index + 1 if self.word(index) in words and index < len(self) else index


@dataclass(frozen=True)
class Length:
    """A stretch of time in seconds, the unit it ended in, and where the text goes on."""

    seconds: float
    unit: int
    behind: int


def _token(found: re.Match[str]) -> Token:
    kind, raw, place = found.lastgroup, found[0], found.span()
    lower, capital = raw.lower(), raw[:1].isupper()
    match kind:
        case "clock":
            parts = reversed(raw.split(":"))
            seconds = sum(float(part) * 60**power for power, part in enumerate(parts))
            return Token("clock", lower, *place, seconds=seconds)
        case "compact":
            length = _compact_length(lower)
            return Token("compact", lower, *place, *length) if length else Token("other", lower, *place)
        case "number":
            return Token("number", lower, *place, number=float(raw))
        case "ordinal":
            return Token("ordinal", lower, *place, number=float(raw[:-2]))
        case "word":
            return Token("word", lower, *place, capital=capital)
        case _:
            return Token("other", lower, *place)


def _compact_length(text: str) -> tuple[float, int] | None:
    """Seconds and last unit of ``1h05m10s``, ``1h05``, ``2m30``; None unless the units fall."""
    total, unit, position = 0.0, 216_000, 0
    for part in _COMPACT_PART.finditer(text):
        smaller = {"h": 3600, "m": 60, "s": 1}[part[2][0]]
        if smaller >= unit:
            return None
        total, unit, position = total + float(part[1]) * smaller, smaller, part.end()
    rest = text[position:]
    if rest and (unit == 1 or int(rest) > 59):
        return None
    return total + int(rest or 0) * unit / 60, unit


def read_number(tokens: Tokens, index: int) -> tuple[float, int] | None:
    """A number in digits or words (up to 999), ``and a half`` included, and where the text goes on."""
    found = _whole_number(tokens, index)
    if found is None:
        return None
    value, behind = found
    if tokens.words(behind, 3) == ["and", "a", "half"]:
        return value + 0.5, behind + 3
    return value, behind


def _whole_number(tokens: Tokens, index: int) -> tuple[float, int] | None:
    token = tokens[index]
    if token.kind == "number":
        return token.number, index + 1
    if token.text in ("a", "one") and tokens.word(index + 1) == "hundred":
        value, behind = 100.0, index + 2
    elif token.text in NUMBERS and tokens.word(index + 1) == "hundred":
        value, behind = 100.0 * NUMBERS[token.text], index + 2
    else:
        return _below_hundred(tokens, index)
    rest = _below_hundred(tokens, tokens.skip(behind, "and"))
    return (value + rest[0], rest[1]) if rest else (value, behind)


def _below_hundred(tokens: Tokens, index: int) -> tuple[float, int] | None:
    word = tokens.word(index)
    if word in NUMBERS:
        return float(NUMBERS[word]), index + 1
    if word not in TENS:
        return None
    ones = tokens.skip(index + 1, "-")
    digit = NUMBERS.get(tokens.word(ones), 0)
    return (TENS[word] + digit, ones + 1) if 1 <= digit <= 9 else (float(TENS[word]), index + 1)


def read_unit(tokens: Tokens, index: int) -> tuple[int, int] | None:
    """The seconds of a unit (``minutes``, ``-minute``) and where the text goes on."""
    index = tokens.skip(index, "-")
    unit = UNITS.get(tokens.word(index)) if tokens[index].kind == "word" else None
    return (unit, index + 1) if unit else None


def read_length(tokens: Tokens, index: int) -> Length | None:
    """A length of time: ``90 seconds``, ``two minutes thirty``, ``half an hour``, ``1h05``, ``a minute``."""
    first = _read_part(tokens, index)
    if first is None:
        return None
    total, unit, behind = first.seconds, first.unit, first.behind
    while unit > 1:
        following = tokens.skip(tokens.skip(behind, ","), "and")
        part = _read_part(tokens, following)
        if part is None or part.unit >= unit:
            break
        total, unit, behind = total + part.seconds, part.unit, part.behind
    rest = read_number(tokens, behind)
    if rest and unit > 1 and rest[0] < 60 and closes(tokens, rest[1]) and tokens[index].kind != "compact":
        return Length(total + rest[0] * unit / 60, unit // 60, rest[1])
    return Length(total, unit, behind)


def _read_part(tokens: Tokens, index: int) -> Length | None:
    """One number with its unit."""
    if tokens[index].kind == "compact":
        return Length(tokens[index].seconds, tokens[index].unit, index + 1)
    count = _read_count(tokens, index)
    if count is None:
        return None
    number, behind = count
    unit = read_unit(tokens, behind)
    if unit is None:
        return None
    seconds, behind = number * unit[0], unit[1]
    if number == 1 and tokens.words(behind, 3) == ["and", "a", "half"]:
        seconds, behind = 1.5 * unit[0], behind + 3
    return Length(seconds, unit[0], behind)


def _read_count(tokens: Tokens, index: int) -> tuple[float, int] | None:
    """How many units: a number, ``a``, ``half an``, ``a quarter of an``, ``a couple of``, ``a few``."""
    number = read_number(tokens, index)
    start = tokens.skip(index, "a", "an")
    word = tokens.word(start)
    if word == "half":
        return 0.5, tokens.skip(start + 1, "a", "an")
    if word in ("quarter", "quarters") or (number and tokens.word(number[1]) == "quarters"):
        behind = number[1] if number else start
        if tokens.word(behind + 1) == "of" and tokens.word(behind + 2) in ("a", "an"):
            return 0.25 * (number[0] if number else 1), behind + 3
        return None
    if number:
        return number
    if word in ("couple", "few"):
        return (2.0 if word == "couple" else float(FEW)), tokens.skip(start + 1, "of")
    return (1.0, start) if start > index else None


def word_set(words: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(words.split())


FUNCTION_WORDS = word_set(
    """a about after am an and any are as at be been before but by can could did do does during for from
    go had has have he her his how i if in into is it its like me my not of on or our regarding say said
    says she should so tell than that the their them then there they this to until us was we were what
    what's when where which while who who's whom whose why will with would you your please again exactly
    only mark just"""
)
"""Words that can follow a finished time expression; a noun that follows would make it part of a name."""


def closes(tokens: Tokens, index: int) -> bool:
    """Whether an expression may end before ``index``: the end, punctuation, a function word or a name."""
    token = tokens[index]
    if token.kind == "word":
        return token.text in FUNCTION_WORDS or token.capital
    return token.kind == "other" and token.text not in ("-", "/", "'")
