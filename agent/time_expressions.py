"""From the words of a question to a stretch of the recording: ``at minute 2`` is [2:00, 3:00).

``find_time`` reads the first time expression in a text. A *point* (``2:15``, ``minute 2``, ``the
ten-minute mark``) names a moment, or the minute that starts there; a *section* is a share of the
recording (``the first half``); the readers below combine them with the words around them.
``docs/time-expressions.md`` lists every form.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from agent.time_context import ends_section, is_measured, is_rate, is_time_of_day
from agent.time_points import (
    JOINERS,
    Point,
    in_unit_of,
    read_bare,
    read_edge,
    read_ordinal,
    read_point,
)
from agent.time_words import FEW, UNITS, Tokens, closes, read_length, word_set
from agent.topic_expressions import TopicRange, find_topic

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
