"""Hearing one window so that nothing is lost and nothing is invented.

Whatever the engine, its result is checked against the detected speech: text where nobody spoke is
dropped, loops are heard again and else cut, and speech without text is heard once more on its own.
What is still missing then is reported as a gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from index.audio import SAMPLE_RATE
from index.coverage import find_gaps, in_speech
from index.loops import cut_loops, has_loop
from index.records import Segment, Span
from index.sentences import join_words
from index.transcriber import Transcriber
from index.windows import MARGIN_SECONDS, AudioWindow


@dataclass(frozen=True)
class Heard:
    """A window's segments in time order, and the speech in it that none accounts for."""

    segments: tuple[Segment, ...]
    gaps: tuple[Span, ...]


def hear(window: AudioWindow, transcriber: Transcriber) -> Heard:
    """Transcribe one window and account for all of its speech."""
    segments = _once(window, transcriber)
    for gap in find_gaps(window.speech, segments):
        segments = _merge(segments, _once(_part(window, gap), transcriber, careful=True))
    segments = [one for one in segments if one.end > one.start]
    return Heard(tuple(segments), tuple(find_gaps(window.speech, segments)))


def _once(window: AudioWindow, transcriber: Transcriber, careful: bool = False) -> list[Segment]:
    """One pass, repeated with other settings if it ran into a loop, and cut if that did as well."""
    segments = transcriber.transcribe([window], careful=careful)[0]
    if has_loop(segments) and not careful:
        segments = transcriber.transcribe([window], careful=True)[0]
    segments = cut_loops(segments)
    return [kept for one in segments if (kept := _only_speech(one, window.speech)) is not None]


def _only_speech(segment: Segment, speech: Sequence[Span]) -> Segment | None:
    """The segment without words where the detector heard nothing; None when nothing is left of it."""
    if not segment.words:
        return segment if in_speech(segment.span, speech) else None
    words = tuple(word for word in segment.words if in_speech(Span(word.start, word.end), speech))
    if not words:
        return None
    if len(words) == len(segment.words):
        return segment
    return replace(segment, start=words[0].start, end=words[-1].end, text=join_words(words), words=words)


def _part(window: AudioWindow, gap: Span) -> AudioWindow:
    """The stretch of a window around one gap, as a window of its own."""
    end = window.start + len(window.audio) / SAMPLE_RATE
    span = Span(max(window.start, gap.start - MARGIN_SECONDS), min(end, gap.end + MARGIN_SECONDS))
    first, last = (round((time - window.start) * SAMPLE_RATE) for time in (span.start, span.end))
    speech = tuple(
        Span(max(one.start, span.start), min(one.end, span.end))
        for one in window.speech
        if one.overlaps(span)
    )
    return replace(window, audio=window.audio[first:last], start=span.start, speech=speech)


def _merge(segments: list[Segment], found: list[Segment]) -> list[Segment]:
    """Add what was found in a gap, unless most of it lies on a neighbour's time (heard twice)."""
    new = []
    for one in found:
        shared = sum(max(0.0, min(one.end, other.end) - max(one.start, other.start)) for other in segments)
        if shared < 0.5 * max(one.end - one.start, 0.01):
            new.append(one)
    return sorted(segments + new, key=lambda one: (one.start, one.end))
