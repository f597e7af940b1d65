"""The agent: retrieve, then read; a tool-calling loop whose answer is checked while it is written.

    begin → plan ⇄ gather
             ↓
           model ⇄ tools
             ↓
       check_citations → end

Evidence is gathered before the model's first word: what the question asks for by rule is looked up, and most
questions need no more. It works with any LangChain chat model that can bind tools and never asks which one it
has. What the nodes write to the stream are the events of ``agent.answer``.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Annotated, Any, TypedDict

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    BaseMessage,
    RemoveMessage,
    ToolMessage,
    message_chunk_to_message,
)
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool
from langgraph.channels import UntrackedValue
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolNode
from langgraph.prebuilt.tool_node import ToolCallRequest
from langgraph.types import Command, StreamWriter

from agent.answer import StepFinished, TextDelta, ThoughtDelta
from agent.citations.check import Checked, Checker, LineStream
from agent.corrected_turns import CurrentSegments, as_corrected
from agent.extractive.compose import compose
from agent.extractive.extractive_chat import BY_RULE, by_rule
from agent.planning.intents import Intent, QuestionContext, understand
from agent.planning.plan import next_calls
from agent.planning.situation import Focus
from agent.prompts import Handout, system_message
from agent.turns import GATHERED, before_the_model, last_turn, remembered, rounds
from tools.result import SearchResult, Transcript, result_of


def union(known: list[int], new: list[int]) -> list[int]:
    """Ids in the order they were first seen, each once."""
    return list(dict.fromkeys([*known, *new]))


class State(TypedDict, total=False):
    """What the graph's nodes read and write.

    What a conversation keeps from turn to turn is plain types and messages only; what belongs to one question
    alone is untracked, which is never stored.
    """

    messages: Annotated[list[AnyMessage], add_messages]
    """The conversation: questions, tool calls, tool results, answers (checked, with markers)."""
    question: str
    """The question of this turn."""
    focus: dict[str, Any]
    """``{"id", "title", "duration", "speakers"}`` of the recording in focus; empty for none."""
    recordings: int
    """How many recordings the library has."""
    people: Annotated[tuple[str, ...], UntrackedValue]
    """Who is named in some recording of the library."""
    seen: Annotated[list[int], union]
    """Ids of all segments that tools returned in this conversation; only these can be cited."""
    answer: dict[str, Any]
    """The checked answer of this turn: ``{"marked_text", "text", "citations": [{…}], "dropped"}``."""
    intent: Annotated[Intent, UntrackedValue]
    """What the question asks for, by rule."""
    checker: Annotated[Checker, UntrackedValue]
    """What this question's answer is checked with; it learns each tool result once."""
    handout: Annotated[Handout, UntrackedValue]
    """What the model is handed of this conversation, and under which numbers."""
    checked: Annotated[Checked, UntrackedValue]
    """The model's last words, checked."""


MOST_ROUNDS = 8
"""Rounds of tool calls a model may take in a turn; after them it has to answer with what it has."""

MOST_GATHERED = 4
"""Rounds of tool calls that are made by rule before the model is asked."""

NO_ANSWER = "I have no answer to this; please ask it another way."
LOOKUP_FAILED = "Something went wrong while this was looked up; the log says what."

_log = logging.getLogger(__name__)


def build_graph(
    model: BaseChatModel,
    tools: Sequence[BaseTool],
    checkpointer: BaseCheckpointSaver[Any] | None,
    segments: CurrentSegments,
) -> CompiledStateGraph[State]:
    """The compiled loop.

    Args:
        model: Any chat model that can bind tools.
        tools: What it may call; each returns text and a ``tools.result.ToolResult`` as artifact.
        checkpointer: Where conversations are kept; None forgets them.
        segments: The database that citations are checked against.
    """
    nodes = _Nodes(model, tools, segments)
    graph = StateGraph(State)
    graph.add_node("begin", nodes.begin)
    graph.add_node("plan", nodes.plan)
    graph.add_node("model", nodes.model)
    for name in ("gather", "tools"):
        node = ToolNode(tools, handle_tool_errors=lookup_failed, wrap_tool_call=nodes.call_tool)
        graph.add_node(name, node)
    graph.add_node("check_citations", nodes.check_citations)
    graph.add_edge(START, "begin")
    graph.add_edge("begin", "plan")
    graph.add_conditional_edges("plan", calls_tools, {True: "gather", False: "model"})
    graph.add_edge("gather", "plan")
    graph.add_conditional_edges("model", calls_tools, {True: "tools", False: "check_citations"})
    graph.add_edge("tools", "model")
    graph.add_edge("check_citations", END)
    return graph.compile(checkpointer=checkpointer)


def calls_tools(state: State) -> bool:
    """Whether the last message asks for tools."""
    last = state["messages"][-1]
    return isinstance(last, AIMessage) and bool(last.tool_calls)


def lookup_failed(error: Exception) -> str:
    """The sentence for a tool that broke; the turn goes on, and the model can say so or try another way."""
    _log.error("a tool failed", exc_info=error)
    return LOOKUP_FAILED


class _Nodes:
    """The nodes, over one model and one set of tools."""

    def __init__(self, model: BaseChatModel, tools: Sequence[BaseTool], segments: CurrentSegments) -> None:
        self._plain = model
        self._bound = model.bind_tools(list(tools))
        self._names = [tool.name for tool in tools]
        self._segments = segments

    def begin(self, state: State) -> dict[str, Any]:
        """Forget old turns and those that broke off before their answer; understand the question.

        What earlier turns quote is brought to what it was corrected to since.
        """
        kept = remembered(state["messages"])
        current = as_corrected(kept, self._segments)
        corrected = {message.id: message for message in current}
        kept = [corrected.get(message.id, message) for message in kept]
        ids = {message.id for message in kept}
        gone = [message for message in state["messages"] if message.id not in ids]
        context = self._context(state)
        return {
            "messages": [*(RemoveMessage(id=str(message.id)) for message in gone), *current],
            "answer": {},
            "intent": understand(context.situation(kept)),
            "checker": self._checker(state, kept),
            "handout": Handout(self._segments),
        }

    def plan(self, state: State) -> dict[str, Any]:
        """Ask for what the question needs by rule, until all of it is there."""
        if rounds(state["messages"], gathered=True) >= MOST_GATHERED:
            return {}
        situation = self._context(state).situation(state["messages"])
        calls = [
            {"name": call.tool, "args": dict(call.arguments), "id": f"call_{uuid.uuid4().hex[:12]}"}
            for call in next_calls(state["intent"], situation)
            if call.tool in self._names
        ]
        if not calls:
            return {}
        return {"messages": [AIMessage("", tool_calls=calls, additional_kwargs={GATHERED: True})]}

    def _context(self, state: State) -> QuestionContext:
        return QuestionContext(
            focus=Focus.from_state(state.get("focus")),
            recordings=state.get("recordings", 0),
            can_listen="listen" in self._names,
            intent=state.get("intent"),
            people=state.get("people", ()),
        )

    def _checker(self, state: State, kept: Sequence[AnyMessage]) -> Checker:
        """A checker that knows what the system prompt tells and what earlier turns brought."""
        focus = state.get("focus") or {}
        titles = [str(focus["title"])] if focus else []
        checker = Checker(self._segments, state.get("seen", ()), titles, state.get("question", ""))
        checker.learn_facts({"recording": focus, "total": state.get("recordings", 0)})
        for message in kept:
            if isinstance(message, ToolMessage):
                checker.learn(result_of(message))
        return checker

    def model(self, state: State, config: RunnableConfig, writer: StreamWriter) -> dict[str, Any]:
        """Ask the model, and check its words as it writes them.

        It gets no tools once the turn has used up its rounds.
        """
        checker, handout = state["checker"], state["handout"]
        prompt = [system_message(self._context(state)), *handout.messages(state["messages"])]
        for message in last_turn(state["messages"]):
            if isinstance(message, ToolMessage):
                checker.learn(handout.result(message))
        lines = LineStream(checker, handout.numbers)
        if unfound := self._unfound(state):
            writer(TextDelta(lines.feed(unfound, by_rule=True) + lines.finish()))
            about = {"model_name": "extractive"}
            return {"messages": [AIMessage(unfound, response_metadata=about)], "checked": lines.checked}
        may_call = rounds(state["messages"]) < MOST_ROUNDS
        reply = self._write(self._bound if may_call else self._plain, prompt, config, lines, writer)
        if not may_call:
            # Some models call tools that they were not offered; what they said beside it is the answer.
            reply = AIMessage(
                reply.content,
                id=reply.id,
                response_metadata=reply.response_metadata,
                additional_kwargs={BY_RULE: by_rule(reply)},
            )
        if reply.tool_calls:
            return {"messages": [reply]}
        if not str(reply.text).strip():
            return {"messages": [reply], "checked": Checked(NO_ANSWER, ())}
        out = lines.feed("\n")
        unproven = (lines.checked.dropped or lines.checked.uncited) and not lines.checked.citations
        if unproven and (quotes := self._quotes(state)):
            # Nothing of it holds, or could be checked: what was said stands in its place, or below it.
            out += lines.feed(f"\n\n{quotes}", by_rule=True)
        if out := out + lines.finish():
            writer(TextDelta(out))
        return {"messages": [reply], "checked": lines.checked}

    def _unfound(self, state: State) -> str:
        """That nothing relevant was said, by rule, where that is known before the model is asked; else empty.

        A model that is given nothing makes something up. Where earlier turns looked something up, it may
        answer from that.
        """
        messages = state["messages"]
        results = [result_of(message) for message in last_turn(messages) if isinstance(message, ToolMessage)]
        looked = [result for result in results if isinstance(result, (SearchResult, Transcript))]
        situation = self._context(state).situation(messages)
        before = any(turn.results for turn in situation.past)
        if not looked or rounds(messages) or before or any(result.evidence for result in looked):
            return ""
        return compose(state["intent"], situation)

    def _quotes(self, state: State) -> str:
        """What was gathered, by rule, or else what the model found; empty where none of it can be cited."""
        for messages in (before_the_model(state["messages"]), state["messages"]):
            situation = self._context(state).situation(messages)
            if any(result.evidence for result in situation.results):
                return compose(state["intent"], situation)
        return ""

    def _write(
        self,
        model: Any,
        prompt: Sequence[BaseMessage],
        config: RunnableConfig,
        lines: LineStream,
        writer: StreamWriter,
    ) -> AIMessage:
        """The model's message; thoughts and checked text go to the stream as they come."""
        whole: Any = None
        for chunk in model.stream(prompt, config):
            whole = chunk if whole is None else whole + chunk
            if thought := chunk.additional_kwargs.get("reasoning_content"):
                writer(ThoughtDelta(str(thought)))
            text, ruled = str(chunk.text), by_rule(chunk)
            written = text[: max(0, len(text) - ruled)]
            out = lines.feed(written)
            if ruled and chunk.response_metadata.get("model_name"):
                # Another one has taken over: what the first left unfinished is not shown.
                lines.forget()
            if ruled:
                out += lines.feed(text[len(written) :], by_rule=True)
            if out:
                writer(TextDelta(out))
        message = message_chunk_to_message(whole)
        assert isinstance(message, AIMessage)
        return message

    def call_tool(
        self, request: ToolCallRequest, execute: Callable[[ToolCallRequest], ToolMessage | Command[Any]]
    ) -> ToolMessage | Command[Any]:
        """Make one of the calls that run side by side; its result goes to the stream at once."""
        call = request.tool_call
        message: ToolMessage | Command[Any]
        if request.tool is None:
            unknown = f"There is no tool “{call['name']}”; there are {', '.join(self._names)}."
            message = ToolMessage(unknown, name=call["name"], tool_call_id=call["id"], status="error")
        else:
            message = execute(request)
        if isinstance(message, ToolMessage):
            request.runtime.stream_writer(StepFinished(str(call["id"]), call["name"], result_of(message)))
        return message

    def check_citations(self, state: State) -> dict[str, Any]:
        """Put the checked text in the place of the model's, and keep it as the turn's answer."""
        checked = state["checked"]
        handout = state["handout"]
        results = [
            handout.result(message)
            for message in last_turn(state["messages"])
            if isinstance(message, ToolMessage)
        ]
        answer = {
            "marked_text": checked.marked_text,
            "text": checked.text,
            "citations": [asdict(citation) for citation in checked.citations],
            "dropped": checked.dropped,
        }
        return {
            "messages": [AIMessage(checked.marked_text, id=state["messages"][-1].id)],
            "answer": answer,
            "seen": [item.id for result in results for item in result.evidence],
        }
