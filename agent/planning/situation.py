"""What the planning rules look at: the question, its recording, tool results, and earlier turns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from agent.citations.markers import Marker, split_markers
from tools.result import Evidence, Failure, ToolResult, result_of

R = TypeVar("R", bound=ToolResult)
R_co = TypeVar("R_co", bound=ToolResult, covariant=True)


@dataclass(frozen=True)
class Focus:
    """The recording in focus; ``duration`` in seconds."""

    id: str
    title: str
    duration: float
    speakers: tuple[str, ...] = ()

    @classmethod
    def from_state(cls, stored: Mapping[str, Any] | None) -> Focus | None:
        """The focus as the graph's state holds it; None for none."""
        if not stored:
            return None
        speakers = tuple(str(speaker) for speaker in stored.get("speakers") or ())
        return cls(str(stored["id"]), str(stored["title"]), float(stored["duration"]), speakers)

    def to_state(self) -> dict[str, Any]:
        """Plain data for the graph's state."""
        return {**asdict(self), "speakers": list(self.speakers)}


@dataclass(frozen=True)
class Result(Generic[R_co]):
    """One tool call and what came back."""

    tool: str
    arguments: Mapping[str, Any]
    content: R_co

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """The segments it returned."""
        return self.content.evidence


class _WithResults:
    """What the tools returned in a turn, by kind; calls that failed are of none but ``Failure``."""

    results: tuple[Result[ToolResult], ...]

    def all(self, kind: type[R]) -> list[Result[R]]:
        """The results of a kind, in order."""
        return [
            Result(result.tool, result.arguments, result.content)
            for result in self.results
            if isinstance(result.content, kind)
        ]

    def found(self, kind: type[R]) -> Result[R] | None:
        """The last result of a kind."""
        return next(reversed(self.all(kind)), None)

    def tried(self, tool: str) -> bool:
        """Whether the tool was called."""
        return any(result.tool == tool for result in self.results)


@dataclass(frozen=True)
class Turn(_WithResults):
    """A question, the tool results it brought, and the answer it got."""

    question: str
    results: tuple[Result[ToolResult], ...] = ()
    answer: str = ""

    @property
    def cited(self) -> list[Evidence]:
        """Evidence its answer cites, in order; of a run the first and the last segment."""
        known = {item.id: item for result in self.results for item in result.evidence}
        markers = [part for part in split_markers(self.answer) if isinstance(part, Marker)]
        ids = dict.fromkeys(number for marker in markers for number in (marker.first, marker.last))
        return [known[number] for number in ids if number in known]


@dataclass(frozen=True)
class Situation(_WithResults):
    """Everything a rule may look at."""

    question: str
    focus: Focus | None
    recordings: int
    """How many recordings the library has."""
    results: tuple[Result[ToolResult], ...] = ()
    """What the tools have returned in this turn."""
    past: tuple[Turn, ...] = ()
    can_listen: bool = True
    """Whether a tool can listen to audio again."""
    people: tuple[str, ...] = ()
    """Who is named in some recording of the library."""

    @property
    def errors(self) -> list[str]:
        """Sentences of the calls that failed in this turn."""
        return [result.content.error for result in self.all(Failure)]


def turns_of(messages: Sequence[BaseMessage]) -> Iterator[Turn]:
    """The turns of a conversation; the last one as far as it has come."""
    question: str | None = None
    calls: dict[str, tuple[str, Mapping[str, Any]]] = {}
    results: list[Result[ToolResult]] = []
    answer = ""
    for message in messages:
        if isinstance(message, HumanMessage):
            if question is not None:
                yield Turn(question, tuple(results), answer)
            question, results, answer = str(message.text), [], ""
        elif isinstance(message, AIMessage):
            calls.update({str(call["id"]): (call["name"], call["args"]) for call in message.tool_calls})
            answer = str(message.text)
        elif isinstance(message, ToolMessage):
            name, arguments = calls.get(message.tool_call_id, (str(message.name), {}))
            results.append(Result(name, arguments, result_of(message)))
    if question is not None:
        yield Turn(question, tuple(results), answer)
