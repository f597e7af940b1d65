"""Subtitles that can be read: a transcript's segments as cues of two short lines, one after the other.

The limits are those of common subtitle guidelines. Where to cut is chosen for a whole run of one speaker's
talk at once (dynamic programming over its words): at the ends of sentences and clauses, at pauses, and not
behind a word that belongs to the next one.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from index.records import Segment
from index.text import UNSPACED, one_line
from index.vocabulary import word_set

LINE_WIDTH = 42
"""Characters of a line; those of Chinese, Japanese and Korean are twice as wide and count as two."""

SHORTEST_MS, LONGEST_MS = 700, 7_000
"""How long a cue stands, milliseconds."""

CHARACTERS_A_SECOND = 20.0
"""How fast a cue is to be read at most, where the speech and the next cue leave the time for it."""

LONGEST_SOUND_MS = 6_000
"""A sound's cue stands at most this long; rain for an hour would cover the talk."""

LATEST_MS = 1_500
"""A cue starts at most this much late so that one that it overlaps can be read."""

SAME_TALK_SECONDS = 1.0
"""Segments of one speaker with a shorter pause between them are cut into cues together."""

UNTIMED_CHARACTERS_A_SECOND = 5.0
"""Slowest talk that is assumed where the times of single words are not known."""

COMFORTABLE_SECONDS = 1.2
"""A shorter cue is joined with the one beside it where both fit."""

# What a cut costs (a cue costs 1), by what stands before and after it.
_AFTER_SENTENCE, _AFTER_CLAUSE, _BEFORE_CLAUSE = -1.1, 0.0, 0.25
_BETWEEN_CHARACTERS, _BETWEEN_WORDS, _BEFORE_ITS_WORD, _INSIDE_WORD = 0.5, 0.6, 0.9, 1.2
_PAUSE_SECONDS, _PAUSE = 0.3, -0.2

_SENTENCE_END = re.compile(r"[.?!…。？！｡][\"'”’»)\]]*$")
_CLAUSE_END = re.compile(r"[,;:–—，、；：][\"'”’»)\]]*$")
_CLAUSE_STARTS = word_set(
    """after although and as because before but if nor or since so than that though unless until when where
    whereas whether which while who whom whose yet aber als dass denn ob oder sondern und weil wenn"""
)
_LEANS_ON_NEXT = word_set(
    """a an at by for from her his i in into is its my no not of on our per she the their they to very was we
    were with you your der die das dem den des ein eine einem einen einer im in mit von zu zum zur"""
)


@dataclass(frozen=True)
class Cue:
    """What stands on the screen, milliseconds; no cue overlaps the next one.

    Attributes:
        start: First millisecond.
        end: The one after the last.
        speaker: Who speaks, or nothing.
        lines: One or two lines of at most ``LINE_WIDTH``; where asked for, the first one begins with the
            speaker's name and a colon.
    """

    start: int
    end: int
    speaker: str
    lines: tuple[str, ...]


def make_cues(segments: Sequence[Segment], named: bool) -> list[Cue]:
    """Cut a transcript into cues; every word of it is in one of them, each speaker's in order.

    Args:
        segments: In any order; those without words give no cue.
        named: Whether the first line of a cue begins with ``Speaker 1: ``, which then counts as text.
    """
    ordered = sorted((segment for segment in segments if one_line(segment.text)), key=lambda item: item.start)
    pieces = [piece for talk in _talks(ordered) for piece in _cut(talk, named)]
    return _in_turn(sorted(pieces, key=lambda piece: piece.start))


# --- words with times ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Token:
    """A word, or a part of one that may stand on a line of its own; seconds."""

    text: str
    start: float
    end: float
    spaced: bool
    """Whether a space separates it from the token before it."""

    @property
    def width(self) -> int:
        return _width(self.text) + self.spaced


@dataclass(frozen=True)
class _Talk:
    """What one speaker says without a long pause, or one sound."""

    speaker: str
    tokens: list[_Token]


@dataclass(frozen=True)
class _Piece:
    """A cue before its turn is known, milliseconds."""

    start: int
    end: int
    speaker: str
    lines: tuple[str, ...]


def _talks(ordered: Sequence[Segment]) -> Iterator[_Talk]:
    run: list[Segment] = []
    for segment in ordered:
        if run and not _goes_on(run[-1], segment):
            yield _talk(run)
            run = []
        run.append(segment)
    if run:
        yield _talk(run)


def _goes_on(before: Segment, after: Segment) -> bool:
    pause = after.start - before.end
    return (
        before.kind == after.kind == "speech"
        and before.speaker == after.speaker
        and 0 <= pause < SAME_TALK_SECONDS
    )


def _talk(run: Sequence[Segment]) -> _Talk:
    return _Talk(one_line(run[0].speaker or ""), [token for segment in run for token in _tokens(segment)])


def _tokens(segment: Segment) -> list[_Token]:
    """The words of a segment with their times; a word that is too wide for a line, in parts."""
    text = one_line(segment.text)
    if segment.kind != "speech":
        text = f"({text})"
    times = _character_times(segment, text)
    tokens: list[_Token] = []
    at = 0
    for word in text.split(" "):
        for number, part in enumerate(_parts(word)):
            start, end = times[at][0], times[at + len(part) - 1][1]
            tokens.append(_Token(part, start, end, spaced=number == 0))
            at += len(part)
    return tokens


def _character_times(segment: Segment, text: str) -> list[tuple[float, float]]:
    """Start and end of each character that is no space, never running backwards.

    Where words are not timed, the text is spread at an even pace, and its end stands until the segment's.
    """
    words = [("".join(one_line(word.text).split()), word) for word in segment.words]
    timed_words = segment.kind == "speech" and "".join(word for word, _ in words) == text.replace(" ", "")
    if timed_words:
        spans = [(word, timed.start, timed.end) for word, timed in words if word]
    else:
        letters = text.replace(" ", "")
        seconds = min(max(0.0, segment.end - segment.start), len(letters) / UNTIMED_CHARACTERS_A_SECOND)
        spans = [(letters, segment.start, segment.start + seconds)]
    times: list[tuple[float, float]] = []
    floor = max(0.0, segment.start)
    for letters, start, end in spans:
        start = max(start, floor)
        step = max(0.0, end - start) / len(letters)
        times += [(start + at * step, start + (at + 1) * step) for at in range(len(letters))]
        floor = times[-1][1]
    if not timed_words:
        longest = LONGEST_MS if segment.kind == "speech" else LONGEST_SOUND_MS
        times[-1] = times[-1][0], max(floor, min(segment.end, spans[0][1] + longest / 1000))
    return times


def _parts(word: str) -> Iterator[str]:
    """A word in parts between which a line may end: itself, its characters in scripts without spaces."""
    part = ""
    for character in word:
        alone = any(UNSPACED.match(letter) for letter in (character, part[-1:]))
        # Marks and punctuation stay with the letter before them.
        joins = not character.isalnum()
        full = _width(part + character) > LINE_WIDTH
        if part and (full or (alone and not joins)):
            kept = _start_of_last_letter(part) if full and _is_mark(character) else len(part)
            yield part[:kept]
            part = part[kept:]
        part += character
    yield part


def _start_of_last_letter(part: str) -> int:
    at = len(part) - 1
    while at > 0 and _is_mark(part[at]):
        at -= 1
    return at or len(part)


def _is_mark(character: str) -> bool:
    return unicodedata.category(character) in ("Mn", "Mc", "Me", "Cf")


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


# --- cutting ------------------------------------------------------------------------------------------


def _cut(talk: _Talk, named: bool) -> list[_Piece]:
    """The cheapest way to cut a talk into cues that fit."""
    name = _name(talk.speaker) if named and talk.speaker else ""
    tokens = talk.tokens
    sums = [0, *accumulate(token.width for token in tokens)]
    cuts = [_cut_cost(tokens, at) for at in range(len(tokens))]
    cost = [0.0] + [float("inf")] * len(tokens)
    best = [0] * (len(tokens) + 1)
    for first in range(len(tokens)):
        for behind in range(first + 1, len(tokens) + 1):
            if not _fits(tokens, sums, first, behind, _width(name)):
                break
            seconds = tokens[behind - 1].end - tokens[first].start
            if behind > first + 1 and seconds > LONGEST_MS / 1000:
                break
            candidate = cost[first] + cuts[first] + _piece_cost(talk, sums, first, behind, _width(name))
            if candidate < cost[behind]:
                cost[behind], best[behind] = candidate, first
    pieces: list[_Piece] = []
    behind = len(tokens)
    while behind > 0:
        first = best[behind]
        pieces.append(
            _Piece(
                round(tokens[first].start * 1000),
                round(tokens[behind - 1].end * 1000),
                talk.speaker,
                _lines(tokens, sums, cuts, first, behind, name),
            )
        )
        behind = first
    return pieces[::-1]


def _name(speaker: str) -> str:
    """``Speaker 1:``, cut where it would not fit on a line."""
    if _width(speaker) < LINE_WIDTH:
        return f"{speaker}:"
    kept = ""
    for character in speaker:
        if _width(kept + character) > LINE_WIDTH - 2:
            break
        kept += character
    return f"{kept.rstrip()}…:"


def _cut_cost(tokens: Sequence[_Token], at: int) -> float:
    """What a cut before a token costs."""
    if at == 0:
        return 0.0
    before, after = tokens[at - 1], tokens[at]
    pause = after.start - before.end
    bonus = _PAUSE if pause >= _PAUSE_SECONDS else 0.0
    if _SENTENCE_END.search(before.text):
        return _AFTER_SENTENCE + bonus
    if _CLAUSE_END.search(before.text):
        return _AFTER_CLAUSE + bonus
    if not after.spaced:
        return (_BETWEEN_CHARACTERS if UNSPACED.search(before.text + after.text) else _INSIDE_WORD) + bonus
    if before.text.casefold() in _LEANS_ON_NEXT:
        return _BEFORE_ITS_WORD + bonus
    return (_BEFORE_CLAUSE if after.text.casefold() in _CLAUSE_STARTS else _BETWEEN_WORDS) + bonus


def _piece_cost(talk: _Talk, sums: Sequence[int], first: int, behind: int, name: int) -> float:
    """1 for a cue, and more where it would stand too short or had to be read too fast."""
    tokens = talk.tokens
    until = tokens[behind].start if behind < len(tokens) else tokens[-1].end + SAME_TALK_SECONDS
    seconds = max(0.1, until - tokens[first].start)
    short = max(0.0, COMFORTABLE_SECONDS - seconds)
    fast = max(0.0, (name + sums[behind] - sums[first]) / seconds / CHARACTERS_A_SECOND - 1.0)
    return 1.0 + 1.5 * short + 0.5 * min(fast, 2.0)


def _line_width(tokens: Sequence[_Token], sums: Sequence[int], first: int, behind: int) -> int:
    return sums[behind] - sums[first] - tokens[first].spaced


def _fits(tokens: Sequence[_Token], sums: Sequence[int], first: int, behind: int, name: int) -> bool:
    """Whether tokens fit on two lines, the first of which begins with a name of this width."""
    taken = name + 1 if name else 0
    # As many as fit on the first line; where the name is long, that may be none.
    upto = bisect_right(sums, sums[first] + tokens[first].spaced + LINE_WIDTH - taken) - 1
    if upto >= behind:
        return True
    if upto <= first and not name:
        return False
    upto = max(upto, first)
    return _line_width(tokens, sums, upto, behind) <= LINE_WIDTH


def _lines(
    tokens: Sequence[_Token], sums: Sequence[int], cuts: Sequence[float], first: int, behind: int, name: str
) -> tuple[str, ...]:
    """The tokens on one line where they fit, else on two that are cut well and about as long."""
    lead = f"{name} " if name else ""
    taken = _width(lead)

    def widths(cut: int) -> tuple[int, int]:
        above = taken + _line_width(tokens, sums, first, cut) if cut > first else taken - 1
        return above, _line_width(tokens, sums, cut, behind)

    def quality(cut: int) -> float:
        above, below = widths(cut)
        return cuts[cut] + abs(above - below) / LINE_WIDTH if cut > first else 1.0

    if taken + _line_width(tokens, sums, first, behind) <= LINE_WIDTH:
        return (lead + _joined(tokens[first:behind]),)
    possible = [cut for cut in range(first if name else first + 1, behind) if max(widths(cut)) <= LINE_WIDTH]
    cut = min(possible, key=quality)
    return (lead + _joined(tokens[first:cut])).rstrip(), _joined(tokens[cut:behind])


def _joined(tokens: Sequence[_Token]) -> str:
    return "".join((" " if token.spaced else "") + token.text for token in tokens).strip()


# --- times --------------------------------------------------------------------------------------------


def _in_turn(pieces: Sequence[_Piece]) -> list[Cue]:
    """Give every piece its time on the screen, none before the one before it is gone."""
    cues: list[Cue] = []
    for at, piece in enumerate(pieces):
        start = max(piece.start, cues[-1].end if cues else 0)
        characters = sum(map(_width, piece.lines))
        needed = min(max(SHORTEST_MS, round(characters / CHARACTERS_A_SECOND * 1000)), LONGEST_MS)
        end = max(piece.end, start + needed)
        if at + 1 < len(pieces):
            following = pieces[at + 1].start
            if following < piece.end:
                # Two speak at once; the second one waits until the first can have been read.
                following = min(start + needed, following + LATEST_MS)
            end = min(end, following)
        end = min(max(end, start + SHORTEST_MS), start + LONGEST_MS)
        cues.append(Cue(start, end, piece.speaker, piece.lines))
    return cues
