"""The engine's promises: the plain path's tokens, whatever runs beside; no surprise from memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from moss_audio.engine import Engine, EngineOptions, LocalBackend, QueueFull
from moss_audio.engine.model_runner import ModelRunner
from moss_audio.errors import MemoryUsedUp, MossAudioError, NotEnoughMemory
from moss_audio.generation.generate import reply
from moss_audio.generation.requests import Options, Reply, Request, TextDelta, ThinkingDelta
from moss_audio.model.chat_template import SPAN
from moss_audio.model.modeling import MossAudioModel
from tests.support.tiny_moss import (
    THINK,
    UNTHINK,
    chain,
    letters,
    load,
    random_checkpoint,
    waves,
    writing_checkpoint,
)

GREEDY = Options(max_new_tokens=24)
ONE, TWO, THREE, FOUR, FIVE = waves(0.4, 4.0, 6.3, 1.2, 8.7)
MIXED = [
    Request("Transcribe the audio.", [THREE]),
    Request("Say hello."),
    Request("Transcribe the audio.", [ONE]),
    Request("Describe this audio.", [FIVE]),
    Request("Which is louder?", [TWO, FOUR]),
    Request("Transcribe the audio.", [TWO]),
    Request("x"),
    Request("Describe this audio.", [THREE]),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> MossAudioModel:
    return load(random_checkpoint(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def plain(model) -> list[Reply]:
    return [reply(model, request.prompt, request.audios, GREEDY) for request in MIXED]


@pytest.fixture
def start(model) -> Iterator:
    engines = []

    def begin(**sizes) -> Engine:
        engines.append(Engine(model, EngineOptions(**{"block_size": 16, "cache_bytes": 6_000_000, **sizes})))
        return engines[-1]

    yield begin
    for engine in engines:
        engine.close()


def told(answer: Reply) -> tuple:
    return answer.text, answer.thinking, answer.stopped, answer.prompt_tokens, answer.new_tokens


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"block_size": 256, "cache_bytes": 20_000_000},
        {"max_batch": 2},
        {"max_batch": 1},
        {"prefill_tokens": 37},
        {"block_size": 1, "prefill_tokens": 100, "max_batch": 3},
        {"encoder_bytes": 0},
        # Room for about two of the prompts: the others wait until blocks come back.
        {"cache_bytes": 400_000},
    ],
)
def test_a_mixed_batch_writes_what_the_plain_path_writes_token_for_token(start, plain, sizes):
    engine = start(**sizes)
    handles = [engine.submit(request, GREEDY) for request in MIXED]
    assert [told(handle.result()) for handle in handles] == [told(answer) for answer in plain]
    statistics = engine.statistics()
    assert statistics.blocks_free == statistics.blocks and statistics.running == statistics.waiting == 0


class Overlapping(ModelRunner):
    """A GPU's way on a CPU: a step's tokens are read after the next one was launched."""

    overlaps_host = True


@pytest.mark.parametrize("sizes", [{}, {"max_batch": 3}, {"cache_bytes": 400_000}])
def test_tokens_that_are_read_a_step_late_are_the_same(model, plain, sizes):
    options = EngineOptions(**{"block_size": 16, "cache_bytes": 6_000_000, **sizes})
    engine = Engine(model, options, runner=Overlapping)
    handles = [engine.submit(request, GREEDY) for request in MIXED]
    assert [told(handle.result()) for handle in handles] == [told(answer) for answer in plain]
    assert engine.statistics().blocks_free == engine.statistics().blocks
    engine.close()


def test_requests_that_come_while_others_run_change_nothing_for_them(start, plain):
    engine = start()
    handles = []
    for request in MIXED:
        handles.append(engine.submit(request, GREEDY))
        next(iter(handles[-1]))
    late = [handle.result() for handle in handles]
    assert [told(answer) for answer in late] == [told(answer) for answer in plain]


def test_deltas_add_up_to_the_answer(start):
    *deltas, last = start().submit(MIXED[0], GREEDY)
    assert isinstance(last, Reply) and len(deltas) > 3
    assert "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)) == last.text


def test_a_second_question_about_the_same_minute_encodes_nothing_and_reads_only_what_is_new(start, plain):
    engine = start()
    engine.submit(Request("Transcribe the audio.", [FIVE]), GREEDY).result()
    before = engine.statistics()
    assert before.windows_encoded == 3
    second = engine.submit(MIXED[3], GREEDY).result()
    after = engine.statistics()
    assert told(second) == told(plain[3])
    assert after.windows_encoded == 3
    # System text, audio and markers come from the cache; a block and the question are read.
    assert after.reused_tokens - before.reused_tokens > 100
    assert after.prompt_tokens - before.prompt_tokens < 60


def test_a_part_that_was_heard_before_is_not_encoded_again(start):
    engine = start()
    engine.submit(Request("One.", [FIVE]), Options(max_new_tokens=1)).result()
    engine.submit(Request("Two.", [FIVE[:64_000]]), Options(max_new_tokens=1)).result()
    # Its one window has the samples of the first, but ends a clip of its own, so it is heard; no more.
    assert engine.statistics().windows_encoded == 4


def test_other_audio_is_never_taken_for_what_was_heard(start, plain):
    engine = start()
    louder = Request(MIXED[0].prompt, [1.5 * THREE])
    engine.submit(louder, GREEDY).result()
    assert told(engine.submit(MIXED[0], GREEDY).result()) == told(plain[0])


def test_what_was_heard_is_forgotten_when_it_takes_too_much_memory(start):
    engine = start(encoder_bytes=4 * 48 * 50 * 4 * 2)
    for number, clip in enumerate((TWO, FOUR, TWO[:50_000], TWO)):
        # No two prompts begin alike, else what was read before would not be heard at all.
        request = Request(f"{number}{SPAN}", [clip])
        engine.submit(request, Options(max_new_tokens=1)).result()
    assert engine.statistics().windows_encoded == 4


def test_a_cancelled_request_ends_with_what_was_written_and_frees_its_blocks(start):
    engine = start()
    handle = engine.submit(Request("Go on.", [ONE]), Options(max_new_tokens=2500))
    events = iter(handle)
    next(events)
    handle.cancel()
    *_, last = events
    assert last.stopped == "cancelled" and last.new_tokens < 2500
    assert engine.statistics().blocks_free == engine.statistics().blocks


def test_a_request_that_can_never_fit_is_refused_with_numbers_and_the_rest_goes_on(start, plain):
    engine = start(cache_bytes=400_000)
    large = engine.submit(MIXED[3], Options(max_new_tokens=1_000_000))
    other = engine.submit(MIXED[1], GREEDY)
    with pytest.raises(NotEnoughMemory, match=r"1,000,\d\d\d tokens.*the engine holds \d+"):
        large.result()
    assert told(other.result()) == told(plain[1])


def test_a_request_that_cannot_be_used_fails_alone(start, plain):
    engine = start()
    broken = engine.submit(Request("x", [torch.zeros(10)]), GREEDY)
    other = engine.submit(MIXED[1], GREEDY)
    with pytest.raises(MossAudioError, match="at least 160"):
        broken.result()
    assert told(other.result()) == told(plain[1])


def test_a_full_queue_is_said(start):
    engine = start(max_waiting=1, max_batch=1)
    handles = [engine.submit(Request("x", [FIVE]), Options(max_new_tokens=200))]
    with pytest.raises(QueueFull, match="try again later"):
        for _ in range(50):
            handles.append(engine.submit(Request("x"), GREEDY))
    for handle in handles:
        handle.cancel()


def test_a_model_without_room_for_a_block_is_refused_with_numbers(model):
    with pytest.raises(NotEnoughMemory, match="KV cache needs"):
        Engine(model, EngineOptions(cache_bytes=1000))


def test_closing_ends_every_request_with_a_sentence(start):
    engine = start(max_batch=1)
    handles = [engine.submit(Request("x", [FIVE]), Options(max_new_tokens=2000)) for _ in range(3)]
    next(iter(handles[0]))
    engine.close()
    for handle in handles:
        with pytest.raises(MossAudioError, match="closed"):
            handle.result()
    with pytest.raises(MossAudioError, match="closed"):
        engine.submit(Request("x"))


def test_a_seed_makes_sampling_repeatable_whatever_runs_beside(start):
    engine = start()
    options = Options(max_new_tokens=12, temperature=1.3, seed=5)
    alone = engine.submit(MIXED[0], options).result()
    others = [Options(max_new_tokens=12, temperature=1.3)] * 3
    beside = [engine.submit(request, options) for request, options in zip(MIXED[1:4], others, strict=True)]
    again = engine.submit(MIXED[0], options).result()
    other = engine.submit(MIXED[0], Options(max_new_tokens=12, temperature=1.3, seed=6)).result()
    assert alone.text == again.text != other.text
    for handle in beside:
        handle.result()


@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_p": 1e-6}])
def test_sampling_from_one_token_is_greedy(start, plain, narrow):
    options = Options(max_new_tokens=24, temperature=1.0, **narrow)
    assert start().submit(MIXED[0], options).result().text == plain[0].text


def test_a_thinking_budget_closes_the_thought_as_the_plain_path_does(tmp_path):
    thought = letters("abcdefghij")
    model = load(writing_checkpoint(tmp_path, chain(THINK, *thought, UNTHINK, *letters("klm")), "Thinking"))
    engine = Engine(model, EngineOptions(block_size=16, cache_bytes=2_000_000))
    for budget in (None, 3, 0):
        options = Options(max_new_tokens=200, thinking_budget=budget)
        expected = reply(model, "q", (), options)
        found = list(engine.submit(Request("q"), options))
        assert told(found[-1]) == told(expected)
        assert any(isinstance(event, ThinkingDelta) for event in found) or budget == 0
    engine.close()


def test_an_answer_that_loops_is_ended_where_asked(tmp_path):
    a, b = letters("ab")
    model = load(writing_checkpoint(tmp_path, {198: a, a: b, b: a}))
    engine = Engine(model, EngineOptions(block_size=16, cache_bytes=4_000_000))
    options = Options(max_new_tokens=500, stop_loops=True)
    found = engine.submit(Request("q"), options).result()
    assert found.stopped == "loop" and found.new_tokens < 60
    assert told(found) == told(reply(model, "q", (), options))
    assert engine.submit(Request("q"), Options(max_new_tokens=90)).result().stopped == "length"
    engine.close()


def test_a_bad_request_alone_in_the_line_harms_no_running_one(tmp_path):
    a, b = letters("ab")
    engine = Engine(
        load(writing_checkpoint(tmp_path, {198: a, a: b, b: a})),
        EngineOptions(block_size=16, cache_bytes=4_000_000),
    )
    running = iter(engine.submit(Request("q"), Options(max_new_tokens=300)))
    next(running)
    with pytest.raises(MossAudioError):
        engine.submit(Request("q", [torch.zeros(3)]), GREEDY).result()
    *_, last = running
    assert last.stopped == "length" and last.new_tokens == 300
    engine.close()


def test_where_audio_cannot_be_encoded_only_its_own_request_fails(start, plain, monkeypatch):
    engine = start()
    encode = engine.model.audio_encoder.encode_windows

    def short_of_memory(windows):
        # All together do not go, nor does the one with the window of 1.2 s, the second clip of its request.
        if len(windows.frames) > 4 or 120 in windows.frames.tolist():
            raise torch.cuda.OutOfMemoryError("no room")
        return encode(windows)

    monkeypatch.setattr(engine.model.audio_encoder, "encode_windows", short_of_memory)
    handles = [engine.submit(request, GREEDY) for request in MIXED]
    two_clips = next(number for number, request in enumerate(MIXED) if len(request.audios) == 2)
    for number, (handle, expected) in enumerate(zip(handles, plain, strict=True)):
        if number == two_clips:
            with pytest.raises(MemoryUsedUp, match="try again"):
                handle.result()
        else:
            assert told(handle.result()) == told(expected)


def test_a_request_given_up_in_the_line_is_ended_before_its_turn(tmp_path):
    a, b = letters("ab")
    engine = Engine(
        load(writing_checkpoint(tmp_path, {198: a, a: b, b: a})),
        EngineOptions(block_size=16, cache_bytes=4_000_000, max_batch=1),
    )
    running = engine.submit(Request("q"), Options(max_new_tokens=2_000))
    next(iter(running))
    second, third = (engine.submit(Request("q"), GREEDY) for _ in range(2))
    third.cancel()
    assert third.result().stopped == "cancelled" and third.cancelled.is_set()
    assert engine.statistics().running == 1
    running.cancel()
    assert second.result().stopped == "length"
    engine.close()


def test_the_backend_answers_together_streams_and_chats(tmp_path):
    folder: Path = writing_checkpoint(tmp_path, chain(*letters("world")))
    backend = LocalBackend.load(folder, options=EngineOptions(cache_bytes=20_000_000))
    try:
        good, bad = backend.ask([Request("q", [ONE]), Request("q", [torch.zeros(3)])], GREEDY)
        assert isinstance(good, Reply) and good.text == "world"
        assert isinstance(bad, MossAudioError)
        *_, last = backend.stream(Request("q"), GREEDY)
        assert last.text == "world"
        *_, last = backend.chat([{"role": "user", "content": "hi"}], None, GREEDY)
        assert last.stopped in ("end", "length") and last.prompt_tokens > 5
    finally:
        backend.close()


def test_the_backend_stops_when_the_event_is_set(tmp_path):
    a, b = letters("ab")
    backend = LocalBackend.load(
        writing_checkpoint(tmp_path, {198: a, a: b, b: a}), options=EngineOptions(cache_bytes=40_000_000)
    )
    cancel = threading.Event()
    found = []
    for event in backend.stream(Request("q"), Options(max_new_tokens=20_000), cancel):
        found.append(event)
        if len(found) == 5:
            cancel.set()
    assert found[-1].stopped == "cancelled" and found[-1].new_tokens < 20_000
    backend.close()
