"""What is heard but not said: stretches to listen to, sounds in their places, one sound told twice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from index.records import Segment, Span
from index.sound_words import alike, is_music, is_quiet, is_talk
from moss_audio.tasks import Event

WINDOW_SECONDS = 60.0
"""Audio listened to in one go, about: longer answers run into repetitions."""

SEAM_SECONDS = 1.0
"""Heard on either side of a window too, so that no sound is cut in two; it belongs where its middle is."""

MOMENT_SECONDS = 0.5
"""A sound given as a moment gets this length, so that it can be played."""

LONGEST_TEXT = 200


@dataclass(frozen=True)
class SoundWindow:
    """A stretch of a recording, seconds on its clock.

    Attributes:
        own: The sounds whose middle lies there belong to this window.
        heard: What is listened to: a little more on either side.
    """

    own: Span
    heard: Span


def cut_sound_windows(duration: float) -> list[Span]:
    """The whole recording in stretches of equal length, about a minute each; silence and all."""
    count = max(1, round(duration / WINDOW_SECONDS))
    edges = [duration * number / count for number in range(count + 1)]
    return [Span(edges[at], edges[at + 1]) for at in range(count)]


def sound_window(own: Span, duration: float) -> SoundWindow:
    """A stretch with what is heard around it."""
    return SoundWindow(own, Span(max(0.0, own.start - SEAM_SECONDS), min(duration, own.end + SEAM_SECONDS)))


def sounds_of(
    events: Iterable[Event], window: SoundWindow, speech: Sequence[Span], engine: str
) -> list[Segment]:
    """The sounds and the music of a window as segments, in time order.

    Args:
        events: On the clock of the audio that was heard.
        window: Where that was.
        speech: Detected speech of the recording.
        engine: What heard them.
    """
    found = []
    for event in events:
        span = Span(window.heard.start + event.start, window.heard.start + event.end)
        text = _plain(event.text)
        last = window.own.end >= window.heard.end
        middle = (span.start + span.end) / 2
        if not (window.own.start <= middle < window.own.end or (last and middle == window.own.end)):
            continue
        if not text or is_quiet(text) or (is_talk(text) and _is_spoken(span, speech)):
            continue
        span = _playable(span, window.heard)
        kind = "music" if is_music(text) else "sound"
        found.append(Segment(span.start, span.end, text, kind=kind, engine=engine))  # type: ignore[arg-type]
    return merged(found, ())


def merged(segments: Sequence[Segment], seams: Sequence[float]) -> list[Segment]:
    """Sounds with those joined that are one sound told twice: alike, and overlapping or meeting at a seam.

    Args:
        segments: Sounds and music, in any order.
        seams: Where windows meet, seconds; a sound that ends there and one that begins there may be one.

    Returns:
        In time order; a joined sound keeps the first one's ``id`` and the text of the longest.
    """
    kept: list[Segment] = []
    near: list[int] = []
    for one in sorted(segments, key=lambda found: (found.start, found.end, found.id)):
        near = [at for at in near if one.start <= kept[at].end + 2 * SEAM_SECONDS]
        twin = next((at for at in near if _same_sound(kept[at], one, seams)), None)
        if twin is None:
            near.append(len(kept))
            kept.append(one)
        else:
            other = kept[twin]
            text = other.text if other.end - other.start >= one.end - one.start else one.text
            kept[twin] = replace(other, end=max(other.end, one.end), text=text)
    return kept


def _same_sound(before: Segment, after: Segment, seams: Sequence[float]) -> bool:
    if before.kind != after.kind:
        return False
    if after.start > before.end:
        meets = (
            abs(before.end - at) <= SEAM_SECONDS and abs(after.start - at) <= SEAM_SECONDS for at in seams
        )
        if not any(meets):
            return False
    return alike(before.text, after.text)


def _plain(text: str) -> str:
    """One line without the brackets and full stops that models put around a description."""
    return " ".join(text.split()).strip(' .;,-–—*_"“”()[]')[:LONGEST_TEXT].strip()


def _is_spoken(span: Span, speech: Sequence[Span]) -> bool:
    """Whether speech was detected in at least half of a stretch."""
    inside = sum(
        max(0.0, min(one.end, span.end) - max(one.start, span.start)) for one in speech if one.overlaps(span)
    )
    return inside >= 0.5 * span.duration


def _playable(span: Span, within: Span) -> Span:
    """The stretch, or where it is hardly more than a moment, a little more around it."""
    start, end = span.start, span.end
    if span.duration < MOMENT_SECONDS:
        middle = (start + end) / 2
        start = max(within.start, min(middle - MOMENT_SECONDS / 2, within.end - MOMENT_SECONDS))
        end = min(within.end, start + MOMENT_SECONDS)
    return Span(round(start, 3), round(end, 3))
