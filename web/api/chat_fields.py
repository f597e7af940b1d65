"""Fields of chat requests that this server does not follow: left where they change nothing, else refused.

OpenAI's own fields, and those that vLLM and SGLang add to them, are known here by name. A field that nobody
knows is refused as well: whoever sends it expects something of it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from web.api.errors import ApiError, bad_request

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
    "n": "one answer a request; send the request again for another",
    "response_format": "text; ask for JSON in words, or give the form as a tool",
    "functions": "tools",
    "function_call": "tool_choice",
    "stop_token_ids": "stop",
    "thinking_token_budget": "thinking_budget",
    "guided_json": "text; ask for JSON in words, or give the form as a tool",
    "structured_outputs": "text; ask for JSON in words, or give the form as a tool",
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
            raise bad_request(f"The field {_shown(name)} is unknown here.", _shown(name), "unknown_parameter")


def unsupported(name: str) -> ApiError:
    """A field that is understood and cannot be followed: status 400."""
    hint = f"; what there is: {_INSTEAD[name]}" if name in _INSTEAD else ""
    return bad_request(
        f"This server does not support {name} as the request wants it{hint}.", name, "unsupported_parameter"
    )


def _asks_nothing(name: str, value: Any) -> bool:
    if name in _REFUSED:
        return value in ([], {}, "")
    # True is 1 to Python, and no penalty.
    neutral = _NEUTRAL.get(name)
    return neutral is not None and value == neutral and isinstance(value, bool) == isinstance(neutral, bool)


def _shown(name: str) -> str:
    return re.sub(r"[^\w.-]", "?", name)[:60] or "?"
