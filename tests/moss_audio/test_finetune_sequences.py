"""Data files, sequences and batches for fine-tuning: as the published script makes them, minus its faults."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from moss_audio.errors import DataError
from moss_audio.finetune import Collator, cut, read_conversations, sequence
from moss_audio.finetune.training_data import Order, Reading, measure, parse, prepare
from moss_audio.model.processor import MossAudioProcessor
from tests.support.finetuning import ANSWERS, messages, small_processor, speech, write_data
from tests.support.moss_tokenizer import PARITY, SMALL, processor

META = json.loads((PARITY / "v2_processor" / "meta.json").read_text())
WAVES = load_file(PARITY / "v2_processor" / "io.safetensors")
CORE = load_file(PARITY / "v1_core" / "io.safetensors")
CORE_META = json.loads((PARITY / "v1_core" / "meta.json").read_text())


def unpacked(runs: list[list[int]]) -> list[int]:
    return [value for value, count in runs for _ in range(count)]


def with_wave(conversation: list[dict], wave: torch.Tensor) -> list[dict]:
    return [
        {**message, "content": wave} if message["message_type"] == "audio" else message
        for message in conversation
    ]


@pytest.mark.parametrize("case", META["sft"], ids=lambda case: f"{case['wave']}-{case['max_len']}")
def test_sequences_equal_the_recorded_ones_padded_and_cut_as_published(case: dict) -> None:
    conversation = with_wave(case["conversation"], WAVES[f"{case['wave']}.wave"])
    example = sequence(conversation, processor(), time_markers=False, prompt_default=case["prompt_default"])
    batch = Collator(processor(), pad_to=case["max_len"])([cut(example, case["max_len"])])
    for name in ("input_ids", "labels", "attention_mask", "audio_input_mask"):
        assert batch[name][0].tolist() == unpacked(case[name]), name
    assert batch["audio_data_seqlens"].tolist() == [case["mel_frames"]]
    assert str(batch["audio_data"].dtype) == case["audio_data_dtype"]


@pytest.mark.parametrize("item", ["a", "b"])
def test_sequences_of_the_core_set_are_reproduced(item: str) -> None:
    sample = CORE_META["sft"]["samples"][item]
    conversation = messages(CORE[f"{item}.wave"], sample["answer"], sample["prompt"])
    default = CORE_META["sft"]["prompt_default"]
    example = sequence(conversation, small_processor(), time_markers=False, prompt_default=default)
    assert example.input_ids.tolist() == CORE[f"sft.{item}.input_ids"].tolist()
    assert example.labels.tolist() == CORE[f"sft.{item}.labels"].tolist()
    assert int((example.labels != -100).sum()) == sample["supervised_tokens"]


def test_a_sequence_is_the_prompt_of_inference_and_then_the_answer() -> None:
    ours = small_processor()
    example = sequence(messages(speech()["a"], "Yes."), ours)
    prompt = ours("Transcribe the audio.", [speech()["a"]])
    before = prompt["input_ids"].shape[1]
    assert example.input_ids[:before].tolist() == prompt["input_ids"][0].tolist()
    assert example.audio_input_mask[:before].tolist() == prompt["audio_input_mask"][0].tolist()
    assert torch.equal(example.audio_data, prompt["audio_data"][0])
    assert example.input_ids[before:].tolist() == [*ours.text_ids("Yes."), SMALL.im_end]
    assert example.labels[before:].tolist() == example.input_ids[before:].tolist()
    assert (example.labels[:before] == -100).all()


def test_a_checkpoint_without_markers_is_trained_without_them() -> None:
    example = sequence(messages(speech()["a"], "Yes."), small_processor(time_markers=False))
    marked = sequence(messages(speech()["a"], "Yes."), small_processor())
    assert len(marked) - len(example) == len("246")


def test_a_control_token_in_the_question_is_no_audio() -> None:
    conversation = messages(speech()["d"], "Yes.", "What is <|vision_pad|>?")
    example = sequence(conversation, processor())
    assert (example.input_ids == 151654).sum() == example.audio_input_mask.sum() + 1


def test_a_sequence_that_is_too_long_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"the conversation: \d+ tokens are more than the 40 allowed"):
        sequence(messages(speech()["b"], "Yes."), small_processor(), max_length=40)


def test_a_cut_into_the_audio_keeps_as_many_frames_as_tokens() -> None:
    example = sequence(messages(speech()["b"], "Yes."), small_processor(), time_markers=False)
    start = int(example.audio_input_mask.nonzero()[0])
    short = cut(example, start + 5)
    assert short.audio_data.shape == (128, 40)
    assert torch.equal(short.audio_data, example.audio_data[:, :40])
    assert (short.labels == -100).all()


def test_shorter_examples_are_filled_on_the_right() -> None:
    examples = [sequence(messages(speech()[name], "Yes."), small_processor()) for name in "da"]
    batch = Collator(small_processor())(examples)
    short, long = len(examples[0]), len(examples[1])
    assert batch["input_ids"].shape == (2, long)
    assert batch["attention_mask"].sum(1).tolist() == [short, long]
    assert (batch["input_ids"][0, short:] == SMALL.endoftext).all()
    assert (batch["labels"][0, short:] == -100).all()
    assert not batch["audio_input_mask"][0, short:].any()
    frames = batch["audio_data_seqlens"].tolist()
    assert frames == [33, 630]
    assert torch.equal(batch["audio_data"][0, :, :33], examples[0].audio_data)
    assert (batch["audio_data"][0, :, 33:] == 0).all()


def test_only_the_first_recording_counts_and_texts_are_joined_and_stripped() -> None:
    conversation = [
        {"role": "system", "message_type": "text", "content": "Be brief."},
        {"role": "user", "message_type": "audio", "content": "one.wav"},
        {"role": "user", "message_type": "text", "content": " first "},
        {"role": "user", "message_type": "audio", "content": "two.wav"},
        {"role": "user", "message_type": "text", "content": "second\n"},
        {"role": "assistant", "message_type": "text", "content": " a"},
        {"role": "assistant", "message_type": "text", "content": "b "},
    ]
    found = parse({"conversation": conversation})
    assert (found.audio, found.prompt, found.answer) == ("one.wav", "first \nsecond", "a\nb")


def test_an_empty_prompt_becomes_the_default_one() -> None:
    assert parse(messages("one.wav", "Yes.", "  "), prompt_default="Transcribe.").prompt == "Transcribe."


def test_an_empty_answer_teaches_to_stop_at_once() -> None:
    example = sequence(messages(speech()["d"], ""), small_processor())
    assert example.labels[example.labels != -100].tolist() == [SMALL.im_end]


BROKEN = {
    "{": "not valid JSON",
    "[" * 100_000: "not valid JSON",
    "{}": 'no list of messages under "conversation"',
    '{"conversation": "hello"}': 'no list of messages under "conversation"',
    '{"conversation": [7]}': "message 1: must be an object",
    '{"conversation": [{"role": "user"}]}': "message 1: role and message_type must be texts",
    '{"conversation": [{"role": "user", "message_type": "text"}]}': "message 1: content must be a text",
    '{"conversation": []}': "the user gives no recording",
    json.dumps({"conversation": messages("clips/d.wav", "x")[:2]}): "the assistant says nothing",
    json.dumps({"conversation": messages("nowhere.wav", "x")}): "there is no recording 'nowhere.wav'",
    json.dumps({"conversation": messages("\0", "x")}): "there is no recording",
    json.dumps({"conversation": messages([1, 2], "x")}): "the recording must be a path",
}


@pytest.mark.parametrize(("line", "said"), BROKEN.items(), ids=lambda entry: entry[:30])
def test_a_line_that_cannot_be_used_is_named_by_file_and_line(tmp_path: Path, line: str, said: str) -> None:
    data = write_data(tmp_path, "d")
    data.write_text(data.read_text() + "\n" + line + "\n")
    with pytest.raises(DataError) as caught:
        read_conversations(data)
    assert str(caught.value).startswith(f"{data}, line 3")
    assert said in str(caught.value)


def test_a_file_that_is_missing_empty_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_conversations(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n\n")
    with pytest.raises(DataError, match="holds no conversation"):
        read_conversations(tmp_path / "empty.jsonl")
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DataError, match="not UTF-8"):
        read_conversations(tmp_path / "bytes.jsonl")


def test_a_recording_that_cannot_be_decoded_is_named_by_file_and_line(tmp_path: Path) -> None:
    data = write_data(tmp_path, "d")
    (tmp_path / "clips" / "d.wav").write_bytes(b"RIFF no audio")
    with pytest.raises(DataError, match=r"data.jsonl, line 1: .*d\.wav"):
        prepare(read_conversations(data), Reading(small_processor()))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["conversation", "role", "message_type", "content", "user"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@settings(max_examples=100)
@given(json_values)
def test_whatever_a_line_holds_it_is_a_conversation_or_an_error_that_names_it(record: object) -> None:
    try:
        found = parse(record, "data.jsonl, line 7")
    except DataError as error:
        assert str(error).startswith("data.jsonl, line 7")
    else:
        assert isinstance(found.prompt, str)
        assert isinstance(found.answer, str)


def test_lengths_known_from_headers_are_the_lengths_of_the_sequences(tmp_path: Path) -> None:
    reading = Reading(small_processor())
    conversations = read_conversations(write_data(tmp_path))
    examples, left = prepare(conversations, reading)
    assert not left
    assert examples.lengths == [len(examples[index]) for index in range(len(examples))]
    assert [item.learned for item in examples.measures] == [len(ANSWERS[name]) + 1 for name in "abcd"]
    assert measure(conversations[0], reading, decode=True) == examples.measures[0]


def test_what_is_too_long_is_refused_by_file_and_line_or_left_out_if_asked(tmp_path: Path) -> None:
    conversations = read_conversations(write_data(tmp_path))
    reading = Reading(small_processor(), max_length=150)
    with pytest.raises(DataError, match=r"data.jsonl, line 1: \d+ tokens are more than the 150 allowed"):
        prepare(conversations, reading)
    examples, left = prepare(conversations, reading, skip_too_long=True)
    assert len(examples) == 3
    assert "line 1" in str(left[0])
    with pytest.raises(DataError, match="None of the 4 examples is short enough"):
        prepare(conversations, Reading(small_processor(), max_length=10), skip_too_long=True)


@settings(max_examples=60)
@given(
    st.lists(st.integers(1, 500), min_size=1, max_size=40),
    st.integers(1, 7),
    st.booleans(),
    st.integers(0, 5),
)
def test_every_example_comes_once_an_epoch_in_an_order_made_of_seed_and_epoch(
    lengths: list[int], batch: int, grouped: bool, epoch: int
) -> None:
    order = Order(lengths, batch, seed=3, grouped=grouped)
    order.set_epoch(epoch)
    found = list(order)
    assert sorted(found) == list(range(len(lengths)))
    again = Order(lengths, batch, seed=3, grouped=grouped)
    again.set_epoch(epoch)
    torch.rand(epoch + 1)  # what else draws random numbers does not matter
    assert list(again) == found


def test_grouping_by_length_leaves_less_padding_than_chance() -> None:
    lengths = torch.randint(10, 1000, (256,), generator=torch.Generator().manual_seed(0)).tolist()

    def padding(grouped: bool) -> int:
        found = list(Order(lengths, 8, seed=0, grouped=grouped))
        batches = [[lengths[item] for item in found[at : at + 8]] for at in range(0, 256, 8)]
        return sum(max(batch) * len(batch) - sum(batch) for batch in batches)

    assert padding(True) < padding(False) / 3
    assert lengths[next(iter(Order(lengths, 8, seed=0)))] == max(lengths)


def test_the_processor_of_a_run_without_markers_says_so(tmp_path: Path) -> None:
    ours = small_processor(time_markers=False)
    ours.save_pretrained(tmp_path)
    assert MossAudioProcessor.from_pretrained(tmp_path).time_markers is False
