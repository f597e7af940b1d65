"""Marked text: words, quotes, and the markers that stand for what they rest on.

A marker is ``[#12]`` (one segment) or ``[#12-#18]`` (a run of segments, first and last). Markers inside
quotation marks are words of a recording, not citations: a transcript cannot cite on its own behalf.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise


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


_NUMBERED = re.compile(r"\[\s*\d{1,6}(?:\s*[-–—,;]\s*\d{1,6})*\s*\]")


def numbered(line: str, segments: Mapping[int, int]) -> str:
    """A line in which a model cites by the numbers it was handed, with markers of segments in their place.

    Args:
        line: ``The club is called [3]; they agree [4-6].``; also ``[3, 5]``.
        segments: From a number to the segment's id; what cites another number becomes a broken marker.
    """
    return "".join(
        "".join(_segment_marker(part, segments) for part in re.split("[,;]", text[1:-1]))
        if kind == "number"
        else text
        for kind, text in _pieces(line, re.compile(f"{TOKEN.pattern}|(?P<number>{_NUMBERED.pattern})"))
    )


def _pieces(line: str, pattern: re.Pattern[str] = TOKEN) -> Iterator[tuple[str, str]]:
    """A line cut up: each piece with its group in the pattern, and with an empty name what lies between."""
    at = 0
    for match in pattern.finditer(line):
        if match.start() > at:
            yield "", line[at : match.start()]
        yield str(match.lastgroup), match.group()
        at = match.end()
    if at < len(line):
        yield "", line[at:]


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
    for line in re.split(r"(?<=\n)", text):
        for kind, piece in _pieces(line):
            if kind == "marker" and (exact := _EXACT.fullmatch(piece)):
                parts.append(Marker(int(exact[1]), int(exact[2] or exact[1])))
            elif parts and isinstance(parts[-1], str):
                parts[-1] += piece
            else:
                parts.append(piece)
    return parts


def tokens(line: str) -> list[Token]:
    """A line as text, quotes and markers; lists such as ``[#1, #4]`` become several markers."""
    found: list[Token] = []
    for kind, piece in _pieces(line):
        found += [Quote(piece)] if kind == "quote" else _markers(piece[2:-1]) if kind else [piece]
    return found


def _markers(inside: str) -> list[Marker | Broken]:
    markers: list[Marker | Broken] = []
    for part in re.split(r"[,;]", inside):
        match = _PART.fullmatch(part)
        if match is None:
            return [Broken()]
        markers.append(Marker(int(match[1]), int(match[2] or match[1])))
    return markers


# --- statements ---------------------------------------------------------------------------------------

_QUOTE, _MARKER = "\x01", "\x02"
"""What stands in a mask for each character of a quote, and of a marker."""

# Not pysbd: it joins bracketed sentences and raises on odd characters (docs/dependencies.md), and here two
# sentences taken for one hide a claim behind its neighbour's citation.
_END = re.compile(
    rf"(?:(?<![.!?…])[.!?…]++[)\]*_~{_QUOTE}'’”\"]*+(?:\s{{0,3}}{_MARKER}++[.,;:!?]*+)*+(?:\s++|$)"
    rf"|[。！？]++[」』”’)]*+(?:\s{{0,3}}{_MARKER}++[。，；]*+)*+\s*+)"
)
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:[^\W\d_]|Dr|Mr|Mrs|Ms|Prof|St|No|Nr|Fig|vs|cf|approx|ca|etc|e\.g|i\.e|z\.B|a\.m|p\.m|U\.S)\.$",
    re.I,
)
_AFTER_MARKER = re.compile(rf"(?<={_MARKER})[.,;:!?…)*_]*\s*(?=[^\s{_MARKER}])")


def statements(line: str) -> list[str]:
    """A line cut into sentences, and behind citations; a marker stays with what it follows."""
    masked = _mask(line)
    cuts = [0]
    for match in _END.finditer(masked):
        following = masked[match.end() : match.end() + 1]
        stop = match.start() + 1
        single = masked[match.start() : stop] == "." and _MARKER not in match.group()
        if following.islower() or (single and following and _ABBREVIATION.search(masked[cuts[-1] : stop])):
            continue
        cuts.append(match.end())
    cuts += [match.end() for match in _AFTER_MARKER.finditer(masked)]
    bounds = sorted({*cuts, len(line)})
    pieces = [line[begin:end] for begin, end in pairwise(bounds)]
    joined: list[str] = []
    for piece in pieces:
        # What has no words goes with what follows, as a marker before its quote does.
        if joined and not (_has_words(joined[-1]) and _has_words(piece)):
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined


def _has_words(text: str) -> bool:
    """Whether there is more in a text than markers and signs."""
    return any(kind != "marker" and any(map(str.isalnum, piece)) for kind, piece in _pieces(text))


def _mask(line: str) -> str:
    """The line, of the same length, with quotes and markers blotted out.

    A full stop that ends a quote stays, as it may end the sentence too.
    """
    pieces: list[str] = []
    for kind, piece in _pieces(line):
        if not kind:
            pieces.append(piece.replace(_QUOTE, " ").replace(_MARKER, " "))
        elif kind == "marker":
            pieces.append(_MARKER * len(piece))
        else:
            ends = len(piece) > 2 and piece[-2] in ".!?…。！？"
            pieces.append(_QUOTE * (len(piece) - 2) + piece[-2] + _QUOTE if ends else _QUOTE * len(piece))
    return "".join(pieces)
