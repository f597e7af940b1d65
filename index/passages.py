"""Cut a recording's segments into passages: the pieces that are embedded and retrieved.

A passage is a run of whole segments, 30 to 60 s where the talk allows it. Of all ways to cut, the one
with the lowest total cost is taken (dynamic programming over the boundaries), so a cut moves to the
longest pause or to a change of speaker near the target length instead of falling where a clock runs out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from index.records import Passage, Segment

TARGET_SECONDS = 45.0
LONGEST_SECONDS = 60.0
"""No passage of more than one segment is longer."""

MOST_PIECES = 230
"""Estimated word pieces of a passage; the packaged embedder reads 256 and drops the rest."""

LONG_PAUSE_SECONDS = 2.0
"""From this pause on, a longer one is no better a place to cut."""

PAUSE_REWARD = 0.6
TURN_REWARD = 0.2
"""What a long pause, and a change of speaker, are worth, in units of one passage that is all too short."""

# Characters of scripts that are written without spaces: the tokenizer makes a piece of each.
_DENSE = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
# BERT takes a Hangul syllable apart into two or three letters.
_HANGUL = re.compile(r"[\uac00-\ud7af]")
_TOKEN = re.compile(r"[^\W_]+|[^\w\s]|_")


def estimated_pieces(text: str) -> int:
    """About how many word pieces a text has, rather too many than too few for English.

    A word of up to six ASCII letters counts as one piece, longer ones add half a piece for each seven
    letters; in an English vocabulary, letters of other alphabets are mostly pieces of their own.
    """
    count = 0.0
    for token in _TOKEN.findall(_HANGUL.sub(" x x ", _DENSE.sub(" x ", text))):
        if token.isascii() and token.isalpha():
            count += 1 + 0.5 * (len(token) // 7)
        elif token.isdigit():
            count += (len(token) + 1) // 2
        elif max(token) < "\u0250":  # Latin with accents
            count += max(1.0, len(token) / 3)
        else:
            count += len(token)
    return int(count) + 1


def cut_passages(segments: Sequence[Segment]) -> list[Passage]:
    """Put every segment into exactly one passage, in time order.

    A passage of several segments lasts at most ``LONGEST_SECONDS`` and has at most ``MOST_PIECES``
    estimated word pieces; one segment that is longer alone is a passage of its own.

    Args:
        segments: The segments of one recording, in any order.
    """
    ordered = sorted(segments, key=lambda one: (one.start, one.end, one.id))
    rewards = [_cut_reward(ordered, index) for index in range(len(ordered) + 1)]
    pieces = [estimated_pieces(one.text) for one in ordered]
    cost = [0.0] + [float("inf")] * len(ordered)
    best_start = [0] * (len(ordered) + 1)
    for first in range(len(ordered)):
        end, total = ordered[first].end, 0
        for last in range(first, len(ordered)):
            end = max(end, ordered[last].end)
            total += pieces[last]
            seconds = end - ordered[first].start
            if last > first and (seconds > LONGEST_SECONDS or total > MOST_PIECES):
                break
            candidate = cost[first] + _length_cost(seconds, total) - rewards[last + 1]
            if candidate < cost[last + 1]:
                cost[last + 1], best_start[last + 1] = candidate, first
    return [_passage(ordered[first:last]) for first, last in _bounds(best_start)]


def _bounds(best_start: list[int]) -> list[tuple[int, int]]:
    """Walk the best cuts back from the end; ``[first, last)`` of each passage in order."""
    bounds: list[tuple[int, int]] = []
    last = len(best_start) - 1
    while last > 0:
        bounds.append((best_start[last], last))
        last = best_start[last]
    return bounds[::-1]


def _length_cost(seconds: float, pieces: int) -> float:
    """0 at the target, 1 for a passage of no length; a constant keeps the number of passages down.

    A passage that is full of words is as long as it may be, however few seconds it lasts.
    """
    fullness = max(seconds / TARGET_SECONDS, pieces / (0.8 * MOST_PIECES))
    return 1.0 + (1.0 - fullness) ** 2


def _cut_reward(segments: Sequence[Segment], index: int) -> float:
    """How good it is to cut before ``segments[index]``, in [0, PAUSE_REWARD + TURN_REWARD]."""
    if index in (0, len(segments)):
        return 0.0
    before, after = segments[index - 1], segments[index]
    pause = min(max(0.0, after.start - before.end), LONG_PAUSE_SECONDS) / LONG_PAUSE_SECONDS
    return PAUSE_REWARD * pause + (TURN_REWARD if before.speaker != after.speaker else 0.0)


def _passage(segments: Sequence[Segment]) -> Passage:
    return Passage(
        recording=segments[0].recording,
        start=segments[0].start,
        end=max(one.end for one in segments),
        text=" ".join(_told(one) for one in segments if one.text.strip()),
        segment_ids=tuple(one.id for one in segments),
    )


def _told(segment: Segment) -> str:
    """A segment's words; what is heard but not said stands in parentheses, and music is called that.

    The kind of other sounds is not named: a search for a “sound stage” should not find every door.
    """
    text = segment.text.strip()
    if segment.kind == "music" and "music" not in text.casefold():
        text = f"music: {text}"
    return text if segment.kind == "speech" else f"({text})"
