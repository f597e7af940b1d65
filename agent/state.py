"""The state of a conversation, kept from turn to turn; plain types and messages only."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

from langchain_core.messages import AnyMessage
from langgraph.graph.message import add_messages


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
