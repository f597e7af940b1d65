"""Repetition loops in segments: what the engine wrote over and over is taken out, and its time with it.

What counts as a loop is said in ``moss_audio.generation.loops``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import groupby

from index.records import Segment, Word
from index.transcription.sentences import join_words
from moss_audio.generation.loops import find_loops, word_key, words_of


def has_loop(segments: Sequence[Segment]) -> bool:
    """Whether the text of these segments, read on, runs into a loop."""
    return bool(find_loops([key for segment in segments for key in _keys(segment)]))


def cut_loops(segments: Sequence[Segment]) -> list[Segment]:
    """Remove every loop, its first saying too: what was said there is unknown, so its time becomes a gap.

    Segments without word times are dropped whole when they take part in a loop.
    """
    kept = list(segments)
    while True:
        places = [
            (index, place, key)
            for index, segment in enumerate(kept)
            for place, key in enumerate(_keys(segment))
        ]
        loops = find_loops([key for _, _, key in places])
        if not loops:
            return kept
        spoiled: dict[int, set[int]] = {}
        for loop in loops:
            for index, place, _ in places[loop.begin : loop.end]:
                spoiled.setdefault(index, set()).add(place)
        kept = [
            part
            for index, segment in enumerate(kept)
            for part in (_without(segment, spoiled[index]) if index in spoiled else [segment])
        ]


def _keys(segment: Segment) -> list[str]:
    """What a segment's words are compared by."""
    if segment.words:
        return [word_key(word.text) for word in segment.words]
    return [word.key for word in words_of(segment.text)]


def _without(segment: Segment, spoiled: Collection[int]) -> list[Segment]:
    """The parts of a segment between its spoiled words (given by their places)."""
    places = groupby(range(len(segment.words)), key=lambda place: place in spoiled)
    runs: list[tuple[Word, ...]] = [
        tuple(segment.words[place] for place in run) for is_spoiled, run in places if not is_spoiled
    ]
    return [
        replace(segment, start=run[0].start, end=run[-1].end, text=join_words(run), words=run) for run in runs
    ]
