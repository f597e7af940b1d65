"""Where the sentences of a line of marked text begin and end."""

from __future__ import annotations

import re

from agent.markers import TOKEN

QUOTE, MARKER = "\x01", "\x02"
"""What stands in a mask for each character of a quote, and of a marker."""

_END = re.compile(
    rf"(?:(?<![.!?…])[.!?…]++[)\]*_~{QUOTE}'’”\"]*+(?:\s{{0,3}}{MARKER}++[.,;:!?]*+)*+(?:\s++|$)"
    rf"|[。！？]++[」』”’)]*+(?:\s{{0,3}}{MARKER}++[。，；]*+)*+\s*+)"
)
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:[^\W\d_]|Dr|Mr|Mrs|Ms|Prof|St|No|Nr|Fig|vs|cf|approx|ca|etc|e\.g|i\.e|z\.B|a\.m|p\.m|U\.S)\.$",
    re.I,
)
_AFTER_MARKER = re.compile(
    rf"(?<={MARKER})(?:\s*[,–—-]?\s+(?=(?:and|but|while|whereas|although|though|then|yet)\b)|\s*;\s+"
    r"|\s+(?=[A-Z]))"
)
_WORD = re.compile(r"[^\W_]+")
_FEWEST_WORDS = 3
"""Words that make a clause of what follows a marker without a full stop."""


def mask(line: str) -> str:
    """The line, of the same length, with quotes and markers blotted out.

    A full stop that ends a quote stays, as it may end the sentence too.
    """
    pieces: list[str] = []
    at = 0
    for match in TOKEN.finditer(line):
        pieces.append(_clean(line[at : match.start()]))
        length = match.end() - match.start()
        if match.group("marker"):
            pieces.append(MARKER * length)
        else:
            stop = match.group()[-2:-1]
            ends = length > 2 and stop in ".!?…。！？"
            pieces.append(QUOTE * (length - 2) + stop + QUOTE if ends else QUOTE * length)
        at = match.end()
    return "".join([*pieces, _clean(line[at:])])


def sentences(masked: str) -> list[tuple[int, int]]:
    """Spans of the sentences of a masked line, markers with the sentence they follow; all of it is in one."""
    spans: list[tuple[int, int]] = []
    at = 0
    for match in _END.finditer(masked):
        following = masked[match.end() : match.end() + 1]
        stop = match.start() + 1
        single = masked[match.start() : stop] == "." and MARKER not in match.group()
        if following.islower() or (single and following and _ABBREVIATION.search(masked[at:stop])):
            continue
        spans += _clauses(masked, at, match.end())
        at = match.end()
    return [*spans, *_clauses(masked, at, len(masked))] if at < len(masked) else spans


def _clauses(masked: str, begin: int, end: int) -> list[tuple[int, int]]:
    """A sentence, cut behind markers where another statement goes on without a full stop."""
    spans: list[tuple[int, int]] = []
    at = begin
    for match in _AFTER_MARKER.finditer(masked, begin, end):
        before, after = masked[at : match.start()], masked[match.end() : end]
        if _WORD.search(before) and len(_WORD.findall(after)) >= _FEWEST_WORDS:
            spans.append((at, match.end()))
            at = match.end()
    return [*spans, (at, end)]


def _clean(text: str) -> str:
    return text.replace(QUOTE, " ").replace(MARKER, " ")
