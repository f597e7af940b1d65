"""What is sent to a server: messages in the form that every server takes, and what its requests may hold.

One user turn holds the audio, as a WAV data URL, before the text: vLLM, SGLang and this program's server all
take ``audio_url`` so; SGLang takes nothing else, and rebuilds the prompt of an audio request from that turn.

``Dialect`` begins with everything, less what a server has refused. vLLM, SGLang and this program's server
take all of it. A plain OpenAI server refuses ``top_k`` and the template's switch; an old one knows neither
``max_completion_tokens`` nor ``stream_options``. What a refusal names is left out or renamed, and the request
sent again.
"""

from __future__ import annotations

import base64
import io
import json
import logging
import re
import wave
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import openai

from moss_audio.errors import AudioError, PromptError
from moss_audio.generation.requests import THOUGHT_TOKENS, Options, Request
from moss_audio.generation.thinking import name_says_thinking
from moss_audio.model.chat_template import (
    AFTER_AUDIO,
    ANSWER_OPEN,
    NO_THOUGHT,
    SPAN,
    SYSTEM_TURN,
    USER_OPEN,
    Prompt,
    clean_messages,
    defused_json,
)
from moss_audio.served.connection import said

if TYPE_CHECKING:
    from moss_audio.model.processor import Wave

log = logging.getLogger(__name__)

AudioPart = Literal["audio_url", "input_audio"]

_CONTROL = re.compile(r"<\|(?=[\w.-]{1,40}\|>)")
"""How a control string begins; which of them a served model knows cannot be seen from here."""


def defuse(text: str) -> str:
    """Text in which no control string (``<|im_end|>``, an audio span) is left to steer the prompt."""
    return _CONTROL.sub("< |", text)


def question(request: Request, part: AudioPart = "audio_url") -> list[dict[str, Any]]:
    """Messages that ask one question, about recordings or about nothing.

    Raises:
        PromptError: The prompt has turns of its own.
        AudioError: A recording cannot be used, or is longer than the model takes.
    """
    text = defuse(_bare_question(request.prompt))
    heard = [_audio_part(audio, part) for audio in request.audios]
    content = [*heard, {"type": "text", "text": text}] if heard else text
    return [{"role": "user", "content": content}]


def conversation(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A conversation of text in OpenAI's form, with nothing in it that could steer the prompt.

    Thoughts are kept only behind the last question, the one place where Qwen3's template reads them.

    Raises:
        PromptError: A message cannot be used, or holds audio.
    """
    cleaned = clean_messages(messages, defuse)
    if any(SPAN in turn["content"] for turn in cleaned):
        raise PromptError("A conversation is text alone; ask about a recording in a request of its own.")
    last = max((at for at, turn in enumerate(cleaned) if turn["role"] == "user"), default=-1)
    waiting: list[str] = []
    names = _call_names()
    ready = []
    for at, (turn, given) in enumerate(zip(cleaned, messages, strict=True)):
        message = {"role": turn["role"], "content": turn["content"]}
        if turn.get("reasoning_content") and at > last:
            message["reasoning_content"] = turn["reasoning_content"]
        if turn.get("tool_calls"):
            message["tool_calls"] = _calls(turn["tool_calls"], given["tool_calls"], names)
            waiting = [call["id"] for call in message["tool_calls"]]
        if turn["role"] == "tool":
            said = given.get("tool_call_id")
            match = said if said in waiting else waiting[0] if waiting else said or next(names)
            waiting = [call for call in waiting if call != match]
            message["tool_call_id"] = str(match)
        ready.append(message)
    return ready


def definitions(tools: Sequence[Mapping[str, Any]] | None) -> list[Any] | None:
    """Definitions of tools, defused."""
    return defused_json(list(tools), defuse) if tools else None


def wav(audio: Wave) -> bytes:
    """A recording as a WAV file: mono, 16 kHz, 16 bits; what comes from 16 bits arrives without a loss.

    Raises:
        AudioError: It is none, or longer than the model takes.
    """
    # Here, because they load torch and FFmpeg, which a conversation of text does not need.
    from moss_audio.audio import MODEL_SECONDS
    from moss_audio.model.mel import SAMPLE_RATE, as_waveform

    samples = as_waveform(audio)
    seconds = len(samples) / SAMPLE_RATE
    if seconds > MODEL_SECONDS + 1:
        raise AudioError(
            f"The audio is {seconds / 60:.1f} minutes long; a served model is given at most"
            f" {MODEL_SECONDS / 60:.0f} minutes. Ask about a shorter stretch."
        )
    whole = (samples * 32768.0).round().clamp(-32768, 32767).cpu().numpy().astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(SAMPLE_RATE)
        out.writeframes(whole.tobytes())
    return file.getvalue()


def _audio_part(audio: Wave, part: AudioPart) -> dict[str, Any]:
    encoded = base64.b64encode(wav(audio)).decode("ascii")
    if part == "input_audio":
        return {"type": part, part: {"data": encoded, "format": "wav"}}
    return {"type": part, part: {"url": f"data:audio/wav;base64,{encoded}"}}


def _bare_question(prompt: str) -> str:
    """The question alone: servers write the turns around it themselves."""
    if not isinstance(prompt, Prompt):
        return prompt
    opening = SYSTEM_TURN + USER_OPEN
    text = str(prompt).removesuffix(NO_THOUGHT)
    bare = text.removeprefix(opening).removeprefix(SPAN + AFTER_AUDIO).removesuffix(ANSWER_OPEN)
    if not text.startswith(opening) or not text.endswith(ANSWER_OPEN) or "<|im_" in bare:
        raise PromptError("A server writes the turns of a prompt itself; give it the question alone.")
    return bare


def _calls(
    cleaned: Sequence[Mapping[str, Any]], given: Sequence[Mapping[str, Any]], names: Iterator[str]
) -> list[dict[str, Any]]:
    calls = []
    for message, original in zip(cleaned, given, strict=True):
        function = message["function"]
        name, arguments = function["name"], _json_object(function["arguments"])
        calls.append(
            {
                "id": str(original.get("id") or next(names)),
                "type": "function",
                "function": {"name": name, "arguments": arguments},
            }
        )
    return calls


def _json_object(arguments: Any) -> str:
    """Arguments as the JSON text that servers parse; broken text would have them refuse the conversation."""
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            arguments = {"text": arguments}
    return json.dumps(arguments if isinstance(arguments, dict) else {"value": arguments}, ensure_ascii=False)


def _call_names() -> Iterator[str]:
    number = 0
    while True:
        yield f"call_{number}"
        number += 1


_OPTIONAL = (
    "custom_logit_processor",
    "custom_params",
    "thinking_budget",
    "chat_template_kwargs",
    "stream_options",
    "reasoning_content",
    "top_k",
    "top_p",
    "seed",
    "temperature",
)

_HOLDS = re.compile(r"maximum context length (?:is|of) ([\d,]+)|holds ([\d,]+)", re.IGNORECASE)
_PROMPT = re.compile(
    r"([\d,]+)(?: tokens)? (?:in|from) the (?:input )?(?:messages|prompt)|([\d,]+) of them the prompt",
    re.IGNORECASE,
)
"""What vLLM, SGLang and this program's server say of a request that is too long."""

_UNKNOWN = re.compile(
    r"unrecogni[sz]ed|unknown|unsupported|not supported|does not support|only supports|not permitted"
    r"|extra[ _](?:inputs|fields|forbidden)|unexpected|not allowed|not (?:enabled|configured)|invalid value"
    r"|does not match any of the expected|should be 'text'|no such",
    re.IGNORECASE,
)


class Dialect:
    """How one server is spoken to.

    Args:
        thinking_processor: SGLang's serialised logit processor that keeps a thinking budget.
    """

    def __init__(self, thinking_processor: str | None = None) -> None:
        self.audio_part: AudioPart = "audio_url"
        self.software = ""
        """Who serves, as its list of models says: ``vllm``, ``sglang``, ``moss-agent`` or another word."""
        self.thinks = False
        """Whether the model was seen to think, whatever its name says."""
        self._limit = "max_completion_tokens"
        self._refused: set[str] = set()
        self._processor = thinking_processor

    @property
    def refused(self) -> frozenset[str]:
        """Fields that the server did not take and that are left out since."""
        return frozenset(self._refused)

    def body(
        self,
        model: str,
        messages: list[dict[str, Any]],
        options: Options,
        tools: list[Any] | None = None,
    ) -> dict[str, Any]:
        """A request, always for a stream: it can be ended at any moment, and silence is seen early."""
        heard = _has_part({"messages": messages}, self.audio_part)
        wanted: dict[str, Any] = {
            "model": model,
            "messages": messages,
            "stream": True,
            "stream_options": {"include_usage": True},
            self._limit: options.max_new_tokens + self._room_to_think(model, options, heard),
            "temperature": options.temperature,
        }
        if tools:
            wanted["tools"] = tools
        if options.temperature > 0:
            # Named even where they change nothing, or the server's own defaults would; -1 is all.
            wanted |= {"top_p": options.top_p, "top_k": options.top_k or -1}
            wanted |= {"seed": options.seed} if options.seed is not None else {}
        if options.thinking is False:
            wanted["chat_template_kwargs"] = {"enable_thinking": False}
        budget = 0 if options.thinking is False else options.thinking_budget
        if budget is not None:
            wanted |= self._budget(budget, asked=options.thinking is not False)
        if "reasoning_content" in self._refused:
            wanted["messages"] = [_without(message, "reasoning_content") for message in messages]
        return {name: value for name, value in wanted.items() if name not in self._refused}

    def learn(self, body: Mapping[str, Any], status: int, said: str) -> bool:
        """Take a refusal to heart.

        Args:
            body: The request that was refused.
            status: HTTP status.
            said: What the server said.

        Returns:
            Whether the next request will be another one, so that it is worth sending.
        """
        if status not in (400, 422) or not _UNKNOWN.search(said):
            return False
        if _names(said, "max_completion_tokens") and "max_completion_tokens" in body:
            self._limit = "max_tokens"
            return True
        if _names(said, "audio_url") and _has_part(body, "audio_url"):
            self.audio_part = "input_audio"
            return True
        for name in _OPTIONAL:
            if _names(said, name) and _holds(body, name):
                log.warning("The server does not take %s; it is left out from now on.", name)
                self._refused.add(name)
                return True
        return False

    @property
    def _keeps_budget(self) -> bool:
        usable = self._processor is not None and "custom_logit_processor" not in self._refused
        return self.software == "sglang" and usable

    def _room_to_think(self, model: str, options: Options, heard: bool) -> int:
        """Tokens for a thought that nobody asked for: in SGLang the template's switch does not reach
        questions about audio, and without a logit processor there is no budget either."""
        if self.software != "sglang" or self._keeps_budget or not (self.thinks or name_says_thinking(model)):
            return 0
        unwanted = options.thinking is False and heard
        return THOUGHT_TOKENS if unwanted or options.thinking_budget is not None else 0

    def _budget(self, tokens: int, asked: bool) -> dict[str, Any]:
        if self.software == "moss-agent" and asked:
            return {"thinking_budget": tokens}
        if self._keeps_budget:
            # Its template's switch does not reach questions about audio; a budget of nothing does.
            return {"custom_logit_processor": self._processor, "custom_params": {"thinking_budget": tokens}}
        if asked and "thinking_budget" not in self._refused:
            self._refused.add("thinking_budget")
            log.warning("This server keeps no thinking budget as it is set up; thoughts take what they need.")
        return {}


def _names(said: str, field: str) -> bool:
    """Whether a field is named, as it is written in a request or in words."""
    pattern = field.replace("_", "[_ -]")
    return re.search(rf"(?<![a-z_]){pattern}(?![a-z_])", said, re.IGNORECASE) is not None


def room_left(error: BaseException) -> int:
    """Tokens that an answer may have, from a server's refusal of a request that is too long; 0 if unsaid."""
    words = said(error) if isinstance(error, openai.APIStatusError) else ""
    holds, prompt = _number(_HOLDS.search(words)), _number(_PROMPT.search(words))
    return max(0, holds - prompt) if holds and prompt else 0


def _number(found: re.Match[str] | None) -> int:
    digits = next((group for group in found.groups() if group), "") if found else ""
    return int(digits.replace(",", "") or 0)


def has_audio(body: Mapping[str, Any]) -> bool:
    """Whether a request holds a recording."""
    return _has_part(body, "audio_url") or _has_part(body, "input_audio")


def _has_part(body: Mapping[str, Any], kind: str) -> bool:
    contents = [message.get("content") for message in body["messages"]]
    return any(part["type"] == kind for content in contents if isinstance(content, list) for part in content)


def _without(message: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in message.items() if key != name}


def _holds(body: Mapping[str, Any], name: str) -> bool:
    return name in body or any(name in message for message in body["messages"])
