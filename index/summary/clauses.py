"""The units that cues are looked for in: clauses of a sentence, each with its own time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from index.records import Segment
from index.summary.due import is_due_only

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
