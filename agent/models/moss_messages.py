"""A conversation in OpenAI's form, as much of it as fits the context of a language model."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    trim_messages,
)

from agent.turns import split_turns
from moss_audio.errors import MossAudioError
from tools.result import shortened

TURN_TOKENS = 8
"""What a message costs beside its text: its role and the tokens around it."""

TAKEN_OVER = "taken_over"
"""Key of ``additional_kwargs`` of messages that the extractive model wrote in the place of another: why."""

REASONING = "reasoning_content"
"""Key of ``additional_kwargs`` that LangChain reads thoughts from."""

NOTICE_TOKENS = 24
"""Kept free for the line that says how much was cut."""

Counter = Callable[[str], int]
"""From a text to its number of tokens."""

_PIECE = re.compile(r"[A-Za-z]+|\d|[^\W\d_]|[^\w\s]+|_+|\n+")


class ContextTooLong(MossAudioError):
    """Not even the question fits the model's context."""


def estimate_tokens(text: str) -> int:
    """About how many tokens a text is, rather too many than too few, where no tokenizer is at hand.

    Qwen's writes each digit alone, English words in pieces of four letters and more, other scripts in pieces
    of a character and more, signs in pairs.
    """
    total = 0
    for piece in _PIECE.findall(text):
        if piece[0].isascii() and piece[0].isalpha():
            total += math.ceil(len(piece) / 4)
        elif piece[0].isalnum() or piece[0] == "_":
            total += 1 if ord(piece[0]) < 0x10000 else 3
        else:
            total += math.ceil(len(piece) / 2) if piece.isascii() else 2 * len(piece)
    return total


def openai_messages(
    messages: Sequence[BaseMessage], budget: int, count: Counter = estimate_tokens
) -> list[dict[str, Any]]:
    """The conversation in OpenAI's form, within a budget of tokens.

    What is given up, in this order, until it fits: what tools returned in earlier turns; the earliest turns;
    the ends of what tools returned in this turn, each of which says that it was cut.

    Args:
        messages: The conversation, with its system message first.
        budget: Tokens it may take.
        count: The tokenizer of the model, or an estimate.

    Raises:
        ContextTooLong: The system prompt and the question alone do not fit.
    """
    sizes = _Sizes(count)
    kept: Sequence[BaseMessage] = messages
    if sizes.total(messages) > budget:
        system = [message for message in messages if isinstance(message, SystemMessage)]
        *before, turn = split_turns(messages[len(system) :]) or [[]]
        # `trim_messages` drops whole messages from the beginning on, and no more: what tools returned in the
        # middle of the conversation goes before that, and rows of a result that is too long after it.
        earlier = [message for past in before for message in past if not _of_tools(message)]
        kept = trim_messages(
            [*system, *earlier, *turn],
            max_tokens=budget,
            token_counter=sizes.total,
            strategy="last",
            start_on="human",
            include_system=True,
        )
        if not any(isinstance(message, HumanMessage) for message in kept):
            kept = [*system, *turn]
    made = [_openai_message(message) for message in kept]
    over = sizes.sum(made) - budget
    if over > 0:
        _cut_evidence(made, over, count)
        if sizes.sum(made) > budget:
            raise ContextTooLong(
                f"the question and the rules alone take more than the {budget:,} tokens its context has for "
                "them"
            )
    return made


class _Sizes:
    """Counts messages; a text is counted once."""

    def __init__(self, count: Counter) -> None:
        self._count = count
        self._known: dict[str, int] = {}

    def total(self, messages: Iterable[BaseMessage]) -> int:
        """Tokens of messages, as ``trim_messages`` asks for them."""
        return self.sum(map(_openai_message, messages))

    def sum(self, made: Iterable[Mapping[str, Any]]) -> int:
        """Tokens of messages in OpenAI's form."""
        return sum(self._size(message) for message in made)

    def _size(self, message: Mapping[str, Any]) -> int:
        calls = json.dumps(message["tool_calls"]) if message.get("tool_calls") else ""
        texts = (message["content"], message.get(REASONING, ""), calls)
        return TURN_TOKENS + sum(self._tokens(text) for text in texts if text)

    def _tokens(self, text: str) -> int:
        if text not in self._known:
            self._known[text] = self._count(text)
        return self._known[text]


def _of_tools(message: BaseMessage) -> bool:
    """Whether a message calls tools or is what one returned."""
    return isinstance(message, ToolMessage) or (isinstance(message, AIMessage) and bool(message.tool_calls))


def _cut_evidence(made: Sequence[dict[str, Any]], over: int, count: Counter) -> None:
    """Make messages smaller by so many tokens: thoughts go first, then rows of the longest results."""
    for message in made:
        over -= count(message.pop(REASONING, ""))
    results = [message for message in made if message["role"] == "tool"]
    sizes = [count(message["content"]) for message in results]
    if over <= 0 or not results:
        return
    room = _level(sizes, sum(sizes) - over)
    for message, size in zip(results, sizes, strict=True):
        if size > room:
            message["content"] = cut_rows(message["content"], room, count)


def cut_rows(text: str, room: int, count: Counter = estimate_tokens) -> str:
    """The first lines of a tool's result that fit a room of tokens, and how many do not."""
    lines = text.split("\n")
    if sum(count(line) + 1 for line in lines) <= room:
        return text
    kept: list[str] = []
    left = room - NOTICE_TOKENS
    for line in lines:
        left -= count(line) + 1
        if left < 0:
            break
        kept.append(line)
    missing = len(lines) - len(kept)
    rows = "line" if missing == 1 else "lines"
    return "\n".join([*kept, f"({missing} more {rows} did not fit; ask for less at once to see them.)"])


def _level(sizes: Sequence[int], total: int) -> int:
    """The height to which the larger of some sizes are cut so that all together are ``total``."""
    left, remaining = total, sorted(sizes)
    while remaining:
        share = left // len(remaining)
        if remaining[0] > share:
            return max(0, share)
        left -= remaining.pop(0)
    return max(sizes, default=0)


def _openai_message(message: BaseMessage) -> dict[str, Any]:
    text = str(message.text)
    if isinstance(message, SystemMessage):
        return {"role": "system", "content": text}
    if isinstance(message, ToolMessage):
        return {"role": "tool", "tool_call_id": message.tool_call_id, "content": text}
    if not isinstance(message, AIMessage):
        return {"role": "user", "content": text}
    # What another model began to say before it failed is no part of the conversation.
    said = "" if message.tool_calls and TAKEN_OVER in message.additional_kwargs else text
    made: dict[str, Any] = {"role": "assistant", "content": said}
    thought = message.additional_kwargs.get(REASONING)
    if isinstance(thought, str) and thought:
        made[REASONING] = thought
    if message.tool_calls:
        made["tool_calls"] = [_openai_call(call) for call in message.tool_calls]
    return made


def _openai_call(call: Mapping[str, Any]) -> dict[str, Any]:
    arguments = json.dumps(shortened(dict(call["args"])), ensure_ascii=False)
    return {
        "id": str(call["id"]),
        "type": "function",
        "function": {"name": call["name"], "arguments": arguments},
    }
