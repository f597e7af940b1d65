"""What users of transformers do with a model: generate in all its ways, spread it, evaluate it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset
from transformers import AutoConfig, AutoModel, Qwen3ForCausalLM, Trainer, TrainingArguments

from moss_audio.errors import MossAudioError, PromptError
from moss_audio.generation.generate import Options, reply
from moss_audio.model.config import MossAudioConfig
from moss_audio.model.mel import log_mel
from moss_audio.model.modeling import MossAudioModel, repeat_by_prompt
from tests.support.moss_sizes import batch_of, noise, prompt, small_model
from tests.support.tiny_moss import load, random_checkpoint, waves

GREEDY = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}


def heard(frames: int = 300) -> dict[str, torch.Tensor]:
    """Inputs of a prompt with one clip."""
    mel, lengths = log_mel([noise(frames * 160)])
    return {"input_ids": prompt(frames), "audio_data": mel, "audio_data_seqlens": lengths}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_cache": False},
        {"num_beams": 3},
        {"num_beams": 2, "num_return_sequences": 2},
        {"cache_implementation": "static"},
    ],
)
def test_generate_gives_each_prompt_of_a_batch_what_it_gets_alone(options):
    model = small_model()
    frames = [[150], [37, 500], []]
    clips = [[noise(n * 160, n) for n in row] for row in frames]
    prompts = [prompt(*row) for row in frames]
    mel, lengths = log_mel([clip for row in clips for clip in row])
    options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, **options}
    together = model.generate(**batch_of(prompts), audio_data=mel, audio_data_seqlens=lengths, **options)
    times = options.get("num_return_sequences", 1)
    for row, (ids, own) in enumerate(zip(prompts, clips, strict=True)):
        audio = dict(zip(("audio_data", "audio_data_seqlens"), log_mel(own), strict=True)) if own else {}
        alone = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **audio, **options)
        found = together[row * times : (row + 1) * times, -6:]
        assert found.tolist() == alone[:, -6:].tolist()


def test_looking_ahead_in_the_prompt_changes_no_token():
    model = small_model()
    plain = model.generate(**heard(), **GREEDY)
    assert model.generate(**heard(), **GREEDY, prompt_lookup_num_tokens=2).tolist() == plain.tolist()


def test_features_encoded_once_can_be_given_again():
    model = small_model()
    mel, frames = log_mel([noise(300 * 160)])
    ids = prompt(300)
    with torch.no_grad():
        features = model.encode_audio(mel, frames)
        once = model(input_ids=ids, audio_features=features).logits
        assert torch.equal(once, model(input_ids=ids, audio_data=mel, audio_data_seqlens=frames).logits)


@pytest.mark.parametrize("options", [{}, {"num_beams": 2}, {"num_beams": 3, "num_return_sequences": 3}])
def test_features_encoded_once_generate_what_the_audio_generates(options):
    model = small_model()
    prompts = [prompt(150), prompt(37, 500), prompt()]
    mel, lengths = log_mel([noise(n * 160, n) for n in (150, 37, 500)])
    with torch.no_grad():
        features = model.encode_audio(mel, lengths)
    batch = batch_of(prompts)
    from_audio = model.generate(**batch, audio_data=mel, audio_data_seqlens=lengths, **GREEDY, **options)
    assert (
        model.generate(**batch, audio_features=features, **GREEDY, **options).tolist() == from_audio.tolist()
    )


def test_a_static_cache_writes_what_a_growing_one_writes_left_padding_and_all():
    model = small_model()
    mel, lengths = log_mel([noise(n * 160, n) for n in (150, 500)])
    inputs = {
        **batch_of([prompt(150), prompt(500), prompt()]),
        "audio_data": mel,
        "audio_data_seqlens": lengths,
    }
    growing = model.generate(**inputs, **GREEDY)
    assert model.generate(**inputs, **GREEDY, cache_implementation="static").tolist() == growing.tolist()
    model.set_attn_implementation("eager")
    assert model.generate(**inputs, **GREEDY, cache_implementation="static").tolist() == growing.tolist()


def test_a_prompt_with_audio_is_not_read_in_chunks_and_says_so():
    model = small_model()
    with torch.no_grad():
        features = model.encode_audio(*log_mel([noise(300 * 160)]))
    for inputs in (heard(), {"input_ids": prompt(300), "audio_features": features}):
        with pytest.raises(MossAudioError, match="prefill_chunk_size"):
            model.generate(**inputs, **GREEDY, prefill_chunk_size=16)
    text = torch.randint(0, 299, (1, 40), generator=torch.Generator().manual_seed(2))
    whole = model.generate(input_ids=text, **GREEDY)
    assert model.generate(input_ids=text, **GREEDY, prefill_chunk_size=16).tolist() == whole.tolist()


def test_hidden_states_are_those_of_qwen3_where_no_audio_is():
    model = small_model()
    plain = Qwen3ForCausalLM(model.config.language_config).eval()
    state = {f"model.{name}": tensor for name, tensor in model.language_model.state_dict().items()}
    plain.load_state_dict({**state, "lm_head.weight": model.lm_head.weight})
    ids = torch.randint(0, 299, (2, 20), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        ours, theirs = (
            entry(input_ids=ids, output_hidden_states=True).hidden_states for entry in (model, plain)
        )
        assert len(ours) == len(theirs) == 5
        for item, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(item, other, atol=1e-4, rtol=1e-5)
        assert model(input_ids=ids).hidden_states is None


def test_hidden_states_with_audio_hold_what_was_inserted_and_injected():
    model = small_model()
    with torch.no_grad():
        before = model(**heard(), output_hidden_states=True)
        model.deepstack_audio_merger_list[1].down_proj.weight.zero_()
        after = model(**heard(), output_hidden_states=True)
    assert torch.equal(model.lm_head(before.hidden_states[-1]), before.logits)
    changed = [not torch.equal(*pair) for pair in zip(before.hidden_states, after.hidden_states, strict=True)]
    assert changed == [False, False, True, True, True]


def test_generate_gives_the_hidden_states_of_every_step():
    model = small_model()
    inputs = heard()
    found = model.generate(**inputs, **GREEDY, return_dict_in_generate=True, output_hidden_states=True)
    assert len(found.hidden_states) == 6
    assert [step[-1].shape[1] for step in found.hidden_states] == [
        inputs["input_ids"].shape[1],
        1,
        1,
        1,
        1,
        1,
    ]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_attention_weights_are_not_given_and_it_says_so(attention):
    model = small_model()
    model.set_attn_implementation(attention)
    with pytest.raises(MossAudioError, match="output_attentions"):
        model(**heard(), output_attentions=True)


@pytest.mark.parametrize("room", ["80KB", "300KB"])
def test_a_model_spread_over_memory_and_disk_answers_like_a_whole_one(tmp_path, room):
    whole = small_model()
    whole.save_pretrained(tmp_path / "model")
    spread = MossAudioModel.from_pretrained(
        tmp_path / "model", dtype=torch.float32, device_map="auto", max_memory={"cpu": room},
        offload_folder=tmp_path / "offloaded",
    )  # fmt: skip
    assert "disk" in spread.hf_device_map.values()
    with torch.no_grad():
        assert torch.equal(spread(**heard(500)).logits, whole(**heard(500)).logits)
    expected = whole.generate(**heard(500), **GREEDY)
    assert spread.generate(**heard(500), **GREEDY).tolist() == expected.tolist()


def test_a_spread_model_answers_questions(tmp_path: Path):
    folder = random_checkpoint(tmp_path)
    spread = MossAudioModel.from_pretrained(
        folder, dtype=torch.float32, device_map="auto", max_memory={"cpu": "80KB"},
        offload_folder=tmp_path / "offloaded",
    )  # fmt: skip
    found, expected = (
        reply(item, "What is it?", waves(1.3), Options(max_new_tokens=6, temperature=1.0, seed=3))
        for item in (spread.eval(), load(folder))
    )
    assert (found.text, found.new_tokens) == (expected.text, expected.new_tokens)


class Clips(Dataset):
    """Four prompts with a clip each, and labels at their ends."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        mel, frames = log_mel([noise(100 * 160, number)])
        ids = prompt(100)[0]
        labels = torch.where(torch.arange(len(ids)) < len(ids) - 3, -100, ids)
        return {"input_ids": ids, "labels": labels, "audio_data": mel[0], "audio_data_seqlens": frames[0]}


def test_a_plain_trainer_evaluates_and_predicts(tmp_path):
    model = small_model()
    arguments = TrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, per_device_eval_batch_size=2, report_to="none",
        remove_unused_columns=False, disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(model=model, args=arguments, eval_dataset=Clips())
    alone = []
    with torch.no_grad():
        for item in map(Clips().__getitem__, range(4)):
            alone.append(model(**{name: tensor[None] for name, tensor in item.items()}))
    loss = trainer.evaluate()["eval_loss"]
    assert loss == pytest.approx(float(torch.stack([entry.loss for entry in alone]).mean()), abs=1e-4)
    predicted = torch.from_numpy(trainer.predict(Clips()).predictions)
    torch.testing.assert_close(predicted, torch.cat([entry.logits for entry in alone]), atol=1e-4, rtol=1e-5)


def test_beams_take_their_clips_along_prompt_by_prompt():
    assert repeat_by_prompt([5, 0, 7], [2, 3, 7], 2) == [0, 1, 0, 1, 2, 2]
    with pytest.raises(PromptError):
        repeat_by_prompt([4], [2, 3], 2)


def test_transformers_auto_classes_know_the_model(tmp_path):
    model = small_model()
    model.save_pretrained(tmp_path)
    assert isinstance(AutoConfig.from_pretrained(tmp_path), MossAudioConfig)
    loaded = AutoModel.from_pretrained(tmp_path, dtype=torch.float32)
    assert isinstance(loaded, MossAudioModel)
    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight)
