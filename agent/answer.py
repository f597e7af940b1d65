"""What the assistant hands out: an answer with checked citations, and the events on the way to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from index.recording_errors import MossAgentError
from tools.result import ToolResult


@dataclass(frozen=True)
class Citation:
    """Where a claim can be heard: ``[start, end)`` seconds of a recording, and the words it rests on."""

    recording: str
    start: float
    end: float
    quote: str


@dataclass(frozen=True)
class Step:
    """One tool call made for an answer."""

    tool: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """A finished answer.

    ``text`` carries one ``[2:05]`` label a citation, in the order of ``citations``; ``marked_text`` is the
    same text with ``[#segment]`` markers in their place (see ``agent.citations.markers.split_markers``).
    """

    text: str
    citations: tuple[Citation, ...]
    steps: tuple[Step, ...]
    model: str
    """What wrote the answer."""
    seconds: float
    """Wall time from question to answer."""
    thread: str
    """The conversation; pass it with the next question to go on."""
    marked_text: str = ""

    def to_json(self) -> dict[str, Any]:
        """The answer as the command line prints it."""
        return {
            "answer": self.text,
            "citations": [asdict(citation) for citation in self.citations],
            "steps": [{"tool": step.tool, "arguments": dict(step.arguments)} for step in self.steps],
            "model": self.model,
            "seconds": round(self.seconds, 3),
            "thread": self.thread,
        }


@dataclass(frozen=True)
class StepStarted:
    """A tool call begins."""

    tool: str
    arguments: Mapping[str, Any]
    id: str


@dataclass(frozen=True)
class StepFinished:
    """A tool call is done. Calls made side by side are done in any order."""

    id: str
    tool: str
    result: ToolResult


@dataclass(frozen=True)
class TextDelta:
    """The next piece of checked answer text, with labels as in ``Answer.text``.

    Text that comes before another ``StepStarted`` was said on the way and is no part of the answer.
    """

    text: str


@dataclass(frozen=True)
class ThoughtDelta:
    """More of what the model thinks before it answers or calls a tool; never a part of the answer."""

    text: str


Event = StepStarted | StepFinished | ThoughtDelta | TextDelta | Answer


def answer_of(events: Iterable[Event]) -> Answer:
    """The answer at the end of a stream of events.

    Raises:
        MossAgentError: There is none.
    """
    for event in events:
        if isinstance(event, Answer):
            return event
    raise MossAgentError("The answer broke off; ask again.")
