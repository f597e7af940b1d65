"""Answers: streamed, in batches, cancelled, with thoughts kept apart and closed in time."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from moss_audio.errors import AudioError, NotEnoughMemory, PromptError
from moss_audio.generation.generate import (
    FREE,
    Options,
    Reply,
    Request,
    TextDelta,
    ThinkingDelta,
    replies,
    reply,
    stop_ids,
    stream,
    thinks,
)
from moss_audio.generation.thinking import TRANSITION
from moss_audio.model import processor
from moss_audio.model.chat_template import NO_THOUGHT, SPAN, Prompt, default_prompt
from moss_audio.model.modeling import MossAudioModel
from tests.support.tiny_moss import (
    NEWLINE,
    THINK,
    UNTHINK,
    V1,
    chain,
    letters,
    load,
    random_checkpoint,
    waves,
    writing_checkpoint,
)

GREEDY = Options(max_new_tokens=24)


@pytest.fixture(scope="module")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> MossAudioModel:
    return load(random_checkpoint(tmp_path_factory.mktemp("random")))


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> MossAudioModel:
    successors = chain(THINK, *letters("abcd"), UNTHINK, *letters("XYZ日."))
    return load(writing_checkpoint(tmp_path_factory.mktemp("thinker"), successors, "tiny-Thinking"))


@pytest.fixture(scope="module")
def brooder(tmp_path_factory: pytest.TempPathFactory) -> MossAudioModel:
    """Thinks in circles, and would for ever; what it would answer is XYZ."""
    a, b, c = letters("abc")
    x, y, z = letters("XYZ")
    successors = {NEWLINE: THINK, THINK: a, a: b, b: c, c: a, UNTHINK: x, x: y, y: z, z: 258}
    return load(writing_checkpoint(tmp_path_factory.mktemp("brooder"), successors, "tiny-Thinking"))


def test_the_recorded_greedy_ids_come_out(random_model: MossAudioModel) -> None:
    from safetensors.torch import load_file

    meta = json.loads((V1 / "meta.json").read_text())["items"]
    recorded = load_file(V1 / "io.safetensors")
    for name in ("a", "b"):
        wave = recorded[f"{name}.wave"].numpy()
        events = list(stream(random_model, meta[name]["text"], [wave], Options(max_new_tokens=16)))
        answer = events[-1]
        assert isinstance(answer, Reply)
        known = [token for token in meta[name]["generated_ids"] if token < 256]
        assert answer.text == random_model.processor.tokenizer.decode(known)
        assert answer.prompt_tokens == meta[name]["prompt_len"]


def test_the_stream_is_the_reply_in_parts(random_model: MossAudioModel, thinker: MossAudioModel) -> None:
    for model in (random_model, thinker):
        events = list(stream(model, "What is it?", waves(1.3), GREEDY))
        answer = events.pop()
        assert isinstance(answer, Reply)
        assert "".join(event.text for event in events if isinstance(event, TextDelta)) == answer.text
        assert "".join(event.text for event in events if isinstance(event, ThinkingDelta)) == answer.thinking
        whole = reply(model, "What is it?", waves(1.3), GREEDY)
        assert (whole.text, whole.thinking, whole.stopped, whole.new_tokens) == (
            answer.text,
            answer.thinking,
            answer.stopped,
            answer.new_tokens,
        )


def test_thought_and_answer_come_apart_and_whole_characters_only(thinker: MossAudioModel) -> None:
    events = list(stream(thinker, "What is it?", waves(1.0), GREEDY))
    assert events[:4] == [ThinkingDelta(letter) for letter in "abcd"]
    assert events[4:-1] == [TextDelta(letter) for letter in "XYZ日."]
    answer = events[-1]
    assert isinstance(answer, Reply)
    assert (answer.thinking, answer.text, answer.stopped) == ("abcd", "XYZ日.", "end")
    assert answer.new_tokens == 4 + 2 + 7  # 日 takes three tokens


def test_tokens_arrive_while_later_ones_are_not_yet_computed(brooder: MossAudioModel) -> None:
    steps = 0
    original = brooder.language_model.forward

    def counted(*args: object, **kwargs: object) -> object:
        nonlocal steps
        steps += 1
        return original(*args, **kwargs)

    brooder.language_model.forward = counted  # type: ignore[method-assign]
    try:
        events = stream(brooder, "Hi", (), Options(max_new_tokens=3_000))
        assert next(events) == ThinkingDelta("a")
        assert steps < 1_500
        events.close()  # type: ignore[attr-defined]
        reached = steps
        assert reached < 1_500
    finally:
        brooder.language_model.forward = original  # type: ignore[method-assign]
    assert steps == reached
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("moss-audio")]


def test_an_event_ends_the_answer_and_the_reply_says_so(brooder: MossAudioModel) -> None:
    cancel = threading.Event()
    taken = []
    for event in stream(brooder, "Hi", (), Options(max_new_tokens=3_000), cancel):
        taken.append(event)
        if len(taken) == 5:
            cancel.set()
    answer = taken[-1]
    assert isinstance(answer, Reply)
    assert answer.stopped == "cancelled"
    assert 5 <= answer.new_tokens < 3_000
    assert answer.thinking.startswith("abcab")


def test_an_error_in_the_working_thread_reaches_the_reader(random_model: MossAudioModel) -> None:
    weight = random_model.lm_head.weight
    random_model.lm_head.weight = torch.nn.Parameter(torch.zeros(384, 63))
    try:
        with pytest.raises(RuntimeError, match="shapes"):
            list(stream(random_model, "Hi", (), GREEDY))
    finally:
        random_model.lm_head.weight = weight
    with pytest.raises(AudioError):
        list(stream(random_model, "Hi", [np.zeros(10, np.float32)], GREEDY))


@pytest.mark.parametrize("budget", [0, 1, 5])
def test_the_budget_closes_the_thought_and_the_answer_follows(brooder: MossAudioModel, budget: int) -> None:
    options = Options(max_new_tokens=120, thinking_budget=budget)
    answer = reply(brooder, "Hi", waves(0.5), options)
    assert answer.thinking == ("abc" * 2)[:budget] + ("" if budget == 0 else "\n\n") + TRANSITION.strip()
    assert (answer.text, answer.stopped) == ("XYZ", "end")


def test_without_a_budget_the_thought_takes_all_there_is(brooder: MossAudioModel) -> None:
    answer = reply(brooder, "Hi", waves(0.5), GREEDY)
    assert (answer.text, answer.stopped, answer.new_tokens) == ("", "length", 24)
    assert answer.thinking == ("abc" * 8)[:23]


def test_a_budget_that_leaves_no_token_for_the_answer_is_refused_with_the_tokens_it_takes(
    brooder: MossAudioModel,
) -> None:
    # One for <think>, one for </think>, and those of the sentence between the thought and the answer.
    forced = 2 + len(letters(TRANSITION))
    enough = reply(brooder, "Hi", (), Options(max_new_tokens=3 + forced + 1, thinking_budget=3))
    assert (enough.text, enough.stopped) == ("X", "length")
    with pytest.raises(PromptError, match=f"thinking_budget.*{forced} tokens.*no token for the answer"):
        reply(brooder, "Hi", (), Options(max_new_tokens=3 + forced, thinking_budget=3))
    opened = Prompt(default_prompt("Hi", audio=False) + "<think>")
    assert reply(brooder, opened, (), Options(max_new_tokens=3 + forced, thinking_budget=3)).text == "X"


def test_a_budget_gives_way_where_the_length_was_left_open(brooder: MossAudioModel) -> None:
    forced = 2 + len(letters(TRANSITION))
    options = Options(max_new_tokens=500, thinking_budget=400, fit=True).within(forced + 6)
    answer = reply(brooder, "Hi", (), options)
    assert answer.thinking == "abcab\n\n" + TRANSITION.strip() and answer.text == "X"


def test_the_budget_holds_for_each_row_of_a_batch_and_where_the_prompt_opened_the_thought(
    brooder: MossAudioModel,
) -> None:
    opened = Prompt(default_prompt("Hi", audio=False) + "<think>")
    requests = [Request("Hi", waves(2.5)), Request(opened), Request("A longer question, without audio.")]
    answers = replies(brooder, requests, Options(max_new_tokens=120, thinking_budget=4))
    assert [answer.text for answer in answers] == ["XYZ"] * 3
    assert {answer.thinking for answer in answers} == {"abca\n\n" + TRANSITION.strip()}


def test_the_budget_works_where_the_tags_are_several_tokens(tmp_path: Path) -> None:
    a, b = letters("ab")
    tag = [letters("<")[0], *letters("think"), letters(">")[0]]
    successors = {NEWLINE: tag[0], **dict(itertools.pairwise(tag)), tag[-1]: a, a: b, b: a}
    model = load(writing_checkpoint(tmp_path, successors, think_tokens=False))
    answer = reply(model, "Hi", (), Options(max_new_tokens=110, thinking_budget=3))
    assert answer.thinking == "aba\n\n" + TRANSITION.strip()
    assert answer.text.startswith("abab")  # after the same sign this model goes on as before


def test_each_item_of_a_batch_is_what_it_is_alone(random_model: MossAudioModel) -> None:
    long, short, tiny = waves(6.3, 1.234, 0.31)
    requests = [
        Request("Describe this audio.", [long]),
        Request("Say hello."),
        Request("Transcribe the audio.", [short]),
        Request(f"Compare {SPAN} with {SPAN}.", [tiny, short]),
        Request("What?", [tiny]),
    ]
    together = replies(random_model, requests, GREEDY)
    for request, answer in zip(requests, together, strict=True):
        alone = reply(random_model, request.prompt, request.audios, GREEDY)
        assert (alone.text, alone.stopped, alone.prompt_tokens, alone.new_tokens) == (
            answer.text,
            answer.stopped,
            answer.prompt_tokens,
            answer.new_tokens,
        )
    assert replies(random_model, []) == []


def test_rows_that_end_early_do_not_take_on_the_padding(thinker: MossAudioModel) -> None:
    direct = Prompt(default_prompt("Hi", audio=False) + "X")
    answers = replies(thinker, [Request("Hi", waves(1.0)), Request(direct)], GREEDY)
    assert [answer.text for answer in answers] == ["XYZ日.", "YZ日."]
    assert [answer.new_tokens for answer in answers] == [13, 6]


def test_a_thinking_checkpoint_is_told_by_file_or_name(tmp_path: Path) -> None:
    for name, field, expected in [
        ("MOSS-Audio-4B-Thinking", None, True),
        ("MOSS-Audio-4B-Instruct", None, False),
        ("mine", True, True),
        ("other-Thinking", False, False),
    ]:
        folder = random_checkpoint(tmp_path, name)
        if field is not None:
            file = folder / "generation_config.json"
            file.write_text(json.dumps(json.loads(file.read_text()) | {"thinking": field}))
        model = load(folder)
        assert thinks(model) is expected
        model.save_pretrained(tmp_path / "saved")
        assert thinks(load(tmp_path / "saved")) is expected


def test_thinking_off_hands_a_thinking_model_an_empty_thought(
    thinker: MossAudioModel, random_model: MossAudioModel
) -> None:
    off = Options(max_new_tokens=2, thinking=False)
    on = Options(max_new_tokens=2)
    more = len(thinker.processor.text_ids(NO_THOUGHT))
    for prompt in ("Hi", default_prompt("Hi", audio=True)):
        without, free = reply(thinker, prompt, waves(1.0), off), reply(thinker, prompt, waves(1.0), on)
        assert without.prompt_tokens - free.prompt_tokens == more
    assert reply(random_model, "Hi", (), off).prompt_tokens == reply(random_model, "Hi", (), on).prompt_tokens


def test_several_recordings_of_a_plain_question_all_get_their_place(random_model: MossAudioModel) -> None:
    two = reply(random_model, "Compare.", waves(1.0, 0.5), Options(max_new_tokens=2))
    written = reply(
        random_model,
        default_prompt("Compare.").replace(SPAN, f"{SPAN}\n{SPAN}"),
        waves(1.0, 0.5),
        Options(max_new_tokens=2),
    )
    assert two.prompt_tokens == written.prompt_tokens and two.text == written.text


def test_the_seed_makes_sampling_repeatable_and_leaves_other_chance_alone(
    random_model: MossAudioModel,
) -> None:
    hot = Options(max_new_tokens=12, temperature=1.5, top_k=0, seed=4)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first = reply(random_model, "Hi", (), hot)
    assert torch.equal(torch.rand(3), expected)
    assert reply(random_model, "Hi", (), hot).text == first.text
    others = {reply(random_model, "Hi", (), Options(12, 1.5, top_k=0, seed=seed)).text for seed in range(5)}
    assert len(others) > 1


@pytest.mark.parametrize(
    ("device", "computes"), [("cpu", "cpu"), ("cuda:1", "cuda:1"), ("mps", "cpu"), ("meta", "cpu")]
)
def test_features_are_computed_where_the_model_is(
    random_model: MossAudioModel, monkeypatch: pytest.MonkeyPatch, device: str, computes: str
) -> None:
    asked: list[object] = []

    def noting(waves: object, device: object) -> None:
        asked.append(device)
        raise AudioError("That was all.")

    monkeypatch.setattr(processor, "log_mel", noting)
    monkeypatch.setattr(MossAudioModel, "device", torch.device(device))
    calls = [
        lambda: list(stream(random_model, "Hi", waves(0.5), GREEDY)),
        lambda: replies(random_model, [Request("Hi", waves(0.5))] * 2, GREEDY),
    ]
    for call in calls:
        with pytest.raises(AudioError, match="That was all"):
            call()
    assert asked == [torch.device(computes)] * 2


@pytest.mark.parametrize("answer", [reply, lambda *given: list(stream(*given))])
def test_memory_that_runs_out_is_called_so(
    random_model: MossAudioModel, monkeypatch: pytest.MonkeyPatch, answer: Callable[..., object]
) -> None:
    monkeypatch.setattr(random_model.lm_head, "forward", lambda hidden: torch.empty(1 << 60))
    with pytest.raises(NotEnoughMemory, match=r"cpu ran out of memory .*prompt tokens"):
        answer(random_model, "Hi", waves(0.5), GREEDY)


def test_both_ends_stop_an_answer(random_model: MossAudioModel) -> None:
    assert stop_ids(random_model) == [256, 258]
    assert (FREE.temperature, FREE.top_p, FREE.top_k) == (1.0, 1.0, 50)


def test_options_that_cannot_be_meant_are_refused() -> None:
    for wrong in (
        {"max_new_tokens": 0},
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"top_p": 0.0},
        {"top_k": -1},
        {"thinking_budget": -1},
        {"thinking_budget": 1024},
    ):
        with pytest.raises(PromptError):
            Options(**wrong)  # type: ignore[arg-type]
