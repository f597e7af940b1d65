"""Clauses, the units that cues are looked for in, and what the finders of items share.

A clause is a verbatim stretch of a segment with its own time. What it does is told by its verb ("I'll send
the list" is a promise, "I'll be honest" is none) and by the date said with it. The lists of verbs hold common
English, nothing about any subject; a verb in neither list counts as work where a date is said with it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from index.records import Segment
from index.summary.items import Item
from index.text import stem, words
from index.vocabulary import MONTHS, ORDINALS, STOP_WORDS, WEEKDAYS, number_words, one_of

Verb = Literal["work", "talk", "other"]

_WORK = """
add, adjust, analyse, analyze, announce, apply, approve, arrange, ask, assemble, assign, attach, back up,
book, bring, build, buy, call, cancel, change, chase, check, circulate, clean, clear, collect, compare,
compile, complete, confirm, contact, coordinate, copy, correct, create, debug, deliver, deploy, design,
disable, distribute, do, document, double-check, download, draft, edit, email, e-mail, enable, estimate,
evaluate, export, file, fill, finalise, finalize, find, finish, fix, follow up, format, forward, gather, get
in touch, get back to, get hold of, hand in, hand out, hand over, handle, hire, implement, import, improve,
inform, inspect, install, integrate, investigate, invite, invoice, look after, look for, look into, look up,
mail, maintain, make, make sure, measure, meet, merge, message, migrate, monitor, move, negotiate, notify,
open, order, organise, organize, outline, overhaul, pack, paint, pay, phone, pick up, ping, plan, post,
prepare, present, print, process, produce, propose, prototype, provide, publish, push, put, reach out,
rebuild, recruit, redesign, refactor, refund, register, release, remind, remove, rename, renew, rent,
repair, replace, reply, report, request, reschedule, resend, reserve, resolve, restart, restore, review,
revise, rewrite, ring, run, scan, schedule, search, sell, send, set, set up, share, ship, shortlist, sign,
solve, sort, source, speak to, speak with, submit, summarise, summarize, switch, take care, take it, take
on, take over, take that, take the, take notes, talk to, talk with, test, tidy, track, train, transfer,
translate, try, turn off, turn on, type up, update, upgrade, upload, validate, verify, visit, work on, work
out, write
"""
_TALK = """
add that, admit, agree, always, answer, appreciate, assume, be, become, begin, believe, bet, call it a, call
it the, call that a, call this a, come, continue, cover, describe, die, discuss, do me, do not, do you,
elaborate, end, enjoy, ever, explain, focus, forget, get, give, go, guess, happen, hate, have, hear, help,
hold, hope, imagine, introduce, keep, know, like, listen, live, look, love, make a guess, make a point, make
it quick, make it short, make it brief, make this quick, make this short, make this brief, make sense, mean,
mention, miss, need, never, not, pass, pause, play, put it, put it this, put it that, put that, put
yourself, quote, read it to, read you, regret, remember, repeat, run through, run over, run us, run me, run
away, run out, save, say, see, set the scene, set the stage, share a story, share my screen, share your
thoughts, share with you, show, sing, sit, skip, sleep, speak, speak about, spend, stand, start, stay,
stick, stop, sum, suppose, survive, take, take a, take your, talk, talk about, talk to you, talk to you
about, teach, tell, thank, think, touch, travel, try not, try to be, try to explain, turn, understand, wait,
walk, want, watch, wear, win, wish, wonder, yield
"""
_TO_LISTENERS = frozenset(
    {"announce", "compare", "look", "outline", "present", "review", "show", "summarise"}
)
"""Verbs of work that after "today I will" say what the talk itself is about."""


def _table(text: str) -> frozenset[str]:
    return frozenset(" ".join(entry.split()) for entry in text.split(","))


WORK = _table(_WORK)
TALK = _table(_TALK)


def kind_of(text: str) -> Verb:
    """What kind of verb a text begins with; the longest entry of either table decides."""
    tokens = re.findall(r"[^\W\d_][\w’'-]*", text.casefold())[:6]
    if tokens[:1] == ["let"]:
        return "work" if "know" in tokens[1:4] else "talk"
    if tokens[:1] == ["tell"] and tokens[1:2] not in (["you"], ["us"], ["me"]):
        return "work"
    for count in (4, 3, 2, 1):
        phrase = " ".join(tokens[:count])
        if phrase in TALK:
            return "talk"
        if phrase in WORK:
            return "work"
    return "other"


def about_the_talk(text: str) -> bool:
    """Whether a verb of work, said with "today", may only announce what is talked about."""
    return text.casefold().split(None, 1)[0].strip(".,!?") in _TO_LISTENERS if text.strip() else False


def base_of_gerund(word: str) -> str:
    """The work verb a gerund was made of ("asking" → "ask"); the word itself where none is known."""
    folded = word.casefold()
    if not folded.endswith("ing"):
        return folded
    stem = folded[:-3]
    doubled = stem[:-1] if len(stem) > 2 and stem[-1] == stem[-2] else stem
    return next((verb for verb in (stem, stem + "e", doubled) if verb in WORK), folded)


_DAY = rf"(?:{one_of(WEEKDAYS)})"
_MONTH = rf"(?:{one_of(MONTHS)})"
_ORDINAL = (
    rf"(?:\d{{1,2}}(?:st|nd|rd|th)|{one_of([*ORDINALS])}|thirtieth|"
    rf"(?:twenty|thirty)[- ](?:{one_of([word for word, value in ORDINALS.items() if value < 10])}))"
)
_HOUR = rf"(?:{one_of(number_words(1, 12))})"
_FEW = rf"(?:an?|{one_of(number_words(1, 5))}|\d+)"
_CLOCK = (
    r"(?:noon|midnight|\d{1,2}(?::\d{2})?(?:\s?[ap]\.?m\.?)?(?:\s?o['’]?clock)?"
    rf"|{_HOUR}\s(?:o['’]?clock|[ap]\.?m\.?)|(?:half|a\squarter)\s(?:past|to)\s{_HOUR})"
)
_PERIOD = r"(?:day|week|month|quarter|year|weekend|morning|afternoon|evening|night|business day|sprint)"
_PART = r"(?:\s+(?:morning|afternoon|evening|night|noon))?"

_DUE = re.compile(
    rf"""\b(?:
      (?:by|until|before|no\s+later\s+than|not\s+later\s+than)\s+(?:
          (?:the\s+)?end\s+of\s+(?:the\s+|this\s+|next\s+)?(?:{_PERIOD}|{_MONTH}|{_DAY})
        | (?:next\s+|this\s+)?{_DAY}{_PART}(?:\s+at\s+{_CLOCK})?
        | the\s+{_ORDINAL}(?:\s+of\s+{_MONTH})? | {_MONTH}\s+(?:the\s+)?(?:{_ORDINAL}|\d{{1,2}})
        | (?:tomorrow|tonight|today|noon|midnight){_PART} | (?:next|this)\s+{_PERIOD} | {_MONTH}
        | {_CLOCK}(?=\s|[.,;!?]|$) | the\s+(?:next|following)\s+\w+ | (?:christmas|easter|lunch)
      )
    | (?:on\s+|next\s+|this\s+|the\s+following\s+)+{_DAY}{_PART}(?:\s+at\s+{_CLOCK})?
    | {_DAY}(?:\s+(?:morning|afternoon|evening|night))(?:\s+at\s+{_CLOCK})?
    | on\s+the\s+{_ORDINAL}(?:\s+of\s+{_MONTH})? | on\s+{_MONTH}\s+(?:the\s+)?(?:{_ORDINAL}|\d{{1,2}})
    | (?:later\s+)?(?:this|tomorrow)\s+(?:morning|afternoon|evening)
    | for\s+(?:next\s+(?:time|week|month|{_DAY})|tomorrow|{_DAY})
    | (?:over|at|during)\s+the\s+weekend | first\s+thing\s+tomorrow | end\s+of\s+(?:the\s+)?(?:day|week|month)
    | (?:this|next)\s+(?:week|month|quarter|weekend)
    | (?:later\s+)?today | tonight | tomorrow | right\s+away | immediately | as\s+soon\s+as\s+possible
    | within\s+(?:the\s+next\s+)?{_FEW}\s+(?:hours?|days?|weeks?|months?)
    | in\s+{_FEW}\s+(?:hours?|days?|weeks?|months?)
    | (?:at|by)\s+the\s+end\s+of\s+(?:the\s+|this\s+|next\s+)?(?:{_PERIOD}|{_MONTH})
    | after\s+(?:the|this)\s+(?:call|meeting)
    )(?=\W|$)""",
    re.IGNORECASE | re.VERBOSE,
)


def due_words(text: str) -> str | None:
    """The first due date in a text, as it was said; None where there is none."""
    match = _DUE.search(text)
    return match[0] if match else None


def is_due_only(text: str) -> bool:
    """Whether a text is nothing but a due date, as before the comma of "By Friday, I'll send it"."""
    match = _DUE.search(text)
    rest = text[: match.start()] + text[match.end() :] if match else text
    return match is not None and not re.sub(
        r"[\s,.]|\b(?:and|so|okay|ok|then)\b", "", rest, flags=re.IGNORECASE
    )


RECAP_SECONDS = 30.0
"""How long after "let me sum up" what is said counts as a repetition."""

_RECAP = re.compile(
    r"\b(?:(?:let me|let's|i'?ll|i will|to) (?:just |quickly )?"
    r"(?:sum (?:it |this |that |things )?up|summari[sz]e|recap)"
    r"|in summary|to conclude|so to sum up)\b",
    re.IGNORECASE,
)
# Where one statement ends and the next begins inside a run-on sentence. "and" divides only before a
# subject, so that "copy and paste" stays whole.
_SUBJECT = r"(?:i|we|you|he|she|they|it|let's|please|can|could|who|what|[A-Z][\w'’-]+)\b"
_BREAK = re.compile(
    rf"(?<=[.?!;])\s+|,\s+(?=(?:and\s+|but\s+|so\s+|then\s+)?{_SUBJECT})|\s+(?=(?:and|but)\s+(?:we|i|you|they|then)\b)",
)


@dataclass(frozen=True)
class Clause:
    """A verbatim stretch of one segment; ``start`` and ``end`` in seconds."""

    text: str
    start: float
    end: float
    segment: Segment
    index: int
    """Position of the segment among all segments."""
    first: int = 0
    """Where the clause begins in the segment's text."""
    recap: bool = False
    """Said while summing up, so probably said before."""

    @property
    def lead(self) -> str:
        """What stands before the clause in its sentence."""
        return re.split(r"[.?!;]\s+", self.segment.text[: self.first])[-1]

    @property
    def last_of_segment(self) -> bool:
        """Whether nothing follows in the segment."""
        return not self.segment.text[self.first + len(self.text) :].strip(" ,.?!")

    @property
    def speaker(self) -> str | None:
        """Who said it."""
        return self.segment.speaker


def clauses(segments: Sequence[Segment]) -> list[Clause]:
    """All clauses in order; times come from the words where there are any, else from their share."""
    out: list[Clause] = []
    recap_until = -1.0
    for index, segment in enumerate(segments):
        if segment.kind != "speech":
            continue
        if _RECAP.search(segment.text):
            recap_until = segment.end + RECAP_SECONDS
        for first, last in _cut(segment.text):
            start, end = _times(segment, first, last)
            text = segment.text[first:last]
            out.append(Clause(text, start, end, segment, index, first, segment.start <= recap_until))
    return out


def _cut(text: str) -> list[tuple[int, int]]:
    """Character ranges of the clauses; a piece of fewer than three words joins the one before it."""
    borders = [0, *(match.end() for match in _BREAK.finditer(text)), len(text)]
    pieces: list[tuple[int, int]] = []
    for first, last in pairwise(borders):
        if not text[first:last].strip():
            continue
        ends_sentence = pieces and text[pieces[-1][0] : pieces[-1][1]].rstrip().endswith((".", "?", "!", ";"))
        previous = text[pieces[-1][0] : pieces[-1][1]] if pieces else ""
        short = len(text[first:last].split()) < 3 or len(previous.split()) < 3 or is_due_only(previous)
        if pieces and short and not ends_sentence:
            pieces[-1] = (pieces[-1][0], last)
        else:
            pieces.append((first, last))
    return [_trim(text, first, last) for first, last in pieces]


def _trim(text: str, first: int, last: int) -> tuple[int, int]:
    while first < last and text[first].isspace():
        first += 1
    while last > first and (text[last - 1].isspace() or text[last - 1] == ","):
        last -= 1
    return first, last


def _times(segment: Segment, first: int, last: int) -> tuple[float, float]:
    if not (first or last < len(segment.text)):
        return segment.start, segment.end
    before, upto = len(segment.text[:first].split()), len(segment.text[:last].split())
    if segment.words and upto <= len(segment.words) and before < upto:
        start, end = segment.words[before].start, segment.words[upto - 1].end
        return min(max(start, segment.start), segment.end), min(max(end, segment.start), segment.end)
    length = max(1, len(segment.text))
    span = segment.end - segment.start
    return segment.start + span * first / length, segment.start + span * last / length


GOES_ON_SECONDS = 4.0
"""The next sentence of the same voice continues an item when it begins within this time."""


def rest_of_sentence(clauses: Sequence[Clause], position: int) -> Item:
    """The cue's clause and those after it in the same sentence; cues often stand alone ("we've decided:")."""
    first = clauses[position]
    last = position
    while (
        not clauses[last].text.rstrip().endswith((".", "?", "!"))
        and last + 1 < len(clauses)
        and clauses[last + 1].index == first.index
    ):
        last += 1
    text = first.segment.text[first.first : clauses[last].first + len(clauses[last].text)]
    item = Item(text, first.start, clauses[last].end, (first.segment.id,), first.speaker)
    following = clauses[last + 1] if last + 1 < len(clauses) else None
    if following and following.speaker == first.speaker and _goes_on(item, following):
        more = Item(following.text, following.start, following.end, (following.segment.id,), first.speaker)
        return join([item, more])
    return item


def join(items: Sequence[Item]) -> Item:
    """Several items as one, in order; the text is what was said, one after the other."""
    return Item(
        text=" ".join(item.text for item in items),
        start=min(item.start for item in items),
        end=max(item.end for item in items),
        segments=tuple(dict.fromkeys(number for item in items for number in item.segments)),
        speaker=items[-1].speaker,
    )


def stems(text: str) -> set[str]:
    """Stems of the words that carry the subject."""
    return {stem(word) for word in words(text) if word not in STOP_WORDS}


def said_before(item: Item, found: Sequence[Item], recap: bool) -> bool:
    """Whether an item repeats one that is listed; while summing up one common word is enough."""
    mine = stems(item.text)
    for earlier in found:
        shared = mine & stems(earlier.text)
        if recap and shared:
            return True
        if len(shared) >= 0.7 * max(1, min(len(mine), len(stems(earlier.text)))) and len(shared) >= 2:
            return True
    return False


def _goes_on(item: Item, following: Clause) -> bool:
    """Whether the next clause belongs to the item.

    "We've decided." alone says nothing, what follows says what; and a recogniser may have put a full stop
    before "and we …".
    """
    if following.recap or following.start - item.end > GOES_ON_SECONDS:
        return False
    return (
        len(words(item.text)) <= 4
        or re.match(r"and (?:we|to|that|it)\b", following.text, re.IGNORECASE) is not None
    )
