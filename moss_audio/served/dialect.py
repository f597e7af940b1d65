"""What a server's requests may hold: begun with everything, less what it has refused.

vLLM, SGLang and this program's server take all of it. A plain OpenAI server refuses ``top_k`` and the
template's switch; an old one knows neither ``max_completion_tokens`` nor ``stream_options``. What a refusal
names is left out or renamed, and the request sent again.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

import openai

from moss_audio.generation.requests import Options
from moss_audio.generation.thinking import name_says_thinking
from moss_audio.served.connection import said
from moss_audio.served.messages import AudioPart

log = logging.getLogger(__name__)

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
THOUGHT_TOKENS = 4096
"""Room beside the answer for a thought that cannot be bounded or left out."""

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
