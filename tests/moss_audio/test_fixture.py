"""A tiny model, trained here, that has learned a stretch of the sample: all of the model room at once."""

from __future__ import annotations

import json
from pathlib import Path

import jiwer
import numpy as np
import pytest
import torch

from moss_audio import MossAudio, MossAudioConfig
from moss_audio.generation.generate import Options, Request, replies, reply
from moss_audio.tasks import TASKS
from tests.fixture import lessons
from tests.fixture.checking import NEAR, Heard, ask, listen, read_clips, unseen
from tests.fixture.clips import CHIME, Clip, plain

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

GREEDY = Options(max_new_tokens=256)
TIMES = TASKS["timestamps"]


@pytest.fixture(scope="module")
def model(moss_fixture: Path) -> MossAudio:
    """As a user would load it: in bfloat16."""
    return MossAudio.from_pretrained(moss_fixture)


@pytest.fixture(scope="module")
def exact(moss_fixture: Path) -> MossAudio:
    """In float32, where a batch and a single clip differ by rounding of no consequence."""
    return MossAudio.from_pretrained(moss_fixture, dtype=torch.float32)


@pytest.fixture(scope="module")
def clips(moss_fixture: Path) -> dict[str, Clip]:
    return read_clips(moss_fixture)


@pytest.fixture(scope="module")
def heard(model: MossAudio, clips: dict[str, Clip]) -> list[Heard]:
    return listen(model, clips)


def word_errors(answers: list[str], clips: dict[str, Clip]) -> float:
    return jiwer.wer([one.text for one in clips.values()], [one or "nothing" for one in answers])


def spoken(heard: list[Heard]) -> list[str]:
    return [" ".join(part.text for part in one.found) for one in heard]


def test_it_transcribes_its_clips_word_for_word(heard: list[Heard], clips: dict[str, Clip]):
    assert len(heard) >= 8
    assert word_errors(spoken(heard), clips) == 0.0


def test_the_times_of_its_sentences_are_within_a_tenth_of_a_second(heard: list[Heard]):
    assert all(one.right_words for one in heard)
    assert max(error for one in heard for error in one.errors) <= NEAR


def test_it_knows_its_clips_in_float32_as_well(exact: MossAudio, clips: dict[str, Clip]):
    assert all(one.right for one in listen(exact, clips))


def test_the_plain_prompt_gives_the_words_alone(model: MossAudio, clips: dict[str, Clip]):
    answers = ask(model, TASKS["transcribe"].prompt, [one.wave for one in clips.values()])
    assert answers == [one.text for one in clips.values()]


def test_its_clips_are_those_of_the_script(moss_fixture: Path, script: list[dict]):
    said = {one["text"]: one["end"] - one["start"] for one in script}
    for line in (moss_fixture / "clips" / "clips.jsonl").read_text().splitlines():
        record = json.loads(line)
        assert record["text"] == " ".join(one["text"] for one in record["segments"])
        for one in record["segments"]:
            assert one["end"] - one["start"] == pytest.approx(said[one["text"]], abs=0.002)


def test_clips_are_long_enough_for_several_windows(clips: dict[str, Clip]):
    lengths = [one.duration for one in clips.values()]
    assert all(4.0 <= one <= 15.0 for one in lengths)
    assert max(lengths) > 12.0
    assert max(len(one.parts) for one in clips.values()) >= 4


def test_it_has_all_parts_of_a_released_checkpoint(moss_fixture: Path, model: MossAudio):
    names = {one.name for one in moss_fixture.iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "processor_config.json"} <= names
    assert {"tokenizer.json", "tokenizer_config.json"} <= names
    config = MossAudioConfig.from_pretrained(moss_fixture)
    language = config.language_config
    assert config.injected_layers == 3
    assert config.audio_config.window_frames == 400
    assert language.num_key_value_heads < language.num_attention_heads
    assert model.processor.time_markers
    assert model.dtype == torch.bfloat16
    assert 2e6 <= sum(one.numel() for one in model.parameters()) <= 6e6


def test_it_loads_again_bit_for_bit(moss_fixture: Path, model: MossAudio, tmp_path: Path):
    model.save_pretrained(tmp_path)
    again = MossAudio.from_pretrained(tmp_path)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name
    assert again.processor.tokens == model.processor.tokens


def test_a_batch_answers_as_each_clip_alone(exact: MossAudio, clips: dict[str, Clip]):
    waves = [one.wave for one in clips.values()][:6]
    together = replies(exact, [Request(TIMES.prompt, [one]) for one in waves], GREEDY)
    alone = [reply(exact, TIMES.prompt, [one], GREEDY) for one in waves]
    assert [one.text for one in together] == [one.text for one in alone]


def test_it_hears_the_audio_it_is_given(model: MossAudio, clips: dict[str, Clip]):
    waves = [one.wave for one in clips.values()]
    swapped = ask(model, TASKS["transcribe"].prompt, waves[1:] + waves[:1])
    assert word_errors(swapped, clips) > 0.7


def test_without_sound_it_knows_nothing(model: MossAudio, clips: dict[str, Clip]):
    silent = ask(model, TASKS["transcribe"].prompt, [np.zeros_like(one.wave) for one in clips.values()])
    # What it makes up is a sentence it knows, which some clips hold; most of the words are wrong.
    assert word_errors(silent, clips) > 0.5


def test_the_time_markers_reach_its_answers(exact: MossAudio):
    # How much it leans on them differs from training to training; that it sees them does not.
    cuts = {name: one for name, one in unseen(60).items() if one.duration > 5.0}
    processor = exact.processor
    marked = [one.found for one in listen(exact, cuts)]
    processor.time_markers = False
    try:
        unmarked = [one.found for one in listen(exact, cuts)]
    finally:
        processor.time_markers = True
    assert marked != unmarked


def test_it_uses_what_deepstack_injects(moss_fixture: Path, clips: dict[str, Clip]):
    model = MossAudio.from_pretrained(moss_fixture, dtype=torch.float32)
    model.deepstack_audio_merger_list = torch.nn.ModuleList()
    assert not all(one.right for one in listen(model, clips))


def test_cuts_it_never_met_are_mostly_understood(model: MossAudio):
    heard = listen(model, unseen(24))
    errors = [error for one in heard for error in one.errors]
    assert np.mean([one.right_words for one in heard]) >= 0.7
    assert np.mean(np.array(errors) <= NEAR) >= 0.5


def test_it_answers_a_free_question(model: MossAudio, clips: dict[str, Clip]):
    answers = ask(model, lessons.QUESTION, [clips["welcome.wav"].wave, clips["ferry_talk.wav"].wave])
    assert answers == ["One person.", "Two people."]


def test_it_finds_the_door_chime(model: MossAudio, clips: dict[str, Clip]):
    task = TASKS["events"]
    clip = clips["chime.wav"]
    events = task.parse(ask(model, task.prompt, [clip.wave])[0], clip.duration).value
    (chime,) = [one for one in events if "chime" in one.text]
    true = plain(CHIME[0], CHIME[-1]).parts[1]
    assert chime.start == pytest.approx(true.start, abs=NEAR)
    assert chime.end == pytest.approx(true.end, abs=NEAR)
