"""This program's server and its client together: the same answers as without them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from moss_audio.engine import EngineOptions, LocalBackend
from moss_audio.errors import ServerError
from moss_audio.generation.requests import Options, Reply, Request
from moss_audio.served import ServedBackend
from tests.support.api_serving import Served, serving
from tests.support.moss_backend import RuleBackend
from tests.support.tiny_moss import THINK, UNTHINK, chain, letters, random_checkpoint, writing_checkpoint

GREEDY = Options(max_new_tokens=40)
QUESTIONS = ["Transcribe the audio.", "Is there a dog?", "How does she sound?"]
CALL = '<tool_call>\n{"name": "search", "arguments": {"query": "the ferry"}}\n</tool_call>'
TOOLS = [{"type": "function", "function": {"name": "search", "parameters": {"type": "object"}}}]


def noise(seconds: float, seed: int) -> np.ndarray:
    samples = np.random.default_rng(seed).normal(0, 0.1, int(seconds * 16_000))
    return (np.clip(samples, -1, 1) * 32767).astype(np.int16)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalBackend, Served]]:
    folder = random_checkpoint(tmp_path_factory.mktemp("moss"), "MOSS-Audio-Tiny")
    options = EngineOptions(block_size=16, cache_bytes=20_000_000)
    backend = LocalBackend.load(folder, device="cpu", options=options)
    with serving(backend, key="a-key") as served:
        yield backend, served


@pytest.fixture
def client(engine: tuple[LocalBackend, Served]) -> Iterator[ServedBackend]:
    backend = ServedBackend(engine[1].url, api_key="a-key", timeout=60)
    yield backend
    backend.close()


def test_answers_about_audio_are_those_of_the_engine(
    engine: tuple[LocalBackend, Served], client: ServedBackend
):
    requests = [Request(text, [noise(1 + at, at)]) for at, text in enumerate(QUESTIONS)]
    here, there = engine[0].ask(requests, GREEDY), client.ask(requests, GREEDY)
    for ours, theirs in zip(here, there, strict=True):
        assert isinstance(ours, Reply) and isinstance(theirs, Reply), theirs
        assert (ours.text, ours.thinking, ours.stopped) == (theirs.text, theirs.thinking, theirs.stopped)
        assert (ours.prompt_tokens, ours.new_tokens) == (theirs.prompt_tokens, theirs.new_tokens)
    assert len({reply.text for reply in there if isinstance(reply, Reply)}) > 1, (
        "the audio made no difference"
    )


def test_the_server_is_recognised_and_found_to_hear(client: ServedBackend):
    served = client.check(listen=True)
    assert (served.name, served.software) == ("MOSS-Audio-Tiny", "moss-agent")
    assert client.hears and not client.thinks


def test_a_wrong_key_is_told(engine: tuple[LocalBackend, Served]):
    backend = ServedBackend(engine[1].url, api_key="another-key")
    with pytest.raises(ServerError) as raised:
        backend.check()
    assert raised.value.trouble == "unauthorised" and "another-key" not in str(raised.value)
    backend.close()


def test_thoughts_come_apart_through_the_server(tmp_path: Path):
    written = chain(THINK, *letters("hm"), UNTHINK, *letters("world"))
    folder = writing_checkpoint(tmp_path, written, "Tiny-Thinking")
    options = EngineOptions(block_size=16, cache_bytes=10_000_000)
    with serving(LocalBackend.load(folder, device="cpu", options=options)) as served:
        backend = ServedBackend(served.url)
        *deltas, last = backend.stream(Request("Hello?"), GREEDY)
        assert isinstance(last, Reply)
        assert (last.thinking, last.text, last.stopped) == ("hm", "world", "end")
        assert len(deltas) > 2
        assert backend.thinks
        backend.close()


def test_calls_of_tools_go_there_and_back():
    model = RuleBackend(think=lambda *_: f"Let me look.\n{CALL}")
    with serving(model) as served:
        backend = ServedBackend(served.url)
        question = {"role": "user", "content": "What about the ferry?"}
        *_, last = backend.chat(
            [question], TOOLS, Options(max_new_tokens=200, temperature=0.5, top_k=7, seed=1)
        )
        assert isinstance(last, Reply) and last.text == f"Let me look.\n{CALL}"
        calls = [{"id": "c1", "function": {"name": "search", "arguments": {"query": "the ferry"}}}]
        turns = [question, {"role": "assistant", "content": "Let me look.", "tool_calls": calls}]
        turns += [{"role": "tool", "tool_call_id": "c1", "content": "[1] daily"}]
        list(backend.chat(turns, TOOLS, Options(max_new_tokens=200, thinking_budget=50)))
        backend.close()
    (_, names, first), (heard, _, second) = model.chats
    assert names == ["search"]
    assert (first.temperature, first.top_k, first.seed) == (0.5, 7, 1)
    assert second.thinking_budget == 50
    assert [message["role"] for message in heard] == ["user", "assistant", "tool"]


def test_cancelling_ends_the_work_at_the_server():
    model = RuleBackend(hear=lambda _: "and so on " * 2000, pace=0.01)
    with serving(model) as served:
        backend = ServedBackend(served.url)
        cancel = threading.Event()
        threading.Timer(0.5, cancel.set).start()
        (reply,) = backend.ask([Request("Listen.", [noise(1, 0)])], Options(max_new_tokens=5_000), cancel)
        assert isinstance(reply, Reply) and reply.stopped == "cancelled"
        assert reply.text.startswith("and so on")
        written = model.written
        backend.close()
        assert written < 20_000


def test_a_server_without_a_chat_model_says_what_chooses_one():
    class Recogniser:
        name = "whisper-base"
        windows_at_once = 1
        window_speech_seconds = max_window_seconds = 60.0
        max_splits = 0
        times_words = True

    with serving(None, Recogniser()) as served:
        backend = ServedBackend(served.url)
        (error,) = backend.ask([Request("Hello.")], GREEDY)
        assert isinstance(error, ServerError) and "MOSS_AGENT_MODEL" in str(error)
        assert error.trouble == "unknown-model"
        backend.close()
