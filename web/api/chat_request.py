"""A chat request of OpenAI's form: what it asks for, checked, and the recordings inside it.

What would change the answer and cannot be done is refused, never passed over; so is what nobody knows.
OpenAI's own fields, and those that vLLM and SGLang add to them, are known here by name. A field that this
server does not follow is left where it changes nothing. A field that nobody knows is refused: whoever sends
it expects something of it.

Recordings come as base64 or as a data URL. Nothing is ever fetched.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from index.invalid_values import field_of, sentence_of
from moss_audio.audio import load_audio
from moss_audio.errors import AudioError, PromptError
from moss_audio.generation.requests import FREE, Options
from moss_audio.model.mel import SAMPLE_RATE
from moss_audio.timestamps import clock
from web.api.error_responses import ApiError, bad_request, too_much, unusable
from web.api.limiter import Limits

_DATA_URL = re.compile(r"data:(?P<kind>[\w.+-]*/?[\w.+-]*)(?:;[\w.+=\"-]*)*?;base64,", re.IGNORECASE)


@dataclass(frozen=True)
class AudioPart:
    """A recording as it was sent: base64 text, and what the sender calls its format."""

    data: str = field(repr=False)
    format: str


def audio_part(part: Mapping[str, Any], where: str) -> AudioPart:
    """The recording of a part of type ``input_audio`` or ``audio_url``.

    Raises:
        ApiError: 400 for an address, since nothing is fetched; 422 for what is no recording.
    """
    if part["type"] == "input_audio":
        audio = part.get("input_audio")
        if not isinstance(audio, Mapping) or not isinstance(audio.get("data"), str):
            raise unusable("input_audio must contain data (the recording as base64) and format.", where)
        return AudioPart(audio["data"], safe_suffix(str(audio.get("format") or "")))
    given = part.get("audio_url")
    url = given.get("url") if isinstance(given, Mapping) else given
    if not isinstance(url, str):
        raise unusable("audio_url must contain a url.", where)
    head = _DATA_URL.match(url[:200])
    if head is None:
        raise bad_request(
            "Only base64 data URLs are accepted (data:audio/wav;base64,…): this server fetches no addresses "
            "and opens no local files.",
            where,
            "url_not_allowed",
        )
    return AudioPart(url[head.end() :], safe_suffix(head["kind"].rpartition("/")[2]))


def decode_part(part: AudioPart, seconds: float) -> np.ndarray:
    """What the model hears: float32 ``[n_samples]``, mono, 16 kHz.

    Args:
        part: As it was sent.
        seconds: Longest recording that is taken.

    Raises:
        ApiError: 413, it is longer; 415, it cannot be decoded; 422, it is no base64.
    """
    try:
        data = base64.b64decode("".join(part.data.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise unusable("The recording is not valid base64.", "messages") from error
    with TemporaryDirectory(prefix="moss-agent-") as folder:
        path = Path(folder) / f"audio.{part.format}"
        path.write_bytes(data)
        try:
            # A second more than is taken shows whether there is more; the rest is never decoded.
            audio = load_audio(path, 0.0, seconds + 1.0)
        except AudioError as error:
            raise ApiError(
                415, f"The recording cannot be used: {error}", "unusable_audio", "messages"
            ) from error
    if len(audio) > (seconds + 0.1) * SAMPLE_RATE:
        raise too_much(
            f"The recording is longer than {clock(seconds)}, the limit of a chat request; "
            "send a part of it, or use /v1/audio/transcriptions.",
            "messages",
        )
    return audio


def safe_suffix(name: str) -> str:
    """A format's name as the suffix of a file: letters and digits, else ``bin``."""
    name = name.lower().removeprefix("x-")
    return name if re.fullmatch(r"[a-z0-9]{1,8}", name) else "bin"


_LEFT = frozenset(
    (
        "user", "metadata", "store", "service_tier", "safety_identifier", "moderation", "prompt_cache_key",
        "prompt_cache_retention", "prompt_cache_options", "prediction", "top_logprobs", "audio",
        "request_id", "rid", "session_id", "cache_salt", "extra_key", "priority", "stream_reasoning",
        "stream_interval", "media_io_kwargs",
    )
)  # fmt: skip
"""They say who asks, what is to be kept, or how to go about it; the answer is the same without them.
``top_logprobs`` and ``audio`` belong to ``logprobs`` and ``modalities``, which are refused themselves."""

_NEUTRAL: dict[str, Any] = {
    "n": 1,
    "best_of": 1,
    "logprobs": False,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "repetition_penalty": 1,
    "length_penalty": 1,
    "min_p": 0,
    "min_tokens": 0,
    "ignore_eos": False,
    "use_beam_search": False,
    "watermarking": False,
    "include_stop_str_in_output": False,
    "no_stop_trim": False,
    "skip_special_tokens": True,
    "spaces_between_special_tokens": True,
    "echo": False,
    "add_generation_prompt": True,
    "continue_final_message": False,
    "add_special_tokens": False,
    "separate_reasoning": True,
    "include_reasoning": True,
    "return_token_ids": False,
    "return_hidden_states": False,
    "verbosity": "medium",
}
"""Values with which a field asks for what is done anyway."""

_REFUSED = frozenset(
    (
        "logit_bias", "functions", "web_search_options", "stop_token_ids", "stop_regex", "bad_words",
        "allowed_token_ids", "logits_processors", "custom_logit_processor", "custom_params",
        "guided_json", "guided_regex", "guided_choice", "guided_grammar", "structured_outputs", "regex",
        "ebnf", "json_schema", "truncate_prompt_tokens", "prompt_logprobs", "chat_template", "documents",
        "mm_processor_kwargs", "lora_path", "session_params", "thinking_token_budget",
        "repetition_detection", "vllm_xargs",
    )
)  # fmt: skip

_INSTEAD = {
    "n": "one answer per request; send it again for another",
    "response_format": "plain text; ask for JSON in the prompt, or define a tool",
    "functions": "tools",
    "function_call": "tool_choice",
    "stop_token_ids": "stop",
    "thinking_token_budget": "thinking_budget",
    "guided_json": "plain text; ask for JSON in the prompt, or define a tool",
    "structured_outputs": "plain text; ask for JSON in the prompt, or define a tool",
}


def refuse_unfollowed(document: Mapping[str, Any], read: Collection[str]) -> None:
    """Refuse what a request asks for and would not get.

    Args:
        document: The request.
        read: Fields that are followed, or that have a check of their own.

    Raises:
        ApiError: 400, with the field's name.
    """
    for name, value in document.items():
        if value is None or name in _LEFT or _asks_nothing(name, value):
            continue
        if name in _NEUTRAL or name in _REFUSED:
            raise unsupported(name)
        if name not in read:
            raise bad_request(f"The field {_shown(name)} is not known.", _shown(name), "unknown_parameter")


def unsupported(name: str) -> ApiError:
    """A field that is understood and cannot be followed: status 400."""
    hint = f"; it gives {_INSTEAD[name]}" if name in _INSTEAD else ""
    return bad_request(
        f"This server does not support this value of {name}{hint}.", name, "unsupported_parameter"
    )


def _asks_nothing(name: str, value: Any) -> bool:
    if name in _REFUSED:
        return value in ([], {}, "")
    # True is 1 to Python, and no penalty.
    neutral = _NEUTRAL.get(name)
    return neutral is not None and value == neutral and isinstance(value, bool) == isinstance(neutral, bool)


def _shown(name: str) -> str:
    return re.sub(r"[^\w.-]", "?", name)[:60] or "?"


Message = dict[str, Any]


@dataclass(frozen=True)
class ChatRequest:
    """What is asked.

    Attributes:
        model: The name that was given.
        messages: Text alone, in OpenAI's form, roles ``system``, ``user``, ``assistant`` and ``tool``.
        audio: The recording, if there is one.
        question: With a recording: the text of the one turn that the model is given.
        tools: Definitions; empty where none may be called.
        one_call: End the answer after the first call.
        options: How to write.
        stops: Strings that end the answer.
        stream: Whether to answer as it is written.
        include_usage: Whether a stream ends with numbers of tokens.
    """

    model: str
    messages: list[Message]
    audio: AudioPart | None
    question: str
    tools: list[dict[str, Any]]
    one_call: bool
    options: Options
    stops: tuple[str, ...]
    stream: bool
    include_usage: bool


class _StreamOptions(BaseModel):
    include_usage: bool | None = None


class _Body(BaseModel):
    """The fields that are read; null is as good as absent."""

    model: str
    messages: list[dict[str, Any]] = Field(min_length=1)
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_completion_tokens: int | None = Field(None, ge=1)
    max_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0.0, le=2.0)
    top_p: float | None = Field(None, gt=0.0, le=1.0)
    top_k: int | None = Field(None, ge=-1)
    seed: int | None = None
    stop: Any = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    thinking_budget: int | None = Field(None, ge=0)
    chat_template_kwargs: dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None
    modalities: list[str] | None = None
    function_call: Any = None


def read_chat_request(body: bytes, limits: Limits) -> ChatRequest:
    """The request that a body holds.

    Raises:
        ApiError: 400, it is no JSON or asks for what cannot be done; 413, too much text; 422, a field has
            a value it cannot have.
    """
    fields = _fields(body)
    _refuse_unsupported(fields)
    messages, parts = _messages(fields.messages)
    tools = _tools(fields)
    if len(parts) > 1:
        raise bad_request(
            f"The request has {len(parts)} recordings; send one per request.",
            "messages",
        )
    if parts and tools:
        raise bad_request(
            "Tools and audio cannot be combined: the model was not trained for it. Leave one out.",
            "tools",
        )
    size = sum(len(json.dumps(item, ensure_ascii=False)) for item in (*messages, *tools))
    if size > limits.text_chars:
        raise too_much(
            f"The text of the request has {size:,} characters; the limit is {limits.text_chars:,}.",
            "messages",
        )
    return ChatRequest(
        model=fields.model,
        messages=messages,
        audio=parts[0] if parts else None,
        question=single_turn(messages) if parts else "",
        tools=tools,
        one_call=fields.parallel_tool_calls is False,
        options=_options(fields, limits),
        stops=_stops(fields.stop),
        stream=bool(fields.stream),
        include_usage=bool(fields.stream_options and fields.stream_options.include_usage),
    )


def single_turn(messages: Sequence[Message]) -> str:
    """A conversation around a recording as the one question that the released models take.

    They were given a fixed system text and one user turn. So the system text stands before the question,
    and turns before the last one are told as such.

    Raises:
        ApiError: 400, nothing is asked.
    """
    if messages[-1]["role"] != "user" or not messages[-1]["content"].strip():
        raise bad_request(
            "Add your question about the recording as text to the last user message.", "messages"
        )
    told = {"user": "User", "assistant": "Assistant", "tool": "Tool"}
    parts = [
        message["content"]
        for message in messages
        if message["role"] == "system" and message["content"].strip()
    ]
    earlier = [
        f"{told[one['role']]}: {one['content']}"
        for one in messages[:-1]
        if one["role"] != "system" and one["content"].strip()
    ]
    if earlier:
        parts.append("\n".join(earlier))
    return "\n\n".join([*parts, messages[-1]["content"]])


def _fields(body: bytes) -> _Body:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise bad_request("The body is not valid JSON.", code="invalid_json") from error
    if not isinstance(document, dict):
        raise bad_request("The body must be a JSON object.", code="invalid_json")
    refuse_unfollowed(document, _Body.model_fields)
    try:
        return _Body.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise unusable(sentence_of(first), field_of(first["loc"])) from error


def _refuse_unsupported(fields: _Body) -> None:
    template = fields.chat_template_kwargs or {}
    refused = {
        "response_format": (fields.response_format or {}).get("type", "text") != "text",
        "modalities": any(modality != "text" for modality in fields.modalities or ()),
        "function_call": fields.function_call not in (None, "none", "auto"),
        "chat_template_kwargs": any(
            name != "enable_thinking" or value not in (True, False, None) for name, value in template.items()
        ),
    }
    for name, holds in refused.items():
        if holds:
            raise unsupported(name)


def _options(fields: _Body, limits: Limits) -> Options:
    switch = (fields.chat_template_kwargs or {}).get("enable_thinking")
    unthought = switch is False or fields.reasoning_effort in ("none", "minimal")
    named = fields.max_completion_tokens or fields.max_tokens
    try:
        return Options(
            max_new_tokens=named or limits.new_tokens,
            fit=named is None,
            temperature=FREE.temperature if fields.temperature is None else fields.temperature,
            top_p=FREE.top_p if fields.top_p is None else fields.top_p,
            top_k=FREE.top_k if fields.top_k is None else max(0, fields.top_k),
            thinking=False if unthought else None,
            thinking_budget=fields.thinking_budget,
            seed=None if fields.seed is None else fields.seed % 2**63,
        )
    except PromptError as error:
        raise unusable(str(error)) from error


def _stops(given: Any) -> tuple[str, ...]:
    stops = [given] if isinstance(given, str) else given or []
    if (
        not isinstance(stops, list)
        or len(stops) > 16
        or not all(isinstance(stop, str) and 1 <= len(stop) <= 200 for stop in stops)
    ):
        raise unusable("stop accepts up to 16 strings of 1 to 200 characters each.", "stop")
    return tuple(stops)


def _tools(fields: _Body) -> list[dict[str, Any]]:
    choice = fields.tool_choice
    if choice not in (None, "auto", "none"):
        raise bad_request(
            "A tool call cannot be forced: tool_choice must be auto or none.", "tool_choice",
            "unsupported_parameter",
        )  # fmt: skip
    for index, tool in enumerate(fields.tools or ()):
        function = tool.get("function")
        if tool.get("type") != "function" or not isinstance(function, dict):
            raise bad_request(
                f"Tool {index + 1} is not a function; only functions can be called.", f"tools.{index}"
            )
        if not isinstance(function.get("name"), str) or not function["name"]:
            raise unusable(f"Tool {index + 1} has no name.", f"tools.{index}.function.name")
    if choice == "none" or not fields.tools:
        return []
    return json.loads(_sound(json.dumps(fields.tools, ensure_ascii=False)))


def _messages(given: list[dict[str, Any]]) -> tuple[list[Message], list[AudioPart]]:
    """Messages with text alone, and the recordings that stood in them."""
    messages, recordings = [], []
    for index, message in enumerate(given):
        role = {"developer": "system"}.get(str(message.get("role")), message.get("role"))
        if role not in ("system", "user", "assistant", "tool"):
            raise unusable(f"Message {index + 1} has the unknown role {role!r}.", f"messages.{index}.role")
        text, found = _content(index, role, message.get("content"))
        recordings += found
        plain: Message = {"role": role, "content": text}
        if role == "assistant":
            plain |= _said(index, message)
        elif role == "tool" and isinstance(message.get("tool_call_id"), str):
            plain["tool_call_id"] = _sound(message["tool_call_id"])
        messages.append(plain)
    return messages, recordings


def _content(index: int, role: str, content: Any) -> tuple[str, list[AudioPart]]:
    where = f"messages.{index}.content"
    if content is None or isinstance(content, str):
        return _sound(content or ""), []
    if not isinstance(content, list):
        raise unusable(f"The content of message {index + 1} must be text or a list of parts.", where)
    texts, recordings = [], []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(_sound(part["text"]))
        elif kind in ("input_audio", "audio_url") and role == "user":
            recordings.append(audio_part(part, where))
        else:
            raise bad_request(
                f"Message {index + 1} has a part of type {kind!r}; supported are text and, from the user, "
                "input_audio or audio_url.",
                where,
            )
    return "\n".join(texts), recordings


def _said(index: int, message: dict[str, Any]) -> Message:
    """Thought and calls of an assistant's message."""
    said: Message = {}
    thought = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(thought, str):
        said["reasoning_content"] = _sound(thought)
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list):
        raise unusable(
            f"The tool_calls of message {index + 1} must be a list.", f"messages.{index}.tool_calls"
        )
    if calls:
        said["tool_calls"] = [_call(index, call) for call in calls]
    return said


def _call(index: int, call: Any) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, dict) else None
    name, arguments = (
        function.get(key) if isinstance(function, dict) else None for key in ("name", "arguments")
    )
    if not isinstance(name, str) or not isinstance(arguments, str):
        raise unusable(
            f"A tool call of message {index + 1} lacks its name or its arguments.",
            f"messages.{index}.tool_calls",
        )
    shown = {"name": _sound(name), "arguments": _sound(arguments)}
    return {"id": _sound(str(call.get("id") or "")), "type": "function", "function": shown}


def _sound(text: str) -> str:
    """Text without halves of surrogate pairs, which JSON can name and no tokenizer takes."""
    return text.encode("utf-8", "replace").decode()
