"""Times in a listener's answer, moved from the clip's clock to the recording's.

The listener heard a clip that began at 0; people read times of the recording. Only what is written as a
time and can lie within the clip is moved: “at 3.5 s”, “[3.50]”, “0:03”, “3-5 seconds”, “1 min 5 s”. How long
something lasts (“for 3 seconds”, “3 seconds later”) is no time, and neither is a number without a unit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from index.clock import clock

ROUNDING_S = 0.5
"""A time may lie this far behind the clip's end: models round up; it is taken for the end."""

_NUMBER = r"(?<![\d.,:])\d{1,4}(?:\.\d{1,3})?(?!\d|:\d|\.\d|,\d)"
_CLOCK = r"(?<![\d.,:])\d{1,2}:[0-5]\d(?::[0-5]\d)?(?:\.\d{1,3})?(?!\d|:\d|\.\d)"
_SECONDS = r"(?:[ \t\u00a0]?(?:seconds?|secs?|sec\.)(?![^\W_])|[ \t\u00a0]?s(?![^\W_])|[ \t]?秒)"
_DASH = r"[ \t]{0,2}(?:-{1,2}>?|[–—~～→]|to|and|until|till|through|至|到)[ \t]{0,2}"
_MINUTES = r"\d{1,2}[ \t]?(?:minutes?|mins?\.?)(?![^\W_])"
_MARK = r"(?:[ -]mark\b|(?: in(?= *[.,;:!?)\n]| *$)| into (?:the |this )?\w+))?"

_TIME = re.compile(
    rf"[\[［【][ \t]?(?P<bracket>(?:{_CLOCK}|{_NUMBER}))(?P<bracket_unit>{_SECONDS})?"
    rf"(?:{_DASH}(?P<bracket_end>(?:{_CLOCK}|{_NUMBER}))(?P<bracket_end_unit>{_SECONDS})?)?[ \t]?[\]］】]"
    rf"|(?P<clock>{_CLOCK})(?![ \t]?(?:[ap]\.?m\b|o['’]?clock))"
    rf"|(?P<minutes>(?<![\d.,:]){_MINUTES})(?:,?[ \t](?:and[ \t])?(?P<rest>{_NUMBER}){_SECONDS})?"
    rf"(?P<in>{_MARK})"
    rf"|(?P<first>{_NUMBER})(?P<first_unit>{_SECONDS})?"
    rf"(?P<middle>(?:,[ \t]{{1,2}}{_NUMBER}(?:{_SECONDS})?){{0,9}})"
    rf"(?P<dash>,?{_DASH})(?P<last>{_NUMBER})(?P<last_unit>{_SECONDS})?"
    rf"|(?P<single>{_NUMBER})(?P<unit>{_SECONDS}|-second(?=[ -]mark))(?P<after>{_MARK})",
    re.IGNORECASE,
)

_LASTING = re.compile(
    r"(?:\b(?:for|last(?:s|ed|ing)?|takes?|took|taking|within|over|during|every|each|another|first|final|next|"
    r"of|than|under|duration|length|pauses?|spans?|spanning|continues|continuing|goes on)\b|持续|长达)"
    r":?[ \t]{0,2}(?:(?:about|around|approximately|roughly|only|just|nearly|almost|some|at least|at most|"
    r"up to|more than|less than|over|under|a|an|the|its|is|was|=|:|≈|~)[ \t]{1,2}){0,3}$",
    re.IGNORECASE,
)
_LONG = re.compile(
    r"[ \t-]{0,2}(?:long\b|later\b|earlier\b|apart\b|each\b|ago\b|per\b|duration\b|"
    r"in (?:length|duration|total)\b|of (?!the (?:clip|audio|recording))|before\b|after\b|"
    r"afterwards\b|pauses?\b|gaps?\b|clips?\b|长|后|的)",
    re.IGNORECASE,
)
_AT = re.compile(
    r"(?:^|[\s(,;–—-])(?:at|around|about|from|to|until|till|by|near|after|before|and|between|since|@|~|≈)"
    r"[ \t]{0,2}$"
    r"|(?:^|\n)[ \t*•–-]{0,6}$|[(:][ \t]?$",
    re.IGNORECASE,
)
_BETWEEN = re.compile(r"(?:\bfrom|\bbetween)[ \t]{0,2}$|(?:^|\n)[ \t*•–-]{0,6}$|[(（][ \t]?$", re.IGNORECASE)
_MARKER = re.compile(r"[ \t]?\[[ \t]{0,3}#[^\[\]\n]{0,60}\]")


@dataclass
class Heard:
    """A listener's answer on the recording's clock.

    Attributes:
        text: The answer, its times as ``m:ss``; citation markers, which are not its to set, are gone.
        times: What it named, seconds on the recording's clock, in order.
        beyond: Times as written that do not lie within the clip; they stand in the text as they were.
    """

    text: str
    times: list[float] = field(default_factory=list)
    beyond: list[str] = field(default_factory=list)


def on_the_recordings_clock(answer: str, start: float, end: float) -> Heard:
    """Move the times of an answer about ``[start, end)``, seconds of the recording.

    Never fails, whatever the answer is.
    """
    heard = Heard("")
    shift = _Shift(start, max(0.0, end - start), heard)
    heard.text = _TIME.sub(shift, _MARKER.sub("", answer)).strip()
    return heard


@dataclass
class _Shift:
    """Replaces one match after the other, and notes what it did."""

    start: float
    length: float
    heard: Heard

    def __call__(self, match: re.Match[str]) -> str:
        before = match.string[max(0, match.start() - 60) : match.start()]
        after = match.string[match.end() : match.end() + 40]
        for group, move in _MOVES.items():
            if match[group] is not None:
                return move(self, match, before, after) or match[0]
        return match[0]

    def bracket(self, match: re.Match[str], before: str, after: str) -> str | None:
        first, last = match["bracket"], match["bracket_end"]
        marked = match["bracket_unit"] or match["bracket_end_unit"]
        if not (marked or any(sign in part for part in (first, last or "") for sign in ".:")):
            return None  # [3] is a footnote
        moved = self._moved(match[0], [first, last] if last else [first], ["–"])
        return f"({moved})" if moved else None

    def clock(self, match: re.Match[str], before: str, after: str) -> str | None:
        return self._moved(match[0], [match["clock"]])

    def minutes(self, match: re.Match[str], before: str, after: str) -> str | None:
        if _LASTING.search(before) or _LONG.match(after):
            return None
        digits = re.match(r"\d+", match["minutes"])
        assert digits is not None
        seconds = 60 * float(digits[0]) + float(match["rest"] or 0)
        return _placed(self._moved(match[0], [str(seconds)]), match["in"], before)

    def range(self, match: re.Match[str], before: str, after: str) -> str | None:
        unit = match["last_unit"]
        plain = not unit and not match["first_unit"]
        decimal = "." in match["first"] and "." in match["last"]
        if plain and not (decimal and _BETWEEN.search(before)):
            return None
        if _LASTING.search(before) or (unit and _LONG.match(after)):
            return None
        if match["first_unit"] and not unit:
            return None
        middle = re.findall(_NUMBER, match["middle"])
        dash = match["dash"] if middle or match["dash"].strip().isalpha() else "–"
        return self._moved(match[0], [match["first"], *middle, match["last"]], [", "] * len(middle) + [dash])

    def single(self, match: re.Match[str], before: str, after: str) -> str | None:
        if _LASTING.search(before) or _LONG.match(after):
            return None
        compact = match["unit"].strip().lower() == "s" and "." not in match["single"]
        if compact and not match["after"] and not _AT.search(before):
            return None  # “the 80s”, “3 s” in a table of anything
        return _placed(self._moved(match[0], [match["single"]]), match["after"], before)

    def _moved(self, whole: str, written: Sequence[str], between: Sequence[str] = ()) -> str | None:
        """The times as they read on the recording's clock; None, and nothing noted, where they are none."""
        times = [_seconds(one) for one in written]
        if times != sorted(times):
            return None
        if times[-1] > self.length + ROUNDING_S:
            self.heard.beyond.append(whole.strip())
            return None
        moved = [self.start + min(one, self.length) for one in times]
        self.heard.times += moved
        parts = [clock(moved[0])]
        for sign, one in zip(between, moved[1:], strict=False):
            parts += [sign, clock(one)]
        return "".join(parts)


_MOVES: dict[str, Callable[[_Shift, re.Match[str], str, str], str | None]] = {
    "bracket": _Shift.bracket,
    "clock": _Shift.clock,
    "minutes": _Shift.minutes,
    "first": _Shift.range,
    "single": _Shift.single,
}


def _placed(time: str | None, place: str | None, before: str) -> str | None:
    """“3 seconds into the clip” becomes “at 2:03”; the “mark” of “the 3-second mark” stays."""
    if time is None or not place:
        return time
    if "mark" in place.lower():
        return f"{time} mark"
    return time if _AT.search(before) else f"at {time}"


def _seconds(written: str) -> float:
    total = 0.0
    for part in written.split(":"):
        total = total * 60 + float(part)
    return total
