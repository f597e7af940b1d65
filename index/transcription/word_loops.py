"""Repetition loops: the same words over and over, which speech models write on noise and laughter."""

from __future__ import annotations

import re
from collections.abc import Sequence

from index.records import Segment, Word
from index.transcription.sentences import join_words

MAX_REPEATS = 4
"""A phrase said this many times in a row is a loop: people say “no, no, no”, models say it forty times."""

MAX_PHRASE_WORDS = 12
"""Longest phrase looked at; a sentence said four times in a row within a window is no speech either."""


def find_loop(words: Sequence[str]) -> tuple[int, int] | None:
    """Find the first run of a repeated phrase.

    Args:
        words: Words in order, normalised.

    Returns:
        ``(first, last)`` indices, half-open, of all repeats; None when there is no loop. A single word
        must be repeated twice as often as a phrase, since people do say “yeah, yeah, yeah, yeah”.
    """
    for start in range(len(words)):
        for length in range(1, MAX_PHRASE_WORDS + 1):
            repeats = _repeats(words, start, length)
            if repeats >= (MAX_REPEATS * 2 if length == 1 else MAX_REPEATS):
                return start, start + repeats * length
    return None


def has_loop(segments: Sequence[Segment]) -> bool:
    """Whether the text of these segments, read on, runs into a loop."""
    return find_loop([_normal(word) for word in _all_words(segments)]) is not None


def cut_loops(segments: Sequence[Segment]) -> list[Segment]:
    """Remove every loop; what the speech under it was is unknown, so its time becomes a gap.

    Segments without word times are dropped whole when they take part in a loop.
    """
    kept = list(segments)
    while True:
        owners = [(index, word) for index, segment in enumerate(kept) for word in _words(segment)]
        loop = find_loop([_normal(word) for _, word in owners])
        if loop is None:
            return kept
        spoiled: dict[int, list[Word]] = {}
        for index, word in owners[loop[0] : loop[1]]:
            spoiled.setdefault(index, []).append(word)
        kept = [
            part
            for index, segment in enumerate(kept)
            for part in ([segment] if index not in spoiled else _without(segment, spoiled[index]))
        ]


def _without(segment: Segment, spoiled: list[Word]) -> list[Segment]:
    """The part of a segment before and after its spoiled words, where any is left."""
    if not segment.words:
        return []
    bad = {id(word) for word in spoiled}
    runs: list[list[Word]] = [[]]
    for word in segment.words:
        if id(word) in bad:
            runs.append([])
        else:
            runs[-1].append(word)
    return [
        Segment(
            start=run[0].start,
            end=run[-1].end,
            text=join_words(run),
            kind=segment.kind,
            speaker=segment.speaker,
            words=tuple(run),
            engine=segment.engine,
        )
        for run in runs
        if run
    ]


def _repeats(words: Sequence[str], start: int, length: int) -> int:
    phrase = words[start : start + length]
    if len(phrase) < length or not any(phrase):
        return 0
    count = 1
    while words[start + count * length : start + (count + 1) * length] == phrase:
        count += 1
    return count


def _words(segment: Segment) -> list[Word]:
    if segment.words:
        return list(segment.words)
    return [Word(segment.start, segment.end, text) for text in segment.text.split()]


def _all_words(segments: Sequence[Segment]) -> list[Word]:
    return [word for segment in segments for word in _words(segment)]


def _normal(word: Word) -> str:
    return re.sub(r"[^\w']+", "", word.text.casefold())
