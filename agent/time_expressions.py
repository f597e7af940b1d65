"""From the words of a question to a stretch of the recording: ``at minute 2`` is [2:00, 3:00).

``find_time`` reads the first time expression in a text. A *point* (``2:15``, ``minute 2``, ``the
ten-minute mark``) names a moment, or the minute that starts there; expressions are made of points,
lengths and a few words around them. ``docs/time-expressions.md`` lists every form.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from agent.time_words import (
    FEW,
    ORDINALS,
    UNITS,
    Token,
    Tokens,
    closes,
    read_length,
    read_number,
    word_set,
)
from agent.topic_expressions import TopicRange, find_topic

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

    It may lie beyond the recording. With ``needs_duration`` the phrase counts from the recording's end
    and no duration was given: what depends on it is then 0 (start) or infinite (end).
    """

    start: float
    end: float
    phrase: str
    kind: Kind
    needs_duration: bool = False


@dataclass(frozen=True)
class _Point:
    """A place in time that words name, ``low < high`` where they name a whole minute."""

    low: float
    high: float
    behind: int
    """The token behind it."""
    sure: bool = True
    """Whether it can only be a place: ``2:15``, ``minute 2``, ``the ten-minute mark``; not ``10 minutes``."""
    edge: Literal["", "start", "middle", "end"] = ""
    inclusive: bool = False
    """As the end of a range, whether it belongs to it: “to the fourth minute”."""
    unit: int = 60
    """What a bare number beside it counts."""


@dataclass(frozen=True)
class _Found:
    """An expression: its times, kind, and the tokens it takes. Infinite times mean the recording's end."""

    start: float
    end: float
    kind: Kind
    behind: int
    needs_duration: bool = False


def find_time(text: str, duration: float | None) -> TimeRange | TopicRange | None:
    """The first time expression in a text, else ``before/after <topic>``, else None.

    Args:
        text: A question, any text.
        duration: Length of the recording in seconds; None when no recording is meant yet.
    """
    tokens = Tokens(text)
    for first in range(len(tokens)):
        for read in _READERS:
            found = read(tokens, first, duration)
            if found is not None and not _is_time_of_day(tokens, first, found.behind):
                return _settle(tokens, first, found, duration)
    return find_topic(tokens)


def _settle(tokens: Tokens, first: int, found: _Found, duration: float | None) -> TimeRange:
    """Order the ends, put the recording's end in, and never return an empty range."""
    start, end = sorted((max(0.0, found.start), max(0.0, found.end)))
    if math.isinf(end) and duration is not None:
        end = max(duration, start + 1.0)
    needs = duration is None and (found.needs_duration or math.isinf(end))
    if not start < end:
        start, end = max(0.0, start - AT_SECONDS), start + AT_SECONDS
    return TimeRange(start, end, tokens.phrase(first, found.behind), found.kind, needs)


# --- points -----------------------------------------------------------------------------------------


def _read_point(tokens: Tokens, index: int, duration: float | None) -> _Point | None:
    """A place in time, in any notation."""
    inside = tokens.skip(index, "the")
    token = tokens[inside]
    if token.kind == "clock":
        behind = _skip_mark(tokens, inside + 1)
        return _Point(token.seconds, token.seconds, behind)
    return (
        _read_named_minute(tokens, inside)
        or _read_ordinal_minute(tokens, inside)
        or _read_edge(tokens, inside, duration)
        or _read_offset(tokens, inside)
    )


def _read_named_minute(tokens: Tokens, index: int) -> _Point | None:
    """``minute 2`` is the minute that starts at 2:00; ``hour 1``, ``second 30``, ``minute 2:15`` alike."""
    word = tokens.word(index)
    if word not in ("minute", "minutes", "min", "hour", "hours", "second", "seconds"):
        return None
    inside = index + 1
    for filler in ("number", "no", ".", "#", "mark"):
        inside = tokens.skip(inside, filler)
    if tokens[inside].kind == "clock" and UNITS[word] == 60:
        return _Point(tokens[inside].seconds, tokens[inside].seconds, inside + 1)
    number = read_number(tokens, inside)
    if number is None or tokens.word(number[1]) in UNITS or tokens.word(number[1]) in ("-", "/"):
        return number and _before_dash(tokens, number, UNITS[word])
    return _named(number, UNITS[word])


def _before_dash(tokens: Tokens, number: tuple[float, int], unit: int) -> _Point | None:
    """``minutes 2-4``, but not ``minute 2-hour`` or ``minute 2 minutes``."""
    other = read_number(tokens, number[1] + 1) if tokens.word(number[1]) == "-" else None
    after_dash = tokens[number[1] + 1]
    if other is None and after_dash.kind != "clock" and after_dash.text not in UNITS:
        return None
    if after_dash.text in UNITS and read_number(tokens, number[1] + 2) is None:
        return None
    return _named(number, unit)


def _named(number: tuple[float, int], unit: int) -> _Point:
    value, behind = number
    whole = value == int(value) and unit > 1
    return _Point(value * unit, (value + whole) * unit, behind, unit=unit)


def _read_ordinal_minute(tokens: Tokens, index: int) -> _Point | None:
    """``the third minute`` is [2:00, 3:00): counted from one, unlike ``minute 2``."""
    token = tokens[index]
    place = int(token.number) if token.kind == "ordinal" else ORDINALS.get(token.text, 0)
    unit = {"minute": 60, "hour": 3600}.get(tokens.word(index + 1))
    if not place or unit is None or not (closes(tokens, index + 2) or tokens.word(index + 2) in _JOINERS):
        return None
    if token.text == "eleventh" and unit == 3600:
        return None
    return _Point((place - 1) * unit, place * unit, index + 2, inclusive=True, unit=unit)


def _read_edge(tokens: Tokens, index: int, duration: float | None) -> _Point | None:
    """``the beginning``, ``the middle``, ``the end`` as the end of a range."""
    inside = tokens.skip(tokens.skip(index, "the"), "very")
    edges = {"start": "start", "beginning": "start", "middle": "middle", "end": "end", "finish": "end"}
    edge = edges.get(tokens.word(inside), "")
    if not edge or not (_ends_section(tokens, inside + 1) or tokens.word(inside + 1) in _JOINERS):
        return None
    half = duration / 2 if duration is not None else 0.0
    place = {"start": 0.0, "middle": half, "end": math.inf}[edge]
    return _Point(place, place, inside + 1, edge=edge)  # type: ignore[arg-type]


def _read_offset(tokens: Tokens, index: int) -> _Point | None:
    """A length counted from the start: ``2m30s``, ``the ten-minute mark``, ``3 minutes in``."""
    length = read_length(tokens, index)
    if length is None:
        return None
    behind = _skip_mark(tokens, length.behind)
    marked = behind > length.behind
    if tokens.word(behind) in ("in", "into") and not marked:
        behind = _skip_in(tokens, behind)
        marked = behind > length.behind
    sure = marked or len(tokens.word(index)) > 3 and tokens[index].kind == "compact"
    return _Point(length.seconds, length.seconds, behind, sure=sure, unit=length.unit)


def _skip_mark(tokens: Tokens, index: int) -> int:
    inside = tokens.skip(index, "-")
    return inside + 1 if tokens.word(inside) in ("mark", "point", "timestamp") else index


def _skip_in(tokens: Tokens, index: int) -> int:
    """Over the ``in`` of “3 minutes in” and “into the meeting”; not over “3 minutes in the rain”."""
    if tokens.word(index) == "in" and closes(tokens, index + 1):
        article = tokens.word(index + 1) in (
            "the",
            "a",
            "an",
            "my",
            "our",
            "their",
            "his",
            "her",
            "its",
            "this",
        )
        if not article:
            return index + (2 if tokens.word(index + 1) == "to" and _is_recording(tokens, index + 2) else 1)
    return index + 1 if _is_recording(tokens, index + 1) else index


# --- what follows and precedes ------------------------------------------------------------------------

_JOINERS = ("to", "until", "till", "til", "through", "thru", "and", "&", "-")
_DETERMINERS = word_set("the this that our my your their a an whole entire it")
_RECORDINGS = word_set(
    """recording meeting talk lecture interview call podcast audio conversation video file episode session
    show tape clip track transcript presentation webinar standup seminar hearing film speech lesson class
    it discussion"""
)
_DAYS = word_set(
    """monday tuesday wednesday thursday friday saturday sunday mondays tuesdays wednesdays thursdays fridays
    saturdays sundays tomorrow today yesterday tonight"""
)
_CLOCK_TAILS = word_set("am pm o'clock oclock sharp gmt utc noon midnight aspect ratio odds")
_RATES = word_set("per each every apiece ago late later early away long past to o'clock before after old of")


def _is_recording(tokens: Tokens, index: int) -> bool:
    """Whether a noun phrase for a recording starts here: “the harbour meeting”, “it”."""
    for place in range(index, index + 5):
        token = tokens[place]
        if token.text in _RECORDINGS:
            return True
        if token.kind != "word" or (token.text not in _DETERMINERS and closes(tokens, place)):
            return token.kind == "word" and token.capital and _is_recording(tokens, place + 1)
    return False


def _ends_section(tokens: Tokens, index: int) -> bool:
    """Whether “the end”, “the first half” may stop here: “of the meeting” yes, “of the month” no."""
    if tokens.word(index) == "of":
        return _is_recording(tokens, index + 1)
    return closes(tokens, index)


def _is_time_of_day(tokens: Tokens, first: int, behind: int) -> bool:
    """Whether days or ``pm`` around an expression say that it is no place in a recording."""
    after = [tokens.word(behind + step) for step in range(3)]
    before = {tokens.word(first - step) for step in (1, 2)}
    half_day = after[0] in ("a", "p") and after[1:] == [".", "m"]
    dated = after[0] in _DAYS or (after[0] == "on" and bool(_DAYS & set(after)))
    part_of_day = after[0] == "in" and bool(
        {"morning", "afternoon", "evening"} & set(after + [tokens.word(behind + 3)])
    )
    return after[0] in _CLOCK_TAILS or half_day or dated or part_of_day or bool(_DAYS & before)


# --- expressions --------------------------------------------------------------------------------------

_AROUND = word_set("around about near roughly approximately circa approx")
_ABOUT_A_LENGTH = word_set(
    """take takes took taking last lasts lasted need needs needed spend spends spent wait waited cost costs
    reduce reduced cut shorten shortened extend extended increase increased change changed lasting"""
)


def _read_range(tokens: Tokens, first: int, duration: float | None) -> _Found | None:
    """``between 1 and 3 minutes``, ``from 0:30 to 1:10``, ``0:30-1:10``, ``minutes 2-4``."""
    lead = tokens.word(first)
    led = lead in ("from", "between")
    start = first + (led or lead in ("at", "in", "during"))
    if led and any(tokens.word(first - step) in _ABOUT_A_LENGTH for step in range(1, 4)):
        return None
    left = _read_point(tokens, start, duration)
    number = None if left else read_number(tokens, tokens.skip(start, "the"))
    if left is None and number is None:
        return None
    joiner = tokens.word(left.behind if left else number[1] if number else 0)
    plural = tokens.word(start) == "minutes" and joiner in ("and", "&")
    if joiner not in _JOINERS or (joiner in ("and", "&") and lead != "between" and not plural):
        return None
    right_at = (left.behind if left else number[1] if number else 0) + 1
    right = _read_point(tokens, tokens.skip(right_at, "to"), duration) or _bare(tokens, right_at, left)
    if left is None and right is not None and number is not None:
        left = _Point(number[0] * right.unit, number[0] * right.unit, number[1], sure=False)
    if left is None or right is None or not (led or (left.sure and (right.sure or left.edge == ""))):
        return None
    if left.edge and not led:
        return None
    low, high = (left, right) if left.low <= right.low else (right, left)
    includes = joiner in ("through", "thru") or plural or high.inclusive
    needs = "middle" in (left.edge, right.edge)
    return _Found(low.low, high.high if includes else high.low, "range", right.behind, needs)


def _bare(tokens: Tokens, index: int, left: _Point | None) -> _Point | None:
    """The ``4`` of “minute 2 to 4”: a number in the unit of the other end."""
    number = read_number(tokens, index)
    if left is None or left.edge or number is None or not closes(tokens, number[1]):
        return None
    return _named(number, left.unit)


def _read_open(tokens: Tokens, first: int, duration: float | None) -> _Found | None:
    """``after 2:30``, ``since minute 4``, ``from 2:30 on``, ``before 1:00``, ``until 1:00``, ``up to 1:00``."""
    word, start = tokens.word(first), first + 1
    if word in ("starting", "beginning") and tokens.word(start) in ("at", "from", "with"):
        word, start = "from", start + 1
    if word == "up" and tokens.word(start) in ("to", "until", "till"):
        word, start = "until", start + 1
    forward = word in ("after", "since", "from", "past")
    if not forward and word not in ("before", "until", "till", "til", "by", "through"):
        return None
    section = _read_section(tokens, tokens.skip(start, "the"), duration)
    if section and word in ("after", "before") and not section.needs_duration and section.kind != "end":
        low, high = (section.end, math.inf) if forward else (0.0, section.start)
        return _Found(low, high, "range", section.behind) if low < high else None
    point = _read_point(tokens, start, duration)
    if point is None or (point.edge and point.edge != "middle"):
        return None
    loose = not point.sure and (
        word in ("from", "past", "by", "since") or not _stands_alone(tokens, point.behind)
    )
    if loose or (word == "by" and tokens[start].kind == "clock"):
        return None
    behind = tokens.skip(tokens.skip(point.behind, "and"), "onwards", "onward", "forward")
    behind = behind if behind > point.behind + (tokens.word(point.behind) == "and") else point.behind
    needs = point.edge == "middle"
    if forward:
        return _Found(point.high if point.inclusive else point.low, math.inf, "range", behind, needs)
    inclusive = point.inclusive and word != "before" or word == "through"
    end = point.high if inclusive else point.low
    return _Found(0.0, end, "range", behind, needs)


def _read_section(tokens: Tokens, first: int, duration: float | None) -> _Found | None:
    """``the first two minutes``, ``the last 30 seconds``, ``the second half``, ``the last third``."""
    inside = tokens.skip(tokens.skip(first, "the"), "very")
    word = tokens.word(inside)
    kind = {"first": "first", "opening": "first", "last": "last", "final": "last", "closing": "last"}.get(
        word
    )
    length = _section_length(tokens, inside + 1) if kind else None
    if kind and length and not _is_last_minute_idiom(tokens, first, inside):
        if kind == "first":
            return _Found(0.0, length[0], "first", length[1])
        start = max(0.0, duration - length[0]) if duration is not None else 0.0
        return _Found(start, math.inf, "last", length[1])
    return _read_fraction(tokens, inside, duration)


def _section_length(tokens: Tokens, index: int) -> tuple[float, int] | None:
    """How long the first or last stretch is, in seconds, and the token behind it."""
    token = tokens[index]
    if token.kind == "clock":
        return token.seconds, index + 1
    length = read_length(tokens, index)
    if length is None and token.text in UNITS and token.kind == "word":
        count = FEW if token.text.endswith("s") and len(token.text) > 1 else 1
        length_behind = index + 1
        seconds = float(count * UNITS[token.text])
    elif length is not None:
        seconds, length_behind = length.seconds, length.behind
    else:
        return None
    if seconds <= 0 or seconds >= 24 * 3600 or not _ends_section(tokens, length_behind):
        return None
    return seconds, length_behind


def _is_last_minute_idiom(tokens: Tokens, first: int, inside: int) -> bool:
    """“last-minute changes”, “at the last minute”: about haste, not about the recording."""
    bare = tokens.word(inside) == "last" and tokens.word(inside + 1) == "minute"
    hyphen = tokens.word(inside + 1) == "-"
    return hyphen or (
        bare
        and (tokens.word(first - 1) == "at" or "the" not in (tokens.word(inside - 1), tokens.word(first)))
    )


_FRACTIONS = {"half": 2, "third": 3, "quarter": 4, "fifth": 5, "tenth": 10}
_FINANCE = word_set(
    "revenue revenues sales profit profits budget earnings growth forecast fiscal year years results figures"
)


def _read_fraction(tokens: Tokens, index: int, duration: float | None) -> _Found | None:
    """``the first half``, ``the second third``, ``the last quarter``, ``the middle third``."""
    parts = _FRACTIONS.get(tokens.word(index + 1))
    word = tokens.word(index)
    if parts is None or not _ends_section(tokens, index + 2):
        return None
    place = {"last": parts, "final": parts, "opening": 1, "closing": parts}.get(word) or ORDINALS.get(word)
    if word == "middle" and parts % 2:
        place = parts // 2 + 1
    if place is None or place > parts:
        return None
    if parts == 4 and any(token.text in _FINANCE for token in tokens):
        return None
    length = duration if duration is not None else math.inf
    start = 0.0 if place == 1 or duration is None else length * (place - 1) / parts
    return _Found(start, length * place / parts, "part", index + 2, needs_duration=True)


def _read_edge_section(tokens: Tokens, first: int, duration: float | None) -> _Found | None:
    """``the beginning``, ``the middle``, ``halfway through``, ``the end``."""
    word = tokens.word(first)
    length = duration if duration is not None else math.inf
    if word in ("halfway", "midway"):
        behind = tokens.skip(_skip_mark(tokens, first + 1), "through", "in")
        middle = length / 2 if duration is not None else 0.0
        window = (
            (middle - AROUND_SECONDS, middle + AROUND_SECONDS) if duration is not None else (0.0, math.inf)
        )
        return _Found(*window, "moment", behind, needs_duration=True)
    if word != "the" or tokens.word(first - 1) in (
        "in",
        "by",
        "from",
        "to",
        "until",
        "till",
        "through",
        "since",
    ):
        if not (word == "the" and tokens.word(first - 1) == "in" and tokens.word(first + 1) != "end"):
            return None
    point = _read_edge(tokens, first, duration)
    if point is None:
        return None
    if point.edge == "middle":
        low = 0.0 if duration is None else length / 3
        return _Found(low, length * 2 / 3, "part", point.behind, needs_duration=True)
    if point.edge == "start":
        return _Found(0.0, EDGE_SECONDS, "first", point.behind)
    start = 0.0 if duration is None else max(0.0, duration - EDGE_SECONDS)
    return _Found(start, math.inf, "end", point.behind, needs_duration=True)


def _read_moment(tokens: Tokens, first: int, duration: float | None) -> _Found | None:
    """``at 2:15``, ``around the ten-minute mark``, ``3 minutes in``, ``at minute 2``, ``the third minute``."""
    start, lead, width = first, "", AT_SECONDS
    while (
        tokens.word(start) in ("at", "@", "in", "during", "within", "timestamp", "by")
        or tokens.word(start) in _AROUND
    ):
        lead = tokens.word(start)
        width = AROUND_SECONDS if lead in _AROUND else width
        start += 1
    point = _read_point(tokens, start, duration)
    if point is None or point.edge:
        return None
    if point.low < point.high:
        return _minute(tokens, start, lead, width, point)
    if tokens[tokens.skip(start, "the")].kind == "clock":
        allowed = lead not in ("", "in", "within", "by", "during") or _is_alone(tokens, start, point.behind)
        allowed = (
            allowed or tokens.word(point.behind - 1) == "mark" or tokens.word(start) in ("minute", "min")
        )
    elif point.sure and tokens[start].kind != "compact":
        allowed = lead not in ("in", "within", "by")
    else:
        allowed = lead in ("at", "@") or (lead in _AROUND and point.sure) or tokens.word(first) == "at"
        allowed = (allowed and _stands_alone(tokens, point.behind)) or _is_alone(tokens, start, point.behind)
    if not allowed:
        return None
    forward = tokens.word(point.behind) in ("onwards", "onward")
    if forward:
        return _Found(point.low, math.inf, "range", point.behind + 1)
    return _Found(point.low - width, point.high + width, "moment", point.behind)


def _minute(tokens: Tokens, start: int, lead: str, width: float, point: _Point) -> _Found | None:
    """A named minute: as it is, or with half a minute around it when it was only ``around``."""
    before: Token = tokens[start - 1]
    plural = tokens.word(start) in ("minutes", "hours", "seconds")
    counted = before.kind in ("number", "clock") or before.text in ("a", "per", "every", "each", "last", "-")
    ordinal_alone = point.inclusive and tokens.word(start) != "the" and not lead
    if plural or counted or ordinal_alone:
        return None
    kind: Kind = "minute" if point.unit == 60 else "range"
    if tokens.word(point.behind) in ("onwards", "onward"):
        return _Found(point.low, math.inf, "range", point.behind + 1)
    extra = width if lead in _AROUND else 0.0
    return _Found(point.low - extra, point.high + extra, kind, point.behind)


def _stands_alone(tokens: Tokens, index: int) -> bool:
    """Whether a length before ``index`` is a place in time and not a rate: “10 minutes per kilometre”."""
    return tokens.word(index) not in _RATES and tokens.word(index) != "-"


_AROUND_A_TIME = word_set("and what about then now go jump to at play ? . ! , please so ok okay")


def _is_alone(tokens: Tokens, first: int, behind: int) -> bool:
    """Whether the whole text is this time: “2:15?”, “and 1h05?”."""
    rest = [tokens.word(index) for index in range(len(tokens)) if not first <= index < behind]
    return all(word in _AROUND_A_TIME for word in rest)


_READERS: tuple[Callable[[Tokens, int, float | None], _Found | None], ...] = (
    _read_range,
    _read_open,
    _read_section,
    _read_edge_section,
    _read_moment,
)
