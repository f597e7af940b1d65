"""The extractive model in the place of one that failed, for the rest of a question."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk

from agent.by_rule import BY_RULE
from agent.chunks import calls_chunk
from agent.extractive import respond
from agent.moss_messages import TAKEN_OVER, last_turn
from agent.tool_calls import Call


def taken_over(messages: Sequence[BaseMessage]) -> str:
    """Why the extractive model has taken over in this turn; empty where it has not."""
    for message in last_turn(messages):
        if isinstance(message, AIMessage) and TAKEN_OVER in message.additional_kwargs:
            return str(message.additional_kwargs[TAKEN_OVER])
    return ""


def extractive(
    messages: Sequence[BaseMessage], tools: Mapping[str, Any], note: str, behind: bool = False
) -> Iterator[ChatGenerationChunk]:
    """What the extractive model says to the same conversation, marked; its answer begins with the note.

    Args:
        messages: The conversation.
        tools: What may be called.
        note: Who could not answer, and why.
        behind: Whether other words stand before it in the same message.
    """
    mark = {TAKEN_OVER: note}
    about = {"model_name": "extractive"}
    calls, text = respond(_as_if_alone(messages, bool(tools)), frozenset(tools))
    if calls:
        message = calls_chunk([Call(one.tool, one.arguments) for one in calls], None)
        message.additional_kwargs, message.response_metadata = mark, about
    else:
        content = ("\n\n" if behind else "") + f"{note}, so these are quotes chosen by rule.\n\n{text}"
        message = AIMessageChunk(
            content=content,
            additional_kwargs={**mark, BY_RULE: len(content)},
            response_metadata=about,
        )
    yield ChatGenerationChunk(message=message)


def _as_if_alone(messages: Sequence[BaseMessage], may_call: bool) -> list[BaseMessage]:
    """The conversation without what the failing model did in this turn: it was done for reasons of its own.

    Where nothing more may be called, what it found is all there is.
    """
    turn = last_turn(messages)
    before = list(messages[: len(messages) - len(turn)])
    marks = [
        at
        for at, one in enumerate(turn)
        if isinstance(one, AIMessage) and TAKEN_OVER in one.additional_kwargs
    ]
    if not marks and not may_call:
        return list(messages)
    return [*before, *turn[:1], *(turn[marks[0] :] if marks else [])]
