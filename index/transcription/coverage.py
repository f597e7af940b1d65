"""Coverage: the share of detected speech that some segment accounts for, computed and never assumed."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace

from index.records import Note, NoteKind, Segment, Span

COLLAR_SECONDS = 0.5
"""Speech this close to a word counts as covered: word times and the detector's edges differ by as much."""

MIN_GAP_SECONDS = 1.0
"""A shorter uncovered stretch is mostly an edge, a breath or a hum; it counts, but is not listed."""


def find_gaps(speech: Sequence[Span], segments: Sequence[Segment], notes: Sequence[Note] = ()) -> list[Span]:
    """The uncovered stretches that are long enough to be called gaps, in order.

    Args:
        speech: Detected speech.
        segments: What was transcribed.
        notes: What could not be read of the file: every hole inside it is a gap, however short.
    """
    holes = [span for note in notes if note.kind is NoteKind.DAMAGED for span in note.spans]
    gaps = [gap for gap in uncovered(speech, segments) if gap.duration >= MIN_GAP_SECONDS]
    if any(gap.channel is not None for gap in gaps):
        # Two sides may lack something at the same time.
        gaps = _merged(gaps)
    return sorted([*gaps, *_merged(holes)], key=lambda gap: gap.start)


def uncovered(speech: Sequence[Span], segments: Sequence[Segment]) -> list[Span]:
    """All detected speech that no segment's words account for, however short, in order.

    What is heard on one channel of several accounts for speech on that channel alone.
    """
    gaps: list[Span] = []
    for channel in dict.fromkeys(span.channel for span in speech):
        own = [segment for segment in segments if segment.channel == channel]
        gaps += _uncovered([span for span in speech if span.channel == channel], own)
    return sorted(gaps, key=lambda gap: gap.start)


def _uncovered(speech: Sequence[Span], segments: Sequence[Segment]) -> list[Span]:
    covered = _covered(segments)
    ends = [span.end for span in covered]
    gaps: list[Span] = []
    for span in speech:
        rest = [span]
        for other in covered[bisect_right(ends, span.start) :]:
            if other.start >= span.end:
                break
            rest = [piece for part in rest for piece in _subtract(part, other)]
        gaps += rest
    return gaps


def coverage(speech: Sequence[Span], segments: Sequence[Segment], notes: Sequence[Note] = ()) -> float | None:
    """Share of speech time that words account for, in [0, 1]; None where there is no speech to cover.

    Everything uncovered counts, also what is too short to be listed as a gap. What is missing in the file
    counts as speech that nobody heard.

    Args:
        speech: Detected speech.
        segments: What was transcribed.
        notes: What could not be read of the file.
    """
    lost = sum(span.duration for span in missing_sound(notes))
    total = sum(span.duration for span in speech) + lost
    if total <= 0:
        return None
    missing = sum(gap.duration for gap in uncovered(speech, segments)) + lost
    return min(1.0, max(0.0, 1.0 - missing / total))


def missing_sound(notes: Sequence[Note]) -> list[Span]:
    """What nobody could hear, in order: holes in the file, what is missing at its end, other audio tracks."""
    kinds = (NoteKind.CUT_SHORT, NoteKind.DAMAGED, NoteKind.TRACKS_NOT_HEARD)
    return _merged([span for note in notes if note.kind in kinds for span in note.spans])


def in_speech(span: Span, speech: Sequence[Span], collar: float = COLLAR_SECONDS) -> bool:
    """Whether a span touches detected speech, allowing for the collar."""
    return any(span.start < spoken.end + collar and spoken.start - collar < span.end for spoken in speech)


def _covered(segments: Sequence[Segment]) -> list[Span]:
    """Time that words (or, without word times, whole segments) account for, collar included, merged."""
    spans = []
    for segment in segments:
        times = [(word.start, word.end) for word in segment.words] or [(segment.start, segment.end)]
        spans += [Span(start - COLLAR_SECONDS, end + COLLAR_SECONDS) for start, end in times]
    return _merged(spans)


def _merged(spans: Sequence[Span]) -> list[Span]:
    """In order, with those that overlap or touch as one, whatever their channels."""
    merged: list[Span] = []
    for span in sorted(spans, key=lambda span: span.start):
        if merged and span.start <= merged[-1].end:
            merged[-1] = Span(merged[-1].start, max(merged[-1].end, span.end))
        else:
            merged.append(span)
    return merged


def _subtract(span: Span, other: Span) -> list[Span]:
    if not span.overlaps(other):
        return [span]
    pieces = [replace(span, end=other.start), replace(span, start=other.end)]
    return [piece for piece in pieces if piece.duration > 0]
