"""What a chat model that works by rule sees of a conversation: questions, tool results, earlier answers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from agent.citations.markers import Marker, split_markers
from agent.prompts import read_focus


@dataclass(frozen=True)
class Focus:
    """The recording in focus; ``duration`` in seconds."""

    id: str
    title: str
    duration: float
    speakers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """One tool call and what came back."""

    tool: str
    arguments: Mapping[str, Any]
    content: Mapping[str, Any]

    @property
    def error(self) -> str | None:
        """The tool's one-sentence error, if it failed."""
        error = self.content.get("error")
        return str(error) if error else None

    @property
    def evidence(self) -> list[Mapping[str, Any]]:
        """The segments it returned."""
        return list(self.content.get("evidence") or ())

    @property
    def note(self) -> str:
        """What the tool had to remark, or nothing."""
        return str(self.content.get("note") or "")


@dataclass(frozen=True)
class Turn:
    """A question, the tool results it brought, and the answer it got."""

    question: str
    results: tuple[Result, ...] = ()
    answer: str = ""

    @property
    def cited(self) -> list[Mapping[str, Any]]:
        """Evidence its answer cites, in order; of a run the first and the last segment."""
        known = {one["id"]: one for result in self.results for one in result.evidence}
        markers = [part for part in split_markers(self.answer) if isinstance(part, Marker)]
        ids = dict.fromkeys(number for marker in markers for number in (marker.first, marker.last))
        return [known[one] for one in ids if one in known]

    def last(self, tool: str) -> Result | None:
        """The last result of a tool in this turn that is no error."""
        found = [one for one in self.results if one.tool == tool and one.error is None]
        return found[-1] if found else None


@dataclass(frozen=True)
class Situation:
    """Everything a rule may look at."""

    question: str
    focus: Focus | None
    recordings: int
    results: tuple[Result, ...] = ()
    """What the tools have returned in this turn."""
    past: tuple[Turn, ...] = ()

    def found(self, tool: str) -> Result | None:
        """This turn's last result of a tool, errors left out."""
        return Turn(self.question, self.results).last(tool)

    def tried(self, tool: str) -> bool:
        """Whether the tool was called in this turn."""
        return any(one.tool == tool for one in self.results)


def read_situation(messages: Sequence[BaseMessage]) -> Situation:
    """Read a conversation as the graph passes it: system prompt, earlier turns, this turn so far."""
    prompt = next((str(one.text) for one in messages if isinstance(one, SystemMessage)), "")
    focus, recordings = read_focus(prompt)
    turns = list(_turns(messages))
    current = turns.pop() if turns else Turn("")
    return Situation(
        question=current.question,
        focus=_focus(focus),
        recordings=recordings,
        results=current.results,
        past=tuple(turns),
    )


def _focus(line: Mapping[str, Any] | None) -> Focus | None:
    if line is None:
        return None
    speakers = tuple(str(one) for one in line.get("speakers") or ())
    return Focus(str(line["id"]), str(line["title"]), float(line["duration"]), speakers)


def _turns(messages: Sequence[BaseMessage]) -> Iterator[Turn]:
    question: str | None = None
    calls: dict[str, tuple[str, Mapping[str, Any]]] = {}
    results: list[Result] = []
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
            results.append(Result(name, arguments, _content(str(message.content))))
    if question is not None:
        yield Turn(question, tuple(results), answer)


def _content(text: str) -> Mapping[str, Any]:
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    return content if isinstance(content, dict) else {"error": text}
