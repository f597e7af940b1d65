"""A conversation as a language model reads it: numbered evidence, one line each, as much as fits.

Tools answer in JSON that repeats long ids and exact times for every sentence. A model is given the same as
lines such as ``[#12] 2:05-2:11 Speaker 1: …``: far fewer tokens, each line with the marker to cite it by.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from agent.citations.quotes import tidy
from agent.prompts import read_focus
from moss_audio.errors import MossAudioError
from moss_audio.timestamps import clock

ID_SHOWN = 12
"""Characters of a recording's id that a model sees; tools take any unique beginning."""

TURN_TOKENS = 8
"""What a turn costs beside its text: its role and the tokens around it."""

TAKEN_OVER = "taken_over"
"""Key of ``additional_kwargs`` of messages that the extractive model wrote in the place of another: why."""

REASONING = "reasoning_content"
"""Key of ``additional_kwargs`` that LangChain reads thoughts from."""

_PIECE = re.compile(r"[A-Za-z]+|\d|[^\W\d_]|[^\w\s]+|_+|\n+")


class ContextTooLong(MossAudioError):
    """Not even the question fits the model's context."""


def tokens(text: str) -> int:
    """About how many tokens a text is, rather too many than too few; no tokenizer is asked.

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


def openai_messages(messages: Sequence[BaseMessage], budget: int) -> list[dict[str, Any]]:
    """The conversation in OpenAI's form, within a budget of tokens.

    What is given up, in this order, until it fits: what tools returned in earlier turns; the earliest turns;
    the ends of what tools returned in this turn, each of which says that it was cut.

    Raises:
        ContextTooLong: The system prompt and the question alone do not fit.
    """
    system = [_message(one) for one in messages if isinstance(one, SystemMessage)]
    turns = [_Turn(turn) for turn in _turns(messages)]
    head = sum(map(_cost, system))
    if head + sum(turn.cost for turn in turns) > budget:
        for turn in turns[:-1]:
            turn.forget_tools()
    while len(turns) > 1 and head + sum(turn.cost for turn in turns) > budget:
        del turns[0]
    over = head + sum(turn.cost for turn in turns) - budget
    if over > 0 and turns:
        turns[-1].cut(over)
    if head + sum(turn.cost for turn in turns) > budget:
        raise ContextTooLong(
            f"the question and the rules alone take more than the {budget:,} tokens its context has for them"
        )
    return [*system, *(one for turn in turns for one in turn.messages)]


def render_result(content: str, room: int | None = None) -> str:
    """A tool's JSON as lines; with a room of tokens, the first lines that fit and how many do not."""
    try:
        result = json.loads(content)
    except ValueError:
        result = None
    if not isinstance(result, dict):
        return _cut([tidy(content)], room, "characters")
    head = {key: one for key, one in result.items() if not _is_rows(one)}
    lines = [json.dumps(_short(head), ensure_ascii=False)] if head else []
    for key, rows in result.items():
        # Passages are where evidence was found; the evidence says it all.
        if _is_rows(rows) and key not in ("evidence", "passages"):
            lines += [f"{key}:", *(json.dumps(_short(one), ensure_ascii=False) for one in rows)]
    evidence = result.get("evidence")
    if isinstance(evidence, list):
        lines.append("evidence:" if evidence else "evidence: none")
        titles = _titles(result)
        lines += [_evidence(one, titles) for one in evidence if isinstance(one, Mapping)]
    return _cut(lines, room, "lines")


def _cut(lines: Sequence[str], room: int | None, what: str) -> str:
    if room is None or sum(tokens(one) + 1 for one in lines) <= room:
        return "\n".join(lines)
    kept: list[str] = []
    left = room - 24
    for line in lines:
        left -= tokens(line) + 1
        if left < 0:
            break
        kept.append(line)
    missing = len(lines) - len(kept)
    return "\n".join([*kept, f"({missing} more {what} did not fit; ask for less at once to see them.)"])


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def _short(value: Any) -> Any:
    """A value without the precision and the length of ids that no reader needs."""
    if isinstance(value, float):
        return round(value, 1)
    if isinstance(value, str):
        return value[:ID_SHOWN] if re.fullmatch(r"[0-9a-f]{64}", value) else _harmless(value)
    if isinstance(value, Mapping):
        return {key: _short(one) for key, one in value.items()}
    return [_short(one) for one in value] if isinstance(value, list) else value


def _titles(result: Mapping[str, Any]) -> dict[str, str]:
    """Titles by recording where the evidence is from several, else none."""
    named = {
        str(one.get("recording")): str(one.get("title"))
        for one in result.get("passages") or ()
        if isinstance(one, Mapping) and one.get("title")
    }
    return named if len(named) > 1 else {}


def _evidence(one: Mapping[str, Any], titles: Mapping[str, str]) -> str:
    title = titles.get(str(one.get("recording")))
    where = f"{tidy(_harmless(title))}, " if title else ""
    try:
        when = f"{clock(float(one['start']))}-{clock(float(one['end']))}"
    except (KeyError, TypeError, ValueError):
        when = ""
    kind = one.get("kind", "speech")
    who = tidy(str(one.get("speaker") or "somebody")) if kind == "speech" else f"({kind})"
    return f"[#{one.get('id')}] {where}{when} {_harmless(who)}: {tidy(_harmless(str(one.get('text', ''))))}"


def _harmless(text: str) -> str:
    """Words of a recording, which must not look like a marker of ours."""
    return text.replace("[#", "[ #")


def last_turn(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """The messages from the last question on."""
    for at in range(len(messages) - 1, -1, -1):
        if isinstance(messages[at], HumanMessage):
            return list(messages[at:])
    return list(messages)


def _turns(messages: Sequence[BaseMessage]) -> list[list[BaseMessage]]:
    turns: list[list[BaseMessage]] = []
    for message in messages:
        if isinstance(message, SystemMessage):
            continue
        if isinstance(message, HumanMessage) or not turns:
            turns.append([])
        turns[-1].append(message)
    return turns


@dataclass
class _Turn:
    """One turn's messages in OpenAI's form."""

    source: Sequence[BaseMessage]
    messages: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.messages = [_message(one) for one in self.source]

    @property
    def cost(self) -> int:
        return sum(map(_cost, self.messages))

    def forget_tools(self) -> None:
        """Keep question and answer."""
        self.messages = [one for one in self.messages if one["role"] != "tool" and not one.get("tool_calls")]

    def cut(self, over: int) -> None:
        """Make the turn smaller by this many tokens: thoughts first, then the longest results."""
        for message in self.messages:
            over -= tokens(message.pop(REASONING, ""))
        contents = {at: str(one.text) for at, one in enumerate(self.source) if isinstance(one, ToolMessage)}
        sizes = {at: tokens(self.messages[at]["content"]) for at in contents}
        if over <= 0 or not sizes:
            return
        room = _level(list(sizes.values()), sum(sizes.values()) - over)
        for at, content in contents.items():
            if sizes[at] > room:
                self.messages[at]["content"] = render_result(content, room)


def _level(sizes: Sequence[int], total: int) -> int:
    """The height to which the larger of some sizes are cut so that all together are ``total``."""
    left, remaining = total, sorted(sizes)
    while remaining:
        share = left // len(remaining)
        if remaining[0] > share:
            return max(0, share)
        left -= remaining.pop(0)
    return max(sizes, default=0)


def _cost(message: Mapping[str, Any]) -> int:
    calls = json.dumps(message["tool_calls"]) if message.get("tool_calls") else ""
    return TURN_TOKENS + tokens(message["content"]) + tokens(message.get(REASONING, "")) + tokens(calls)


def _message(message: BaseMessage) -> dict[str, Any]:
    text = str(message.text)
    if isinstance(message, SystemMessage):
        focus, _ = read_focus(text)
        identity = str((focus or {}).get("id", ""))
        return {
            "role": "system",
            "content": text.replace(identity, identity[:ID_SHOWN]) if identity else text,
        }
    if isinstance(message, ToolMessage):
        return {"role": "tool", "tool_call_id": message.tool_call_id, "content": render_result(text)}
    if not isinstance(message, AIMessage):
        return {"role": "user", "content": text}
    # What another model began to say before it failed is no part of the conversation.
    said = "" if message.tool_calls and TAKEN_OVER in message.additional_kwargs else text
    made: dict[str, Any] = {"role": "assistant", "content": said}
    thought = message.additional_kwargs.get(REASONING)
    if isinstance(thought, str) and thought:
        made[REASONING] = thought
    if message.tool_calls:
        made["tool_calls"] = [_call(call) for call in message.tool_calls]
    return made


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    arguments = json.dumps(_short(dict(call["args"])), ensure_ascii=False)
    return {
        "id": str(call["id"]),
        "type": "function",
        "function": {"name": call["name"], "arguments": arguments},
    }
