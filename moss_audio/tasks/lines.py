"""Read lines such as ``0.0 - 1.2: dog barks`` and their common variants."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import pairwise

from moss_audio.tasks.drafts import Draft
from moss_audio.tasks.marks import DASH, TIME, UNIT, has_words, one_line, seconds
from moss_audio.tasks.results import Dropped

_OPEN = r"[\[［【〔(（]"
_CLOSE = r"[\]］】〕)）]"
_GAP = r"[ \t*]{0,3}"
_RANGE = re.compile(
    rf"(?<![\w.:：])(?P<opened>{_OPEN}[ ]?)?(?P<start>{TIME})(?P<unit>{UNIT})(?:[ ]?{_CLOSE})?"
    rf"{_GAP}(?:{DASH}|and\b|\||(?(opened),|(?!)))"
    rf"{_GAP}(?:{_OPEN}[ ]?)?(?P<end>{TIME})(?![0-9０-９]){UNIT}(?P<closed>[ ]?{_CLOSE})?",
    re.IGNORECASE,
)
_ONE_TIME = re.compile(
    rf"(?:(?P<opened>{_OPEN}[ ]?)?(?P<start>{TIME})(?![0-9０-９])(?P<unit>{UNIT})(?P<closed>[ ]?{_CLOSE})?)"
    rf"{_GAP}(?P<mark>[:：|]|[-–—](?=[ \t]))?",
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
    for index, one in enumerate(ranges):
        waiting.append(one)
        after = ranges[index + 1].begin if index + 1 < len(ranges) else len(line)
        words = line[one.finish : after]
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
        found.append(_Range(seconds(match["start"]), seconds(match["end"]), match.start(), match.end()))
    return found


def _single(line: str, head: int) -> list[Draft]:
    """A line that begins with one time; a bare number must be marked as a time to be one."""
    match = _ONE_TIME.match(line, head)
    if match is None or not has_words(line[match.end() :]):
        return []
    clear = (match["opened"] and match["closed"]) or match["unit"] or match["mark"]
    if not clear and not re.search(r"[:：]", match["start"]):
        return []
    place = _Range(seconds(match["start"]), -1.0, match.start(), match.end())
    return [replace(one, end=None) for one in _drafts([place], line[match.end() :], line)]


def _drafts(ranges: list[_Range], words: str, raw: str) -> list[Draft]:
    text = one_line(words).strip(_AROUND)
    return [Draft(one.start, one.end, text, raw=raw.strip()) for one in ranges]
