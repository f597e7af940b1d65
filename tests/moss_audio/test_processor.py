"""From text and waveforms to the model's input."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoProcessor

from moss_audio.errors import AudioError, CheckpointError, PromptError
from moss_audio.model.chat_template import (
    AFTER_AUDIO,
    ANSWER_CLOSE,
    ANSWER_OPEN,
    SPAN,
    SYSTEM_TURN,
    USER_OPEN,
    Prompt,
    default_prompt,
)
from moss_audio.model.mel import frame_count, log_mel_float32, token_count
from moss_audio.model.processor import RELEASED, AudioTokens, MossAudioProcessor, audio_span
from tests.support import moss_tokenizer
from tests.support.moss_tokenizer import PARITY, RELEASED_PROCESSOR, SMALL, write_released_form

META = json.loads((PARITY / "v2_processor" / "meta.json").read_text())
RECORDED = load_file(PARITY / "v2_processor" / "io.safetensors")
SECOND = 16_000


def unrolled(runs: list[list[int]]) -> list[int]:
    return [number for number, times in runs for _ in range(times)]


def noise(samples: int) -> torch.Tensor:
    return torch.randn(samples, generator=torch.Generator().manual_seed(samples)) * 0.1


@pytest.fixture(scope="module")
def processor() -> MossAudioProcessor:
    return moss_tokenizer.processor()


# What the official processor recorded.


@pytest.mark.parametrize("case", META["prompts"], ids=lambda case: case["text"][:24])
def test_ids_are_those_of_the_official_processor(case: dict[str, Any], processor: MossAudioProcessor) -> None:
    waves = [RECORDED[f"{name}.wave"] for name in case["waves"]]
    batch = processor(case["text"], waves, time_markers=case["time_markers"])
    assert batch["input_ids"].tolist() == [unrolled(case["input_ids"])]
    assert batch["input_ids"].shape == (1, case["length"])
    assert batch["attention_mask"].all()
    assert torch.equal(batch["audio_input_mask"], batch["input_ids"] == RELEASED.audio)
    if case["seqlens"] is None:
        assert "audio_data" not in batch
    else:
        assert batch["audio_data_seqlens"].tolist() == case["seqlens"]
        assert batch["audio_data"].shape == (len(waves), 128, max(case["seqlens"]))
        assert batch["audio_data"].dtype == torch.bfloat16


@pytest.mark.parametrize("name", list(META["mel"]))
def test_features_are_those_of_the_official_processor(name: str, processor: MossAudioProcessor) -> None:
    recorded, wave = RECORDED[f"{name}.mel"], RECORDED[f"{name}.wave"]
    exact, _ = log_mel_float32([wave])
    torch.testing.assert_close(exact[0], recorded, atol=1e-4, rtol=0)
    batch = processor("Describe this audio.", [wave])
    # One step of bfloat16 where the last bit of float32 falls the other way.
    torch.testing.assert_close(batch["audio_data"][0].float(), recorded, atol=8e-3, rtol=8e-3)
    assert batch["audio_data_seqlens"].tolist() == [META["mel"][name]["frames"]]
    assert batch["audio_input_mask"].sum() == META["mel"][name]["audio_tokens"]


@pytest.mark.parametrize("item", ["a", "b", "text"])
def test_ids_of_the_small_model_with_audio_ids_of_its_own(item: str) -> None:
    core = PARITY / "v1_core"
    recorded = load_file(core / "io.safetensors")
    text = json.loads((core / "meta.json").read_text())["items"][item]["text"]
    small = MossAudioProcessor(moss_tokenizer.tokenizer("v1_core/tokenizer_small.json"), tokens=SMALL)
    waves = [recorded[f"{item}.wave"]] if f"{item}.wave" in recorded else []
    batch = small(text, waves)
    assert torch.equal(batch["input_ids"][0], recorded[f"{item}.input_ids"])
    if waves:
        assert torch.equal(batch["audio_input_mask"][0], recorded[f"{item}.audio_input_mask"])
        assert torch.equal(batch["audio_data"][0], recorded[f"{item}.audio_data"])


@pytest.mark.parametrize("case", META["sft"], ids=["prompt", "default prompt", "several texts"])
def test_the_pieces_of_a_prompt_rebuild_the_official_training_sequence(
    case: dict[str, Any], processor: MossAudioProcessor
) -> None:
    asked, answered = (
        "\n".join(
            message["content"]
            for message in case["conversation"]
            if message["role"] == role and message["message_type"] == "text"
        ).strip()
        for role in ("user", "assistant")
    )
    span = audio_span(token_count(case["mel_frames"]), time_markers=False)
    ids = processor.text_ids(SYSTEM_TURN) + processor.text_ids(USER_OPEN)
    ids += [RELEASED.start, *span, RELEASED.end, *processor.text_ids(AFTER_AUDIO)]
    ids += processor.text_ids(asked or case["prompt_default"]) + processor.text_ids(ANSWER_OPEN)
    ids += processor.text_ids(answered) + processor.text_ids(ANSWER_CLOSE)
    padded = ids + [RELEASED.endoftext] * case["max_len"]
    assert padded[: case["max_len"]] == unrolled(case["input_ids"])


# Where audio and text do not fit together.


@pytest.mark.parametrize("samples", [0, 1, 2, 159])
def test_less_than_one_frame_is_refused(samples: int, processor: MossAudioProcessor) -> None:
    with pytest.raises(AudioError, match=f"{samples} samples"):
        processor("Describe this audio.", [torch.zeros(samples)])


def test_one_frame_is_enough(processor: MossAudioProcessor) -> None:
    batch = processor("Describe this audio.", [torch.zeros(160)])
    assert batch["audio_input_mask"].sum() == 1
    assert batch["audio_data_seqlens"].tolist() == [1]


@pytest.mark.parametrize(
    ("text", "recordings", "says"),
    [
        ("Compare them.", 2, "1 recordings, but 2"),
        (f"{SPAN}What is it?", 0, "1 recordings, but 0"),
        (f"{SPAN}What is it?", 2, "1 recordings, but 2"),
        (f"{SPAN}and{SPAN}", 1, "2 recordings, but 1"),
        (Prompt("<|im_start|>user\nhi<|im_end|>\n"), 1, "0 recordings, but 1"),
    ],
)
def test_more_or_fewer_places_than_recordings_are_refused(
    text: str, recordings: int, says: str, processor: MossAudioProcessor
) -> None:
    with pytest.raises(PromptError, match=says):
        processor(text, [noise(1600)] * recordings)


@pytest.mark.parametrize("text", [None, 7, [], ["a", None], {"text": "a"}])
def test_a_prompt_that_is_no_text_is_refused(text: Any, processor: MossAudioProcessor) -> None:
    with pytest.raises(PromptError):
        processor(text)


@pytest.mark.parametrize(
    ("text", "audios"),
    [
        ("a", noise(1600)),
        ("a", np.zeros((2, 1600), np.float32)),
        ("a", [[0.0] * 1600]),
        ("a", ["speech.wav"]),
        ("a", [[noise(1600)]]),
        (["a", "b"], [noise(1600), noise(1600)]),
        (["a", "b"], [[noise(1600)]]),
        (["a"], [[noise(1600)], [noise(1600)]]),
    ],
)
def test_audio_in_another_form_is_refused_with_a_sentence(
    text: Any, audios: Any, processor: MossAudioProcessor
) -> None:
    with pytest.raises(PromptError, match=r"\.$"):
        processor(text, audios)


def test_a_recording_that_cannot_be_used_is_named(processor: MossAudioProcessor) -> None:
    with pytest.raises(AudioError, match=r"Recording 1 of prompt 2: .*80 samples"):
        processor(["a", "b"], [[noise(1600)], [noise(80)]])


def test_an_unknown_padding_side_is_refused(processor: MossAudioProcessor) -> None:
    with pytest.raises(PromptError, match="'middle'"):
        processor("a", padding_side="middle")


# Batches.

requests = st.lists(
    st.tuples(st.text(max_size=30), st.lists(st.integers(160, 4000), max_size=2)), min_size=1, max_size=4
)


@settings(max_examples=40)
@given(requests, st.sampled_from(["left", "right"]), st.booleans())
def test_every_row_of_a_batch_is_its_prompt_alone(
    drawn: list[tuple[str, list[int]]], side: str, markers: bool
) -> None:
    processor = moss_tokenizer.processor()
    texts = [SPAN * len(lengths) + text if len(lengths) > 1 else text for text, lengths in drawn]
    waves = [[noise(length) for length in lengths] for _, lengths in drawn]
    batch = processor(texts, waves, time_markers=markers, padding_side=side)
    first = 0
    for row, (text, audios) in enumerate(zip(texts, waves, strict=True)):
        alone = processor(text, audios, time_markers=markers)
        kept = batch["attention_mask"][row].bool()
        assert torch.equal(batch["input_ids"][row][kept], alone["input_ids"][0])
        assert torch.equal(batch["audio_input_mask"][row][kept], alone["audio_input_mask"][0])
        assert not batch["audio_input_mask"][row][~kept].any()
        assert (batch["input_ids"][row][~kept] == RELEASED.endoftext).all()
        assert kept[-1 if side == "left" else 0]
        assert (kept.int().diff() != 0).sum() <= 1
        for place in range(len(audios)):
            frames = int(alone["audio_data_seqlens"][place])
            assert batch["audio_data_seqlens"][first + place] == frames
            same = batch["audio_data"][first + place]
            assert torch.equal(same[:, :frames], alone["audio_data"][place, :, :frames])
            assert not same[:, frames:].any()
        first += len(audios)


@settings(max_examples=60)
@given(st.lists(st.integers(160, 3 * SECOND), min_size=1, max_size=4), st.booleans())
def test_placeholders_of_a_prompt_equal_the_tokens_of_its_audio(lengths: list[int], markers: bool) -> None:
    processor = moss_tokenizer.processor()
    batch = processor(SPAN * len(lengths), [torch.zeros(item) for item in lengths], time_markers=markers)
    expected = [token_count(frame_count(length)) for length in lengths]
    assert batch["audio_input_mask"].sum() == sum(expected)
    assert [token_count(number) for number in batch["audio_data_seqlens"].tolist()] == expected


def test_a_quarter_of_an_hour_has_a_place_for_every_token(processor: MossAudioProcessor) -> None:
    batch = processor("Transcribe the audio.", [torch.zeros(15 * 60 * SECOND)])
    assert batch["audio_input_mask"].sum() == 11_250 == token_count(int(batch["audio_data_seqlens"][0]))


def test_markers_restart_in_every_recording(processor: MossAudioProcessor) -> None:
    ids = processor(f"{SPAN}{SPAN}", [noise(2 * SECOND), noise(4 * SECOND)])["input_ids"][0].tolist()
    written = [item for item in ids if item in RELEASED.digits]
    assert written == [RELEASED.digits[2], RELEASED.digits[2], RELEASED.digits[4]]


def test_recordings_lie_in_row_order(processor: MossAudioProcessor) -> None:
    lengths = [[800], [], [1600, 320]]
    texts = ["One.", "None.", f"{SPAN}{SPAN}Two."]
    batch = processor(texts, [[noise(item) for item in row] for row in lengths])
    assert batch["audio_data_seqlens"].tolist() == [5, 10, 2]
    assert batch["audio_input_mask"].sum(dim=1).tolist() == [1, 0, 3]


def test_rows_without_audio_may_say_none(processor: MossAudioProcessor) -> None:
    batch = processor(["One.", "Two."], [None, [noise(1600)]])
    assert batch["audio_input_mask"].sum(dim=1).tolist() == [0, 2]
    assert "audio_data" not in processor(["One.", "Two."])


# What is audio is known from where it was put.


def test_a_vision_pad_in_a_text_is_not_taken_for_audio(processor: MossAudioProcessor) -> None:
    wave = noise(1600)
    batch = processor("What does <|vision_pad|> mean?", [wave])
    assert (batch["input_ids"] == RELEASED.audio).sum() == 3
    assert batch["audio_input_mask"].sum() == 2
    assert (
        batch["audio_input_mask"][0].nonzero()[0] == processor("", [wave])["audio_input_mask"][0].nonzero()[0]
    )


def test_half_a_span_is_ordinary_text(processor: MossAudioProcessor) -> None:
    batch = processor("<|audio_bos|><|AUDIO|> and <|audio_bos|><|audio_eos|>")
    assert not batch["audio_input_mask"].any()
    assert RELEASED.start not in batch["input_ids"]


def test_text_between_spans_is_tokenized_piece_by_piece(tmp_path: Path) -> None:
    # "h" before the span and "e" behind it would become one token if the text were joined first.
    reads = MossAudioProcessor.from_pretrained(write_released_form(tmp_path))
    assert reads.text_ids("he") == [256]
    ids = reads(f"h{SPAN}e", [noise(1600)])["input_ids"][0].tolist()
    assert ids == [
        *reads.text_ids("h"),
        RELEASED.start,
        *[RELEASED.audio] * 2,
        RELEASED.end,
        *reads.text_ids("e"),
    ]


def test_a_complete_prompt_is_not_wrapped_again(processor: MossAudioProcessor) -> None:
    question = "Who speaks?"
    prompt = processor.chat([{"role": "user", "content": question}])
    assert processor(prompt)["input_ids"][0].tolist() == processor.text_ids(prompt)
    assert processor(prompt + "Well, ")["input_ids"][0].tolist() == processor.text_ids(prompt + "Well, ")
    wave = noise(1600)
    wrapped, complete = processor(question, [wave]), processor(default_prompt(question), [wave])
    assert torch.equal(wrapped["input_ids"], complete["input_ids"])
    assert isinstance(pickle.loads(pickle.dumps(prompt)), Prompt)


def test_the_default_prompt_closes_the_thought_when_asked(processor: MossAudioProcessor) -> None:
    assert default_prompt("Hi", thinking=False) == default_prompt("Hi") + "<think>\n\n</think>\n\n"
    assert default_prompt("Hi", thinking=True) == default_prompt("Hi")
    assert SPAN not in default_prompt("Hi", audio=False)


def test_decoding_leaves_out_control_and_audio_ids(processor: MossAudioProcessor) -> None:
    said = processor.text_ids("Köln, 你好.")
    noisy = [RELEASED.im_start, RELEASED.start, *said, RELEASED.audio, RELEASED.end, 151_900, RELEASED.im_end]
    assert processor.decode(noisy) == "Köln, 你好."
    assert processor.decode(torch.tensor(noisy)) == "Köln, 你好."


# Checkpoints.


@pytest.mark.parametrize("with_config", [True, False])
def test_the_released_tokenizer_files_give_the_released_ids(tmp_path: Path, with_config: bool) -> None:
    reads = MossAudioProcessor.from_pretrained(write_released_form(tmp_path, with_config))
    assert reads.tokens == RELEASED
    assert reads.time_markers
    text = (
        "<|im_start|>he a <think></think><tool_call><|vision_pad|><|system|><|user|><|im_end|><|endoftext|>"
    )
    expected = [151644, 256, 257, 220, 151667, 151668, 151657, 151654, 151669, 151670, 151645, 151643]
    assert reads.text_ids(text) == expected
    assert reads.decode(expected) == "he a <think></think><tool_call>"
    batch = reads("Describe this audio.", [noise(2 * SECOND)])
    assert batch["audio_input_mask"].sum() == 25
    assert RELEASED.start in batch["input_ids"]


def test_what_is_saved_is_read_back_the_same(tmp_path: Path) -> None:
    first = MossAudioProcessor.from_pretrained(write_released_form(tmp_path / "released"))
    first.time_markers = False
    first.tokenizer.chat_template = "{{ messages[0].content }}"
    first.save_pretrained(tmp_path / "saved")
    again = MossAudioProcessor.from_pretrained(tmp_path / "saved")
    text = "<|im_start|>he a Köln\n\n 12<|im_end|><think>x"
    assert again.text_ids(text) == first.text_ids(text)
    assert (again.tokens, again.time_markers) == (first.tokens, False)
    assert again.chat([{"role": "user", "content": "hi"}]) == "hi"
    assert again.escape("<|vision_pad|>") == first.escape("<|vision_pad|>")


def test_other_ids_are_saved_and_read_back(tmp_path: Path) -> None:
    small = MossAudioProcessor(moss_tokenizer.tokenizer("v1_core/tokenizer_small.json"), tokens=SMALL)
    small.save_pretrained(tmp_path)
    assert MossAudioProcessor.from_pretrained(tmp_path).tokens == SMALL


def test_transformers_finds_the_processor_of_a_saved_checkpoint(tmp_path: Path) -> None:
    moss_tokenizer.processor().save_pretrained(tmp_path)
    assert type(AutoProcessor.from_pretrained(tmp_path)) is MossAudioProcessor


@pytest.mark.parametrize(
    ("audio", "start", "end"),
    [
        ("audio_token_id", "audio_start_id", "audio_end_id"),
        ("audio_token_id", "audio_start_token_id", "audio_end_token_id"),
        ("audio_pad_token_id", "audio_bos_token_id", "audio_eos_token_id"),
    ],
)
def test_audio_ids_are_read_under_their_usual_names(tmp_path: Path, audio: str, start: str, end: str) -> None:
    folder = write_released_form(tmp_path)
    (folder / "processor_config.json").write_text(json.dumps({audio: 400, start: 401, end: 402}))
    tokens = MossAudioProcessor.from_pretrained(folder).tokens
    assert tokens == AudioTokens(audio=400, start=401, end=402)


def test_ids_of_the_models_config_serve_where_the_processors_has_none(tmp_path: Path) -> None:
    folder = write_released_form(tmp_path)
    (folder / "config.json").write_text(json.dumps({"audio_token_id": 500, "audio_start_id": 501}))
    (folder / "processor_config.json").write_text(json.dumps({"audio_start_id": 601}))
    tokens = MossAudioProcessor.from_pretrained(folder).tokens
    assert (tokens.audio, tokens.start, tokens.end) == (500, 601, RELEASED.end)


def test_time_markers_follow_the_checkpoint_and_default_to_on(tmp_path: Path) -> None:
    folder = write_released_form(tmp_path)
    (folder / "processor_config.json").write_text(json.dumps({"enable_time_marker": False}))
    assert not MossAudioProcessor.from_pretrained(folder).time_markers
    (folder / "processor_config.json").unlink()
    reads = MossAudioProcessor.from_pretrained(folder)
    assert reads.time_markers
    two_seconds = noise(2 * SECOND)
    assert (
        reads("", [two_seconds])["input_ids"].shape[1] - 1
        == (reads("", [two_seconds], time_markers=False)["input_ids"].shape[1])
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mel_sr", 24000),
        ("mel_dim", 80),
        ("mel_n_fft", 512),
        ("mel_hop_length", 320),
        ("mel_dtype", "float32"),
    ],
)
def test_features_that_cannot_be_computed_are_refused(tmp_path: Path, name: str, value: Any) -> None:
    folder = write_released_form(tmp_path)
    config = RELEASED_PROCESSOR | {"mel_config": {**RELEASED_PROCESSOR["mel_config"], name: value}}
    (folder / "processor_config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=f"processor_config.json: {name} is"):
        MossAudioProcessor.from_pretrained(folder)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"audio_token_id": "<|AUDIO|>"}', "must be a token id"),
        ('{"enable_time_marker": "yes"}', "must be true or false"),
        ('{"digit_token_ids": [1, 2]}', "ten ids"),
        ('{"audio_token_id": ', "not valid JSON"),
        ("[]", "JSON object"),
    ],
)
def test_a_broken_processor_config_is_named(tmp_path: Path, content: str, says: str) -> None:
    folder = write_released_form(tmp_path)
    (folder / "processor_config.json").write_text(content)
    with pytest.raises(CheckpointError, match=f"processor_config.json.*{says}"):
        MossAudioProcessor.from_pretrained(folder)


def test_a_folder_without_tokenizer_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no tokenizer: it needs tokenizer.json, or vocab.json"):
        MossAudioProcessor.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.json", "added_tokens.json"])
def test_a_broken_tokenizer_file_is_named(tmp_path: Path, name: str) -> None:
    folder = write_released_form(tmp_path)
    (folder / name).write_text('{"broken": ')
    with pytest.raises(CheckpointError, match=name):
        MossAudioProcessor.from_pretrained(folder)


def test_a_tokenizer_with_other_ids_than_the_model_is_refused(tmp_path: Path) -> None:
    moss_tokenizer.tokenizer("v1_core/tokenizer_small.json").save_pretrained(str(tmp_path))
    with pytest.raises(CheckpointError, match=r"writes '<\|im_start\|>' as \[257\]"):
        MossAudioProcessor.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["OpenMOSS-Team/MOSS-Audio-4B-Instruct", "no/such/folder/here", "./nowhere"])
def test_a_checkpoint_that_is_not_here_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=name):
        MossAudioProcessor.from_pretrained(name, cache_dir=tmp_path)
