"""From the words of a question to a stretch of the recording: ``at minute 2`` is [2:00, 3:00).

``find_time`` reads the first time expression in a text. A *point* (``2:15``, ``minute 2``, ``the
ten-minute mark``) names a moment, or the minute that starts there; a *section* is a share of the
recording (``the first half``); the readers below combine them with the words around them.
``docs/time-expressions.md`` lists every form.

All lengths are seconds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from index.vocabulary import CLEAR_MONTHS, CORE_WORDS, NUMBERS, ORDINALS, TENS, WEEKDAYS, word_set
from moss_audio.timestamps import parse_clock

# --- words of time: text to tokens, tokens to numbers, lengths and units ------------------------------

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
    """The value of a clock time or a compact length."""
    unit: int = 0
    """Seconds of the smallest unit that a compact length names."""
    number: float = 0.0
    """The value of a number or an ordinal in digits."""
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
            return Token("clock", lower, *place, seconds=parse_clock(raw))
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


FUNCTION_WORDS = CORE_WORDS | word_set(
    """again am any but can could exactly go i if just like mark me my not please regarding said say says tell
    what's who's whose why you your"""
)
"""Words that can follow a finished time expression; a noun that follows would make it part of a name."""


def closes(tokens: Tokens, index: int) -> bool:
    """Whether an expression may end before ``index``: the end, punctuation, a function word or a name."""
    token = tokens[index]
    if token.kind == "word":
        return token.text in FUNCTION_WORDS or token.capital
    return token.kind == "other" and token.text not in ("-", "/", "'")


_IN_DETERMINERS = word_set("the this that our my your his her their its a an whole entire")
_RECORDINGS = word_set(
    """recording meeting talk lecture interview call podcast audio conversation video file episode session
    show tape clip track transcript presentation webinar standup seminar hearing film speech lesson class
    it"""
)
_DAYS = frozenset((*WEEKDAYS, *(f"{day}s" for day in WEEKDAYS), "tomorrow", "today", "yesterday", "tonight"))
_CLOCK_TAILS = word_set("am pm o'clock oclock sharp gmt utc noon midnight aspect ratio odds")
_PARTS_OF_DAY = word_set("morning afternoon evening night")
_RATES = word_set("per each every apiece ago late later early away long past to before after old of -")
_LENGTH_VERBS = word_set(
    """take takes took taking last lasts lasted lasting need needs needed spend spends spent wait waited cost
    costs reduce reduced cut shorten shortened extend extended increase increased change changed rise rises
    rose fall falls fell drop dropped grew went"""
)
_NOT_AFTER_IN = _IN_DETERMINERS | word_set("which that whom whose between total")


def names_recording(tokens: Tokens, index: int) -> bool:
    """Whether a noun phrase for a recording starts at ``index``: “the harbour meeting”, “it”."""
    for place in range(index, index + 5):
        token = tokens[place]
        if token.text in _RECORDINGS:
            return True
        if token.kind != "word" or (token.text in FUNCTION_WORDS and token.text not in _IN_DETERMINERS):
            return False
    return False


def ends_section(tokens: Tokens, index: int) -> bool:
    """Whether “the end”, “the first half” may stop before ``index``: “of the meeting” yes, “of May” no."""
    if tokens.word(index) == "of":
        return names_recording(tokens, index + 1)
    return closes(tokens, index)


def is_time_of_day(tokens: Tokens, first: int, behind: int) -> bool:
    """Whether ``pm``, a day or “in the evening” around an expression says that it is a time of day."""
    after = [tokens.word(behind + step) for step in range(4)]
    before = {tokens.word(first - 1), tokens.word(first - 2)}
    return (
        after[0] in _CLOCK_TAILS
        or after[0] in _DAYS
        or (after[0] in ("a", "p") and after[1:3] == [".", "m"])
        or (after[0] == "on" and not _DAYS.isdisjoint(after))
        or (after[0] in ("in", "at") and not _PARTS_OF_DAY.isdisjoint(after))
        or not _DAYS.isdisjoint(before)
    )


def is_rate(tokens: Tokens, behind: int) -> bool:
    """Whether a length that stops before ``behind`` measures something: “10 minutes per kilometre”."""
    return tokens.word(behind) in _RATES


def is_measured(tokens: Tokens, first: int) -> bool:
    """Whether a verb just before says that something lasts or changes: “takes between 1 and 3 minutes”."""
    return any(tokens.word(first - step) in _LENGTH_VERBS for step in (1, 2, 3))


def skip_in(tokens: Tokens, index: int) -> int:
    """Over the ``in`` of “3 minutes in” and “into the meeting”; not over “3 minutes in the rain”."""
    word, following = tokens.word(index), tokens.word(index + 1)
    if word not in ("in", "into"):
        return index
    if names_recording(tokens, index + 1):
        return index + 1
    alone = closes(tokens, index + 1) and not tokens[index + 1].capital and following not in _NOT_AFTER_IN
    if word == "in" and alone:
        return index + 1
    return index


# --- places in time, in every notation ----------------------------------------------------------------

JOINERS = word_set("to until till til through thru and & -")
"""Words between the two ends of a range."""

Form = Literal["clock", "minute", "ordinal", "mark", "length", "bare", "start", "middle", "end"]


@dataclass(frozen=True)
class Point:
    """A place in time in seconds; ``low < high`` where the words name a whole minute or hour.

    ``form`` says how sure the words are: a ``length`` (“10 minutes”) is a place only after words such as
    ``at``; a ``bare`` number takes its unit from the other end of a range.
    """

    low: float
    high: float
    behind: int
    """The token behind it."""
    form: Form
    unit: int = 60
    """What a bare number beside it counts, in seconds."""

    @property
    def sure(self) -> bool:
        """Whether the words can only be a place in time."""
        return self.form in ("clock", "minute", "ordinal", "mark")

    @property
    def edge(self) -> bool:
        """Whether it is ``the beginning``, ``the middle`` or ``the end``."""
        return self.form in ("start", "middle", "end")


def read_point(tokens: Tokens, index: int, duration: float | None) -> Point | None:
    """The place in time that starts at ``index``, in any notation."""
    inside = tokens.skip(index, "the")
    return (
        _read_clock(tokens, inside)
        or _read_named_minute(tokens, inside)
        or _read_ordinal_minute(tokens, inside)
        or read_edge(tokens, inside, duration)
        or _read_offset(tokens, inside)
    )


def read_bare(tokens: Tokens, index: int) -> Point | None:
    """A number or an ordinal without a unit, as in “between *1* and 3 minutes”, “minute 2 to *4*”."""
    inside = tokens.skip(index, "the")
    place = read_ordinal(tokens, inside)
    if place:
        return Point(place - 1.0, float(place), inside + 1, "ordinal", unit=0)
    number = read_number(tokens, inside)
    return Point(number[0], number[0], number[1], "bare", unit=0) if number else None


def in_unit_of(bare: Point, other: Point) -> Point:
    """A bare number as a place, counted like the other end of the range."""
    low, high = bare.low * other.unit, bare.high * other.unit
    if other.form == "minute":
        high = low + other.unit
    return replace(bare, low=low, high=high, unit=other.unit)


def skip_mark(tokens: Tokens, index: int) -> int:
    """Over ``mark`` or ``point``, with a hyphen or without."""
    inside = tokens.skip(index, "-")
    return inside + 1 if tokens.word(inside) in ("mark", "point") else index


def read_edge(tokens: Tokens, index: int, duration: float | None) -> Point | None:
    """``the beginning``, ``the middle``, ``the end`` as single places; the end is infinite."""
    inside = tokens.skip(tokens.skip(index, "the"), "very")
    behind, middle = inside + 1, duration / 2 if duration is not None else 0.0
    match tokens.word(inside):
        case "start" | "beginning":
            form, place = "start", 0.0
        case "middle":
            form, place = "middle", middle
        case "halfway" | "midway":
            form, place, behind = "middle", middle, tokens.skip(skip_mark(tokens, behind), "through", "in")
        case "end" | "finish":
            form, place = "end", math.inf
        case _:
            return None
    if not ends_section(tokens, behind) and tokens.word(behind) not in JOINERS - {"-"}:
        return None
    return Point(place, place, behind, form)  # type: ignore[arg-type]


def _read_clock(tokens: Tokens, index: int) -> Point | None:
    """``2:15``, ``01:05:00``, ``the 2:15 mark``."""
    if tokens[index].kind != "clock":
        return None
    seconds, behind = tokens[index].seconds, skip_mark(tokens, index + 1)
    return Point(seconds, seconds, behind, "mark" if behind > index + 1 else "clock")


def _read_named_minute(tokens: Tokens, index: int) -> Point | None:
    """``minute 2`` is the minute that starts at 2:00; ``hour 1``, ``second 30``, ``minute 2:15`` alike."""
    unit = UNITS.get(tokens.word(index), 0)
    if not unit or len(tokens.word(index)) < 3 or tokens.word(index) in ("sec", "secs", "hrs", "mins"):
        return None
    inside = index + 1
    for filler in ("number", "no", ".", "#", "mark"):
        inside = tokens.skip(inside, filler)
    if tokens[inside].kind == "clock" and unit == 60:
        return Point(tokens[inside].seconds, tokens[inside].seconds, inside + 1, "mark")
    number = read_number(tokens, inside)
    if number is None or not _is_numbered(tokens, number[1]):
        return None
    value, behind = number
    width = unit if value == int(value) and unit > 1 else 0
    return Point(value * unit, value * unit + width, behind, "minute" if width else "mark", unit)


def _is_numbered(tokens: Tokens, behind: int) -> bool:
    """Whether a number after ``minute`` is its name: not in “minute 2 hours”, but in “minutes 2-4”."""
    if tokens.word(behind) == "-":
        right = tokens[behind + 1]
        return right.kind == "clock" or read_number(tokens, behind + 1) is not None or right.text in UNITS
    return tokens.word(behind) not in UNITS and tokens.word(behind) != "/"


def read_ordinal(tokens: Tokens, index: int) -> int:
    """Which one: 3 for ``third`` and ``3rd``; 0 for other words."""
    token = tokens[index]
    return int(token.number) if token.kind == "ordinal" else ORDINALS.get(token.text, 0)


def _read_ordinal_minute(tokens: Tokens, index: int) -> Point | None:
    """``the third minute`` is [2:00, 3:00): counted from one, unlike ``minute 2``."""
    place = read_ordinal(tokens, index)
    unit = {"minute": 60, "hour": 3600}.get(tokens.word(index + 1), 0)
    if not place or not unit or (tokens.word(index), unit) == ("eleventh", 3600):
        return None
    if tokens.words(index + 2, 3) == ["and", "a", "half"]:
        return None  # “the first minute and a half” is a length.
    if not ends_section(tokens, index + 2) and tokens.word(index + 2) not in JOINERS:
        return None
    return Point(float((place - 1) * unit), float(place * unit), index + 2, "ordinal", unit)


def _read_offset(tokens: Tokens, index: int) -> Point | None:
    """A length counted from the start: ``2m30s``, ``the ten-minute mark``, ``3 minutes in``."""
    length = read_length(tokens, index)
    if length is None:
        return None
    behind = skip_mark(tokens, length.behind)
    if behind == length.behind:
        behind = skip_in(tokens, behind)
    form: Form = "mark" if behind > length.behind else "length"
    if form == "length" and tokens[index].kind == "compact" and not _is_single(tokens.word(index)):
        form = "clock"
    return Point(length.seconds, length.seconds, behind, form, length.unit)


def _is_single(compact: str) -> bool:
    """Whether a compact length has one unit only: ``5m`` could be metres, ``2m30s`` could not."""
    return compact.lstrip("0123456789.").isalpha()


# --- before and after a topic, whose own place bounds the stretch -------------------------------------


@dataclass(frozen=True)
class TopicRange:
    """What comes before or after a topic; where the topic is, only a search can say."""

    direction: Literal["before", "after"]
    topic: str
    phrase: str


LONGEST_TOPIC = 20
"""Words of a topic that are read; questions are shorter."""

_DETERMINERS = word_set("the a an our their his her its your my all")
_POINTERS = word_set(
    "that this it those these them him me us you which what whom then all both now how long too"
)
_SUBJECTS = word_set("they we he she i you")
_TALKING = word_set(
    """talk talked talking discuss discussed discussing mention mentioned mentioning speak spoke speaking
    talks discusses mentions about"""
)
_PASSED = word_set(
    "was were is are been got discussed mentioned raised brought came come up over finished ended"
)
_DATES = frozenset((*WEEKDAYS, *CLEAR_MONTHS)) | word_set(
    """tomorrow today yesterday tonight noon midnight lunchtime christmas easter o'clock weekend week month
    year meeting recording call lecture interview session"""
)
_DUTIES = word_set("must should shall will need needs needed due deadline ought wo won't can going")
_BLOCKED_LEADS = word_set(
    "look looks looked looking day days week weeks month months year years name named soon for"
)
_EDGES = word_set("end start beginning middle")
_TIME_UNITS = word_set("minute minutes seconds hour hours")
_STOPS = frozenset("?!.,;:()")
_ENDERS = word_set("what who when where why how which did does do tell please say")


def find_topic(tokens: Tokens) -> TopicRange | None:
    """The first ``before/after <topic>``; pronouns, dates and duties (“must be done before …”) are none."""
    for index, token in enumerate(tokens):
        if _is_duty(tokens, index):
            return None
        if token.text in ("before", "after") and not _is_blocked(tokens, index):
            found = _read_topic(tokens, index)
            if found is not None:
                return found
    return None


def _is_duty(tokens: Tokens, index: int) -> bool:
    word = tokens.word(index)
    return word in _DUTIES or (word in ("have", "has") and tokens.word(index + 1) == "to")


def _is_blocked(tokens: Tokens, index: int) -> bool:
    """“Look after …”, “the day after …”, “before and after”."""
    beyond, before = tokens.words(index - 2, 2)
    joined = before in ("-", "and", "or", "one") and beyond in ("before", "after")
    return joined or before in _BLOCKED_LEADS


def _read_topic(tokens: Tokens, index: int) -> TopicRange | None:
    first, behind = index + 1, index + 1
    while behind < min(len(tokens), index + LONGEST_TOPIC) and tokens.word(behind) not in _STOPS:
        if behind > first and tokens.word(behind) in _ENDERS and tokens.word(behind - 1) not in _SUBJECTS:
            break
        behind += 1
    phrase_end = behind
    first = _skip_lead(tokens, first, behind)
    while behind - 1 > first and tokens.word(behind - 1) in _PASSED:
        behind -= 1
    words = [tokens.word(place) for place in range(first, behind)]
    if not words or not _is_topic(words, tokens[first].kind):
        return None
    direction: Literal["before", "after"] = "before" if tokens.word(index) == "before" else "after"
    return TopicRange(direction, tokens.phrase(first, behind), tokens.phrase(index, phrase_end))


def _skip_lead(tokens: Tokens, first: int, behind: int) -> int:
    """Over “the”, “they talked about the”, “discussing”, “that” before a longer phrase."""
    place = first
    if tokens.word(place) in ("that", "this", "those", "these") and behind - place >= 3:
        place += 1
    if tokens.word(place) in _SUBJECTS:
        place += 1
    while place < behind and (tokens.word(place) in _TALKING or tokens.word(place) in _DETERMINERS):
        place += 1
    return place


def _is_topic(words: list[str], first_kind: str) -> bool:
    if words[0] in _EDGES or not _TIME_UNITS.isdisjoint(words):
        return False
    if first_kind != "word" or words[0] in _POINTERS or words[0] in _DATES:
        return False
    return any(len(word) > 1 and word not in FUNCTION_WORDS and word not in _DATES for word in words)


__all__ = ["TimeRange", "TopicRange", "find_time"]

AT_SECONDS = 15.0
"""Half of the stretch that ``at 2:15`` means."""
AROUND_SECONDS = 30.0
"""Half of the stretch that ``around 2:15`` means."""
EDGE_SECONDS = 60.0
"""How much ``the beginning`` and ``the end`` are."""

Kind = Literal["minute", "moment", "range", "first", "last", "part", "end"]


@dataclass(frozen=True)
class TimeRange:
    """A half-open stretch ``[start, end)`` in seconds that a phrase names; ``start < end`` always.

    It may lie beyond the recording. With ``needs_duration`` the phrase depends on the recording's length
    and no length was given: a side that depends on it is then 0 (start) or infinite (end).
    """

    start: float
    end: float
    phrase: str
    kind: Kind
    needs_duration: bool = False


@dataclass(frozen=True)
class _Found:
    """What a reader found; an infinite end is the recording's end, ``behind`` the token behind it."""

    start: float
    end: float
    kind: Kind
    behind: int
    needs_duration: bool = False


def find_time(text: str, duration: float | None) -> TimeRange | TopicRange | None:
    """The first time expression in a text, else ``before/after <topic>``, else None.

    Args:
        text: A question; any text.
        duration: Length of the recording in seconds; None when it is not known which one is meant.
    """
    tokens = Tokens(text)
    for first in range(len(tokens)):
        for read in _READERS:
            found = read(tokens, first, duration)
            if found is not None and not is_time_of_day(tokens, first, found.behind):
                return _settle(found, tokens.phrase(first, found.behind), duration)
    return find_topic(tokens)


def _settle(found: _Found, phrase: str, duration: float | None) -> TimeRange:
    """Order the ends, put the recording's length in, and never return an empty range."""
    start, end = sorted((max(0.0, found.start), max(0.0, found.end)))
    needs_duration = duration is None and (found.needs_duration or math.isinf(end))
    if math.isinf(end) and duration is not None:
        end = max(duration, start + 1.0)
    if not start < end:
        start, end = max(0.0, start - AT_SECONDS), start + AT_SECONDS
    return TimeRange(start, end, phrase, found.kind, needs_duration)


# --- from one point to another ------------------------------------------------------------------------


def _read_range(tokens: Tokens, first: int, duration: float | None) -> _Found | None:
    """``between 1 and 3 minutes``, ``from 0:30 to 1:10``, ``0:30-1:10``, ``minutes 2-4``."""
    lead = tokens.word(first)
    led = lead in ("from", "between")
    if led and is_measured(tokens, first):
        return None
    start = tokens.skip(first, "from", "between", "at", "in", "during")
    left = read_point(tokens, start, duration) or read_bare(tokens, start)
    left = _skip_listed(tokens, left) if left and tokens.word(start) == "minutes" else left
    if left is None or not (led or left.sure) or tokens.word(left.behind) not in JOINERS:
        return None
    both = tokens.word(left.behind) in ("and", "&")
    named_both = both and tokens.word(start) == "minutes"
    if both and not named_both and lead != "between":
        return None
    right_at = tokens.skip(left.behind + 1, "to")
    right = read_point(tokens, right_at, duration) or read_bare(tokens, right_at)
    if right is None or not (left.unit or right.unit):
        return None
    if not right.unit:
        if left.edge or not closes(tokens, right.behind):
            return None
        right = in_unit_of(right, left)
    if not left.unit:
        left = in_unit_of(left, right)
    low, high = sorted((left, right), key=lambda point: point.low)
    through = tokens.word(left.behind) in ("through", "thru") or (named_both and lead != "between")
    end = high.high if through or high.form == "ordinal" else high.low
    return _Found(low.low, end, "range", right.behind, "middle" in (left.form, right.form))


def _skip_listed(tokens: Tokens, left: Point) -> Point:
    """Over the middle of “minutes 2, 3 and 4”."""
    behind = left.behind
    while tokens.word(behind) == "," and (listed := read_bare(tokens, behind + 1)):
        behind = listed.behind
    return replace(left, behind=tokens.skip(behind, ",")) if behind > left.behind else left


# --- from a point on, up to a point -------------------------------------------------------------------


def _read_open(tokens: Tokens, first: int, duration: float | None) -> _Found | None:
    """``after 2:30``, ``since minute 4``, ``from 2:30 on``, ``before 1:00``, ``until 1:00``."""
    word, start = _open_word(tokens, first)
    if not word:
        return None
    forward = word in ("after", "since", "from", "past")
    section = _read_section(tokens, start, duration) if word in ("after", "before") else None
    if section is not None:
        return _beside(section, forward, duration)
    point = read_point(tokens, start, duration)
    if point is None or point.form in ("start", "end"):
        return None
    onwards = _skip_onwards(tokens, point.behind)
    loose = point.form == "length" and onwards == point.behind
    if loose and (word not in ("after", "before", "until") or is_rate(tokens, point.behind)):
        return None
    if point.form == "clock" and word == "by":
        return None  # “ready by 10:30” is a deadline.
    needs = point.form == "middle"
    if forward:
        begin = point.high if point.form == "ordinal" else point.low
        return _Found(begin, math.inf, "range", onwards, needs)
    end = point.high if point.form == "ordinal" and word != "before" else point.low
    return _Found(0.0, end, "range", point.behind, needs)


def _open_word(tokens: Tokens, first: int) -> tuple[str, int]:
    """The word that opens a range on one side, in its plain form, and the token behind it."""
    word, following = tokens.word(first), tokens.word(first + 1)
    if word in ("starting", "beginning") and following in ("at", "from", "with"):
        return "from", first + 2
    if word == "up" and following in ("to", "until", "till"):
        return "until", first + 2
    if word in ("after", "since", "from", "past", "before", "until", "till", "til", "by"):
        return ("until" if word.startswith("til") else word), first + 1
    return "", first


def _beside(section: _Found, forward: bool, duration: float | None) -> _Found | None:
    """What comes after or before a section: “after the first two minutes”."""
    if duration is None and math.isinf(section.end):
        return _Found(0.0, math.inf, "range", section.behind, needs_duration=True)
    start, end = (section.end, math.inf) if forward else (0.0, section.start)
    return _Found(start, end, "range", section.behind) if start < end else None


def _skip_onwards(tokens: Tokens, index: int) -> int:
    """Over “onwards”, “and onwards”, and “on” where nothing follows that it could belong to."""
    inside = tokens.skip(index, "and")
    if tokens.word(inside) == "on" and tokens[inside + 1].kind == "other":
        return inside + 1
    return inside + 1 if tokens.word(inside) in ("onwards", "onward", "forward") else index


# --- shares of the recording --------------------------------------------------------------------------

_SIDES = {
    "first": "first",
    "opening": "first",
    "last": "last",
    "final": "last",
    "closing": "last",
    "latter": "last",
}
_FRACTIONS = {"half": 2, "third": 3, "quarter": 4, "fifth": 5, "tenth": 10}
_FINANCE = word_set(
    "revenue revenues sales profit profits budget earnings growth forecast fiscal year years results figures"
)


def _read_section(tokens: Tokens, first: int, duration: float | None) -> _Found | None:
    """``the first two minutes``, ``the last 30 seconds``, ``the second half``, ``the last third``."""
    inside = tokens.skip(tokens.skip(first, "the"), "very")
    side = _SIDES.get(tokens.word(inside))
    length = _section_length(tokens, inside + 1) if side else None
    if length is None or _is_haste(tokens, inside):
        return _read_fraction(tokens, inside, duration)
    seconds, behind = length
    if side == "first":
        return _Found(0.0, seconds, "first", behind)
    start = max(0.0, duration - seconds) if duration is not None else 0.0
    return _Found(start, math.inf, "last", behind)


def _section_length(tokens: Tokens, index: int) -> tuple[float, int] | None:
    """How many seconds “first …” or “last …” takes, and the token behind it."""
    unit = UNITS.get(tokens.word(index), 0)
    length = read_length(tokens, index)
    if tokens[index].kind == "clock":
        seconds, behind = tokens[index].seconds, index + 1
    elif length is not None:
        seconds, behind = length.seconds, length.behind
    elif unit and tokens.words(index + 1, 3) == ["and", "a", "half"]:
        seconds, behind = 1.5 * unit, index + 4
    elif unit:
        seconds, behind = float(unit * (FEW if tokens.word(index).endswith("s") else 1)), index + 1
    else:
        return None
    in_recording = 0 < seconds < 24 * 3600  # “the last 24 hours” are those of the calendar
    return (seconds, behind) if in_recording and ends_section(tokens, behind) else None


def _is_haste(tokens: Tokens, index: int) -> bool:
    """“Last-minute changes”, “at the last minute”: not about the recording."""
    if tokens.word(index) != "last" or tokens.word(index + 1) not in ("-", "minute"):
        return False
    if tokens.word(index + 2) == "of":
        return False
    return tokens.word(index - 1) != "the" or tokens.word(index - 2) in ("at", "until", "till", "to")


def _read_fraction(tokens: Tokens, index: int, duration: float | None) -> _Found | None:
    """``the first half``, ``the second third``, ``the last quarter``, ``the middle third``."""
    word, parts = tokens.word(index), _FRACTIONS.get(tokens.word(index + 1), 0)
    if not parts or not ends_section(tokens, index + 2):
        return None
    side = _SIDES.get(word)
    place = {"first": 1, "last": parts}.get(side) if side else read_ordinal(tokens, index)
    if word == "middle" and parts % 2:
        place = parts // 2 + 1
    fiscal = parts == 4 and any(token.text in _FINANCE for token in tokens)
    if not place or place > parts or fiscal:
        return None
    if duration is None:
        return _Found(0.0, math.inf, "part", index + 2, needs_duration=True)
    return _Found(duration * (place - 1) / parts, duration * place / parts, "part", index + 2)


def _read_edge_section(tokens: Tokens, first: int, duration: float | None) -> _Found | None:
    """``the beginning``, ``the middle``, ``halfway through``, ``the end``."""
    word, before = tokens.word(first), tokens.word(first - 1)
    point = read_edge(tokens, first, duration)
    if point is None:
        return None
    if tokens.word(tokens.skip(first, "the")) in ("halfway", "midway"):
        return _near_middle(point.behind, duration)
    # “In the end” sums up; “from the beginning”, “to the end”, “by the end” leave the other side open.
    idiom = before == "in" and tokens.word(first + 1) == "end"
    if word != "the" or idiom or before in ("by", "from", "to", "until", "till", "through", "since"):
        return None
    if point.form == "start":
        return _Found(0.0, EDGE_SECONDS, "first", point.behind)
    if duration is None:
        kind: Kind = "part" if point.form == "middle" else "end"
        return _Found(0.0, math.inf, kind, point.behind, needs_duration=True)
    if point.form == "middle":
        return _Found(duration / 3, duration * 2 / 3, "part", point.behind)
    return _Found(max(0.0, duration - EDGE_SECONDS), math.inf, "end", point.behind)


def _read_before_end(tokens: Tokens, first: int, duration: float | None) -> _Found | None:
    """``two minutes before the end``: a moment."""
    length = read_length(tokens, tokens.skip(first, "the"))
    if length is None or tokens.word(length.behind) not in ("before", "from"):
        return None
    end = read_edge(tokens, length.behind + 1, duration)
    if end is None or end.form != "end":
        return None
    if duration is None:
        return _Found(0.0, math.inf, "moment", end.behind, needs_duration=True)
    place = max(0.0, duration - length.seconds)
    return _Found(place - AT_SECONDS, place + AT_SECONDS, "moment", end.behind)


def _near_middle(behind: int, duration: float | None) -> _Found:
    if duration is None:
        return _Found(0.0, math.inf, "moment", behind, needs_duration=True)
    return _Found(duration / 2 - AROUND_SECONDS, duration / 2 + AROUND_SECONDS, "moment", behind)


# --- moments and minutes ------------------------------------------------------------------------------

_AT = word_set("at @ timestamp")
_IN = word_set("in during within")
_AROUND = word_set("around about near roughly approximately circa approx")
_BESIDE_A_LONE_TIME = word_set("and what about then now go jump to at play please so ok okay ? . ! , ( ) [ ]")
_NOT_BEFORE_AROUND = word_set("of for is was are were be only just it's than another")
_NOT_BEFORE_MINUTE = word_set("a per every each last one -")


def _read_moment(tokens: Tokens, first: int, duration: float | None) -> _Found | None:
    """``at 2:15``, ``around the ten-minute mark``, ``3 minutes in``, ``at minute 2``."""
    start, leads = _skip_leads(tokens, first)
    point = read_point(tokens, start, duration)
    if point is None or point.edge:
        return None
    around = bool(leads & _AROUND)
    if point.form in ("minute", "ordinal"):
        allowed = _is_minute(tokens, start, point, bool(leads))
    else:
        allowed = _is_moment(tokens, start, point, leads)
    if not allowed:
        return None
    onwards = _skip_onwards(tokens, point.behind)
    if onwards > point.behind:
        return _Found(point.low, math.inf, "range", onwards)
    if point.low < point.high:
        width = AROUND_SECONDS if around else 0.0
        kind: Kind = "moment" if around else "minute" if point.unit == 60 else "range"
    else:
        width, kind = (AROUND_SECONDS if around else AT_SECONDS), "moment"
    return _Found(point.low - width, point.high + width, kind, point.behind)


def _skip_leads(tokens: Tokens, first: int) -> tuple[int, frozenset[str]]:
    """Over ``at``, ``in``, ``at about``: the token behind them, and which they were."""
    start = first
    while start < first + 2 and tokens.word(start) in _AT | _IN | _AROUND:
        start += 1
    return start, frozenset(tokens.words(first, start - first))


def _is_minute(tokens: Tokens, start: int, point: Point, led: bool) -> bool:
    """Whether “minute 2”, “the third minute” is one, and not part of “10 minute 2 …”, “minutes 2024”."""
    before, named = tokens[start - 1], tokens.skip(start, "the")
    if point.form == "ordinal":
        return led or named > start
    counted = before.kind in ("number", "clock") or before.text in _NOT_BEFORE_MINUTE
    plural = tokens.word(named).endswith("s")
    return not counted and (not plural or (led and named == start))


def _is_moment(tokens: Tokens, start: int, point: Point, leads: frozenset[str]) -> bool:
    """Whether a point without a span is meant as a place: by its own words, or by those before it."""
    if _skip_onwards(tokens, point.behind) > point.behind:
        return True
    if point.form != "length" and _is_alone(tokens, start, point.behind):
        return True
    if tokens.word(start - 1) == "[" and tokens.word(point.behind) == "]":
        return point.form == "clock"  # a citation, as answers write them
    if point.form == "mark":
        second = tokens.word(start) in ("second", "seconds")
        return bool(leads) if second else leads.isdisjoint(_IN)
    if point.form == "clock":
        return not leads.isdisjoint(_AT | _AROUND) and not is_measured(tokens, start - len(leads))
    before = tokens.word(start - len(leads) - 1)
    placed = bool(leads & _AT) or (bool(leads & _AROUND - {"about"}) and before not in _NOT_BEFORE_AROUND)
    return placed and not is_rate(tokens, point.behind) and not is_measured(tokens, start - len(leads))


def _is_alone(tokens: Tokens, first: int, behind: int) -> bool:
    """Whether the whole text is this time: “2:15?”, “and 1h05?”."""
    around = tokens.words(0, first) + tokens.words(behind, len(tokens) - behind)
    return all(word in _BESIDE_A_LONE_TIME for word in around)


_READERS: tuple[Callable[[Tokens, int, float | None], _Found | None], ...] = (
    _read_range,
    _read_open,
    _read_section,
    _read_before_end,
    _read_edge_section,
    _read_moment,
)
