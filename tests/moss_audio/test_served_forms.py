"""Everything that is sent to vLLM and SGLang, held against what their protocols take."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator, ValidationError

from agent.engines.engine_choice import choose
from agent.settings import Settings
from index.recording_errors import MossAgentError
from moss_audio.generation.requests import Options, Reply, Request
from moss_audio.served import ServedBackend, served_backend
from tests.support.served_server import SAID, replaying, stream

SOUND = np.zeros(16_000, dtype=np.float32)
CALL = {"id": "call_1", "type": "function", "function": {"name": "search", "arguments": '{"query": "ferry"}'}}
CONVERSATION = [
    {"role": "system", "content": "You help."},
    {"role": "user", "content": [{"type": "text", "text": "What about the ferry?"}]},
    {"role": "assistant", "content": "", "reasoning_content": "I should look.", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": "[1] at 2:05"},
]
PARAMETERS = {"type": "object", "properties": {"query": {"type": "string"}}}
TOOL = {"name": "search", "description": "Find passages.", "parameters": PARAMETERS}
TOOLS = [{"type": "function", "function": TOOL}]
MODES = [
    Options(max_new_tokens=64),
    Options(max_new_tokens=64, thinking=False, stop_loops=True),
    Options(max_new_tokens=64, temperature=1.0, top_k=0, seed=2**63 - 1),
    Options(max_new_tokens=64, temperature=0.6, top_p=0.95, top_k=20, thinking_budget=30),
]


def schema(server: str) -> Draft202012Validator:
    rules = json.loads((SAID / f"{server}_request.schema.json").read_text())
    Draft202012Validator.check_schema(rules)
    return Draft202012Validator(rules)


def sent(server: str, **more: Any) -> list[dict]:
    """All kinds of requests, as they arrive."""
    with replaying(stream("vllm_transcript.sse"), models=f"{server}_models.json") as replay:
        backend = ServedBackend(replay.url, **more)
        backend.check(listen=True)
        for options in MODES:
            replies = backend.ask([Request("Transcribe.", [SOUND]), Request("Hello.")], options)
            assert all(isinstance(reply, Reply) for reply in replies), replies
            list(backend.chat(CONVERSATION, TOOLS, options))
        backend.close()
        return [chat.body for chat in replay.chats]


@pytest.mark.parametrize(
    ("server", "more"),
    [("vllm", {}), ("sglang", {}), ("sglang", {"thinking_processor": '{"callable": "8004"}'})],
)
def test_every_request_has_the_form_that_the_server_takes(server: str, more: dict):
    bodies = sent(server, **more)
    assert len(bodies) == 2 + 3 * len(MODES)
    rules = schema(server)
    for body in bodies:
        rules.validate(body)
    fields = {name for body in bodies for name in body}
    assert {"messages", "tools", "top_k", "seed", "chat_template_kwargs", "stream_options"} <= fields
    assert ("custom_logit_processor" in fields) == bool(more)


def test_the_schemas_refuse_what_the_servers_do_not_know():
    body = sent("vllm")[0]
    for server in ("vllm", "sglang"):
        for wrong in (
            {"max_new_tokens": 5},
            {"max_completion_tokens": "5"},
            {"top_k": 0},
            {"audio_data": "a"},
        ):
            with pytest.raises(ValidationError):
                schema(server).validate(body | wrong)
    other = copy.deepcopy(body)
    sound = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    other["messages"] = [{"role": "user", "content": [sound, {"type": "text", "text": "Hello."}]}]
    schema("vllm").validate(other)
    with pytest.raises(ValidationError):
        schema("sglang").validate(other)


def test_one_setting_bounds_the_thoughts_of_sglang(home: Path, tmp_path: Path):
    processor = '{"callable": "80049500"}'
    file = tmp_path / "processor.json"
    file.write_text(processor + "\n")
    for given in (processor, str(file)):
        with replaying(stream("vllm_transcript.sse"), models="sglang_models.json") as server:
            engines = choose(Settings(home=home, model=server.url, thinking_processor=given))
            assert engines.backend is not None
            engines.backend.ask([Request("Transcribe.", [SOUND])], Options(max_new_tokens=64, thinking=False))
            engines.close()
            body = server.chats[-1].body
        assert (body["custom_logit_processor"], body["max_completion_tokens"]) == (processor, 64)
    with pytest.raises(MossAgentError, match=r"^MOSS_AGENT_THINKING_PROCESSOR: .*gone\.json.*\.$"):
        choose(
            Settings(home=home, model="http://127.0.0.1:9/v1", thinking_processor=str(tmp_path / "gone.json"))
        )


@pytest.mark.parametrize(
    ("entry", "context"),
    [
        ({"max_model_len": 32768}, 32768),
        ({"meta": {"n_ctx": 4096, "n_ctx_train": 32768}}, 4096),  # llama.cpp
        ({"meta": None}, None),
        ({}, None),
    ],
)
def test_a_server_says_how_much_its_model_holds(entry: dict[str, Any], context: int | None) -> None:
    assert served_backend.choose({"data": [{"id": "m", **entry}]}, None, "host").context == context
