"""Answers in plain words: a transcript without times, a description, the answer to a free question."""

from __future__ import annotations

import re

from moss_audio.tasks.cleaning import clean, inside_fences, without_loops, without_preamble
from moss_audio.tasks.marks import CLOSE, OPEN
from moss_audio.tasks.results import Description, Dropped, Parsed, Transcript

_STAMP = re.compile(rf"{OPEN}\s{{0,3}}\d{{1,7}}\.\d{{1,3}}\s{{0,3}}{CLOSE}")


def parse_transcript(text: str, duration: float | None = None) -> Parsed[Transcript]:
    """Read a transcript without times.

    Args:
        text: What the model wrote.
        duration: Of no use here; every parser takes it.

    Returns:
        The words said. Dropped: thought, fences and what stands outside them, an announcement before the
        words, time stamps that were not asked for, loops.
    """
    answer, dropped = clean(text)
    answer, found = inside_fences(answer)
    dropped += found
    answer, found = without_preamble(answer)
    dropped += found
    stamps = [
        Dropped(match[0], "a time that was not asked for", "stamp") for match in _STAMP.finditer(answer)
    ]
    if stamps:
        answer = " ".join(_STAMP.sub(" ", answer).split())
    answer, found = without_loops(answer)
    return Parsed(Transcript(answer), (*dropped, *stamps, *found))


def parse_description(text: str, duration: float | None = None) -> Parsed[Description]:
    """Read an answer in prose; its markdown stays as it is.

    Args:
        text: What the model wrote.
        duration: Of no use here; every parser takes it.

    Returns:
        The prose. Dropped: special tokens, thought, loops.
    """
    answer, dropped = clean(text)
    answer, found = without_loops(answer)
    return Parsed(Description(answer), (*dropped, *found))
