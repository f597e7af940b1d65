"""The nouns of the index: plain frozen records that every room may pass around.

All times are seconds (float) on the recording's own clock, which starts at 0 with the first sample
of the decoded audio and is the clock of the player.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["speech", "sound", "music"]
Status = Literal["listening", "ready", "failed", "cancelled"]


@dataclass(frozen=True)
class Span:
    """A half-open stretch of time, ``[start, end)`` in seconds."""

    start: float
    end: float

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.end - self.start

    def overlaps(self, other: Span) -> bool:
        """Whether the two spans share any time; touching ends do not."""
        return self.start < other.end and other.start < self.end


@dataclass(frozen=True)
class Word:
    """One word with its time in seconds and the recogniser's probability in [0, 1]."""

    start: float
    end: float
    text: str
    probability: float = 1.0


@dataclass(frozen=True)
class Segment:
    """The smallest timed statement: one sentence, or one sound.

    ``id`` is the database's number (0 until stored); answers cite segments by it.
    """

    start: float
    end: float
    text: str
    kind: Kind = "speech"
    speaker: str | None = None
    words: tuple[Word, ...] = ()
    engine: str = ""
    id: int = 0
    recording: str = ""

    @property
    def span(self) -> Span:
        """The segment's time."""
        return Span(self.start, self.end)


@dataclass(frozen=True)
class Recording:
    """One media file, known by the SHA-256 of its bytes (``id``, 64 hex digits)."""

    id: str
    title: str
    source_name: str
    duration: float
    status: Status
    added_at: str
    """ISO 8601, UTC."""
    language: str | None = None
    coverage: float | None = None
    """Share of detected speech that some segment accounts for, in [0, 1]; None until computed."""
    gaps: tuple[Span, ...] = ()
    """Stretches of detected speech that no segment accounts for."""
    engine: str = ""
    error: str | None = None
    """One sentence: why it failed, or what could not be done though it is usable."""
    seconds_taken: float = 0.0
    speakers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Passage:
    """Neighbouring segments (about 30–60 s) that are embedded and retrieved together."""

    recording: str
    start: float
    end: float
    text: str
    segment_ids: tuple[int, ...]
    id: int = 0


@dataclass(frozen=True)
class Hit:
    """A stretch of a recording that a search found, best first; ``score`` is the fused rank score."""

    recording: str
    start: float
    end: float
    text: str
    score: float
    segments: tuple[Segment, ...] = field(default=(), repr=False)
