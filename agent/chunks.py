"""Pieces of a chat model's message, in LangChain's form."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence

from langchain_core.messages import AIMessageChunk
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk

from agent.by_rule import BY_RULE
from agent.moss_messages import REASONING
from agent.tool_calls import Call
from moss_audio.answers import Reply


def thinking_chunk(words: str) -> AIMessageChunk:
    """More of a thought."""
    return AIMessageChunk(content="", additional_kwargs={REASONING: words})


def notice_chunk(words: str) -> AIMessageChunk:
    """What is said about an answer, by rule; nothing of the model's comes behind it."""
    return AIMessageChunk(content=words, additional_kwargs={BY_RULE: len(words)})


def calls_chunk(calls: Sequence[Call], reply: Reply | None) -> AIMessageChunk:
    """Calls of tools, each with an id of its own; ``reply`` says what they took."""
    chunks = [
        tool_call_chunk(
            name=one.name,
            args=json.dumps(dict(one.arguments), ensure_ascii=False),
            id=f"call_{uuid.uuid4().hex[:12]}",
            index=at,
        )
        for at, one in enumerate(calls)
    ]
    return AIMessageChunk(content="", tool_call_chunks=chunks, usage_metadata=_usage(reply))


def last_chunk(reply: Reply | None) -> AIMessageChunk:
    """The end of an answer in words."""
    return AIMessageChunk(content="", usage_metadata=_usage(reply))


def _usage(reply: Reply | None) -> UsageMetadata | None:
    if reply is None or not reply.prompt_tokens:
        # What was stopped by a sequence was not counted to its end.
        return None
    return UsageMetadata(
        input_tokens=reply.prompt_tokens,
        output_tokens=reply.new_tokens,
        total_tokens=reply.prompt_tokens + reply.new_tokens,
    )
