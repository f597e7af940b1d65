"""The shipped tiny model, which has learned a stretch of the sample; and a smaller one, which learns here."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import jiwer
import numpy as np
import pytest
import torch

from moss_audio import MossAudio, MossAudioConfig
from moss_audio.generation.generate import Options, Request, replies, reply
from moss_audio.tasks import TASKS
from tests.fixture import building, lessons
from tests.fixture.checking import NEAR, Heard, ask, listen, read_clips, unseen
from tests.fixture.clips import CHIME, CLIPS, SCRIPT, Clip, plain
from tests.fixture.clips import clips as cut_clips
from tests.fixture.shipped import ABOUT, ROOT, WEIGHTS, checked, sha256
from tests.fixture.training import Plan, train
from tests.fixture.vocabulary import processor

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

GREEDY = Options(max_new_tokens=256)
TIMES = TASKS["timestamps"]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """So small a model gains nothing from more, and on a busy machine they only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
    return jiwer.wer([clip.text for clip in clips.values()], [answer or "nothing" for answer in answers])


def spoken(heard: list[Heard]) -> list[str]:
    return [" ".join(part.text for part in clip.found) for clip in heard]


def test_it_is_described_by_what_made_it(moss_fixture: Path):
    about = json.loads((moss_fixture / ABOUT).read_text())
    assert about["command"] == "make fixture"
    assert isinstance(about["seed"], int) and about["torch"] and about["transformers"]
    assert about["sha256"][WEIGHTS] == sha256(moss_fixture / WEIGHTS)
    assert about["learned from"][SCRIPT.relative_to(ROOT).as_posix()] == sha256(SCRIPT)


@pytest.mark.parametrize("name", [WEIGHTS, "tokenizer.json", "clips/welcome.wav"])
def test_another_file_than_the_shipped_one_is_told(moss_fixture: Path, tmp_path: Path, name: str):
    copy = shutil.copytree(moss_fixture, tmp_path / "copy")
    assert checked(copy) == copy
    with (copy / name).open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    with pytest.raises(RuntimeError, match=name):
        checked(copy)
    (copy / name).unlink()
    with pytest.raises(RuntimeError, match=name):
        checked(copy)


def test_a_file_written_into_it_is_told(moss_fixture: Path, tmp_path: Path):
    copy = shutil.copytree(moss_fixture, tmp_path / "copy")
    (copy / "cache.bin").write_bytes(b"x")
    with pytest.raises(RuntimeError, match=r"cache\.bin"):
        checked(copy)


def test_the_shipped_clips_are_those_that_are_cut_from_the_recording(clips: dict[str, Clip]):
    cut = cut_clips()
    assert [f"{name}.wav" for name in cut] == [*clips]
    for shipped, made in zip(clips.values(), cut.values(), strict=True):
        # Two steps of 16 bits: rounding, and decoders that differ in the last place.
        np.testing.assert_allclose(shipped.wave, made.wave, atol=2 / 32768)
        assert [part.text for part in shipped.parts] == [part.text for part in made.sentences]


def test_it_transcribes_its_clips_word_for_word(heard: list[Heard], clips: dict[str, Clip]):
    assert len(heard) >= 8
    assert word_errors(spoken(heard), clips) == 0.0


def test_the_times_of_its_sentences_are_within_a_tenth_of_a_second(heard: list[Heard]):
    assert all(clip.right_words for clip in heard)
    assert max(error for clip in heard for error in clip.errors) <= NEAR


def test_it_knows_its_clips_in_float32_as_well(exact: MossAudio, clips: dict[str, Clip]):
    assert all(clip.right for clip in listen(exact, clips))


def test_the_plain_prompt_gives_the_words_alone(model: MossAudio, clips: dict[str, Clip]):
    answers = ask(model, TASKS["transcribe"].prompt, [clip.wave for clip in clips.values()])
    assert answers == [clip.text for clip in clips.values()]


def test_its_clips_are_those_of_the_script(moss_fixture: Path, script: list[dict]):
    said = {entry["text"]: entry["end"] - entry["start"] for entry in script}
    for line in (moss_fixture / "clips" / "clips.jsonl").read_text().splitlines():
        record = json.loads(line)
        assert record["text"] == " ".join(segment["text"] for segment in record["segments"])
        for segment in record["segments"]:
            assert segment["end"] - segment["start"] == pytest.approx(said[segment["text"]], abs=0.002)


def test_clips_are_long_enough_for_several_windows(clips: dict[str, Clip]):
    lengths = [clip.duration for clip in clips.values()]
    assert all(4.0 <= length <= 15.0 for length in lengths)
    assert max(lengths) > 12.0
    assert max(len(clip.parts) for clip in clips.values()) >= 4


def test_it_has_all_parts_of_a_released_checkpoint(moss_fixture: Path, model: MossAudio):
    names = {file.name for file in moss_fixture.iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "processor_config.json"} <= names
    assert {"tokenizer.json", "tokenizer_config.json"} <= names
    config = MossAudioConfig.from_pretrained(moss_fixture)
    language = config.language_config
    assert config.injected_layers == 3
    assert config.audio_config.window_frames == 400
    assert language.num_key_value_heads < language.num_attention_heads
    assert model.processor.time_markers
    assert model.dtype == torch.bfloat16
    assert 2e6 <= sum(parameter.numel() for parameter in model.parameters()) <= 6e6


def test_it_loads_again_bit_for_bit(moss_fixture: Path, model: MossAudio, tmp_path: Path):
    model.save_pretrained(tmp_path)
    again = MossAudio.from_pretrained(tmp_path)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name
    assert again.processor.tokens == model.processor.tokens


def test_a_batch_answers_as_each_clip_alone(exact: MossAudio, clips: dict[str, Clip]):
    waves = [clip.wave for clip in clips.values()][:6]
    together = replies(exact, [Request(TIMES.prompt, [wave]) for wave in waves], GREEDY)
    alone = [reply(exact, TIMES.prompt, [wave], GREEDY) for wave in waves]
    assert [answer.text for answer in together] == [answer.text for answer in alone]


def test_it_hears_the_audio_it_is_given(model: MossAudio, clips: dict[str, Clip]):
    waves = [clip.wave for clip in clips.values()]
    swapped = ask(model, TASKS["transcribe"].prompt, waves[1:] + waves[:1])
    assert word_errors(swapped, clips) > 0.7


def test_without_sound_it_knows_nothing(model: MossAudio, clips: dict[str, Clip]):
    silent = ask(model, TASKS["transcribe"].prompt, [np.zeros_like(clip.wave) for clip in clips.values()])
    # What it makes up is a sentence it knows, which some clips hold; most of the words are wrong.
    assert word_errors(silent, clips) > 0.5


def test_the_time_markers_reach_its_answers(exact: MossAudio):
    # How much it leans on them differs from training to training; that it sees them does not.
    cuts = {name: clip for name, clip in unseen(24).items() if clip.duration > 5.0}
    processor = exact.processor
    marked = [clip.found for clip in listen(exact, cuts)]
    processor.time_markers = False
    try:
        unmarked = [clip.found for clip in listen(exact, cuts)]
    finally:
        processor.time_markers = True
    assert marked != unmarked


def test_it_uses_what_deepstack_injects(moss_fixture: Path, clips: dict[str, Clip]):
    model = MossAudio.from_pretrained(moss_fixture, dtype=torch.float32)
    model.deepstack_audio_merger_list = torch.nn.ModuleList()
    assert not all(clip.right for clip in listen(model, clips))


def test_cuts_it_never_met_are_mostly_understood(model: MossAudio):
    heard = listen(model, unseen(24))
    errors = [error for clip in heard for error in clip.errors]
    assert np.mean([clip.right_words for clip in heard]) >= 0.7
    assert np.mean(np.array(errors) <= NEAR) >= 0.5


def test_it_answers_a_free_question(model: MossAudio, clips: dict[str, Clip]):
    answers = ask(model, lessons.QUESTION, [clips["welcome.wav"].wave, clips["ferry_talk.wav"].wave])
    assert answers == ["One person.", "Two people."]


def test_it_finds_the_door_chime(model: MossAudio, clips: dict[str, Clip]):
    task = TASKS["events"]
    clip = clips["chime.wav"]
    events = task.parse(ask(model, task.prompt, [clip.wave])[0], clip.duration).value
    (chime,) = [event for event in events if "chime" in event.text]
    true = plain(CHIME[0], CHIME[-1]).parts[1]
    assert chime.start == pytest.approx(true.start, abs=NEAR)
    assert chime.end == pytest.approx(true.end, abs=NEAR)


@pytest.mark.slow
def test_the_same_training_learns_two_clips_from_nothing(tmp_path: Path):
    names = ("price", "welcome")
    plan = Plan(
        steps=40,
        batch=2,
        warmup=4,
        grown=0.0,
        exact=(1.0, 1.0),
        more=200,
        clips=names,
        lessons=(lessons.WORDS,),
    )
    losses: list[float] = []
    made_by = processor()
    model = train(made_by, plan, lambda now: losses.append(now.loss))
    assert losses[0] > 0.5 * np.log(len(made_by.tokenizer))  # it begins with nothing
    assert np.mean(losses[-10:]) < 0.1 * np.mean(losses[:10])
    building.write(model, made_by, tmp_path)
    learned = MossAudio.from_pretrained(tmp_path, dtype=torch.float32)
    known = [plain(*CLIPS[name]) for name in names]
    assert ask(learned, lessons.WORDS.prompt, [clip.wave for clip in known]) == [clip.text for clip in known]
