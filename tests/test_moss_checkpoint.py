"""Checkpoints: loaded whole or refused by name, saved and loaded again bit for bit."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from moss_audio import MossAudio
from moss_audio.errors import CheckpointError
from moss_audio.mel import log_mel
from tests.moss_sizes import small_config, small_model


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
    assert all(torch.equal(one, original[name]) for name, one in first.state_dict().items())
    first.save_pretrained(tmp_path / "again")
    second = load_file(tmp_path / "again" / "model.safetensors")
    assert second.keys() == original.keys()
    assert all(torch.equal(one, original[name]) for name, one in second.items())
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
    assert all(torch.equal(one, model.state_dict()[name]) for name, one in again.state_dict().items())


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


MEASURE_LOADING = """
import sys
from resource import RUSAGE_SELF, getrusage
from moss_audio.model import MossAudioModel
from tests.moss_sizes import small_model
small_model()
before = getrusage(RUSAGE_SELF).ru_maxrss
model = MossAudioModel.from_pretrained(sys.argv[1])
for parameter in model.parameters():
    parameter.sum()
print(1024 * (getrusage(RUSAGE_SELF).ru_maxrss - before))
"""


def test_loading_makes_no_second_copy_in_memory(tmp_path):
    big = small_model(language={"vocab_size": 600_000, "hidden_size": 64}).bfloat16()
    size = sum(one.numel() * one.element_size() for one in big.parameters())
    big.save_pretrained(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE_LOADING, str(tmp_path)],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert int(done.stdout) < 1.5 * size
