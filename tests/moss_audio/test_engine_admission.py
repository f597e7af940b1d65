"""Who waits holds nothing: preparing, hearing and admitting, and what is said when memory runs out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from index.transcription.moss_requests import BackendClient
from moss_audio.engine import Engine, EngineOptions, LocalBackend, engine
from moss_audio.engine import encoder_cache as hearing
from moss_audio.engine import options as sizes
from moss_audio.engine import sequence as preparing
from moss_audio.engine.model_runner import Eager, hear
from moss_audio.engine.options import Budget, workspace
from moss_audio.errors import MemoryUsedUp, MossAudioError, NotEnoughMemory
from moss_audio.generation.requests import Options, Reply, Request
from moss_audio.model.modeling import MossAudioModel
from tests.support.tiny_moss import chain, letters, load, random_checkpoint, waves, writing_checkpoint
from web.api.error_responses import as_api_error

FEW = Options(max_new_tokens=3)
CLIPS = waves(8.2, 8.5, 8.9, 9.1, 8.3, 8.7)
REQUESTS = [Request("Transcribe the audio.", [one]) for one in CLIPS]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> MossAudioModel:
    return load(random_checkpoint(tmp_path_factory.mktemp("tiny")))


@pytest.fixture
def start(model) -> Iterator[Callable[..., Engine]]:
    engines = []

    def begin(**sizes) -> Engine:
        engines.append(Engine(model, EngineOptions(**{"page_size": 16, "cache_bytes": 6_000_000, **sizes})))
        return engines[-1]

    yield begin
    for one in engines:
        one.close()


def queued(one: Engine, requests: list[Request]) -> list:
    """Requests in the line of an engine whose thread does not run: the test takes its steps."""
    one._thread = threading.current_thread()
    tickets = [one.submit(request, FEW) for request in requests]
    one._thread = None
    return tickets


@pytest.mark.parametrize("sizes", [{"cache_bytes": 700_000}, {"prefill_tokens": 200}])
def test_only_what_the_next_pass_takes_is_prepared_and_heard(start, monkeypatch, sizes):
    prepared, heard = [], []
    ready = preparing.Preparer.sequence

    def counting(self, *given):
        prepared.append(ready(self, *given))
        return prepared[-1]

    def listening(cache, sequences):
        chosen = list(sequences)
        heard.append(len(chosen))
        return hear(cache, chosen)

    monkeypatch.setattr(preparing.Preparer, "sequence", counting)
    monkeypatch.setattr(engine, "hear", listening)
    one = start(**sizes)
    tickets = queued(one, REQUESTS)
    one.step()
    # Two have room, or two fill a pass; at most one more stands at the head of the line.
    assert len(one._running) == 2 and len(prepared) <= 3
    assert one.statistics().waiting == 4 and heard == [2]
    while one._running or one._waiting or one._head:
        one.step()
        assert sum(each.features is not None for each in prepared) <= 2
    assert [ticket.result().stopped for ticket in tickets] == ["length"] * 6


def test_a_pass_of_the_encoder_has_a_bounded_number_of_windows(start, monkeypatch):
    monkeypatch.setattr(hearing, "WINDOWS_AT_ONCE", 4)
    one = start()
    encode, seen = one.model.audio_encoder.encode_windows, []

    def counting(windows):
        seen.append(len(windows.frames))
        return encode(windows)

    monkeypatch.setattr(one.model.audio_encoder, "encode_windows", counting)
    for ticket in [one.submit(request, FEW) for request in REQUESTS]:
        ticket.result()
    assert sum(seen) == one.statistics().windows_encoded == 18 and max(seen) == 4


def test_audio_that_stands_in_shared_pages_is_not_heard_again(start):
    one = start(encoder_bytes=0, page_size=1)
    for prompt in ("Transcribe the audio.", "Describe this audio."):
        one.submit(Request(prompt, [CLIPS[0]]), FEW).result()
    assert one.statistics().windows_encoded == 3


def test_the_cache_leaves_room_for_windows_and_work(model, monkeypatch):
    options = EngineOptions(page_size=16, cache_share=1.0)
    work = workspace(model, options)
    for there in (3 * work, 30 * work):
        monkeypatch.setattr(sizes, "available", lambda device, there=there: there)
        budget = Budget.of(model, options)
        assert budget.encoder_bytes == min(options.encoder_bytes, there // 10)
        assert 2 <= budget.pages <= options.max_tokens // 16
        assert _cache_bytes(model, budget) + budget.encoder_bytes + work <= there
    monkeypatch.setattr(sizes, "available", lambda device: work // 2)
    with pytest.raises(NotEnoughMemory, match=r"KV cache needs .* gets 0\.000 GB"):
        Budget.of(model, options)


def _cache_bytes(model: MossAudioModel, budget: Budget) -> int:
    language = model.config.language_config
    width = language.num_hidden_layers * language.num_key_value_heads * language.head_dim
    return budget.pages * 16 * 2 * width * model.dtype.itemsize


def test_the_pages_of_a_prompt_are_named_once_however_long_it_waits(start, monkeypatch):
    calls = []
    naming = preparing.page_names
    monkeypatch.setattr(preparing, "page_names", lambda *given: calls.append(1) or naming(*given))
    one = start(cache_bytes=400_000)
    queued(one, REQUESTS[:3])
    # The second has no room beside the first, and is looked at in each step.
    for _ in range(2):
        one.step()
    assert len(one._running) == 1 and len(calls) == 2


def test_seconds_count_from_the_submission(start):
    one = start()
    tickets = queued(one, [*REQUESTS[:2], Request("x")])
    for ticket in tickets:
        ticket.submitted -= 100.0
    tickets[2].cancel()
    while one._running or one._waiting or one._head:
        one.step()
    assert all(ticket.result().seconds > 100.0 for ticket in tickets)


# --- memory that runs out, and other things nobody expected --------------------------------------------


class Failing(Eager):
    """Stepping that fails as a GPU without memory does, then works."""

    def __init__(self, *given, error: Exception) -> None:
        super().__init__(*given)
        self.error: Exception | None = error

    def launch(self, *given):
        error, self.error = self.error, None
        if error is not None:
            raise error
        return super().launch(*given)


def failing(folder, error: Exception) -> LocalBackend:
    class Broken(Engine):
        def _stepping(self):
            return Failing(self.model, self.cache, error=error)

    return LocalBackend(Broken(load(folder), EngineOptions(page_size=16, cache_bytes=4_000_000)), "tiny")


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
    backend = LocalBackend.load(folder, options=EngineOptions(page_size=16, cache_bytes=8_000_000))
    tickets = []
    submit = backend.engine.submit

    def noting(*given):
        tickets.append(submit(*given))
        return tickets[-1]

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(backend.engine, "submit", noting)
    try:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("moss_audio.engine.local_backend._result", lambda ticket: interrupted())
            backend.ask([Request("q"), Request("r")], Options(max_new_tokens=4_000))
        assert [one.result().stopped for one in tickets] == ["cancelled"] * 2
    finally:
        backend.close()
