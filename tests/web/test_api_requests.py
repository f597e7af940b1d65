"""Whatever a client sends is either understood or refused; never a failure of the server."""

from __future__ import annotations

import json

from hypothesis import example, given
from hypothesis import strategies as st

from web.api.chat_request import read_chat_request
from web.api.error_responses import ApiError
from web.api.limiter import Limits

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
ANY = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
PART = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "input_audio", "audio_url", "image_url"]) | ANY},
    optional={
        "text": st.text(max_size=8) | ANY,
        "input_audio": st.fixed_dictionaries({"data": st.just("AAAA") | ANY, "format": ANY}) | ANY,
        "audio_url": st.fixed_dictionaries({"url": st.just("data:audio/wav;base64,AAAA") | ANY}) | ANY,
    },
)
CALL = st.fixed_dictionaries(
    {
        "id": ANY,
        "function": st.fixed_dictionaries({"name": st.text() | ANY, "arguments": st.text() | ANY}) | ANY,
    }
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer", "user", "assistant", "tool"]) | ANY},
    optional={
        "content": st.text(max_size=8) | st.lists(PART, max_size=3) | ANY,
        "tool_calls": st.lists(CALL, max_size=2) | ANY,
        "reasoning": ANY,
        "tool_call_id": ANY,
    },
)
TOOL = st.fixed_dictionaries(
    {"type": st.just("function") | ANY, "function": st.fixed_dictionaries({"name": st.text() | ANY}) | ANY}
)
OTHERS = [
    "stream", "stream_options", "max_completion_tokens", "temperature", "top_p", "top_k", "seed", "stop", "n",
    "tool_choice", "parallel_tool_calls", "reasoning_effort", "thinking_budget", "chat_template_kwargs",
    "response_format", "modalities", "logprobs", "logit_bias", "functions", "function_call", "unheard_of",
]  # fmt: skip
BODY = st.fixed_dictionaries(
    {"model": st.text(max_size=8) | ANY, "messages": st.lists(MESSAGE, max_size=4) | ANY},
    optional={"tools": st.lists(TOOL, max_size=2) | ANY} | dict.fromkeys(OTHERS, ANY),
)


@given(body=BODY | ANY)
@example(body={"model": "a", "messages": [{"role": [], "content": "a"}]})
@example(body={"model": "a", "messages": [{"role": "user", "content": [{"type": {}}]}]})
@example(body={"model": "a", "messages": [{"role": "user", "content": "a"}], "response_format": {"type": []}})
def test_any_json_is_understood_or_refused(body: object):
    try:
        asked = read_chat_request(json.dumps(body).encode(), Limits())
    except ApiError as error:
        assert 400 <= error.status < 500
        json.dumps(error.document(), ensure_ascii=False).encode()
        assert error.message.endswith(".")
        return
    assert asked.messages and all(isinstance(message["content"], str) for message in asked.messages)
    json.dumps(asked.messages, ensure_ascii=False).encode()


@given(body=st.binary(max_size=200))
def test_any_bytes_are_understood_or_refused(body: bytes):
    try:
        read_chat_request(body, Limits())
    except ApiError as error:
        assert error.status in (400, 422)
