"""Times on their way between two clocks: the recording's, and that of a clip cut from it.

A listener hears a clip that begins at 0; people ask with times of the recording, and read such. Times are
found as people and models write them, read as seconds, and written anew.

Only what is written as a position is found: “at 3.5 s”, “[3.50]”, “0:03”, “1m23s”, “second 83”, “1分23秒”.
How long something lasts (“for 3 seconds”, “a 3 second pause”) is no position, and neither is a number that
nothing marks as a time. Where both could be meant, a number stays a number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from index.vocabulary import NUMBERS, TENS, number_words, one_of
from moss_audio.timestamps import clock, parse_clock

_ONES = one_of(number_words(1, 9))
_TEENS = one_of(number_words(10, 19))
_WORD = rf"(?:(?:{one_of([*TENS])})(?:[ -](?:{_ONES}))?|{_TEENS}|{_ONES})\b"

_HEAD = r"(?<![\d.,:])(?<![A-Za-z$€£¥#°])"
_TAIL = r"(?!\d|[:.,]\d)"
_RAW = r"\d{1,4}(?:\.\d{1,3})?"
_DECIMAL = rf"{_HEAD}\d{{1,4}}\.\d{{1,3}}{_TAIL}"
_AMOUNT = rf"(?:{_HEAD}\d{{1,4}}(?:\.\d{{1,3}}|,\d{{1,2}})?{_TAIL}|\b{_WORD})"
_CLOCK = r"\d{1,2}:\d\d(?::[0-5]\d)?(?:\.\d{1,3}|,\d{3})?"
_DASH = r"[ \t]{0,2}(?:-{1,2}>?|[–—~～→]|to|and|or|until|till|through|至|到)[ \t]{0,2}"

_END = r"(?![^\W_])"
_S = rf"(?:[ \t\u00a0-]?(?:seconds?|secs?){_END}|[ \t\u00a0]?s(?![^\W_]|['’]\w)|[ \t]?秒)"
_M = rf"(?:[ \t\u00a0-]?(?:minutes?|mins?){_END}|[ \t]?分钟)"
_AND = r"[ \t,]{0,2}(?:and[ \t])?"
_HOURS = r"\d[ \t]?(?:h|hrs?|hours?|小时)"
_MINUTES = r"\d{1,2}[ \t]?(?:m|mins?\.?|minutes?|分钟?|['′’])"
_REST = rf"\d{{1,2}}(?:\.\d{{1,3}})?[ \t]?(?:(?:s|secs?|seconds?){_END}|秒|[\"″”]|''|’’)"
_COMPOUND = rf"{_HEAD}(?:{_HOURS}{_AND}{_MINUTES}(?:{_AND}{_REST}|{_END})|{_MINUTES}{_AND}{_REST})"
_UNITED = rf"第?(?:{_COMPOUND}|{_AMOUNT}(?:{_S}|{_M}))"
_LOOSE = rf"(?:{_UNITED}|{_AMOUNT})"
_START = r"the (?:very )?(?:start|beginning)(?: of (?:the|this) (?:clip|audio|recording))?"
_MARK = (
    r"(?:[ -](?:mark|point)\b| in(?= *[.,;:!?)\n]| *$)| into (?:the |this )?\w+"
    rf"| (?:from|after) {_START}|处|时(?!间))?"
)
_ITEM = rf"(?:{_CLOCK}|{_RAW})(?:{_S})?"

_TIME = re.compile(
    rf"[\[［【<]\|?[ \t]?(?P<bracket>{_ITEM}(?:(?:{_DASH}|[,;][ \t]{{0,2}}){_ITEM}){{0,9}})[ \t]?\|?[\]］】>]"
    rf"|(?P<clock>(?<![\d.,:]){_CLOCK}{_TAIL}(?:{_DASH}{_CLOCK}{_TAIL})?)"
    r"|(?P<label>(?<!['’\w])(?:t|(?:start|end|begin)(?:[ _](?:time|s|sec))?|onset|offset|time(?:stamp)?)"
    rf"[\"'”]?[ \t]?[:=][ \t]?[\"']?)(?P<value>{_RAW}){_TAIL}(?P<value_unit>{_S})?"
    r"|(?P<named_in>\b(?:at|in|around|near|during|within|throughout)[ \t](?:the[ \t])?)?"
    rf"\b(?P<named>seconds?|minutes?)[ \t](?P<named_first>{_RAW}{_TAIL}|(?<=minute.){_WORD})"
    rf"(?P<named_dash>{_DASH})?(?(named_dash)(?P<named_last>{_RAW}){_TAIL})"
    r"|(?P<nth_in>\b(?:at|in|on|by|around|near|during|within)[ \t])?(?:the[ \t])?"
    r"\b(?P<nth>\d{1,4})(?:st|nd|rd|th)[ -](?P<nth_unit>second|minute)\b"
    rf"|(?P<range>{_LOOSE}(?:,[ \t]{{1,2}}{_LOOSE}){{0,9}},?{_DASH}{_UNITED})(?P<range_mark>{_MARK})"
    rf"|(?P<single>{_UNITED})(?P<single_mark>{_MARK})"
    rf"|(?P<bare>{_DECIMAL}(?:,[ \t]{{1,2}}{_DECIMAL}){{0,9}}(?:,?{_DASH}{_DECIMAL})?)",
    re.IGNORECASE,
)
_PART = re.compile(
    rf"(?P<n>\d+(?:[.,]\d+)?|{_WORD})[ \t\u00a0-]?"
    r"(?P<u>hours?|hrs?|h|小时|minutes?|mins?|m|分钟?|seconds?|secs?|s|秒|''|’’|[\"″”]|['′’])?",
    re.IGNORECASE,
)
_ELEMENT = re.compile(_LOOSE, re.IGNORECASE)
_ITEMS = re.compile(_ITEM, re.IGNORECASE)
_CLOCKS = re.compile(_CLOCK)
_DECIMALS = re.compile(_DECIMAL)

_ABOUT = (
    r"(?:(?:about|around|approximately|approx\.?|roughly|exactly|precisely|just|almost|nearly|ca\.|circa|"
    r"(?:the )?time(?:stamps?)?)[ \t]{1,2}|[~≈约][ \t]?|大约){0,2}"
)
_LINE = r"(?:\A|\n)[ \t*•>–-]{0,6}"
_AT = re.compile(
    rf"(?:\b(?:at|from|to|until|till|near|around|after|before|and|between|since|(?<!ed )by)[ \t]{{1,2}}"
    rf"|[@→][ \t]?|{_LINE}|[(（\[:：|=][ \t]?\*{{0,2}}|[在从到至于自，、])"
    rf"{_ABOUT}$",
    re.IGNORECASE,
)
_AT_OF = re.compile(r"\b(?:time(?:stamp)?|mark|position|offset|point) of[ \t]{1,2}$", re.IGNORECASE)
_AT_BARE = re.compile(rf"(?:\bat[ \t]{{1,2}}|@[ \t]?){_ABOUT}$", re.IGNORECASE)
_BETWEEN = re.compile(rf"\b(?:from|between|at)[ \t]{{1,2}}{_ABOUT}$", re.IGNORECASE)
_BEGINS_LINE = re.compile(rf"{_LINE}$")
_HINGE = re.compile(r"\b(?:from|to|until|till|after|before|and|between|since)[ \t]{1,2}$", re.IGNORECASE)

_NOT_QUITE = (
    r"(?:(?:about|around|approximately|roughly|only|just|nearly|almost|some|at least|at most|up to|more than|"
    r"less than|over|under|a|an|the|its|is|was|=|:|≈|~)[ \t]{1,2}){0,3}$"
)
_SPANNING = re.compile(
    r"\b(?:last(?:s|ed|ing)?|within|over|during|spans?|spanning|continues|continuing|goes on)\b"
    rf":?[ \t]{{0,2}}{_NOT_QUITE}",
    re.IGNORECASE,
)
_LASTING = re.compile(
    r"(?:\b(?:for|last(?:s|ed|ing)?|takes?|took|taking|within|over|during|every|each|another|first|final|next|"
    r"of|than|under|duration|length|pauses?|gaps?|silence|spans?|spanning|continues|continuing|goes on|up)\b"
    rf"|持续|长达|每):?[ \t]{{0,2}}\(?{_NOT_QUITE}"
    r"|\b(?:up|down|close|limited|cut|reduced) to[ \t]{1,2}$",
    re.IGNORECASE,
)
_LONG = re.compile(
    r"[ \t-]{0,2}(?:long\b|later\b|earlier\b|apart\b|each\b|ago\b|per\b|duration\b|"
    r"in (?:length|duration|total)\b|of (?!the (?:clip|audio|recording))|before\b|after\b|from the end\b|"
    r"to the (?:next|other)\b|afterwards\b|intervals?\b|steps?\b|(?:pause|gap|clip|silence|break|delay)s?\b|"
    r"长|后|的|之?内|music\b|songs?\b|hits?\b|style\b)",
    re.IGNORECASE,
)
_ALONE = re.compile(
    r"[ \t]*(?:\Z|\n|[.,;:!?)\]}”\"'’*|–—-](?![\d%°])|[ ](?:a|an|the|and|or|but|then|there|is|was|he|she|it|"
    r"they|we|you|i|his|her|someone|somebody|something|another|both|when|where|while|with|which|who|as|until|"
    r"for|again|followed|during|near|in (?:the|this)|into|on)\b)",
    re.IGNORECASE,
)
_COLON = re.compile(r"\*{0,2}[ \t]{0,2}[:|→–—-](?!\d)")
_MEASURE = re.compile(
    r"[ \t]?(?:[%°$€£]|(?:k?hz|db\w*|bpm|percent|degrees?|euros?|dollars?|pounds?|cents?|[kcm]?m|kg|km/h|mph|"
    r"points?|times|people|million|billion|thousand|x)\b)",
    re.IGNORECASE,
)
_OF_THE_DAY = re.compile(
    r"[ \t]?(?:[ap]\.?m\b|o['’]?clock|uhr\b|gmt\b|utc\b|in the (?:morning|afternoon|evening)\b|tonight\b)",
    re.IGNORECASE,
)
_RATIO = re.compile(r"\b(?:ratio|score|odds|aspect|verse)s?[ \t](?:(?:of|is|was)[ \t])?$", re.IGNORECASE)
_COUNTED = re.compile(
    rf"(?:\d|\b(?:per|every|each|an?|first|last|next|another|half|final|{_WORD}))[ \t-]$", re.IGNORECASE
)
_DECADE = re.compile(r"[2-9]0s", re.IGNORECASE)


@dataclass(frozen=True)
class Written:
    """One place in a text that names times.

    Attributes:
        begin: Where it begins, and ``end`` where it ends, characters.
        seconds: What it names, in the order it stands there.
        pieces: Text before, between and after the times, one more than there are times.
        stretch: Whether two times are the ends of one stretch.
        rough: Whether a stretch was named by its minute, whose end may lie beyond all there is.
    """

    begin: int
    end: int
    seconds: tuple[float, ...]
    pieces: tuple[str, ...]
    stretch: bool = False
    rough: bool = False

    def with_times(self, times: Sequence[str]) -> str:
        """The same place with its times written otherwise."""
        return self.pieces[0] + "".join(
            time + piece for time, piece in zip(times, self.pieces[1:], strict=True)
        )


def find_times(text: str) -> Iterator[Written]:
    """The times of a text, in order; never fails, whatever the text is."""
    at = 0
    while match := _TIME.search(text, at):
        kind = next(name for name in _READERS if match[name] is not None)
        before, after = text[max(0, match.start() - 60) : match.start()], text[match.end() : match.end() + 40]
        found = _READERS[kind](match, before, after)
        # Behind a word that did not introduce a time, a time may still stand.
        worded = kind in ("label", "named", "nth")
        at = found.end if found else match.start() + 1 if worded else match.end()
        if found:
            yield found


def _bracket(match: re.Match[str], before: str, after: str) -> Written | None:
    items = [item[0] for item in _ITEMS.finditer(match["bracket"])]
    united = any(item[-1] not in "0123456789" for item in items)
    if not united and not all("." in item or ":" in item for item in items):
        return None  # [3] is a footnote
    between = ["–"] if len(items) == 2 else [", "] * (len(items) - 1)
    return _written(match, [_seconds(item) for item in items], ["(", *between, ")"], len(items) == 2)


def _clock(match: re.Match[str], before: str, after: str) -> Written | None:
    times = [found[0] for found in _CLOCKS.finditer(match["clock"])]
    if _OF_THE_DAY.match(after) or _RATIO.search(before) or _MEASURE.match(after):
        return None
    if any(int(time.split(":")[1][:2]) > 59 and time.split(":")[0].strip("0") for time in times):
        return None  # 3:75 is no time; 0:75 is a model's
    if len(times) == 2 and not _is_stretch(match, match["clock"][len(times[0]) : -len(times[1])]):
        # “0:05 and 1:10” are two times, of which one may be wrong.
        return Written(match.start(), match.start() + len(times[0]), (_seconds(times[0]),), ("", ""))
    return _joined(match, match["clock"], times, 1)


def _labelled(match: re.Match[str], before: str, after: str) -> Written | None:
    sure = match["value_unit"] or "." in match["value"] or not match["label"].lower().startswith("time")
    if not sure or not (match["value_unit"] or _ALONE.match(after)):
        return None
    return _written(match, [float(match["value"])], [match["label"], ""])


def _named(match: re.Match[str], before: str, after: str) -> Written | None:
    """“second 83”; “minute 2”, which is the whole minute unless it is the end of something."""
    if not _ALONE.match(after) or (not match["named_in"] and _COUNTED.search(before)):
        return None
    minute = match["named"].lower().startswith("minute")
    first = _seconds(match["named_first"], 60 if minute else 1)
    within = match["named_in"] or ""
    if match["named_dash"]:
        last = _seconds(match["named_last"], 60 if minute else 1)
        return _written(match, [first, last], [within, match["named_dash"], ""], True)
    if minute and first % 60 == 0 and not _HINGE.search(before):
        return _minute(match, first, within)
    return _written(match, [first], ["at " if within else "", ""])


def _nth(match: re.Match[str], before: str, after: str) -> Written | None:
    """“the 83rd second”."""
    if not _ALONE.match(after) or (not match["nth_in"] and _LASTING.search(before)):
        return None
    if match["nth_unit"].lower() == "minute":
        return _minute(match, 60.0 * max(0, int(match["nth"]) - 1), match["nth_in"] or "")
    return _written(match, [float(match["nth"])], ["at " if match["nth_in"] else "", ""])


def _range(match: re.Match[str], before: str, after: str) -> Written | None:
    """“3 to 5 seconds” is a length after “lasts”; “3.0 s to 5.0 s” is a stretch even there."""
    parts = [part[0] for part in _ELEMENT.finditer(match.string, match.start("range"), match.end("range"))]
    mark = match["range_mark"]
    exact = _exact(parts)
    lasting = _LASTING.search(before) and not (exact and _SPANNING.search(before))
    if _LONG.match(after) or (lasting and not _AT_OF.search(before)):
        return None
    if not (exact or mark or _AT.search(before) or _COLON.match(after)):
        return None
    if not mark and any("-" in part and part[-1] in "dDeEnN" for part in parts):
        return None  # a “3- to 5-second” anything
    return _joined(match, match["range"], parts, 60 if _minutes(parts[-1]) else 1, mark)


def _single(match: re.Match[str], before: str, after: str) -> Written | None:
    text, mark = match["single"], match["single_mark"]
    if text.startswith("第") and text.endswith("分钟"):
        return _minute(match, 60.0 * max(0, int(_seconds(text[1:]) / 60) - 1), "")
    if not mark and (_LONG.match(after) or (_LASTING.search(before) and not _AT_OF.search(before))):
        return None
    placed = _AT.search(before) or _AT_OF.search(before)
    several = _several(text)
    quoted = any(sign in text for sign in "'′’")
    if not (mark or placed or text.startswith("第") or _COLON.match(after) or (several and not quoted)):
        return None
    if not mark and "-" in text and not several:
        return None  # a “3-second” anything
    return _written(match, [_seconds(text)], _around(mark, bool(placed)))


def _bare(match: re.Match[str], before: str, after: str) -> Written | None:
    """Decimals without a unit, where their place says that they are times."""
    parts = [found[0] for found in _DECIMALS.finditer(match.string, match.start(), match.end())]
    closed = before.rstrip(" ")[-1:] in ("(", "（") and after.lstrip(" ")[:1] in (")", "）")
    line = _BEGINS_LINE.search(before) and (
        _COLON.match(after) or (len(parts) > 1 and not _MEASURE.match(after))
    )
    told = (_BETWEEN if len(parts) > 1 else _AT_BARE).search(before) and _ALONE.match(after)
    return _joined(match, match["bare"], parts, 1) if closed or line or told else None


_READERS: dict[str, Callable[[re.Match[str], str, str], Written | None]] = {
    "bracket": _bracket,
    "clock": _clock,
    "label": _labelled,
    "named": _named,
    "nth": _nth,
    "range": _range,
    "single": _single,
    "bare": _bare,
}


def _joined(
    match: re.Match[str], text: str, parts: Sequence[str], unit: float, mark: str | None = None
) -> Written:
    """Times with what stands between them; signs between two become a dash, words stay."""
    between, at = [], 0
    for before, part in pairwise(parts):
        begin = text.index(before, at) + len(before)
        at = text.index(part, begin)
        between.append(text[begin:at])
    signs = len(parts) == 2 and not between[0].strip(" \t,").isalpha() and "," not in between[0]
    first, last = _around(mark, True)
    kept = ["–"] if signs else between
    stretch = len(parts) == 2 and _is_stretch(match, between[0])
    return _written(match, [_seconds(part, unit) for part in parts], [first, *kept, last], stretch)


def _is_stretch(match: re.Match[str], between: str) -> bool:
    if between.strip(" \t,").lower() not in ("and", "or"):
        return True
    return match.string[max(0, match.start() - 8) : match.start()].lower().endswith("between ")


def _minute(match: re.Match[str], start: float, within: str) -> Written:
    pieces = ("from ", " to ", "") if within else ("", "–", "")
    return Written(match.start(), match.end(), (start, start + 60), pieces, True, True)


def _written(
    match: re.Match[str], seconds: Sequence[float], pieces: Sequence[str], stretch: bool = False
) -> Written:
    return Written(match.start(), match.end(), tuple(seconds), tuple(pieces), stretch)


def _around(mark: str | None, placed: bool) -> tuple[str, str]:
    """“3 seconds into the clip” becomes “at 2:03”; the “mark” of “the 3-second mark” stays."""
    if not mark:
        return "", ""
    word = mark.strip(" -")
    if word.lower() in ("mark", "point", "处", "时"):
        return "", mark.replace("-", " ")
    return ("" if placed else "at "), ""


def _exact(parts: Sequence[str]) -> bool:
    """Whether each of several times stands on its own: all with a unit, or all with a fraction."""
    if any(_DECADE.fullmatch(part) for part in parts):
        return False
    return all(not part[-1].isdigit() and not _is_word(part) for part in parts) or all(
        "." in part for part in parts
    )


def _is_word(part: str) -> bool:
    return re.fullmatch(_WORD, part, re.IGNORECASE) is not None


def _several(text: str) -> bool:
    return sum(1 for found in _PART.finditer(text) if found["u"]) > 1


def _minutes(text: str) -> bool:
    return _several(text) is False and _factor(text.lstrip("第")) == 60


def _factor(text: str) -> float:
    match = _PART.match(text)
    return _UNITS.get((match["u"] or "s")[0].lower(), 1.0) if match and match["u"] != "''" else 1.0


_UNITS = {"h": 3600.0, "小": 3600.0, "m": 60.0, "分": 60.0, "'": 60.0, "′": 60.0, "’": 60.0}


def _seconds(text: str, unit: float = 1.0) -> float:
    """A time as written; ``unit`` is that of a number without one."""
    if found := _CLOCKS.search(text):
        return parse_clock(found[0])
    total = 0.0
    for match in _PART.finditer(text):
        sign = match["u"]
        factor = unit if sign is None else 1.0 if len(sign) == 2 and sign[0] in "'’" else None
        total += _number(match["n"]) * (_UNITS.get(sign[0].lower(), 1.0) if factor is None else factor)
    return total


def _number(text: str) -> float:
    if text[0].isdigit():
        return float(text.replace(",", "."))
    values = {**NUMBERS, **TENS}
    return float(sum(values.get(word, 0) for word in re.split(r"[ -]", text.lower())))


ROUNDING_S = 0.5
"""A time may lie this far behind the clip's end: models round up; it is taken for the end."""

_MARKER = re.compile(r"[ \t]?\[[ \t]{0,3}#[^\[\]\n]{0,60}\]")


@dataclass
class MovedAnswer:
    """A listener's answer on the recording's clock.

    Attributes:
        text: The answer, its times as ``m:ss``; citation markers, which are not its to set, are gone.
        times: What it named, seconds on the recording's clock, in order.
        beyond: Times as written that do not lie within the clip; they stand in the text as they were.
    """

    text: str
    times: list[float] = field(default_factory=list)
    beyond: list[str] = field(default_factory=list)


def on_the_recordings_clock(answer: str, start: float, end: float) -> MovedAnswer:
    """Move the times of an answer about ``[start, end)``, seconds of the recording.

    Never fails, whatever the answer is.
    """
    moved_answer = MovedAnswer("")
    text = _MARKER.sub("", answer)
    length = max(0.0, end - start)
    parts, done = [], 0
    for place in find_times(text):
        moved = _to_recording(place, start, length)
        parts.append(text[done : place.begin])
        if moved:
            moved_answer.times += moved
            parts.append(place.with_times([clock(time) for time in moved]))
        else:
            moved_answer.beyond.append(text[place.begin : place.end].strip())
            parts.append(text[place.begin : place.end])
        done = place.end
    moved_answer.text = "".join([*parts, text[done:]]).strip()
    return moved_answer


def on_the_clips_clock(question: str, start: float, end: float) -> str:
    """Move the times of a question that lie within ``[start, end)`` to the clock of the clip.

    A stretch that reaches beyond the clip is cut to it; other times beyond it stay as they are. What comes
    out names the same second when an answer repeats it.
    """
    parts, done = [], 0
    for place in find_times(question):
        moved = _to_clip(place, start, end)
        if moved:
            parts += [question[done : place.begin], place.with_times([_clip_clock(time) for time in moved])]
            done = place.end
    return "".join([*parts, question[done:]])


def _to_recording(place: Written, start: float, length: float) -> list[float]:
    """The times of a place on the recording's clock; none where one lies beyond the clip."""
    seconds = list(place.seconds)
    if place.rough and seconds[0] < length:
        seconds[-1] = min(seconds[-1], length)
    if max(seconds) > length + ROUNDING_S:
        return []
    return [max(start, _tidy(start + min(time, length))) for time in seconds]


def _to_clip(place: Written, start: float, end: float) -> list[float]:
    """The times of a place on the clip's clock; none where they lie beyond it."""
    low, high = min(place.seconds), max(place.seconds)
    if place.stretch and low < end and high > start:
        return [min(max(time, start), end) - start for time in place.seconds]
    # People name whole seconds, of which a cut may have taken a part.
    inside = low >= math.floor(start) and high <= end
    return [max(0.0, time - start) for time in place.seconds] if inside else []


def _tidy(seconds: float) -> float:
    """Without what floating point adds to or takes from a whole second, which ``clock`` would cut."""
    whole = round(seconds)
    return float(whole) if abs(seconds - whole) < 1e-6 else seconds


def _clip_clock(seconds: float) -> str:
    """``m:ss``, or ``m:ss.f``: tenths rounded up, so that moved back they lie in the same second."""
    return clock(math.ceil(round(seconds * 10, 5)) / 10, decimals=1)
