"""A chat model without weights: it plans tool calls by rule and answers by quoting what they returned.

It stands behind the same interface as a language model, so the graph, the tools and the check of citations
are the same for both. It cannot invent: every sentence about a recording is a quote, a computed fact, or a
field of the recording's record. What it writes is marked as composed by rule (``BY_RULE``), which tells it
from what a language model wrote.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from agent.extractive.compose import compose
from agent.planning.intents import context_of, understand
from agent.planning.plan import Call, next_calls

BY_RULE = "by_rule"
"""Key of ``additional_kwargs``: how many characters at the end of the message were composed by rule.

In a stream it comes with the first of them, and all that follows in that message is by rule too.
"""


def by_rule(message: BaseMessage) -> int:
    """Characters at the end of a message that were composed by rule."""
    return int(message.additional_kwargs.get(BY_RULE) or 0)


class ExtractiveChatModel(BaseChatModel):
    """Answers questions about recordings by rule, quoting; English questions."""

    model_name: str = "extractive"

    @property
    def _llm_type(self) -> str:
        return "extractive"

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind tools; only bound tools are ever called."""
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return generate_from_stream(self._stream(messages, stop, run_manager, **kwargs))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        tools = frozenset(tool["function"]["name"] for tool in kwargs.get("tools") or ())
        calls, text = respond(messages, tools)
        if calls:
            ids = [f"call_{uuid.uuid4().hex[:12]}" for _ in calls]
            chunks = [
                tool_call_chunk(name=call.tool, args=json.dumps(dict(call.arguments)), id=ids[at], index=at)
                for at, call in enumerate(calls)
            ]
            yield _said(AIMessageChunk(content="", tool_call_chunks=chunks), run_manager)
        mark = {BY_RULE: len(text)}
        for piece in text.splitlines(keepends=True):
            yield _said(AIMessageChunk(content=piece, additional_kwargs=mark), run_manager)
            mark = {}


def respond(messages: Sequence[BaseMessage], tools: frozenset[str]) -> tuple[list[Call], str]:
    """The next tool calls, or the answer's text when there is nothing left to call."""
    context = context_of(messages)
    situation = context.situation(messages)
    intent = context.intent or understand(situation)
    calls = [call for call in next_calls(intent, situation) if call.tool in tools]
    return (calls, "") if calls else ([], compose(intent, situation))


def _said(message: AIMessageChunk, run_manager: CallbackManagerForLLMRun | None) -> ChatGenerationChunk:
    chunk = ChatGenerationChunk(message=message)
    if run_manager:
        run_manager.on_llm_new_token(str(message.text), chunk=chunk)
    return chunk
