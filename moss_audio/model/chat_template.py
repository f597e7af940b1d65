"""Prompts as text: the turns of a conversation, and where the audio goes.

A place for audio ("span") is written ``<|audio_bos|><|AUDIO|><|audio_eos|>``. The three strings are not
tokens; the processor cuts the text at its spans and puts ids there by number.

``render_chat`` writes Qwen3's format (tools in the manner of Hermes, thoughts) where a checkpoint brings no
template of its own; the text is the one that Qwen3's template gives.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from moss_audio.errors import PromptError

AUDIO_START = "<|audio_bos|>"
AUDIO = "<|AUDIO|>"
AUDIO_END = "<|audio_eos|>"
SPAN = AUDIO_START + AUDIO + AUDIO_END
"""One place for one recording. ``<|AUDIO|>`` may be repeated; it stays one recording."""

SYSTEM = "You are a helpful assistant."
"""What the released models were given as system text with audio."""

# A single-turn prompt with audio, in the pieces in which it is also built for fine-tuning:
# SYSTEM_TURN + USER_OPEN + audio + AFTER_AUDIO + question + ANSWER_OPEN + answer + ANSWER_CLOSE.
SYSTEM_TURN = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n"
USER_OPEN = "<|im_start|>user\n"
AFTER_AUDIO = "\n"
ANSWER_OPEN = "<|im_end|>\n<|im_start|>assistant\n"
ANSWER_CLOSE = "<|im_end|>"
NO_THOUGHT = "<think>\n\n</think>\n\n"
"""An empty thought, with which Qwen3 is told to answer at once."""

_SPAN = re.compile(f"{re.escape(AUDIO_START)}(?:{re.escape(AUDIO)})+{re.escape(AUDIO_END)}")


class Prompt(str):
    """A complete prompt, turns and all: the processor takes it as it is and wraps nothing around it.

    It stays one when text is added behind it; any other operation of ``str`` gives plain text.
    """

    __slots__ = ()

    def __add__(self, behind: str) -> Prompt:
        return Prompt(str(self) + behind)


def default_prompt(question: str, audio: bool = True, thinking: bool | None = None) -> Prompt:
    """The prompt of a single question, about one recording or none.

    Args:
        question: What is asked. Its control strings act as such; see ``defuse`` for text of others.
        audio: Whether a recording comes before the question.
        thinking: False hands the model an empty thought, so that it answers at once.
    """
    heard = SPAN + AFTER_AUDIO if audio else ""
    unthought = NO_THOUGHT if thinking is False else ""
    return Prompt(f"{SYSTEM_TURN}{USER_OPEN}{heard}{question}{ANSWER_OPEN}{unthought}")


def split_at_spans(text: str) -> list[str]:
    """The text between the spans, in order: one piece more than there are spans."""
    return _SPAN.split(text)


def defuse(text: str, control: Iterable[str]) -> str:
    """The text with every control string broken by a space after its first character.

    What people said, wrote or sent may contain ``<|im_end|>`` or an audio span; untouched, it would end its
    turn or ask for a recording. Broken, ``< |im_end|>`` is ordinary text. Other text stays as it is.

    Args:
        text: Text that must not steer the prompt.
        control: Strings with a meaning; shorter than two characters or with white space they are left alone.
    """
    pattern = _any_of(tuple(control))
    # Again, because a control string may begin within another one that has just been broken.
    while pattern is not None and pattern.search(text):
        text = pattern.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)
    return text


@lru_cache(maxsize=16)
def _any_of(control: tuple[str, ...]) -> re.Pattern[str] | None:
    usable = sorted({text for text in control if len(text) > 1 and not re.search(r"\s", text)})
    return re.compile("|".join(map(re.escape, usable))) if usable else None


Message = Mapping[str, Any]

ROLES = ("system", "user", "assistant", "tool")

_TOOLS_HEAD = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
)
_TOOLS_TAIL = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    '<tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, '
    '"arguments": <args-json-object>}\n</tool_call>'
)
_RESULT_OPEN, _RESULT_CLOSE = "<tool_response>", "</tool_response>"


def render_chat(
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]] | None = None,
    thinking: bool | None = None,
    add_generation_prompt: bool = True,
) -> str:
    """The text of a conversation.

    Thoughts are kept only behind the last question, where the model is still working on it; those of
    earlier turns are left out.

    Args:
        messages: As ``clean_messages`` returns them.
        tools: Function definitions (JSON schema), or None.
        thinking: False closes the thought at once; None and True leave it to the model.
        add_generation_prompt: Open the assistant's next turn.
    """
    parts = [_head(messages, tools)]
    question = _last_question(messages)
    for index, message in enumerate(messages):
        role, content = message["role"], message["content"]
        if role == "assistant":
            last = index == len(messages) - 1
            parts.append(_assistant_turn(message, after_question=index > question, last=last))
        elif role == "tool":
            follows = index > 0 and messages[index - 1]["role"] == "tool"
            goes_on = index + 1 < len(messages) and messages[index + 1]["role"] == "tool"
            opening, closing = "" if follows else "<|im_start|>user", "" if goes_on else "<|im_end|>\n"
            parts.append(f"{opening}\n{_RESULT_OPEN}\n{content}\n{_RESULT_CLOSE}{closing}")
        elif role == "user" or index > 0:
            parts.append(_turn(role, content))
    if add_generation_prompt:
        parts.append("<|im_start|>assistant\n" + (NO_THOUGHT if thinking is False else ""))
    return "".join(parts)


def clean_messages(messages: Iterable[Message], defuse: Callable[[str], str]) -> list[dict[str, Any]]:
    """Messages in one form, with nothing in their texts that could steer the prompt.

    Content becomes one string: parts of a list are joined by newlines, ``{"type": "audio"}`` in a user's
    message is a place for one recording. A tool's result cannot close its own ``<tool_response>``.

    Args:
        messages: ``role`` and ``content``; ``tool_calls`` and ``reasoning_content`` of an assistant.
        defuse: Breaks control strings, see ``defuse``.

    Raises:
        PromptError: There are no messages, a role is unknown, or a content is no text.
    """
    cleaned = [_clean_message(index, message, defuse) for index, message in enumerate(messages)]
    if not cleaned:
        raise PromptError("The conversation is empty; give at least one message.")
    return cleaned


def defused_json(value: Any, defuse: Callable[[str], str]) -> Any:
    """A JSON value with ``defuse`` applied to all its strings, names of fields too."""
    if isinstance(value, str):
        return defuse(value)
    if isinstance(value, Mapping):
        return {defuse(str(key)): defused_json(field, defuse) for key, field in value.items()}
    if isinstance(value, list | tuple):
        return [defused_json(item, defuse) for item in value]
    return value


def _clean_message(index: int, message: Message, defuse: Callable[[str], str]) -> dict[str, Any]:
    role = message.get("role")
    if role not in ROLES:
        raise PromptError(f"Message {index + 1} has the role {role!r}; it must be one of {', '.join(ROLES)}.")
    content = _content(index, message, defuse)
    if role == "tool":
        content = content.replace(_RESULT_OPEN, "< tool_response>").replace(
            _RESULT_CLOSE, "< /tool_response>"
        )
    cleaned: dict[str, Any] = {"role": role, "content": content}
    if role == "assistant":
        if isinstance(message.get("reasoning_content"), str):
            cleaned["reasoning_content"] = defuse(message["reasoning_content"])
        if message.get("tool_calls"):
            cleaned["tool_calls"] = [_clean_call(index, call, defuse) for call in message["tool_calls"]]
    return cleaned


def _content(index: int, message: Message, defuse: Callable[[str], str]) -> str:
    content = message.get("content")
    if content is None or isinstance(content, str):
        return defuse(content or "")
    if not isinstance(content, list | tuple):
        raise PromptError(f"The content of message {index + 1} must be text or a list of parts.")
    parts = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "text" and isinstance(part.get("text"), str):
            parts.append(defuse(part["text"]))
        elif kind == "audio" and message["role"] == "user":
            parts.append(SPAN)
        else:
            raise PromptError(
                f"Message {index + 1} has a part of type {kind!r}; only text and a user's audio go."
            )
    return "\n".join(parts)


def _clean_call(index: int, call: Mapping[str, Any], defuse: Callable[[str], str]) -> dict[str, Any]:
    function = call.get("function") or call
    if not isinstance(function.get("name"), str):
        raise PromptError(f"A tool call of message {index + 1} has no name.")
    arguments = defused_json(function.get("arguments", {}), defuse)
    return {"type": "function", "function": {"name": defuse(function["name"]), "arguments": arguments}}


def _head(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None) -> str:
    """The system turn, which also holds the tools; empty when there is neither."""
    system = messages[0]["content"] if messages[0]["role"] == "system" else None
    if not tools:
        return "" if system is None else _turn("system", system)
    listed = "".join("\n" + json.dumps(tool, ensure_ascii=False) for tool in tools)
    before = "" if system is None else system + "\n\n"
    return _turn("system", before + _TOOLS_HEAD + listed + _TOOLS_TAIL)


def _turn(role: str, content: str) -> str:
    return f"<|im_start|>{role}\n{content}<|im_end|>\n"


def _last_question(messages: Sequence[Message]) -> int:
    """Index of the last thing the user said; results of tools given as user turns do not count."""
    for index in range(len(messages) - 1, -1, -1):
        content = messages[index]["content"]
        is_result = content.startswith(_RESULT_OPEN) and content.endswith(_RESULT_CLOSE)
        if messages[index]["role"] == "user" and not is_result:
            return index
    return len(messages) - 1


def _assistant_turn(message: Message, after_question: bool, last: bool) -> str:
    thought, content = _thought_and_answer(message)
    if after_question and (last or thought):
        inner, answer = thought.strip("\n"), content.lstrip("\n")
        shown = f"<think>\n{inner}\n</think>\n\n{answer}"
    else:
        shown = content
    calls = [_call(call["function"]) for call in message.get("tool_calls", ())]
    # The newline goes between things: none before the first call of a turn without text.
    return _turn("assistant", shown + ("\n" if content and calls else "") + "\n".join(calls))


def _thought_and_answer(message: Message) -> tuple[str, str]:
    content = message["content"]
    if "reasoning_content" in message:
        return message["reasoning_content"], content
    if "</think>" not in content:
        return "", content
    thought = content.split("</think>")[0].rstrip("\n").split("<think>")[-1].lstrip("\n")
    return thought, content.split("</think>")[-1].lstrip("\n")


def _call(function: Mapping[str, Any]) -> str:
    arguments = function["arguments"]
    written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    name = json.dumps(function["name"], ensure_ascii=False)
    return f'<tool_call>\n{{"name": {name}, "arguments": {written}}}\n</tool_call>'
