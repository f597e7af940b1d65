"""The nouns of the index: plain frozen records that every room may pass around.

All times are seconds (float) on the recording's own clock, which starts at 0 with the first sample
of the decoded audio and is the clock of the player. Nothing heavy is imported with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Self, get_args

Kind = Literal["speech", "sound", "music"]


class Status(StrEnum):
    """How far a recording is; the values are what the database stores."""

    LISTENING = "listening"
    READY = "ready"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StageName(StrEnum):
    """The stages of taking a file in, in order; the values are shown to users."""

    READING = "reading"
    FINDING_SPEECH = "finding speech"
    TRANSCRIBING = "transcribing"
    IDENTIFYING_SPEAKERS = "identifying speakers"
    LISTENING_FOR_SOUNDS = "listening for sounds"
    INDEXING = "indexing"
    READY = "ready"


class NoteKind(StrEnum):
    """What a note is about; the values are what the database stores.

    The last three say why a recording failed, the others what could not be done though it is usable.
    ``index/notes.py`` words each.
    """

    CUT_SHORT = "cut_short"
    """The file ends early; the one span is what is missing of it. ``detail`` is the name of another file with
    the same bytes, if it was that one."""
    DAMAGED = "damaged"
    """``numbers["packets"]`` audio packets of the file are unreadable, and the spans are missing in it; the
    copy is silent there. ``detail`` as in ``CUT_SHORT``."""
    PARTS_LEFT_OUT = "parts_left_out"
    """``numbers["parts"]`` of the files that were joined to this one could not be read."""
    TRACKS_NOT_HEARD = "tracks_not_heard"
    """Track ``numbers["heard"]`` was heard, and ``numbers["heard_too"]`` more if there is that number;
    ``numbers["others"]`` were not: ``numbers["other"]``, ``numbers["other_2"]`` and so on, which have another
    sound at the spans. ``numbers["chosen"]``: the user chose the one that was heard. Tracks count from 1."""
    NO_SPEECH = "no_speech"
    TIMES_MENDED = "times_mended"
    """In an imported transcript, ``numbers["backwards"]`` lines ran back in time, ``numbers["ends"]`` ended
    before they began, and ``numbers["overlapping"]`` overlap the one before."""
    LINES_LEFT_OUT = "lines_left_out"
    """``numbers["lines"]`` lines of an imported transcript have no time: what is before the first one."""
    SEGMENTS_LEFT_OUT = "segments_left_out"
    """``numbers["segments"]`` segments of an imported transcript in JSON say something, but not when."""
    CLOCK_MOVED = "clock_moved"
    """An imported transcript was moved to fit its media: by ``numbers["tenths"]`` tenths of a second, later
    if that is more than 0."""
    WINDOWS_FAILED = "windows_failed"
    """``numbers["failed"]`` of ``numbers["total"]`` windows, at the spans, could not be transcribed."""
    NOT_HEARD_AGAIN = "not_heard_again"
    """The engine failed when it was asked again about what a window lacked; the spans are the gaps."""
    SPEAKERS_BY_VOICE_ONLY = "speakers_by_voice_only"
    """The model could not say who speaks; the spans are the windows in which voices alone decided."""
    NOT_DIARIZED = "not_diarized"
    SOUNDS_FAILED = "sounds_failed"
    """The spans were not listened to for sounds."""
    OTHER = "other"
    """A sentence of an older version that nothing here recognises, in ``detail``."""
    ENGINE_STOPPED = "engine_stopped"
    """The engine stopped answering at the start of the one span."""
    FAILED = "failed"
    """``detail`` is the whole sentence."""
    UNEXPECTED = "unexpected"
    """An error that nobody foresaw; ``detail`` is what a library says of it."""


@dataclass(frozen=True)
class Span:
    """A half-open stretch of time, ``[start, end)`` in seconds."""

    start: float
    end: float
    channel: int | None = None
    """The channel of the recording's copy that it is about; None: all of them, or the only one."""

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.end - self.start

    def overlaps(self, other: Span) -> bool:
        """Whether the two spans share any time; touching ends do not."""
        return self.start < other.end and other.start < self.end


@dataclass(frozen=True)
class Note:
    """One thing that could not be done with a recording, as data; ``index.notes.describe`` words it.

    Attributes:
        kind: What it is about.
        stage: The stage it happened in; None where that is not known.
        spans: Where in the recording, seconds, in order; empty where that is not known.
        numbers: Counts, by name; see ``NoteKind``.
        detail: The engine's own sentence; empty where there is none. Untrusted text.
    """

    kind: NoteKind
    stage: StageName | None = None
    spans: tuple[Span, ...] = ()
    numbers: Mapping[str, int] = field(default_factory=dict, hash=False)
    detail: str = ""


@dataclass(frozen=True)
class Word:
    """One word with its time in seconds and the recogniser's probability in [0, 1].

    The probability is 0 where an imported transcript has no times of words and this one is interpolated.
    """

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
    language: str | None = None
    """ISO 639-1 code; None where the engine does not say, and of sounds."""
    channel: int | None = None
    """The channel of the recording's copy that it was heard on; None where that is the mix of all, or one."""
    version: int = 0
    """Which of the recording's revisions changed it last; 0 where nobody corrected it."""

    @property
    def span(self) -> Span:
        """The segment's time."""
        return Span(self.start, self.end, self.channel)


@dataclass(frozen=True)
class Comment:
    """What somebody noted at second ``at`` of a recording."""

    id: int
    recording: str
    at: float
    text: str
    created_at: str
    """ISO 8601, UTC."""
    by: str = ""
    """Whose it is; empty where nobody had an account."""


@dataclass(frozen=True)
class Recording:
    """One media file, known by the SHA-256 of its bytes (``id``, 64 hex digits), or an imported transcript.

    An imported transcript is known by the SHA-256 of its own file, with and without media.
    """

    id: str
    title: str
    source_name: str
    duration: float
    status: Status
    added_at: str
    """ISO 8601, UTC."""
    language: str | None = None
    """ISO 639-1 code of the language that is spoken longest, or that the user set; None where unknown."""
    languages: tuple[str, ...] = ()
    """All that are spoken, the longest first; empty where unknown."""
    coverage: float | None = None
    """Share of detected speech that some segment accounts for, in [0, 1]; None until computed."""
    gaps: tuple[Span, ...] = ()
    """Stretches of detected speech that no segment accounts for."""
    engine: str = ""
    failure: Note | None = None
    """Why the last attempt failed; None after one that did not."""
    notes: tuple[Note, ...] = ()
    """What could not be done though the recording is usable."""
    seconds_taken: float = 0.0
    speakers: tuple[str, ...] = ()
    revision: int = 0
    """How often its transcript was corrected, or a correction undone."""
    imported: str | None = None
    """Format of the file that the transcript was imported from, such as ``srt``; None where it was heard."""
    has_media: bool = True
    """Whether there is, or will be, something to play; False for a transcript without its media."""

    @property
    def problems(self) -> tuple[Note, ...]:
        """What a user should know: why it failed, or else what could not be done."""
        return (self.failure,) if self.failure else self.notes


@dataclass(frozen=True)
class WatchedFile:
    """A file of a watched folder as it was when it was dealt with.

    Attributes:
        size: Bytes.
        modified: Nanoseconds since 1970.
        recording: The id of the recording that it became; None where it became none, or that was removed.
    """

    size: int
    modified: int
    recording: str | None = None


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


# --- summaries ------------------------------------------------------------------------------------------

Template = Literal["meeting", "lecture", "interview", "standup", "call"]

TEMPLATES: tuple[Template, ...] = get_args(Template)
"""What kind of conversation a recording can be summarised as."""

TEMPLATE_LABELS: dict[Template, str] = {
    name: "Stand-up" if name == "standup" else name.capitalize() for name in TEMPLATES
}
"""How each template is written on the page."""


@dataclass(frozen=True)
class Item:
    """Something that was said and is worth listing.

    ``text`` is a verbatim stretch of the segments named in ``segments`` (database numbers); ``start`` and
    ``end`` are seconds on the recording's clock. ``exchange`` is the longer talk that it was found in, where
    nobody said it in so many words.
    """

    text: str
    start: float
    end: float
    segments: tuple[int, ...]
    speaker: str | None = None
    exchange: Span | None = field(default=None, kw_only=True)

    @classmethod
    def whole(cls, segment: Segment) -> Self:
        """A whole segment as an item."""
        return cls(segment.text, segment.start, segment.end, (segment.id,), segment.speaker)

    def to_json(self) -> dict[str, Any]:
        """The item as JSON."""
        told = {"text": self.text, "start": self.start, "end": self.end, "segments": list(self.segments)}
        return told | ({"exchange": [self.exchange.start, self.exchange.end]} if self.exchange else {})


@dataclass(frozen=True)
class ActionItem(Item):
    """What somebody is to do; ``owner`` and ``due`` are the words that were said, None where none were."""

    owner: str | None = None
    due: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The item as JSON, with owner and due words."""
        return {**super().to_json(), "owner": self.owner, "due": self.due}


@dataclass(frozen=True)
class Topic:
    """A stretch of the recording that is about one thing; ``title`` and ``points`` are words said in it."""

    title: str
    start: float
    end: float
    points: tuple[str, ...]
    segments: tuple[int, ...]
    speaker: str | None = None
    """Who asked, where the title is a question."""

    def to_json(self) -> dict[str, Any]:
        """The topic as JSON."""
        return {
            "title": self.title,
            "start": self.start,
            "end": self.end,
            "points": list(self.points),
            "segments": list(self.segments),
        }


@dataclass(frozen=True)
class Summary:
    """Everything found, in the order it was said; ``overview`` states computed facts only."""

    template: str
    overview: str
    topics: tuple[Topic, ...]
    decisions: tuple[Item, ...]
    action_items: tuple[ActionItem, ...]
    open_questions: tuple[Item, ...]
    key_quotes: tuple[Item, ...]

    def to_json(self) -> dict[str, Any]:
        """The summary as the command line prints it."""
        return {
            "template": self.template,
            "overview": self.overview,
            "topics": [topic.to_json() for topic in self.topics],
            "decisions": [item.to_json() for item in self.decisions],
            "action_items": [item.to_json() for item in self.action_items],
            "open_questions": [item.to_json() for item in self.open_questions],
            "key_quotes": [{**item.to_json(), "speaker": item.speaker} for item in self.key_quotes],
        }
