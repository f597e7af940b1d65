"""The agent: a plain tool-calling loop whose answer is checked before anyone sees it.

    begin → model ⇄ tools
              ↓
       check_citations → end

It works with any LangChain chat model that can bind tools and never asks which one it has.

The state of a conversation, kept from turn to turn; plain types and messages only.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal, TypedDict

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.tools import BaseTool
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import StreamWriter

from agent.citations.check import Checked, Checker, Segments
from agent.models.extractive import BY_RULE, by_rule
from agent.prompts import system_prompt


def union(known: list[int], new: list[int]) -> list[int]:
    """Ids in the order they were first seen, each once."""
    return list(dict.fromkeys([*known, *new]))


class State(TypedDict, total=False):
    """What the graph's nodes read and write."""

    messages: Annotated[list[AnyMessage], add_messages]
    """The conversation: questions, tool calls, tool results, answers (checked, with markers)."""
    question: str
    """The question of this turn."""
    focus: dict[str, Any]
    """``{"id", "title", "duration", "speakers"}`` of the recording in focus; empty for none."""
    recordings: int
    """How many recordings the library has."""
    seen: Annotated[list[int], union]
    """Ids of all segments that tools returned in this conversation; only these can be cited."""
    answer: dict[str, Any]
    """The checked answer of this turn: ``{"marked_text", "text", "citations": [{…}], "dropped"}``."""


MOST_ROUNDS = 8
"""Rounds of tool calls a turn may take; after them the model has to answer with what it has."""
TURNS_KEPT = 12
"""Turns of a conversation a model still sees; older ones are forgotten."""

NO_ANSWER = "I have no answer to this; please ask it another way."

_log = logging.getLogger(__name__)


def build_graph(
    model: BaseChatModel,
    tools: Sequence[BaseTool],
    checkpointer: BaseCheckpointSaver[Any] | None,
    segments: Segments,
) -> CompiledStateGraph[State]:
    """The compiled loop.

    Args:
        model: Any chat model that can bind tools.
        tools: What it may call; each answers in JSON.
        checkpointer: Where conversations are kept; None forgets them.
        segments: The database that citations are checked against.
    """
    nodes = _Nodes(model, tools, segments)
    graph = StateGraph(State)
    graph.add_node("begin", nodes.begin)
    graph.add_node("model", nodes.model)
    graph.add_node("tools", nodes.tools)
    graph.add_node("check_citations", nodes.check_citations)
    graph.add_edge(START, "begin")
    graph.add_edge("begin", "model")
    graph.add_conditional_edges(
        "model", wants_tools, {"tools": "tools", "check_citations": "check_citations"}
    )
    graph.add_edge("tools", "model")
    graph.add_edge("check_citations", END)
    return graph.compile(checkpointer=checkpointer)


def wants_tools(state: State) -> Literal["tools", "check_citations"]:
    """Whether the model's last message asks for tools."""
    last = state["messages"][-1]
    return "tools" if isinstance(last, AIMessage) and last.tool_calls else "check_citations"


def this_turn(messages: Sequence[AnyMessage]) -> list[AnyMessage]:
    """The messages from the last question on."""
    for at in range(len(messages) - 1, -1, -1):
        if isinstance(messages[at], HumanMessage):
            return list(messages[at:])
    return list(messages)


def remembered(messages: Sequence[AnyMessage]) -> list[AnyMessage]:
    """The messages of this turn and of those before it that ended in an answer and are not too old."""
    turns: list[list[AnyMessage]] = []
    for message in messages:
        if isinstance(message, HumanMessage) or not turns:
            turns.append([])
        turns[-1].append(message)
    current = turns.pop() if turns else []
    whole = [turn for turn in turns if isinstance(turn[-1], AIMessage) and not turn[-1].tool_calls]
    return [message for turn in [*whole[-TURNS_KEPT:], current] for message in turn]


def rounds(messages: Sequence[AnyMessage]) -> int:
    """How often tools were asked for in this turn."""
    return sum(isinstance(one, AIMessage) and bool(one.tool_calls) for one in this_turn(messages))


class _Nodes:
    """The nodes, over one model and one set of tools."""

    def __init__(self, model: BaseChatModel, tools: Sequence[BaseTool], segments: Segments) -> None:
        self._plain = model
        self._bound = model.bind_tools(list(tools))
        self._tools = {tool.name: tool for tool in tools}
        self._segments = segments

    def begin(self, state: State) -> dict[str, Any]:
        """Forget old turns, and turns that broke off before their answer."""
        kept = {one.id for one in remembered(state["messages"])}
        gone = [one for one in state["messages"] if one.id not in kept]
        return {"messages": [RemoveMessage(id=str(one.id)) for one in gone], "answer": {}}

    def model(self, state: State) -> dict[str, Any]:
        """Ask the model; it gets no tools once the turn has used up its rounds."""
        prompt = SystemMessage(system_prompt(state.get("focus"), state.get("recordings", 0)))
        may_call = rounds(state["messages"]) < MOST_ROUNDS
        reply = (self._bound if may_call else self._plain).invoke([prompt, *state["messages"]])
        if not may_call:
            # Some models call tools that they were not offered; what they said beside it is the answer.
            reply = AIMessage(
                reply.content,
                id=reply.id,
                response_metadata=reply.response_metadata,
                additional_kwargs={BY_RULE: by_rule(reply)},
            )
        return {"messages": [reply]}

    def tools(self, state: State, writer: StreamWriter) -> dict[str, Any]:
        """Run every tool call of the last message, in order; an error is a result too."""
        last = state["messages"][-1]
        results: list[ToolMessage] = []
        seen: list[int] = []
        for call in last.tool_calls if isinstance(last, AIMessage) else []:
            content = self._run(call["name"], call["args"])
            result = read_result(content)
            seen += evidence_ids(result)
            writer({"id": call["id"], "tool": call["name"], "result": result})
            results.append(ToolMessage(content, tool_call_id=str(call["id"]), name=call["name"]))
        return {"messages": results, "seen": seen}

    def _run(self, name: str, arguments: dict[str, Any]) -> str:
        tool = self._tools.get(name)
        if tool is None:
            return _error(f"There is no tool “{name}”; there are {', '.join(self._tools)}.")
        try:
            return str(tool.invoke(arguments))
        except Exception:
            # The turn goes on: the model sees the failure and can say so or try another way.
            _log.exception("tool %s failed", name)
            return _error(f"The tool {name} failed; the log says why.")

    def check_citations(self, state: State) -> dict[str, Any]:
        """Put the checked text in the place of the model's, and keep it as the turn's answer."""
        last = state["messages"][-1]
        checker = Checker(self._segments, state.get("seen", ()), titles(state), state.get("question", ""))
        for result in told(state["messages"], state.get("focus"), state.get("recordings", 0)):
            checker.learn_facts(result)
        text = str(last.text)
        checked = checker.check(text, by_rule(last)) if text.strip() else Checked(NO_ANSWER, ())
        answer = {
            "marked_text": checked.marked_text,
            "text": checked.text,
            "citations": [asdict(one) for one in checked.citations],
            "dropped": checked.dropped,
        }
        return {"messages": [AIMessage(checked.marked_text, id=last.id)], "answer": answer}


def read_result(content: str) -> dict[str, Any]:
    """A tool's JSON as a dict; what is not one becomes ``{"text": …}``."""
    try:
        result = json.loads(content)
    except ValueError:
        result = None
    return result if isinstance(result, dict) else {"text": content}


def evidence_ids(result: dict[str, Any]) -> list[int]:
    """Ids of the segments a tool result offers as evidence."""
    items = result.get("evidence")
    if not isinstance(items, list):
        return []
    return [one["id"] for one in items if isinstance(one, dict) and isinstance(one.get("id"), int)]


def result_titles(result: dict[str, Any]) -> list[str]:
    """Titles of recordings in a tool result."""
    named = [result.get("recording"), *(result.get("recordings") or ()), *(result.get("passages") or ())]
    return [str(one["title"]) for one in named if isinstance(one, dict) and "title" in one]


def told(
    messages: Sequence[AnyMessage], focus: Mapping[str, Any] | None, recordings: int
) -> list[dict[str, Any]]:
    """What a model was told in this conversation: results of tools, and the record it has in every prompt."""
    results = [read_result(str(one.content)) for one in messages if isinstance(one, ToolMessage)]
    return [{"recording": dict(focus or {}), "total": recordings}, *results]


def titles(state: State) -> list[str]:
    """Titles of all recordings that the conversation has come across."""
    found = [
        title
        for one in state["messages"]
        if isinstance(one, ToolMessage)
        for title in result_titles(read_result(str(one.content)))
    ]
    focus = state.get("focus")
    return [*found, str(focus["title"])] if focus else found


def _error(sentence: str) -> str:
    return json.dumps({"error": sentence}, ensure_ascii=False)
