"""A conversation in turns: each begins with a question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

M = TypeVar("M", bound=BaseMessage)

TURNS_KEPT = 12
"""Turns of a conversation a model still sees; older ones are forgotten."""


GATHERED = "gathered"
"""Key of ``additional_kwargs`` of messages whose calls were made by rule, before the model was asked."""


def split_turns(messages: Sequence[M]) -> list[list[M]]:
    """The messages by turn; what stands before the first question is a turn of its own."""
    turns: list[list[M]] = []
    for message in messages:
        if isinstance(message, HumanMessage) or not turns:
            turns.append([])
        turns[-1].append(message)
    return turns


def last_turn(messages: Sequence[M]) -> list[M]:
    """The messages from the last question on."""
    turns = split_turns(messages)
    return turns[-1] if turns else []


def remembered(messages: Sequence[M]) -> list[M]:
    """The messages of this turn and of those before it that ended in an answer and are not too old."""
    *before, current = split_turns(messages) or [[]]
    whole = [turn for turn in before if isinstance(turn[-1], AIMessage) and not turn[-1].tool_calls]
    return [message for turn in [*whole[-TURNS_KEPT:], current] for message in turn]


def rounds(messages: Sequence[BaseMessage], gathered: bool = False) -> int:
    """How often tools were asked for in the last turn: by the model, or by rule before it."""
    asked = [message for message in last_turn(messages) if isinstance(message, AIMessage)]
    return sum(
        bool(message.tool_calls) and (GATHERED in message.additional_kwargs) == gathered for message in asked
    )


def before_the_model(messages: Sequence[M]) -> list[M]:
    """The messages up to the first of the model's own in the last turn: what was gathered by rule."""
    current = last_turn(messages)
    own = next(
        (
            at
            for at, message in enumerate(current)
            if isinstance(message, AIMessage) and GATHERED not in message.additional_kwargs
        ),
        len(current),
    )
    return list(messages[: len(messages) - len(current) + own])
