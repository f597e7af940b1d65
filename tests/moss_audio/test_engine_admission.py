"""What waits holds nothing: preparing, encoding and admitting, and what is said when memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from index.transcription.moss_requests import BackendClient
from moss_audio.engine import Engine, EngineOptions, LocalBackend, RequestHandle
from moss_audio.engine import encoder_cache as encoding
from moss_audio.engine import engine as engines
from moss_audio.engine import sequence as sequences
from moss_audio.engine.encoder_cache import EncoderCache
from moss_audio.engine.engine import Budget, workspace
from moss_audio.engine.model_runner import ModelRunner
from moss_audio.errors import MemoryUsedUp, MossAudioError, NotEnoughMemory
from moss_audio.generation.requests import Options, Reply, Request
from moss_audio.model.modeling import MossAudioModel
from tests.support.tiny_moss import chain, letters, load, random_checkpoint, waves, writing_checkpoint
from web.api.error_responses import as_api_error

FEW = Options(max_new_tokens=3)
CLIPS = waves(8.2, 8.5, 8.9, 9.1, 8.3, 8.7)
REQUESTS = [Request("Transcribe the audio.", [clip]) for clip in CLIPS]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> MossAudioModel:
    return load(random_checkpoint(tmp_path_factory.mktemp("tiny")))


@pytest.fixture
def start(model) -> Iterator[Callable[..., Engine]]:
    engines = []

    def begin(**sizes) -> Engine:
        engines.append(Engine(model, EngineOptions(**{"block_size": 16, "cache_bytes": 6_000_000, **sizes})))
        return engines[-1]

    yield begin
    for engine in engines:
        engine.close()


def queued(engine: Engine, requests: list[Request]) -> list[RequestHandle]:
    """Requests in the line of an engine whose thread does not run: the test takes its steps."""
    return [engine.enqueue(request, FEW) for request in requests]


def busy(engine: Engine) -> int:
    now = engine.statistics()
    return now.running + now.waiting


@pytest.mark.parametrize("sizes", [{"cache_bytes": 700_000}, {"prefill_tokens": 200}])
def test_only_what_the_next_pass_takes_is_prepared_and_encoded(start, monkeypatch, sizes):
    prepared, encoded = [], []
    ready, encode = sequences.InputProcessor.sequence, EncoderCache.encode

    def preparing(self, *given):
        prepared.append(ready(self, *given))
        return prepared[-1]

    def encoding(self, requests):
        encoded.append(len(requests))
        return encode(self, requests)

    monkeypatch.setattr(sequences.InputProcessor, "sequence", preparing)
    monkeypatch.setattr(EncoderCache, "encode", encoding)
    engine = start(**sizes)
    handles = queued(engine, REQUESTS)
    engine.step()
    # Two have room, or two fill a pass; at most one more stands at the head of the line.
    assert engine.statistics().running == 2 and len(prepared) <= 3
    assert engine.statistics().waiting == 4 and encoded == [2]
    while busy(engine):
        engine.step()
        assert sum(sequence.features is not None for sequence in prepared) <= 2
    assert [handle.result().stopped for handle in handles] == ["length"] * 6


def test_a_pass_of_the_encoder_has_a_bounded_number_of_windows(start, monkeypatch):
    monkeypatch.setattr(encoding, "WINDOWS_AT_ONCE", 4)
    engine = start()
    encode, seen = engine.model.audio_encoder.encode_windows, []

    def counting(windows):
        seen.append(len(windows.frames))
        return encode(windows)

    monkeypatch.setattr(engine.model.audio_encoder, "encode_windows", counting)
    for handle in [engine.submit(request, FEW) for request in REQUESTS]:
        handle.result()
    assert sum(seen) == engine.statistics().windows_encoded == 18 and max(seen) == 4


def test_audio_that_stands_in_shared_blocks_is_not_encoded_again(start):
    engine = start(encoder_bytes=0, block_size=1)
    for prompt in ("Transcribe the audio.", "Describe this audio."):
        engine.submit(Request(prompt, [CLIPS[0]]), FEW).result()
    assert engine.statistics().windows_encoded == 3


def test_the_cache_leaves_room_for_windows_and_work(model, monkeypatch):
    options = EngineOptions(block_size=16, cache_share=1.0)
    work = workspace(model, options)
    for there in (3 * work, 30 * work):
        monkeypatch.setattr(engines, "available", lambda device, there=there: there)
        budget = Budget.of(model, options)
        assert budget.encoder_bytes == min(options.encoder_bytes, there // 10)
        assert 2 <= budget.blocks <= options.max_tokens // 16
        assert _cache_bytes(model, budget) + budget.encoder_bytes + work <= there
    monkeypatch.setattr(engines, "available", lambda device: work // 2)
    with pytest.raises(NotEnoughMemory, match=r"KV cache needs .* gets 0\.000 GB"):
        Budget.of(model, options)


def _cache_bytes(model: MossAudioModel, budget: Budget) -> int:
    language = model.config.language_config
    width = language.num_hidden_layers * language.num_key_value_heads * language.head_dim
    return budget.blocks * 16 * 2 * width * model.dtype.itemsize


def test_the_blocks_of_a_prompt_are_hashed_once_however_long_it_waits(start, monkeypatch):
    calls = []
    hashing = sequences.block_hashes
    monkeypatch.setattr(sequences, "block_hashes", lambda *given: calls.append(1) or hashing(*given))
    engine = start(cache_bytes=400_000)
    queued(engine, REQUESTS[:3])
    # The second has no room beside the first, and is looked at in each step.
    for _ in range(2):
        engine.step()
    assert engine.statistics().running == 1 and len(calls) == 2


def test_seconds_count_from_the_submission(start):
    engine = start()
    handles = queued(engine, [*REQUESTS[:2], Request("x")])
    for handle in handles:
        handle.submitted -= 100.0
    handles[2].cancel()
    while busy(engine):
        engine.step()
    assert all(handle.result().seconds > 100.0 for handle in handles)


# --- memory that runs out, and other things nobody expected --------------------------------------------


def failing(folder, error: Exception) -> LocalBackend:
    """A backend whose first decoding step fails, as a GPU without memory does; the others work."""
    errors = [error]

    class Failing(ModelRunner):
        def decode(self, *given):
            if errors:
                raise errors.pop()
            return super().decode(*given)

    options = EngineOptions(block_size=16, cache_bytes=4_000_000)
    return LocalBackend(Engine(load(folder), options, runner=Failing), "tiny")


def test_used_up_memory_is_not_the_requests_fault(tmp_path):
    folder = writing_checkpoint(tmp_path, chain(*letters("world")))
    backend = failing(folder, torch.cuda.OutOfMemoryError("no room"))
    try:
        (found,) = backend.ask([Request("q")], FEW)
        assert isinstance(found, MemoryUsedUp) and not isinstance(found, NotEnoughMemory)
        answer = as_api_error(found)
        assert answer.status == 503 and int(answer.headers["Retry-After"]) > 0
    finally:
        backend.close()


def test_memory_that_was_used_up_once_is_asked_again_for(tmp_path, monkeypatch):
    monkeypatch.setattr("index.transcription.moss_requests.AGAIN_AFTER_SECONDS", 0.0)
    folder = writing_checkpoint(tmp_path, chain(*letters("world")))
    backend = failing(folder, torch.cuda.OutOfMemoryError("no room"))
    try:
        client = BackendClient(backend)
        found = client.ask("q", np.zeros(16_000, np.float32), Options(max_new_tokens=9))
        assert found.text == "world"
    finally:
        backend.close()


def test_what_nobody_expected_is_told_of_its_own_request(tmp_path):
    folder = writing_checkpoint(tmp_path, chain(*letters("world")))
    backend = failing(folder, RuntimeError("device-side assert"))
    try:
        (found,) = backend.ask([Request("q")], FEW)
        assert type(found) is MossAudioError and "RuntimeError: device-side assert" in str(found)
        (after,) = backend.ask([Request("q")], Options(max_new_tokens=9))
        assert isinstance(after, Reply) and after.text == "world"
    finally:
        backend.close()


def test_whoever_stops_waiting_leaves_nothing_running(tmp_path, monkeypatch):
    a, b = letters("ab")
    folder = writing_checkpoint(tmp_path, {198: a, a: b, b: a})
    backend = LocalBackend.load(folder, options=EngineOptions(block_size=16, cache_bytes=8_000_000))
    handles = []
    submit = backend.engine.submit

    def noting(*given):
        handles.append(submit(*given))
        return handles[-1]

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(backend.engine, "submit", noting)
    try:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("moss_audio.engine.local_backend._result", lambda handle: interrupted())
            backend.ask([Request("q"), Request("r")], Options(max_new_tokens=4_000))
        assert [handle.result().stopped for handle in handles] == ["cancelled"] * 2
    finally:
        backend.close()
