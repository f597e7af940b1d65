"""Places in time, in every notation: ``2:15``, ``minute 2``, ``the third minute``, ``the ten-minute mark``,
``3 minutes in``, ``1h05``, ``the beginning``."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from agent.time_context import ends_section, skip_in
from agent.time_words import ORDINALS, UNITS, Tokens, read_length, read_number, word_set

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
