"""From the words of a question to a stretch of the recording: ``at minute 2`` is [2:00, 3:00).

A text becomes a row of tags: numbers, units, clock times, the words of ``_GRAMMAR``, and ``x`` for others.
Its rules put together what belongs together (``NUM UNIT`` is a length, ``LEN mark`` a place), until something
is ``FOUND``; the first in the text counts. ``docs/time-expressions.md`` lists every form. Times are seconds.

``after the ferry discussion`` is a stretch too, bounded by a topic that only a search can place.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import namedtuple
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

from rapidfuzz.distance import OSA

from index.folding import NUMBER, number_value
from index.vocabulary import CLEAR_MONTHS, STOP_WORDS, WEEKDAYS, word_set
from moss_audio.timestamps import parse_clock


@dataclass(frozen=True)
class TopicRange:
    """What comes before or after a topic; where the topic is, only a search can say.

    ``taken`` are the characters of the text that the expression takes up.
    """

    direction: Literal["before", "after"]
    topic: str
    phrase: str
    taken: tuple[tuple[int, int], ...]


_TOPIC = re.compile(
    r"(?<![\w-])(?P<side>before|after)\s+(?!and\b|or\b)(?:(?:that|this|those|these)\s+(?=\S+\s+\w))?"
    r"(?:(?:they|we|he|she|i|you)\s+)?(?:(?:talk(?:s|ed|ing)?|discuss(?:es|ed|ing)?|mention(?:s|ed|ing)?|"
    r"speak(?:s|ing)?|spoke|about|the|an?|our|their|his|her|its|your|my|all)\s+)*"
    r"(?P<topic>[^\W\d](?:(?!\s(?:what|who|when|where|why|how|which|did|does|do|tell|please|say)\b)"
    r"[^?!.,;:()]){,200})",
    re.IGNORECASE,
)
_NOT_BEFORE = re.compile(
    r"\b(?:must|should|shall|will|needs?|needed|due|deadline|won't|can|going|have\s+to|has\s+to)\b"
    r"|\b(?:look\w*|days?|weeks?|months?|years?|named?|soon|for|(?:before|after)(?:-|\s+(?:and|or)))\s*$",
    re.IGNORECASE,
)
_NO_TOPICS = frozenset((*WEEKDAYS, *CLEAR_MONTHS)) | word_set(
    """that this it those them him me us you which what whom then both now how long too tomorrow today
    yesterday tonight noon midnight lunchtime christmas easter o'clock weekend week month year meeting
    recording call lecture interview session end start beginning middle"""
)
"""Pointers, dates, the recording itself and its edges; no words that a topic begins with."""


def find_topic(text: str) -> TopicRange | None:
    """The first ``before/after <topic>``; pronouns, dates and duties (“must be done before …”) are none."""
    for match in _TOPIC.finditer(text):
        topic = match["topic"].rstrip()
        words = re.findall(r"[^\W_]+(?:['’][^\W_]+)*", topic.lower())
        if _NOT_BEFORE.search(text[: match.start()]):
            continue
        if words[0] in _NO_TOPICS or {*words} <= STOP_WORDS | _NO_TOPICS:
            continue
        side: Literal["before", "after"] = "before" if match["side"].lower() == "before" else "after"
        place = match.start(), match.start("topic") + len(topic)
        return TopicRange(side, topic, text[slice(*place)], (place,))
    return None


AT_SECONDS, AROUND_SECONDS, EDGE_SECONDS = 15.0, 30.0, 60.0
"""What “at 2:15” and “around 2:15” take on either side; how long “the beginning” and “the end” are."""


@dataclass(frozen=True)
class TimeRange:
    """A half-open stretch ``[start, end)``; one that a phrase names is never empty.

    It ends with the recording, unless all of it lies beyond. ``taken`` are the characters of the text that
    the expression takes up, with its prepositions.
    """

    start: float
    end: float
    kind: Literal["moment", "range", "whole"] = "range"
    phrase: str = ""
    taken: tuple[tuple[int, int], ...] = ()


# --- from a text to tags ------------------------------------------------------------------------------

_TAGS = f"""
UNIT sec | UNITS secs seconds | UNIT=60 min minute | UNITS=60 mins minutes | UNIT=3600 hr hour
UNITS=3600 hrs hours | UNIT=.001 ms msec | short s | short=60 m | short=3600 h | apos=60 ' | quot "
NUM=2 couple | NUM=3 few | ORD=3 third | PART=.5 half | PART=.25 quarter quarters | PCT=.01 % percent pct
PART=.3333333333333333 thirds | HALFWAY=.5 halfway midway | START=0 start beginning outset | middle=.5 middle
END end ending finish | ENDS ends ended finishes finished concludes concluded closes closed
STARTS starts started begin begins began opens opened | SAID word words sentence sentences
THING thing things | a an | first opening initial | last closing final latter | DET this that our my your
DET his her their its whole entire | and & | at @ | until till til | through thru | after following beyond
fill number no nr # . : | onwards onward forward + | comma , ; | open ( [ | close ) ]
hyph - – — | dash ~ → | slash / _ | AROUND around near roughly approximately circa ca approx toward towards ≈
PLAY go jump skip play seek move read hear | DAY {" ".join((*WEEKDAYS, *CLEAR_MONTHS))} tomorrow today
DAY yesterday tonight morning afternoon evening night | OCLOCK am pm o'clock oclock sharp gmt utc noon
OCLOCK midnight aspect ratio odds | REC recording meeting talk lecture call interview podcast audio
REC conversation video file episode session show tape clip track transcript presentation webinar standup
REC seminar hearing film speech lesson class | MONEY revenue revenues sales profit profits budget earnings
MONEY growth forecast fiscal year years results figures | LASTS take takes took taking lasts lasted lasting
LASTS need needs needed spend spent wait waited cost costs reduced shortened extended increased changed
LASTS rises rose falls fell dropped grew went
"""
_GROUPS = (group.split() for group in re.split(r"[|\n]", _TAGS.strip()))
_TAG_OF = {word: tag.split("=") for tag, *words in _GROUPS for word in words}
_SLIPS = word_set(
    """minute minutes second seconds beginning hour hours start ending middle quarter percent halfway first
    third until between around before"""
)
"""Words that are known with a letter or two wrong, missing, doubled or swapped, which none of these is:"""
_NO_SLIPS = word_set(
    """mine mines mint mints minted minus minuses minuet misuse mute mutes secondly seconded send sends smart
    star stare stark stars starts stat starr stuart endings beginnings muddle meddle quartet hallway fist"""
)
_TOKEN = re.compile(
    rf"""(?x)
  (?P<CLOCK> (?<!\d)(?<!\d[.,:])\d{{1,3}}:[0-5]\d(?::[0-5]\d)?(?:[.,]\d{{1,3}})?(?!:?\d|\.\d|[ap]m) )
| (?P<junk> [$€£¥]\s?\d[\w.,:]* | \d[\d.,:]*\s?[$€£¥] | \d+(?:[:./]\d+){{2,}}\w* | \d+:\d+\w*
  | \d[\d.,]*(?!mi|se|ho|(?:[hms]|hrs?|ms|st|nd|rd|th)\b|[hm]\d|[½¼¾⅓⅔])[^\W\d]\w*
  | \b(?!mi|se|ho|at\d|from|to\d|first|last)[^\W\d]+\d\w* | (?:opening|closing|eleventh)\s+hours?\b
  | \b0\d{{3}}\b | \b\d{{4}}\s+h(?:ou)?rs\b
  | (?:at|to|till|until)\s+the\s+last\s+(?:minute|second)\b(?!\ of) | last-minute | in\s+the\s+end\b(?!\ of) )
| (?P<UNIT> (?:(?<=\d)[hms]|(?<=\d\ )[hs]|(?<=\d\ )m(?=\ \d))(?![^\W\d]) )
| (?P<NUM> (?<![\d.,:])(?:{NUMBER}) ) | (?P<dash> -{{1,3}}> | -- | \.\. | (?<!\S)[-–—]+ | [-–—]+(?!\S) )
| (?P<AROUND> (?<!\d)(?<!\d\ )[~≈] ) | (?P<OCLOCK> [ap]\.\ ?m\b ) | (?P<at> \b(?:t|ts|time)\s?= )
| (?P<word> per\ cent\b | [^\W\d_]+(?:'[^\W\d_]+)* ) | (?P<sign> \d[\d.,:]*(?<![.,:]) | \S )"""
)
"""Digits with foreign letters are junk, and so are phrases in which a unit is no time."""
_SIGNS = str.maketrans("‐‑‒−‘’′“”″", "----\x27\x27\x27\x22\x22\x22")
_Item = namedtuple("_Item", "tag start end low high unit parts", defaults=(60.0, 1))
"""A tag, its characters, its value or the place it means, its unit, and of how many parts it was made."""


def _plain(character: str) -> str:
    plain = unicodedata.normalize("NFKC", character.translate(_SIGNS)).lower()
    return plain if len(plain) == 1 else character


def _mended(word: str) -> str:
    if len(word) < 4 or word in _TAG_OF or word in _WORDS or word in STOP_WORDS or word in _NO_SLIPS:
        return word
    near = (
        (OSA.distance(word, known), word[-1] != known[-1], known) for known in _SLIPS if known[0] == word[0]
    )
    slips, _, known = min(near, default=(9, False, word))
    return known if slips <= 1 + (known[:3] in ("min", "sec", "beg")) else word


def _read(match: re.Match[str], duration: float) -> _Item:
    tag, word, value, unit = str(match.lastgroup), match[0], 1.0, 60.0
    if tag == "CLOCK":
        value, unit = parse_clock(word), 60.0 ** word.count(":")
        tag = "junk" if unit == 60 and value > duration + 1 else tag
    elif tag == "NUM":
        value, ordinal = number_value(word)
        tag = "first" if ordinal and value == 1 else "ORD" if ordinal else "NUM"
    elif tag in ("word", "sign", "UNIT"):
        word = _mended(word.replace(" ", ""))
        other = word if word in _WORDS else "f" if tag == "sign" or word.split("'")[0] in STOP_WORDS else "x"
        known, *values = _TAG_OF.get(word, [other])
        tag, value = tag if tag == "UNIT" else known, float(*values or [1])
    # “Second” is a unit of one and the second of several.
    return _Item(tag, *match.span(), value, 2.0 if word == "second" else value, unit)


# --- what belongs together ----------------------------------------------------------------------------

_GRAMMAR = """
X = (?:x|ENDS|STARTS|SAID)
F = (?:f|THING)
PLACE = CLOCK|MARK|WAY|MIN|NTH
COUNT = NUM|ORD|first|second
JOIN = to|until|through|hyph|dash|and
SIDED = (?:(?<=by)|(?<=from)|(?<=to)|(?<=until)|(?<=through)|(?<=since)|(?<=before)|(?<=after)|(?<=between)
  |(?<=and)|(?<=hyph)|(?<=dash))
GUESS = (?<!of) (?<!for) (?<!is) (?<!was) (?<!were) (?<!only) (?<!than) (?<!another)
TIGHT = (?!X|COUNT|CLOCK|UNIT|UNITS|PART|REC|hyph|slash|apos|PCT|junk|MONEY|LASTS|PLAY)
SPENT = TIGHT (?!per|each|every|past|to|before|of|after)
OURS = (?:the|DET|a){0,2} X{0,3} (?:REC|it)
WHOLE = (?:(?:of|in) OURS|(?!of) TIGHT)
INTO = (?:(?:in|into) OURS|in (?!the|DET|a|which|between|total) TIGHT)
f keep (what|how) about
at keep (at) (?:exactly|precisely|the? (?:time|position|timestamp))|(time|position|timestamp) fill? (?=CLOCK)
from keep (starting|START) (?:at|from|with)
until keep (up) (?:to|until)
onwards keep (and) (?:after|later|onwards|on)|(on) (?=fill|comma|F|close|$)
NTH last_but_one last (?:(UNIT) but NUM|hyph? but hyph? NUM hyph? (UNIT))
NTH last_but_one (UNIT) before the? last (?:UNIT|NUM)? TIGHT
NTH last_but_one (?:penultimate|(?:second|next) hyph? to? hyph? last) (UNIT)
NUM length (NUM) and a? (PART) (?=hyph? (?:UNIT|UNITS|second))
LEN product a? (NUM) (?:a? (PART))? (?:of a?)? (?:hyph (?!UNIT NUM))? (UNIT|UNITS|second (?!NUM))
LEN product (?:a|a? (PART)) (?:of? a)? hyph? (UNIT|second)|(NUM) (apos) (?=NUM)
LEN length (LEN) and a? (PART)|(LEN) fill? comma? (LEN)
LEN length (LEN) comma? (LEN)|(?<!between) (LEN) comma? and (LEN)|(LEN) comma? and (LEN) (?=and)
LEN length (LEN) (NUM) (?:quot|apos apos)? TIGHT
x keep (LASTS) (?:(?!X|at|after|since|CLOCK)ANY){0,6}? LEN (?:(?:JOIN) NUM)?
SHARE share (NUM) hyph? (PCT)|(?:a|(NUM)) hyph? (ORD|PART) (?=of the way|through|INTO)
SHARE share (?:(?<=first)|(?<=last)) (NUM) hyph? (ORD|PART)
WAY share (?:(HALFWAY)|(PART) hyph? way) (?:hyph? (?:mark|point)|(?:through|in|into) OURS|through|in)? TIGHT
CLOCK clock (CLOCK) (UNIT|UNITS)
MARK clock (UNIT) fill{0,2} (CLOCK)
junk keep (CLOCK) (?:UNIT|UNITS|OCLOCK|(?:in|at|on)? (?:the|DET)? DAY)|(DAY) ANY? at? AROUND? CLOCK
MARK keep (CLOCK|LEN) (?:hyph? (?:mark|point)|INTO)|(?<=the) (UNIT) hyph? mark
WAY keep (SHARE) (?:of the way)? (?:hyph? (?:mark|point)|through (?:OURS)?|INTO)|(?<=at) (SHARE) WHOLE
MIN numbered (?<!NUM) (?<!CLOCK) (?<!a) (?<!per) (?<!last) (UNIT) (?:fill|mark){0,2} (NUM)
  (?!UNIT|UNITS|slash|hyph (?!NUM|UNIT|CLOCK))
MARK numbered (?<!NUM) (?<!the) (?<!a) (second) fill{0,2} (NUM) TIGHT
MARK length (MIN) comma? (MARK)
MINS numbered (?<!NUM) (?<!CLOCK) (UNITS) (NUM) (?!UNIT|UNITS|slash|X)
NTH counted (UNIT) after the? (first|second|ORD) UNIT? TIGHT|(ORD) (second) WHOLE
NTH counted (first|second|ORD) (UNIT) (?!and a? PART|after|before) (?:WHOLE|(?=JOIN))
SPAN edge PLAY to the very? (START|middle|END) WHOLE
EDGE share SIDED the? very? (START|middle|END) (?:WHOLE|(?=JOIN))
SPAN beside for? the (?:next|first)? (LEN|UNIT|second) (from|after) the? (PLACE|EDGE)
SPAN beside for? the last? (LEN|UNIT|second) (before) the? (PLACE|EDGE)
SPAN beside (LEN) (from) the? (PLACE)|for (LEN) (from|after) the? (PLACE|EDGE)
SPAN beside (?:(?:at|from)? the? (PLACE)|(?:at|from) (LEN)) (?:onwards|comma)? (for) (?:the|another)? (LEN)
MARK away (?<!first) (?<!last) (LEN) (?:(from|after|to|before) (EDGE)|(after|before) the? (PLACE))
SPAN section the? very? (first|last) (LEN|CLOCK|SHARE|UNIT|UNITS|second) (?:and a? (PART))? WHOLE
SPAN part the? very? (first|last|second|ORD|middle) (PART|ORD) WHOLE
SPAN edge (?:(?:at|in|during|AROUND|about)? the|at|AROUND) very? (START|middle|END) WHOLE
SPAN edge ^ (START|middle|END) (?:of OURS)? (?:F|fill){0,3} $
SPAN edge how F? OURS (START|STARTS|END|ENDS) F? $
SPAN edge the? very? (first|last) (?:SAID|THING) (?:of OURS)? (?:F|fill){0,4} INTO? F? $
FOUND keep (?:for|at|in|during|within|on)? (SPAN)
FOUND between (?:from|between|^) the? (PLACE|LEN|COUNT) (JOIN) to? the?
  (?:(PLACE|EDGE|MINS)|(COUNT) TIGHT|(LEN) SPENT)
FOUND between (?:from|between) (EDGE) (JOIN) to? the? (?:(PLACE|MINS)|(LEN) SPENT)
FOUND between (?:between|at|in|during)? the? (PLACE|MINS) (?:comma NUM){0,9} comma? (JOIN) to? the?
  (?:(PLACE|EDGE|MINS)|(COUNT|LEN) TIGHT)
FOUND open (?:from|at)? the? (PLACE|LEN|EDGE) (onwards)
FOUND open (since|from|past) the? (PLACE)|(after|before) the? (?:(PLACE|SPAN)|(LEN) SPENT)
FOUND open (until) the? (?:(PLACE)|(LEN) SPENT)|(by) the? (MARK|WAY|MIN|NTH)
FOUND moment (?:at|in|during|within|on)? (AROUND|about)? the? very? (MARK|WAY|MIN|NTH)|(?:at|in|during) (MINS)
FOUND moment (?:at (AROUND|about)?|(AROUND|about)) fill? open? the? (CLOCK) close?|open (CLOCK) close
FOUND moment (?:at (AROUND|about)?|GUESS (AROUND)) (LEN) SPENT
FOUND alone (?<!by) (?<!first) (?<!last) (?<!a) (?<!the) (CLOCK) TIGHT|^ F? (LEN) (?:F|fill){0,3} $
"""
"""A tag, the method of ``_Row`` that reads its values, and a pattern over tags, with names for parts of one.
``TIGHT``: no noun follows whose name the expression would be part of. ``SPENT``: nor is a length a rate.
``X``: a word that is no part of a time, ``F``: one that says little. ``OURS``: a recording. ``INTO``: “in”,
“into the meeting”, not “in the rain”. ``SIDED``: one side is open."""
_OTHERS = frozenset(["x", "ENDS", "STARTS", "SAID", "junk", "OCLOCK", "DAY", "MONEY", "LASTS"])
"""Tags of what is no part of a time that stands by itself."""
_Values = tuple[float, ...] | None
"""Where something begins and ends, its unit and parts; for a moment, how much it takes on either side."""


class _Row:
    """The items of a text while rules put them together."""

    def __init__(self, text: str, duration: float) -> None:
        self.duration, self.first, plain = duration, 0, "".join(map(_plain, text))
        self.put([_read(match, duration) for match in _TOKEN.finditer(plain)])
        self.bare = not {item.tag for item in self.items} & _OTHERS

    def put(self, items: list[Any]) -> None:
        self.items, self.tags = items, "".join(f"<{item.tag}>" for item in items)
        places = accumulate((len(item.tag) + 2 for item in items), initial=0)
        self.index = {place: number for number, place in enumerate(places)}

    def apply(self, tag: str, action: str, pattern: re.Pattern[str]) -> _Item | None:
        """Put together what a rule finds; the first that is ``FOUND`` is returned instead."""
        items, place, done = list[Any](), 0, 0
        while place < len(self.tags) and (match := pattern.search(self.tags, place)):
            self.first, behind = self.index[match.start()], self.index[match.end()]
            groups = (match.start(group) for group in range(1, pattern.groups + 1) if match[group])
            values = getattr(self, action)(*(self.items[self.index[start]] for start in groups))
            place = self.tags.index(">", match.start()) + 1 if values is None else match.end()
            if values is not None:
                new = _Item(tag, self.items[self.first].start, self.items[behind - 1].end, *values)
                if tag == "FOUND":
                    return new
                items, done = [*items, *self.items[done : self.first], new], behind
        if done:
            self.put([*items, *self.items[done:]])
        return None

    def keep(self, item: _Item) -> tuple[float, ...]:
        return item.low, item.high

    def product(self, *parts: _Item) -> tuple[float, ...]:
        value = math.prod(1 / part.low if part.tag == "ORD" else part.low for part in parts)
        return value, value, parts[-1].low, 1 + (parts[0].end == parts[-1].start)

    def share(self, *parts: _Item) -> tuple[float, ...]:
        return tuple(value and self.duration * value for value in self.product(*parts)[:2])

    def length(self, left: _Item, right: _Item) -> _Values:
        """“2 minutes 30 seconds”, “two minutes thirty”, “a minute and a half”: the units of a sum fall."""
        if right.tag == "PART":
            value = left.low + right.low * (left.unit if left.tag == "LEN" else 1.0)
            return value, value, left.unit
        unit = right.unit if right.tag == "LEN" else left.unit / 60 if right.low < 60 else math.inf
        value = left.low + right.low * (unit if right.tag == "NUM" else 1.0)
        return (value, value, unit, 2) if 1 <= unit < left.unit else None

    def clock(self, one: _Item, other: _Item) -> _Values:
        at, unit = (one, other) if one.tag == "CLOCK" else (other, one)
        return (at.low, at.low) if unit.low == 60 else None

    def numbered(self, unit: _Item, number: _Item) -> tuple[float, ...]:
        width = unit.low if unit.low >= 60 and number.low % 1 == 0 else 0.0  # “second 30” is a moment
        return number.low * unit.low, number.low * unit.low + width, unit.low

    def counted(self, one: _Item, other: _Item) -> tuple[float, ...]:
        after = one.tag == "UNIT"  # “the minute after the second”
        unit, place = (one, other.high + 1) if after else (other, one.high)
        return (place - (unit.low >= 60)) * unit.low, place * unit.low, unit.low

    def last_but_one(self, unit: _Item) -> tuple[float, ...]:
        return self.duration - 2 * unit.low, self.duration - unit.low

    def placed(self, end: _Item, other: _Item) -> _Item:
        """A number without a unit counts what the other end does: “from 1 to 3 minutes”, “minute 2 to 4”."""
        if end.tag not in ("NUM", "ORD", "first", "second"):
            return end
        tag, reads = ("MIN", self.numbered) if end.tag == "NUM" else ("NTH", self.counted)
        low, high, _ = reads(*(end._replace(tag="", low=other.unit), end)[:: 1 if tag == "MIN" else -1])
        return end._replace(tag=tag, low=low, high=low if other.tag == "LEN" else high)

    def between(self, left: _Item, join: _Item, right: _Item) -> _Values:
        lead, counts = self.items[self.first].tag, {"NUM", "ORD", "first", "second"}
        listed = join.tag == "and" and left.tag == "MINS" and lead != "between"
        if (join.tag == "and" and lead != "between" and not listed) or {left.tag, right.tag} <= counts:
            return None
        low, high = sorted((self.placed(left, right), self.placed(right, left)), key=lambda end: end.low)
        return low.low, high.high if listed or join.tag == "through" or high.tag == "NTH" else high.low

    def beside(self, length: _Item, side: _Item, place: _Item) -> tuple[float, ...]:
        if side.tag == "for":  # “2:30 for 30 seconds”
            return length.low, length.low + place.low
        if side.tag == "before" or place.low == self.duration:
            return place.low - length.low, place.low
        start = place.low if side.tag == "from" else place.high
        return start, start + length.low

    def away(self, length: _Item, side: _Item, place: _Item) -> _Values:
        start, end = self.beside(length, side, place)
        return (start if end == place.low else end,) * 2

    def section(self, side: _Item, size: _Item, part: _Item | None = None) -> _Values:
        seconds = size.low * ((3.0 if size.tag == "UNITS" else 1.0) + (part.low if part else 0.0))
        if seconds >= 86_400 and size.tag != "SHARE":
            return None  # those of the calendar
        return (0.0, seconds) if side.tag == "first" else (max(0.0, self.duration - seconds), self.duration)

    def part(self, side: _Item, part: _Item) -> _Values:
        parts = part.low if part.tag == "ORD" else round(1 / part.low)
        place = {"last": parts, "middle": (parts + 1) / 2}.get(side.tag, side.high)
        fiscal = parts == 4 and any(item.tag == "MONEY" for item in self.items)
        if fiscal or not 1 <= place <= parts <= 10 or place % 1:
            return None
        return self.duration * (place - 1) / parts, self.duration * place / parts

    def edge(self, edge: _Item) -> tuple[float, ...]:
        end = self.duration
        if edge.tag == "middle":
            return end / 3, end * 2 / 3
        at_start = edge.tag in ("START", "STARTS", "first")
        return (0.0, EDGE_SECONDS) if at_start else (end - EDGE_SECONDS, end)

    def open(self, one: _Item, other: _Item) -> tuple[float, ...]:
        word, place = (other, one) if other.tag == "onwards" else (one, other)
        edge = place.low if place.tag == "MIN" else place.high
        if word.tag in ("until", "by", "before"):
            return 0.0, place.low if word.tag == "before" else edge
        start = edge if word.tag == "after" else place.low
        return start, max(self.duration, start + 1)

    def moment(self, *items: _Item) -> tuple[float, ...]:
        place, around = items[-1], items[1:] or items[-1].tag == "WAY"
        width = AROUND_SECONDS if around else AT_SECONDS if place.low == place.high else 0.0
        return place.low - width, place.high + width, width

    def alone(self, place: _Item) -> _Values:
        return self.moment(place) if self.bare and (place.tag == "CLOCK" or place.parts > 1) else None


_WORDS: set[str] = set()
_RULES: list[tuple[str, str, re.Pattern[str]]] = []
_NAMES: dict[str, str] = {}
for _line in re.sub(r"\n +", " ", _GRAMMAR).strip().splitlines():
    _tag, _action, _text = _line.split(None, 2)
    _text = re.sub("[A-Z]+", lambda name: _NAMES.get(name[0], name[0]), _text)
    _WORDS.update(re.findall("[a-z]+", _text))
    _pattern = re.sub("[A-Za-z]+", r"(?:<\g<0>>)", _text).replace("<ANY>", "<[^>]*>").replace(" ", "")
    if _action == "=":
        _NAMES[_tag] = _text
    else:
        _RULES.append((_tag, _action, re.compile(_pattern)))


def find_time(text: str, duration: float | None) -> TimeRange | TopicRange | None:
    """The first time expression in a text, else ``before/after <topic>``, else None.

    Args:
        text: A question; any text.
        duration: Length of the recording in seconds; None when it is not known which one is meant: what
            depends on it then begins at 0 or ends at infinity.
    """
    row = _Row(text, math.inf if duration is None else duration)
    readings = [found for rule in _RULES if (found := row.apply(*rule))]
    found = min(readings, key=lambda item: item.start, default=None)
    if found is None:
        return find_topic(text)
    start, end = max(0.0, found.low if found.low < math.inf else 0.0), max(0.0, found.high)
    if not start < end:
        start, end = max(0.0, start - AT_SECONDS), start + AT_SECONDS
    cut, taken = start < row.duration < end, (found.start, found.end)
    moment = found.unit in (AT_SECONDS, AROUND_SECONDS) and not cut
    end = row.duration if cut else end
    return TimeRange(start, end, "moment" if moment else "range", text[slice(*taken)], (taken,))
