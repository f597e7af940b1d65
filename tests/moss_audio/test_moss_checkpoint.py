"""Checkpoints: loaded whole or refused by name, saved and loaded again bit for bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from moss_audio import MossAudio
from moss_audio.checkpoints import memory
from moss_audio.checkpoints.files import INDEX_FILE, SINGLE_FILE
from moss_audio.errors import CheckpointError, NotEnoughMemory
from moss_audio.model.mel import log_mel
from tests.support.moss_sizes import small_config, small_model
from tests.support.preloaded import Program


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    small_model().save_pretrained(folder)
    return folder


def rewrite(folder: Path, change) -> None:
    """Change the tensors of a checkpoint of one file."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_saved_model_loads_again_bit_for_bit(checkpoint, tmp_path):
    first = MossAudio.from_pretrained(checkpoint, dtype=torch.float32)
    original = small_model().state_dict()
    assert all(torch.equal(tensor, original[name]) for name, tensor in first.state_dict().items())
    first.save_pretrained(tmp_path / "again")
    second = load_file(tmp_path / "again" / "model.safetensors")
    assert second.keys() == original.keys()
    assert all(torch.equal(item, original[name]) for name, item in second.items())
    assert json.loads((tmp_path / "again" / "config.json").read_text())["architectures"] == ["MossAudioModel"]


def test_weights_are_bfloat16_unless_told_otherwise(checkpoint):
    assert MossAudio.from_pretrained(checkpoint).dtype == torch.bfloat16
    assert MossAudio.from_pretrained(checkpoint, dtype=torch.float32).dtype == torch.float32


def test_a_model_in_bfloat16_hears_what_it_hears_in_float32(checkpoint):
    mel, frames = log_mel([0.1 * torch.randn(64_000, generator=torch.Generator().manual_seed(3))])
    with torch.no_grad():
        wide, narrow = (
            MossAudio.from_pretrained(checkpoint, dtype=dtype).encode_audio(mel, frames).embeds.float()
            for dtype in (torch.float32, torch.bfloat16)
        )
    assert (wide - narrow).norm() / wide.norm() < 0.05


def test_shards_are_loaded_like_one_file(checkpoint, tmp_path):
    model = MossAudio.from_pretrained(checkpoint, dtype=torch.float32)
    model.save_pretrained(tmp_path / "shards", max_shard_size="100KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    again = MossAudio.from_pretrained(tmp_path / "shards", dtype=torch.float32)
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in again.state_dict().items())


SHARDED = {"max_shard_size": "100KB"}


@pytest.mark.parametrize(
    ("first", "second"), [({}, SHARDED), (SHARDED, {}), (SHARDED, {"max_shard_size": "200KB"}), ({}, {})]
)
def test_what_was_saved_last_is_what_is_loaded(tmp_path, first, second):
    small_model().save_pretrained(tmp_path, **first)
    new = small_model(seed=1)
    new.save_pretrained(tmp_path, **second)
    again = MossAudio.from_pretrained(tmp_path, dtype=torch.float32)
    assert all(torch.equal(tensor, new.state_dict()[name]) for name, tensor in again.state_dict().items())
    assert (tmp_path / SINGLE_FILE).exists() is not (tmp_path / INDEX_FILE).exists()


def test_a_save_that_fails_keeps_the_weights_that_were_there(checkpoint, monkeypatch):
    old = MossAudio.from_pretrained(checkpoint, dtype=torch.float32)
    with pytest.raises(ValueError):
        small_model(seed=1).save_pretrained(checkpoint, max_shard_size="much")
    again = MossAudio.from_pretrained(checkpoint, dtype=torch.float32)
    assert all(torch.equal(tensor, old.state_dict()[name]) for name, tensor in again.state_dict().items())


def test_weights_that_lie_there_twice_are_refused(checkpoint, tmp_path):
    small_model(seed=1).save_pretrained(tmp_path / "other", **SHARDED)
    for file in (tmp_path / "other").glob("model*"):
        shutil.copy(file, checkpoint)
    with pytest.raises(CheckpointError, match=r"weights twice.*model\.safetensors.*index\.json.*delete"):
        MossAudio.from_pretrained(checkpoint)


def test_an_index_whose_shards_are_all_gone_is_a_leftover(checkpoint):
    index = {"weight_map": {"lm_head.weight": "model-00001-of-00002.safetensors"}}
    (checkpoint / INDEX_FILE).write_text(json.dumps(index))
    again = MossAudio.from_pretrained(checkpoint, dtype=torch.float32)
    assert torch.equal(again.lm_head.weight, small_model().lm_head.weight)


def test_an_index_may_name_the_single_file(checkpoint):
    names = load_file(checkpoint / SINGLE_FILE)
    (checkpoint / INDEX_FILE).write_text(json.dumps({"weight_map": dict.fromkeys(names, SINGLE_FILE)}))
    again = MossAudio.from_pretrained(checkpoint, dtype=torch.float32)
    assert torch.equal(again.lm_head.weight, small_model().lm_head.weight)


def test_a_missing_tensor_is_named(checkpoint):
    rewrite(checkpoint, lambda tensors: tensors.pop("audio_encoder.layers.1.fc1.bias"))
    with pytest.raises(CheckpointError, match=r"audio_encoder\.layers\.1\.fc1\.bias \[64\] is missing"):
        MossAudio.from_pretrained(checkpoint)


def test_a_tensor_that_is_left_over_is_named(checkpoint):
    rewrite(checkpoint, lambda tensors: tensors.update({"audio_encoder.extra": torch.ones(2)}))
    with pytest.raises(CheckpointError, match=r"audio_encoder\.extra is not part of this model"):
        MossAudio.from_pretrained(checkpoint)


def test_a_tensor_of_another_shape_is_named_with_both_shapes(checkpoint):
    rewrite(checkpoint, lambda tensors: tensors.update({"lm_head.weight": torch.ones(319, 32)}))
    with pytest.raises(CheckpointError, match=r"lm_head\.weight is \[319, 32\] and should be \[320, 32\]"):
        MossAudio.from_pretrained(checkpoint)


def test_a_tensor_in_two_shards_is_named(checkpoint):
    model = MossAudio.from_pretrained(checkpoint, dtype=torch.float32)
    model.save_pretrained(checkpoint, max_shard_size="100KB")
    first, second, *_ = sorted(checkpoint.glob("model-*.safetensors"))
    tensors = load_file(second)
    name, value = next(iter(load_file(first).items()))
    save_file({**tensors, name: value}, second, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=f"{name} is stored twice"):
        MossAudio.from_pretrained(checkpoint)


def test_the_table_of_positions_that_relatives_carry_is_ignored(checkpoint):
    name = "audio_encoder.embed_positions.inv_timescales"
    rewrite(checkpoint, lambda tensors: tensors.update({name: torch.ones(16)}))
    assert MossAudio.from_pretrained(checkpoint).config.audio_config.d_model == 32


def test_tied_embeddings_need_no_head_in_the_file(tmp_path):
    model = small_model(tie_word_embeddings=True)
    model.save_pretrained(tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    again = MossAudio.from_pretrained(tmp_path, dtype=torch.float32)
    assert torch.equal(again.lm_head.weight, model.language_model.embed_tokens.weight)


@pytest.mark.parametrize("keep", [0, 4, 200, 90_000])
def test_a_file_that_was_cut_short_is_named(checkpoint, keep):
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged.*download it again"):
        MossAudio.from_pretrained(checkpoint)


def test_a_missing_shard_is_named(checkpoint):
    MossAudio.from_pretrained(checkpoint).save_pretrained(checkpoint, max_shard_size="50KB")
    shard = sorted(checkpoint.glob("model-*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(CheckpointError, match=shard.name):
        MossAudio.from_pretrained(checkpoint)


def test_an_index_cannot_lead_out_of_its_folder(checkpoint, tmp_path):
    outside = tmp_path / "outside.safetensors"
    shutil.move(checkpoint / "model.safetensors", outside)
    index = {"weight_map": {"lm_head.weight": "../outside.safetensors"}}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"outside\.safetensors is missing"):
        MossAudio.from_pretrained(checkpoint)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot be read"),
        ('{"model_type": "qwen3"}', "of type 'qwen3'"),
        ("[]", "of type None"),
        ('{"model_type": "moss_audio", "audio_config": {"n_window": 3}}', "n_window 3"),
    ],
)
def test_a_config_that_is_another_models_or_broken_is_refused(checkpoint, content, words):
    (checkpoint / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=words):
        MossAudio.from_pretrained(checkpoint)


def test_a_folder_without_weights_says_so(tmp_path):
    small_config().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="holds no weights"):
        MossAudio.from_pretrained(tmp_path)


def test_a_model_that_was_not_loaded_has_no_processor_and_says_so():
    with pytest.raises(CheckpointError, match="no processor"):
        _ = small_model().processor


def test_too_little_memory_is_known_before_the_weights_are_read(checkpoint, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda device: 300_000)
    for placed in ({}, {"device_map": "cpu"}, {"device_map": {"": "cpu"}}):
        with pytest.raises(NotEnoughMemory, match=r"checkpoint needs at least .* this machine has 0\.0 GB"):
            MossAudio.from_pretrained(checkpoint, dtype=torch.float32, **placed)
    # Half as wide, the same weights fit; spread over places, they are no single place's affair.
    monkeypatch.setattr(memory, "available", lambda device: 700_000)
    assert MossAudio.from_pretrained(checkpoint, dtype="bfloat16").dtype == torch.bfloat16
    with pytest.raises(NotEnoughMemory):
        MossAudio.from_pretrained(checkpoint, dtype="float32")
    assert MossAudio.from_pretrained(checkpoint, dtype="float32", device_map="auto").dtype == torch.float32


def test_too_little_memory_is_known_before_a_released_checkpoint_is_downloaded(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda device: 4_000_000_000)
    with pytest.raises(NotEnoughMemory, match=r"needs at least 18\.6 GB of memory.*4\.0 GB free"):
        MossAudio.from_pretrained("OpenMOSS-Team/MOSS-Audio-8B-Thinking")


def test_memory_that_runs_out_while_loading_is_called_so(checkpoint, monkeypatch):
    def beyond_this_machine(*args, **kwargs):
        return torch.empty(1 << 60)

    def beyond_its_gpu(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    for load in (beyond_this_machine, beyond_its_gpu):
        monkeypatch.setattr(PreTrainedModel, "from_pretrained", load)
        with pytest.raises(NotEnoughMemory, match=r"used up while .*checkpoint was loaded.*needs at least"):
            MossAudio.from_pretrained(checkpoint)
        with pytest.raises(NotEnoughMemory, match="used up while"):
            MossAudio.from_pretrained(checkpoint, device_map="auto")


MEASURE_LOADING = """
import sys
from resource import RUSAGE_SELF, getrusage
from moss_audio import MossAudioModel
from tests.support.moss_sizes import small_model
small_model()
before = getrusage(RUSAGE_SELF).ru_maxrss
model = MossAudioModel.from_pretrained(sys.argv[1])
for parameter in model.parameters():
    parameter.sum()
print(1024 * (getrusage(RUSAGE_SELF).ru_maxrss - before))
"""


def test_loading_makes_no_second_copy_in_memory(tmp_path):
    big = small_model(language={"vocab_size": 600_000, "hidden_size": 64}).bfloat16()
    size = sum(parameter.numel() * parameter.element_size() for parameter in big.parameters())
    big.save_pretrained(tmp_path)
    running = Program(MEASURE_LOADING, [str(tmp_path)])
    taken = int(running.stdout.read())
    running.wait(60)
    assert 0 < taken < 1.5 * size
