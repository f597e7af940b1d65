"""SubRip and WebVTT files as cues: voices, word times within cues, and captions that roll up.

pysubs2, which writes both, takes the word times inside a WebVTT cue for a new cue and comments for text, and
webvtt-py loses cues without a word about it (docs/dependencies.md); so the few rules of the formats are here
(https://www.w3.org/TR/webvtt1/).
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from index.imports.cues import Cue, interpolated, joined_lines, split_labels
from index.records import Word
from index.text import one_line
from moss_audio.timestamps import parse_clock

_TIME = r"(?:\d{1,4}\s*:\s*)?\d{1,3}\s*:\s*\d{1,2}(?:\s*[.,]\s*\d{1,6})?"
_HEADER = re.compile(rf"\s*(?P<start>{_TIME})\s*--+>\s*(?P<end>{_TIME})(?:\s.*)?")
_NUMBER = re.compile(r"\s*\d+\s*")
_TAG = re.compile(
    rf"""<(?: (?P<time> {_TIME})
        | (?P<close> /)? (?P<name> [a-zA-Z]{{1,10}}) (?: \.[^\s>]{{0,200}} )?
          (?: \s+ (?P<note> [^>]{{0,500}}) )? )>""",
    re.VERBOSE,
)
_OVERRIDE = re.compile(r"\{\\[^{}]*\}")
"""Positions and styles of other formats that are often left in SubRip files: ``{\\an8}``."""

ROLLING_SHARE, ROLLING_CUES = 0.3, 3
"""Share of cues, and their least number, that begin with the line before, from which captions roll up."""


def is_webvtt(text: str) -> bool:
    """Whether a text begins as WebVTT files must."""
    return re.match(r"WEBVTT(?:[ \t].*)?(?:\r|\n|$)", text) is not None


def has_cues(text: str) -> bool:
    """Whether any line is the times of a cue."""
    return any(_HEADER.fullmatch(line) for line in text.splitlines())


def read_subtitles(text: str) -> list[Cue]:
    """The cues of a SubRip or WebVTT file, in its order; a cue in which two people speak becomes two.

    Names are read from voice tags, or else from what stands before a colon where the file names speakers so.
    """
    is_vtt = is_webvtt(text)
    spoken = [part for block in _blocks(text, is_vtt) for part in _parts(block, is_vtt)]
    spoken = list(_unrolled(spoken))
    if not any(part.voice for part in spoken):
        labelled = split_labels([part.text for part in spoken])
        return [_cue(part, speaker, said) for part, (speaker, said) in zip(spoken, labelled, strict=True)]
    return [_cue(part, part.voice, part.text) for part in spoken]


@dataclass(frozen=True)
class _Block:
    start: float
    end: float
    lines: tuple[str, ...]


@dataclass(frozen=True)
class _Part:
    """What one voice says in a cue; ``pieces`` are stretches of text with the times where they begin."""

    start: float
    end: float
    voice: str | None
    pieces: tuple[tuple[float | None, str], ...]

    @property
    def text(self) -> str:
        return "".join(text for _, text in self.pieces)


def _blocks(text: str, is_vtt: bool) -> Iterator[_Block]:
    """Cues with their lines; comments, numbers and names of cues are left out."""
    lines = text.splitlines()
    headers = [(at, found) for at, line in enumerate(lines) if (found := _HEADER.fullmatch(line))]
    for number, (at, found) in enumerate(headers):
        until = headers[number + 1][0] if number + 1 < len(headers) else len(lines)
        payload = lines[at + 1 : until]
        if is_vtt:
            # A blank line ends a cue; behind it are comments and the name of the next cue. Captions that roll
            # up begin with a line of one space.
            ends = (n for n, line in enumerate(payload) if not line or (n > 0 and not line.strip()))
            payload = payload[: next(ends, len(payload))]
        elif number + 1 < len(headers) and payload and _NUMBER.fullmatch(payload[-1]):
            # The number of the next cue; a year on a line of its own is one only where it is the whole cue.
            payload = payload[:-1]
        start, end = (parse_clock(re.sub(r"\s", "", found[side])) for side in ("start", "end"))
        yield _Block(start, end, tuple(payload))


def _parts(block: _Block, is_vtt: bool) -> Iterator[_Part]:
    """The voices of a cue, one after the other."""
    voice: str | None = None
    time: float | None = None
    pieces: list[tuple[float | None, str]] = []
    source = "\n".join(line for line in block.lines if line.strip())
    if not is_vtt:
        source = _OVERRIDE.sub("", source)
    at = 0
    for tag in _TAG.finditer(source):
        if before := source[at : tag.start()]:
            pieces.append((time, before))
            time = None
        at = tag.end()
        if tag["time"]:
            time = parse_clock(re.sub(r"\s", "", tag["time"]))
        elif tag["name"] == "v":
            said = _plain(pieces, is_vtt)
            if any(text.strip() for _, text in said):
                yield _Part(block.start, block.end, voice, said)
            pieces = []
            name = one_line(html.unescape(tag["note"] or "")) if not tag["close"] else ""
            voice = name or None
        elif tag["name"].lower() == "br":
            pieces.append((None, "\n"))
        elif not is_vtt and tag["name"].lower() not in ("i", "b", "u", "s", "font", "c"):
            # SubRip has no escapes: what is no tag of it was said.
            pieces.append((None, tag[0]))
    pieces.append((time, source[at:]))
    said = _plain(pieces, is_vtt)
    if any(text.strip() for _, text in said):
        yield _Part(block.start, block.end, voice, said)


def _plain(pieces: Sequence[tuple[float | None, str]], is_vtt: bool) -> tuple[tuple[float | None, str], ...]:
    # References are WebVTT's only: in SubRip “&amp;” is what it says.
    return tuple((time, html.unescape(text) if is_vtt else text) for time, text in pieces if text)


def _unrolled(parts: Sequence[_Part]) -> Iterator[_Part]:
    """Parts without the line that rolled up from the one before, where a file's captions do that."""
    lines = [[one_line(line) for line in part.text.split("\n") if one_line(line)] for part in parts]
    repeats = [
        at > 0 and bool(lines[at]) and bool(lines[at - 1]) and lines[at][0] == lines[at - 1][-1]
        for at in range(len(parts))
    ]
    touching = [
        at > 0 and repeats[at] and parts[at].start <= parts[at - 1].end + 0.1 for at in range(len(parts))
    ]
    if sum(touching) < max(ROLLING_CUES, ROLLING_SHARE * len(parts)):
        yield from parts
        return
    for part, repeat in zip(parts, touching, strict=True):
        kept = _without_first_line(part) if repeat else part
        if kept.text.strip():
            yield kept


def _without_first_line(part: _Part) -> _Part:
    pieces = list(part.pieces)
    while pieces:
        time, text = pieces.pop(0)
        if not one_line(text):
            continue
        _, line_break, rest = text.lstrip("\n").partition("\n")
        if line_break:
            return _Part(part.start, part.end, part.voice, ((time, rest), *pieces))
    return _Part(part.start, part.end, part.voice, ())


def _cue(part: _Part, speaker: str | None, said: str) -> Cue:
    text = joined_lines(said)
    timed = any(time is not None for time, _ in part.pieces)
    words = _timed_words(part) if timed and text == joined_lines(part.text) else ()
    return Cue(part.start, part.end, text, speaker, words)


def _timed_words(part: _Part) -> tuple[Word, ...]:
    """The words of a cue that has times within it; each stretch lasts until the next one."""
    starts = [part.start if time is None else time for time, _ in part.pieces]
    words: list[Word] = []
    for at, (_, text) in enumerate(part.pieces):
        start = max(starts[at], words[-1].end if words else part.start)
        end = next((time for time, _ in part.pieces[at + 1 :] if time is not None), part.end)
        line = one_line(text)
        # A tag within a word leaves it in two pieces.
        joined = words and not text[:1].isspace() and not part.pieces[at - 1][1][-1:].isspace()
        own = (
            interpolated(line if joined or not words else f" {line}", start, max(start, end)) if line else ()
        )
        sure = len(own) == 1 and part.pieces[at][0] is not None
        words += [Word(word.start, word.end, word.text, 1.0 if sure else 0.0) for word in own]
    return tuple(words)
