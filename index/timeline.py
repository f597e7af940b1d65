"""A recording over time: who speaks when, and how much each speaks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from index.records import Comment, Kind, Recording, Segment

MOST_SPANS = 2000
"""Stretches of one voice that are told apart over the whole length; a screen shows no more."""

UNSPACED = frozenset({"zh", "yue", "ja", "th", "lo", "km", "my", "bo"})
"""Languages written without spaces, ISO 639-1 and 639-3: their words cannot be counted this way."""

_WORD = re.compile(r"\w+(?:[’'\-]\w+)*")


@dataclass(frozen=True)
class Lane:
    """When one voice speaks: ``[start, end)`` in seconds, in order. ``name`` is None where it has none."""

    name: str | None
    spans: tuple[tuple[float, float], ...]
    number: int | None = None
    """Which of the recording's speakers it is, from 0; gives it its colour. None where it has no name."""


@dataclass(frozen=True)
class Heard:
    """A sound or music, and when."""

    start: float
    end: float
    kind: Kind
    text: str


@dataclass(frozen=True)
class Timeline:
    """What a lane over the whole recording shows.

    Attributes:
        recording: Its id.
        duration: Seconds.
        lanes: One a voice, in the order of the recording's speakers; those without a name last.
        sounds: Sounds and music.
        gaps: Speech that could not be transcribed.
        comments: What was noted, and where.
    """

    recording: str
    duration: float
    lanes: tuple[Lane, ...]
    sounds: tuple[Heard, ...]
    gaps: tuple[tuple[float, float], ...]
    comments: tuple[Comment, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The timeline as JSON."""
        return asdict(self)


@dataclass(frozen=True)
class VoiceTime:
    """How much one voice speaks.

    Attributes:
        name: None for speech whose speaker is not known.
        seconds: Its segments added up.
        share: Of all voices' seconds, in [0, 1].
        turns: How often it begins to speak after another voice.
        words: Words it says; None where a language is written without spaces.
        words_per_minute: Of the time it speaks; None where there are no words to count.
    """

    name: str | None
    seconds: float
    share: float
    turns: int
    words: int | None
    words_per_minute: float | None


@dataclass(frozen=True)
class TalkTime:
    """How a recording's time is divided.

    Attributes:
        duration: Seconds in all.
        speech: Seconds in which somebody speaks.
        silence: Seconds in which nobody does, sounds and music among them.
        overlap: Seconds in which more than one voice does.
        voices: Whoever speaks most comes first.
    """

    duration: float
    speech: float
    silence: float
    overlap: float
    voices: tuple[VoiceTime, ...]

    def to_json(self) -> dict[str, Any]:
        """The division as JSON."""
        return asdict(self)


def timeline(recording: Recording, segments: Sequence[Segment], comments: Sequence[Comment] = ()) -> Timeline:
    """What the lane of a recording shows, from its segments and comments in time order."""
    near = recording.duration / MOST_SPANS
    numbers = {name: number for number, name in enumerate(recording.speakers)}
    voices = _by_voice(recording, segments)
    return Timeline(
        recording.id,
        recording.duration,
        tuple(
            Lane(name, tuple(_merged(_spans(own), near)), numbers.get(name or ""))
            for name, own in voices.items()
        ),
        tuple(
            Heard(segment.start, segment.end, segment.kind, segment.text)
            for segment in segments
            if segment.kind != "speech"
        ),
        tuple((gap.start, gap.end) for gap in recording.gaps),
        tuple(comments),
    )


def talk_time(recording: Recording, segments: Sequence[Segment]) -> TalkTime:
    """How a recording's time is divided, from its segments in time order."""
    voices = _by_voice(recording, segments)
    seconds = {name: sum(segment.end - segment.start for segment in own) for name, own in voices.items()}
    total = sum(seconds.values())
    spoken = [segment for segment in segments if segment.kind == "speech"]
    turns = dict.fromkeys(voices, 0)
    for before, segment in pairwise([None, *spoken]):
        if segment is not None and (before is None or before.speaker != segment.speaker):
            turns[segment.speaker] += 1
    found = [
        VoiceTime(
            name,
            round(seconds[name], 3),
            seconds[name] / total if total else 0.0,
            turns[name],
            words := _words(own),
            round(60 * words / seconds[name], 1) if words and seconds[name] > 0 else None,
        )
        for name, own in voices.items()
    ]
    merged = [list(_merged(_spans(own), 0.0)) for own in voices.values()]
    speech = sum(end - start for start, end in _merged(sorted(span for own in merged for span in own), 0.0))
    each = sum(end - start for own in merged for start, end in own)
    return TalkTime(
        recording.duration,
        round(speech, 3),
        round(max(0.0, recording.duration - speech), 3),
        round(max(0.0, _overlap(merged)) if each > speech else 0.0, 3),
        tuple(sorted(found, key=lambda voice: -voice.seconds)),
    )


def _by_voice(recording: Recording, segments: Sequence[Segment]) -> dict[str | None, list[Segment]]:
    """Speech by who says it, in the order of the recording's speakers; without whoever says nothing."""
    found: dict[str | None, list[Segment]] = {name: [] for name in recording.speakers}
    for segment in segments:
        if segment.kind == "speech":
            found.setdefault(segment.speaker, []).append(segment)
    nameless = found.pop(None, [])
    return {**{name: own for name, own in found.items() if own}, **({None: nameless} if nameless else {})}


def _spans(segments: Iterable[Segment]) -> list[tuple[float, float]]:
    return sorted((segment.start, segment.end) for segment in segments)


def _merged(spans: Iterable[tuple[float, float]], near: float) -> Iterable[tuple[float, float]]:
    """Spans in order, those that touch or lie within ``near`` seconds as one."""
    current: tuple[float, float] | None = None
    for start, end in spans:
        if current is not None and start <= current[1] + near:
            current = (current[0], max(current[1], end))
            continue
        if current is not None:
            yield current
        current = (start, end)
    if current is not None:
        yield current


def _overlap(voices: Sequence[Sequence[tuple[float, float]]]) -> float:
    """Seconds in which more than one of the voices speaks."""
    edges = sorted(
        (time, step) for own in voices for start, end in own for time, step in ((start, 1), (end, -1))
    )
    speaking, seconds = 0, 0.0
    for (time, step), (later, _) in pairwise([*edges, (edges[-1][0] if edges else 0.0, 0)]):
        speaking += step
        if speaking > 1:
            seconds += later - time
    return seconds


def _words(segments: Iterable[Segment]) -> int | None:
    count = 0
    for segment in segments:
        if segment.language in UNSPACED:
            return None
        count += len(_WORD.findall(segment.text))
    return count
