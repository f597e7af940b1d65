"""What a summary is made of: stretches of what was said, each with its time and its segments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from index.records import Segment


@dataclass(frozen=True)
class Item:
    """Something that was said and is worth listing.

    ``text`` is a verbatim stretch of the segments named in ``segments`` (database numbers); ``start`` and
    ``end`` are seconds on the recording's clock.
    """

    text: str
    start: float
    end: float
    segments: tuple[int, ...]
    speaker: str | None = None

    @classmethod
    def whole(cls, segment: Segment) -> Self:
        """A whole segment as an item."""
        return cls(segment.text, segment.start, segment.end, (segment.id,), segment.speaker)

    def to_json(self) -> dict[str, Any]:
        """The item as JSON."""
        return {"text": self.text, "start": self.start, "end": self.end, "segments": list(self.segments)}


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
