"""Timed drafts: what a model said of parts of a clip, read from its text and brought to times that hold.

``read_lines`` reads lists such as ``0.0 - 1.2: dog barks`` and their common variants; ``read_drafts`` reads
stamps, labels and words in whatever order a model wrote them. ``Clock`` fills in missing times and keeps them
within the clip; ``in_order`` and ``sorted_by_start`` put parts in order. Every step reports what it changed.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from moss_audio.generation.loops import words_of
from moss_audio.tasks.results import (
    CLOSE,
    DASH,
    OPEN,
    SPEAKER,
    TIME,
    TRUNCATED_STAMP,
    UNIT,
    Dropped,
    Kind,
    has_words,
    one_line,
    speaker,
)
from moss_audio.timestamps import parse_clock


@dataclass(frozen=True)
class Draft:
    """Words with what the model said of their place; None where it said nothing.

    Attributes:
        start: Seconds.
        end: Seconds.
        text: One line, never without a letter or digit.
        speaker: A label such as ``S01``.
        raw: All of it as the model wrote it, for reports.
    """

    start: float | None
    end: float | None
    text: str
    speaker: str | None = None
    raw: str = ""


_OPEN = r"[\[［【〔(（]"
_CLOSE = r"[\]］】〕)）]"
_LINE_GAP = r"[ \t*]{0,3}"
_RANGE = re.compile(
    rf"(?<![\w.:：])(?P<opened>{_OPEN}[ ]?)?(?P<start>{TIME})(?P<unit>{UNIT})(?:[ ]?{_CLOSE})?"
    rf"{_LINE_GAP}(?:{DASH}|and\b|\||(?(opened),|(?!)))"
    rf"{_LINE_GAP}(?:{_OPEN}[ ]?)?(?P<end>{TIME})(?![0-9０-９]){UNIT}(?P<closed>[ ]?{_CLOSE})?",
    re.IGNORECASE,
)
_ONE_TIME = re.compile(
    rf"(?:(?P<opened>{_OPEN}[ ]?)?(?P<start>{TIME})(?![0-9０-９])(?P<unit>{UNIT})(?P<closed>[ ]?{_CLOSE})?)"
    rf"{_LINE_GAP}(?P<mark>[:：|]|[-–—](?=[ \t]))?",
    re.IGNORECASE,
)
_BULLET = re.compile(
    r"[\s>]{0,20}(?:(?:[-*+•·‣▪●–—]|[0-9]{1,3}[.)、])[ \t]{1,4})?[*_`| \t]{0,4}(?:(?:from|between|at)[ ])?",
    re.I,
)
_AROUND = " \t\r:：-–—|,，;；*_`>→"


@dataclass(frozen=True)
class _Range:
    """The times of a range and where in its line it stands."""

    start: float
    end: float
    begin: int
    finish: int


def read_lines(text: str) -> tuple[list[Draft], list[Dropped]]:
    """Read a list of what happens when, one part a line.

    Understands ``0.0 - 1.2: dog``, ``[0.0 - 1.2] dog``, ``00:01-00:03 dog``, ``(1s to 3s) dog``, bullets and
    numbered lists, ``dog: 0.0-1.2, 3.0-4.0``, ``dog (0.0 - 1.2)``, a range on a line of its own above its
    text, several parts on a line, and single times.

    Args:
        text: Clean model output.

    Returns:
        Drafts in the order of writing, and the lines that name no time.
    """
    drafts: list[Draft] = []
    dropped: list[Dropped] = []
    waiting: list[_Range] = []
    waiting_for = ""
    for line in text.splitlines():
        if not line.strip():
            continue
        found, left = _read_line(line)
        if found:
            drafts += found
            if waiting:
                dropped.append(_empty(waiting_for))
            waiting, waiting_for = left, line
        elif left:
            if waiting:
                dropped.append(_empty(waiting_for))
            waiting, waiting_for = left, line
        elif waiting and has_words(line):
            drafts += _drafts(waiting, line, f"{waiting_for}\n{line}")
            waiting = []
        elif has_words(line):
            dropped.append(Dropped(line.strip(), "names no time", "explanation"))
    if waiting:
        dropped.append(_empty(waiting_for))
    return drafts, dropped


def _empty(line: str) -> Dropped:
    return Dropped(line.strip(), "names a time and nothing that happens then", "empty")


def _read_line(line: str) -> tuple[list[Draft], list[_Range]]:
    """The parts of a line, and ranges at its end that still wait for their text."""
    bullet = _BULLET.match(line)
    head = bullet.end() if bullet else 0
    ranges = _ranges(line, head)
    if not ranges:
        return _single(line, head), []
    before = line[head : ranges[0].begin]
    if has_words(before):
        rest = [line[a.finish : b.begin] for a, b in pairwise(ranges)]
        words = " ".join([before, *rest, line[ranges[-1].finish :]])
        return _drafts(ranges, words, line), []
    drafts: list[Draft] = []
    waiting: list[_Range] = []
    for index, place in enumerate(ranges):
        waiting.append(place)
        after = ranges[index + 1].begin if index + 1 < len(ranges) else len(line)
        words = line[place.finish : after]
        if has_words(words):
            drafts += _drafts(waiting, words, line[waiting[0].begin : after])
            waiting = []
    return drafts, waiting


def _ranges(line: str, head: int) -> list[_Range]:
    """Ranges of a line; bare whole numbers such as “10-20 people” count only where the line begins."""
    found: list[_Range] = []
    for match in _RANGE.finditer(line, head):
        bare = match["start"].isdigit() and match["end"].isdigit()
        marked = match["opened"] or match["closed"] or match["unit"]
        if bare and not marked and (found or has_words(line[head : match.start()])):
            continue
        found.append(
            _Range(parse_clock(match["start"]), parse_clock(match["end"]), match.start(), match.end())
        )
    return found


def _single(line: str, head: int) -> list[Draft]:
    """A line that begins with one time; a bare number must be marked as a time to be one."""
    match = _ONE_TIME.match(line, head)
    if match is None or not has_words(line[match.end() :]):
        return []
    clear = (match["opened"] and match["closed"]) or match["unit"] or match["mark"]
    if not clear and not re.search(r"[:：]", match["start"]):
        return []
    place = _Range(parse_clock(match["start"]), -1.0, match.start(), match.end())
    return [replace(draft, end=None) for draft in _drafts([place], line[match.end() :], line)]


def _drafts(ranges: list[_Range], words: str, raw: str) -> list[Draft]:
    text = one_line(words).strip(_AROUND)
    return [Draft(place.start, place.end, text, raw=raw.strip()) for place in ranges]


_GAP = r"\s{0,3}"
_MARK = re.compile(
    rf"{OPEN}{_GAP}(?:(?P<start>{TIME}){UNIT}"
    rf"(?:{_GAP}(?:{CLOSE}[ \t]{{0,3}}{DASH}[ \t]{{0,3}}{OPEN}|{DASH}|[,，]){_GAP}(?P<end>{TIME}){UNIT})?"
    rf"|(?P<speaker>{SPEAKER})){_GAP}{CLOSE}",
    re.IGNORECASE,
)
_NAMED = re.compile(rf"\W{{0,5}}{SPEAKER}[^\w:：]{{0,3}}[:：]", re.IGNORECASE)
_BLANK_LINE = re.compile(r"\n[ \t\r]{0,20}\n")


def read_drafts(text: str, labels: bool = False) -> tuple[list[Draft], list[Dropped]]:
    """Read timed text.

    Args:
        text: Clean model output.
        labels: Whether words such as ``Speaker 1:`` at the start of a part name who speaks.

    Returns:
        Drafts in the order of writing, and what belongs to none. Without a single bracketed time, lines such
        as ``00:01 - 00:03 hello`` are tried.
    """
    if any(match["start"] for match in _MARK.finditer(text)):
        reader = _Reader(text, labels)
        reader.read()
        return reader.drafts, reader.dropped
    drafts, dropped = read_lines(text)
    drafts = [_labelled(draft, labels) for draft in drafts]
    return drafts, dropped if drafts else [
        Dropped(finding.text, finding.reason, "no times") for finding in dropped
    ]


def _labelled(draft: Draft, labels: bool) -> Draft:
    who, words = _named(draft.text) if labels else (None, draft.text)
    return Draft(draft.start, draft.end, words, who, draft.raw)


def _named(text: str) -> tuple[str | None, str]:
    """Split ``Speaker 1: hello`` into label and words."""
    match = _NAMED.match(text)
    if match is None or not has_words(text[match.end() :]):
        return None, text
    return speaker(match["number"]), text[match.end() :].strip()


class _Reader:
    """A small state machine over marks: what is known of the part now open, and where it began."""

    def __init__(self, text: str, labels: bool) -> None:
        self.drafts: list[Draft] = []
        self.dropped: list[Dropped] = []
        self._text = text
        self._labels = labels
        self._started = False
        self._open(0)

    def _open(self, begin: int, start: float | None = None, end: float | None = None) -> None:
        self._begin = begin
        self._start = start
        self._end = end
        self._speaker: str | None = None

    def read(self) -> None:
        """Go through all marks once."""
        reached = 0
        for mark in _MARK.finditer(self._text):
            words = self._text[reached : mark.start()]
            reached = mark.end()
            if mark["speaker"]:
                self._on_speaker(words, mark)
            elif mark["end"]:
                self._on_range(words, mark)
            else:
                self._on_stamp(words, mark)
            self._started = True
        self._on_end(self._text[reached:])

    def _on_stamp(self, words: str, mark: re.Match[str]) -> None:
        time = parse_clock(mark["start"])
        if not has_words(words):
            self._restart(mark.start(), time)
        elif not self._started:
            self._drop(words, "stands before the first time", "explanation")
            self._open(mark.start(), time)
        elif self._end is not None:
            # The part told its end beforehand, so this stamp opens the next one.
            self._close(words, mark.start(), self._end)
            self._open(mark.start(), time)
        else:
            self._close(words, mark.end(), time)
            self._open(mark.end())

    def _on_range(self, words: str, mark: re.Match[str]) -> None:
        start, end = parse_clock(mark["start"]), parse_clock(mark["end"])
        if not has_words(words):
            self._restart(mark.start(), start, end)
        elif not self._started:
            self._drop(words, "stands before the first time", "explanation")
            self._open(mark.start(), start, end)
        else:
            self._close(words, mark.start(), self._end)
            self._open(mark.start(), start, end)

    def _restart(self, at: int, start: float, end: float | None = None) -> None:
        """Open a part where no words stand before; a label that waits for its words belongs to it."""
        label, begin = self._speaker, self._begin
        if self._start is not None:
            self._drop(self._text[begin:at], "no words between two times", "empty")
            begin = at
        self._open(begin if label else at, start, end)
        self._speaker = label

    def _on_speaker(self, words: str, mark: re.Match[str]) -> None:
        if has_words(words) and self._started:
            self._close(words, mark.start(), self._end)
            self._open(mark.start())
        elif has_words(words):
            self._drop(words, "stands before the first time", "explanation")
            self._open(mark.start())
        elif self._speaker:
            self._drop(f"[{self._speaker}]", "a label with no words", "empty")
        elif self._start is None:
            self._begin = mark.start()
        self._speaker = speaker(mark["number"])

    def _on_end(self, words: str) -> None:
        cut = TRUNCATED_STAMP.search(words)
        if cut:
            words = words[: cut.start()]
            self._drop(cut[0], "the output ends in the middle of it", "cut off")
        waits = self._start is not None or self._speaker is not None
        blank = _BLANK_LINE.search(words)
        if blank and has_words(words[: blank.start()]):
            self._drop(words[blank.end() :], "stands after the last time", "explanation")
            words = words[: blank.start()]
        if not has_words(words):
            if waits:
                self._drop(self._text[self._begin :], "a time or label with no words", "empty")
        elif not waits and words.lstrip(" \t\r").startswith("\n"):
            self._drop(words, "stands after the last time", "explanation")
        else:
            self._close(words, len(self._text), self._end)

    def _close(self, words: str, finish: int, end: float | None) -> None:
        who, text = self._speaker, one_line(words)
        if self._labels and who is None:
            who, text = _named(text)
        self.drafts.append(Draft(self._start, end, text, who, self._text[self._begin : finish].strip()))

    def _drop(self, text: str, reason: str, kind: Kind) -> None:
        if text.strip():
            self.dropped.append(Dropped(text.strip(), reason, kind))


ROUNDING_S = 0.005
"""Times are written in hundredths, so that an end may be written this much after the true one."""

A_LITTLE_OVER_S = 2.0
"""An end this much beyond the clip is taken for the clip's end; one further out for no end at all."""

A_LITTLE_OFF_S = 1.0
"""A part that starts this much out of order is moved; one further off is dropped."""

_SECONDS_PER_WORD = 0.4

Step = tuple[list[Draft], list[Dropped]]


def known_duration(duration: float | None) -> float:
    """The clip's length in seconds, infinite if unknown; ``ValueError`` if it is no length."""
    if duration is None:
        return math.inf
    if not duration >= 0:
        raise ValueError(f"the length of a clip is zero seconds or more, not {duration}")
    return float(duration)


def spoken_s(text: str) -> float:
    """About how long these words take, in seconds, at 150 words (or Chinese characters) a minute."""
    return len(words_of(text)) * _SECONDS_PER_WORD


@dataclass(frozen=True)
class Clock:
    """The clip's clock.

    Attributes:
        duration: Length of the clip in seconds; infinite if unknown.
        speech: Whether parts are speech, which lasts about as long as its words take; else a part without an
            end is a moment.
    """

    duration: float
    speech: bool = True

    def complete(self, drafts: Sequence[Draft]) -> Step:
        """Give every draft a start and an end, the start not after the end."""
        done: list[Draft] = []
        dropped: list[Dropped] = []
        for index, draft in enumerate(drafts):
            previous = done[-1] if done else None
            following = drafts[index + 1].start if index + 1 < len(drafts) else None
            if draft.start is None:
                draft = replace(draft, start=self._missing_start(draft, previous))
                reason = f"no start time; taken to start at {draft.start:.2f} s"
                dropped.append(Dropped(draft.raw, reason, "no start tag"))
            if draft.end is None:
                draft = replace(draft, end=self._missing_end(draft, following))
                reason = f"no end time; taken to end at {draft.end:.2f} s"
                dropped.append(Dropped(draft.raw, reason, "no end tag"))
            assert draft.start is not None and draft.end is not None
            if draft.end < draft.start:
                reason = f"ends at {draft.end:.2f} s, before its start at {draft.start:.2f} s"
                draft = self._turned(draft, previous)
                reason += f"; taken as {draft.start:.2f} s to {draft.end:.2f} s"
                dropped.append(Dropped(draft.raw, reason, "out of order"))
            done.append(draft)
        return done, dropped

    def _missing_start(self, draft: Draft, previous: Draft | None) -> float:
        if previous is not None and previous.end is not None:
            return previous.end if draft.end is None else min(previous.end, draft.end)
        return 0.0 if draft.end is None else max(0.0, draft.end - self._length(draft.text))

    def _missing_end(self, draft: Draft, following: float | None) -> float:
        """An estimate that claims no more of the clip than the words take."""
        assert draft.start is not None
        end = draft.start + self._length(draft.text)
        if following is not None and following > draft.start:
            end = min(end, following)
        return max(draft.start, min(end, self.duration))

    def _length(self, text: str) -> float:
        return spoken_s(text) if self.speech else 0.0

    def _turned(self, draft: Draft, previous: Draft | None) -> Draft:
        """Sounds are listed with times swapped; words rather with draft time wrong."""
        assert draft.start is not None and draft.end is not None
        if not self.speech:
            return replace(draft, start=draft.end, end=draft.start)
        before = previous.end if previous is not None and previous.end is not None else 0.0
        return replace(draft, start=before) if before <= draft.end else replace(draft, end=draft.start)

    def within(self, drafts: Sequence[Draft]) -> Step:
        """Drop what lies wholly beyond the clip, and pull in ends that do."""
        kept: list[Draft] = []
        dropped: list[Dropped] = []
        for draft in drafts:
            assert draft.start is not None and draft.end is not None
            over = draft.end - self.duration
            if draft.start > self.duration or (draft.start == self.duration and over > ROUNDING_S):
                reason = f"starts at {draft.start:.2f} s, beyond the clip of {self.duration:.2f} s"
                dropped.append(Dropped(draft.raw, reason, "beyond the clip"))
                continue
            if over > 0:
                end = self.duration
                if over > A_LITTLE_OVER_S and self.speech:
                    end = min(end, draft.start + self._length(draft.text))
                if over > ROUNDING_S:
                    reason = f"ends at {draft.end:.2f} s, beyond the clip of {self.duration:.2f} s"
                    reason += f"; taken to end at {end:.2f} s"
                    dropped.append(Dropped(draft.raw, reason, "beyond the clip"))
                draft = replace(draft, end=end)
            kept.append(draft)
        return kept, dropped


def in_order(drafts: Sequence[Draft]) -> Step:
    """Keep the longest run of parts whose starts never fall; of the others, those a little off are moved.

    One wild time thus costs one part, not all that follow it.
    """
    keep = _starts_kept(drafts)
    ceilings = _ceilings(drafts, keep)
    kept: list[Draft] = []
    dropped: list[Dropped] = []
    for draft, fits, ceiling in zip(drafts, keep, ceilings, strict=True):
        assert draft.start is not None and draft.end is not None
        floor = (kept[-1].start or 0.0) if kept else 0.0
        moved = min(max(draft.start, floor), ceiling)
        if fits:
            kept.append(draft)
        elif abs(moved - draft.start) <= A_LITTLE_OFF_S and moved <= draft.end:
            reason = f"starts at {draft.start:.2f} s, out of order; moved to {moved:.2f} s"
            dropped.append(Dropped(draft.raw, reason, "out of order"))
            kept.append(replace(draft, start=moved))
        else:
            reason = f"starts at {draft.start:.2f} s, against the order of the parts around it"
            dropped.append(Dropped(draft.raw, reason, "out of order"))
    return kept, dropped


def _ceilings(drafts: Sequence[Draft], keep: Sequence[bool]) -> list[float]:
    """For each part, the start of the next one that fits."""
    found: list[float] = []
    ceiling = math.inf
    for draft, fits in zip(reversed(drafts), reversed(keep), strict=True):
        if fits:
            ceiling = draft.start or 0.0
        found.append(ceiling)
    return found[::-1]


def sorted_by_start(drafts: Sequence[Draft]) -> Step:
    """Sort parts by their starts, and say which were not where they belong."""
    keep = _starts_kept(drafts)
    dropped = [
        Dropped(draft.raw, f"starts at {draft.start:.2f} s, listed out of order; moved", "out of order")
        for draft, fits in zip(drafts, keep, strict=True)
        if not fits
    ]
    return sorted(drafts, key=lambda draft: draft.start or 0.0), dropped


def _starts_kept(drafts: Sequence[Draft]) -> list[bool]:
    """Which drafts belong to one longest run whose starts never fall."""
    return _longest_rise([draft.start or 0.0 for draft in drafts])


def _longest_rise(values: Sequence[float]) -> list[bool]:
    """Which values belong to one longest subsequence that never falls (patience sorting, n log n)."""
    tops: list[float] = []
    owners: list[int] = []
    before: list[int] = []
    for index, value in enumerate(values):
        pile = bisect_right(tops, value)
        before.append(owners[pile - 1] if pile else -1)
        if pile == len(tops):
            tops.append(value)
            owners.append(index)
        else:
            tops[pile], owners[pile] = value, index
    keep = [False] * len(values)
    at = owners[-1] if owners else -1
    while at >= 0:
        keep[at], at = True, before[at]
    return keep
