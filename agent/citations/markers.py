"""Marked text: words, quotes, and the markers that stand for what they rest on.

A marker is ``[#12]`` (one segment) or ``[#12-#18]`` (a run of segments, first and last). Markers inside
quotation marks are words of a recording, not citations: a transcript cannot cite on its own behalf.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Marker:
    """A citation in marked text: a run of segments from ``first`` to ``last`` (the same for one)."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"[#{self.first}]" if self.first == self.last else f"[#{self.first}-#{self.last}]"


@dataclass(frozen=True)
class Quote:
    """Words in quotation marks, with those."""

    text: str


@dataclass(frozen=True)
class Broken:
    """Looks like a marker and is none."""


Token = str | Marker | Quote | Broken

TOKEN = re.compile(
    r"(?P<quote>“[^“”]*”|„[^„“”]*[“”]|«[^«»]*»|「[^「」]*」|\"[^\"]*\")|(?P<marker>\[#[^\[\]]*\])"
)
_PART = re.compile(r"\s*#?\s*([0-9]{1,18})(?:\s*[-–—]\s*#?\s*([0-9]{1,18}))?\s*")
_EXACT = re.compile(r"\[#([0-9]{1,18})(?:-#([0-9]{1,18}))?\]")
_BULLET = re.compile(r"\s*(?:[-*•]\s+|\d{1,3}[.)]\s+|#{1,6}\s+|>\s+)*")
_AFTER = re.compile(r"[.,;:!?…)\]}*_]*")


_NUMBERED = re.compile(r"\[\s*\d{1,6}(?:\s*[-–—,;]\s*\d{1,6})*\s*\]")


def numbered(line: str, segments: Mapping[int, int]) -> str:
    """A line in which a model cites by the numbers it was handed, with markers of segments in their place.

    Args:
        line: ``The club is called [3]; they agree [4-6].``; also ``[3, 5]``.
        segments: From a number to the segment's id; what cites another number becomes a broken marker.
    """
    pieces: list[str] = []
    at = 0
    for match in re.finditer(f"{TOKEN.pattern}|(?P<number>{_NUMBERED.pattern})", line):
        text = match.group()
        if not match.group("quote") and _NUMBERED.fullmatch(text):
            text = "".join(_segment_marker(part, segments) for part in re.split("[,;]", text[1:-1]))
        pieces += [line[at : match.start()], text]
        at = match.end()
    return "".join([*pieces, line[at:]])


def _segment_marker(part: str, segments: Mapping[int, int]) -> str:
    ends = [segments.get(int(number)) for number in re.findall(r"\d+", part)]
    if len(ends) > 2 or None in ends:
        return "[#]"
    return str(Marker(int(ends[0] or 0), int(ends[-1] or 0)))


def bullet(line: str) -> str:
    """What a line begins with beside its words: white space, list markers, signs of headings."""
    found = _BULLET.match(line)
    return found.group() if found else ""


def split_markers(text: str) -> list[str | Marker]:
    """Cut marked text at its markers; ``"".join(map(str, parts))`` gives the text back.

    Only markers outside quotation marks count, as in the check.
    """
    parts: list[str | Marker] = []

    def plain(piece: str) -> None:
        if parts and isinstance(parts[-1], str):
            parts[-1] += piece
        elif piece:
            parts.append(piece)

    for number, line in enumerate(text.split("\n")):
        plain("\n" if number else "")
        at = 0
        for match in TOKEN.finditer(line):
            exact = _EXACT.fullmatch(match.group()) if match.group("marker") else None
            plain(line[at : match.start()])
            if exact:
                parts.append(Marker(int(exact[1]), int(exact[2] or exact[1])))
            else:
                plain(match.group())
            at = match.end()
        plain(line[at:])
    return parts


def tokens(line: str) -> list[Token]:
    """A line as text, quotes and markers; lists such as ``[#1, #4]`` become several markers."""
    found: list[Token] = []
    at = 0
    for match in TOKEN.finditer(line):
        if match.start() > at:
            found.append(line[at : match.start()])
        if match.group("quote"):
            found.append(Quote(match.group()))
        else:
            found += _markers(match.group()[2:-1])
        at = match.end()
    if at < len(line):
        found.append(line[at:])
    return found


def _markers(inside: str) -> list[Marker | Broken]:
    markers: list[Marker | Broken] = []
    for part in re.split(r"[,;]", inside):
        match = _PART.fullmatch(part)
        if match is None:
            return [Broken()]
        markers.append(Marker(int(match[1]), int(match[2] or match[1])))
    return markers


def claims(tokens: Iterable[Token]) -> list[list[Token]]:
    """Group tokens: a claim ends with its markers and the punctuation that follows them."""
    grouped: list[list[Token]] = [[]]
    marked = False
    for token in tokens:
        if isinstance(token, (Marker, Broken)):
            marked = True
        elif marked and isinstance(token, str):
            after = _AFTER.match(token)
            cut = after.end() if after else 0
            if not token[cut:].strip():
                cut = len(token)
            if cut:
                grouped[-1].append(token[:cut])
            if cut == len(token):
                continue
            grouped.append([])
            token, marked = token[cut:], False
        elif marked:
            grouped.append([])
            marked = False
        grouped[-1].append(token)
    return [claim for claim in grouped if claim]
