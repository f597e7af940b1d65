"""Answers of vLLM and SGLang, read over real HTTP."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moss_audio.generation.requests import Options, Reply, Request, TextDelta, ThinkingDelta
from moss_audio.served import ServedBackend
from moss_audio.served.answers import AnswerReader
from tests.support.served_server import Act, document, replaying, said, stream

OPTIONS = Options(max_new_tokens=64)
MESSAGES = [{"role": "user", "content": "What about the ferry?"}]
TOOLS = [{"type": "function", "function": {"name": "search", "parameters": {"type": "object"}}}]
FIRST_CALL = '<tool_call>\n{"name": "search", "arguments": {"query": "the ferry"}}\n</tool_call>'
SECOND_CALL = '<tool_call>\n{"name": "read_range", "arguments": {"start": 120, "end": 180}}\n</tool_call>'


def answer(act: Act, options: Options = OPTIONS) -> tuple[Reply, list]:
    """The reply to a conversation, and the deltas before it."""
    with replaying(act) as server:
        backend = ServedBackend(server.url, retries=0)
        try:
            *deltas, last = backend.chat(MESSAGES, TOOLS, options)
        finally:
            backend.close()
    assert isinstance(last, Reply)
    assert "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)) == last.text
    return last, deltas


@pytest.mark.parametrize("size", [None, 1, 7])
@pytest.mark.parametrize("name", ["vllm_thinking.sse", "sglang_thinking.sse"])
def test_thought_and_answer_come_apart_however_the_network_cuts_them(name: str, size: int | None):
    reply, deltas = answer(stream(name, size))
    assert reply.thinking == "Two voices, one laughs."
    assert reply.text == "She sounds amused, he does not."
    assert "".join(event.text for event in deltas if isinstance(event, ThinkingDelta)) == reply.thinking
    assert len(deltas) > 5, "it came in one piece"
    kinds = [type(delta) for delta in deltas]
    assert kinds == sorted(kinds, key=lambda kind: kind is TextDelta), "the thought comes first"


def test_the_older_name_of_the_thought_is_read_too():
    reply, _ = answer(stream("vllm_thinking_older.sse"))
    assert (reply.thinking, reply.text) == ("Two voices.", "She sounds amused.")


def test_a_thought_within_the_text_is_taken_out_where_the_server_has_no_parser():
    reply, deltas = answer(stream("sglang_plain_instruct.sse", 40))
    assert (reply.thinking, reply.text) == ("", "Here we go.")
    assert not any("<" in delta.text for delta in deltas)
    reply, _ = answer(stream("sglang_plain_thinking.sse"))
    assert (reply.thinking, reply.text) == ("Two voices.", "She sounds amused.")


def test_tokens_are_those_the_server_counted_and_the_end_is_the_servers():
    reply, _ = answer(stream("vllm_transcript.sse"))
    assert reply.text == "[0.00]Good morning.[1.20][1.20]Shall we begin?[2.60]"
    assert (reply.prompt_tokens, reply.new_tokens, reply.stopped) == (212, 31, "end")
    reply, _ = answer(stream("vllm_length.sse"))
    assert (reply.text, reply.stopped) == ("[0.00]Good morning.", "length")


def test_calls_that_come_in_pieces_are_written_as_the_model_writes_them():
    reply, _ = answer(stream("vllm_tool_calls.sse", 50))
    assert reply.thinking == "I should look."
    assert reply.text == f"{FIRST_CALL}\n{SECOND_CALL}"
    reply, _ = answer(stream("sglang_tool_calls.sse"))
    assert reply.text == f"Let me look.\n{FIRST_CALL}\n{SECOND_CALL}"


def test_calls_that_the_server_did_not_parse_stay_as_they_are():
    reply, _ = answer(stream("vllm_tools_unparsed.sse"))
    assert reply.text == FIRST_CALL


def test_a_call_whose_last_brace_the_server_lost_is_handed_on_as_it_came():
    reply, _ = answer(stream("vllm_tool_calls_cut_short.sse"))
    assert reply.text == '<tool_call>\n{"name": "search", "arguments": {"query": "the ferry"}\n</tool_call>'


def test_a_server_that_streams_nothing_is_understood():
    reply, _ = answer(document("vllm_whole.json"))
    assert (reply.thinking, reply.text) == ("Two voices, one laughs.", "She sounds amused, he does not.")
    reply, _ = answer(document("sglang_whole_tool_call.json"))
    assert reply.text == f"Let me look.\n{FIRST_CALL}"
    assert (reply.prompt_tokens, reply.new_tokens) == (403, 88)


def test_an_answer_that_the_server_took_for_a_thought_is_the_answer_where_no_thought_was_wanted():
    reply, _ = answer(stream("vllm_answer_as_thought.sse"), Options(max_new_tokens=64, thinking=False))
    assert (reply.thinking, reply.text) == ("", "The ferry runs daily.")
    reply, _ = answer(stream("vllm_answer_as_thought.sse"))
    assert (reply.thinking, reply.text) == ("The ferry runs daily.", "")


def test_a_stream_of_calls_without_an_end_reason_counts_as_whole_only_if_the_calls_are():
    lines = said("sglang_tool_calls.sse").split(b"\n\n")
    endless = b"\n\n".join(line for line in lines if b'"finish_reason":"' not in line)
    reply, _ = answer(Act([endless]))
    assert reply.text.endswith(SECOND_CALL)


def test_an_answer_that_goes_in_circles_is_ended():
    chunk = {"choices": [{"index": 0, "delta": {"content": "ha ha, "}, "finish_reason": None}]}
    piece = f"data: {json.dumps(chunk)}\n\n".encode()
    with replaying(Act([piece] * 200, hang=True)) as server:
        backend = ServedBackend(server.url)
        (reply,) = backend.ask([Request("Listen.")], Options(max_new_tokens=4000, stop_loops=True))
        assert isinstance(reply, Reply)
        assert reply.stopped == "loop"
        assert 48 <= len(reply.text.replace(",", " ,").split()) < 400
        assert server.left.wait(5), "the server was left writing"
        backend.close()


def test_whether_it_thinks_is_told_by_name_or_seen():
    with replaying(stream("vllm_thinking.sse"), models="vllm_models_folder.json") as server:
        backend = ServedBackend(server.url)
        assert not backend.thinks
        backend.check()
        assert not backend.thinks
        list(backend.stream(Request("Hello."), OPTIONS))
        assert backend.thinks
        backend.close()
    with replaying() as server:
        backend = ServedBackend(server.url)
        backend.check()
        assert backend.thinks
        backend.close()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                (
                    *("choices", "delta", "message", "content", "reasoning", "tool_calls", "function"),
                    *("arguments", "index", "id", "usage", "prompt_tokens", "finish_reason", "text", "name"),
                )
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(st.lists(json_values, max_size=5))
def test_whatever_a_server_sends_is_read_without_an_error(documents: list):
    reader = AnswerReader(stop_loops=True)
    given_out = [event for item in documents for event in reader.take(item)] + reader.finish()
    reply = reader.reply()
    assert reply.text == "".join(delta.text for delta in given_out if isinstance(delta, TextDelta))


@given(st.text(max_size=60), st.data())
def test_text_is_the_same_however_it_is_cut(text: str, data: st.DataObject):
    def read(pieces: list[str]) -> tuple[str, str]:
        reader = AnswerReader()
        for piece in pieces:
            reader.take({"choices": [{"delta": {"content": piece}}]})
        reader.finish()
        reply = reader.reply()
        return reply.thinking, reply.text

    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=5)))
    ends = [0, *cuts, len(text)]
    assert read([text[a:b] for a, b in pairwise(ends)]) == read([text])
