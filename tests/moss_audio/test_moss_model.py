"""The model's promises: sizes of the released checkpoints, clips as if alone, transformers' own machinery."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import Qwen3ForCausalLM

from moss_audio.errors import PromptError
from moss_audio.model.chat_template import default_prompt
from moss_audio.model.config import MossAudioConfig
from moss_audio.model.encoder import cut_windows, positions
from moss_audio.model.mel import frame_count, log_mel, token_count
from moss_audio.model.modeling import MossAudioModel, next_token_loss
from tests.support.moss_sizes import (
    AUDIO,
    batch_of,
    noise,
    prompt,
    released_config,
    small_config,
    small_model,
)
from tests.support.moss_tokenizer import processor

PARITY = Path(__file__).parents[1] / "data" / "parity"
TOTALS = {"4B": 5_222_820_736, "8B": 9_052_463_488}
ENCODER_PARAMETERS = 643_624_320


@pytest.mark.parametrize("size", ["4B", "8B"])
def test_every_tensor_has_the_name_and_shape_of_the_released_checkpoint(size):
    with torch.device("meta"):
        model = MossAudioModel(released_config(size))
    built = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    recorded = json.loads((PARITY / f"state_dict_{size}.json").read_text())
    recorded = recorded.get("tensors", recorded)
    assert built == {name: list(shape) for name, shape in recorded.items()}
    assert len(built) == 901
    assert sum(parameter.numel() for parameter in model.parameters()) == TOTALS[size]
    assert sum(item.numel() for item in model.audio_encoder.parameters()) == ENCODER_PARAMETERS


def test_a_config_without_n_window_means_windows_of_four_seconds():
    assert released_config("8B").audio_config.window_frames == 400


def test_flat_rope_theta_of_older_files_is_read():
    assert released_config("8B").language_config.rope_parameters["rope_theta"] == 1_000_000.0


def test_unknown_keys_are_kept_when_a_config_is_saved_again(tmp_path):
    released_config("4B").save_pretrained(tmp_path)
    again = MossAudioConfig.from_pretrained(tmp_path)
    assert again.audio_config.encoder_attention_window_size == 100
    assert again.to_dict() == released_config("4B").to_dict()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"n_window": 201}, "n_window"),
        ({"deepstack_encoder_layer_indexes": [0, 3]}, "layer 3"),
        ({"num_mel_bins": 80}, "num_mel_bins"),
        ({"encoder_attention_heads": 5}, "heads"),
    ],
)
def test_sizes_the_architecture_cannot_have_are_refused_by_name(changes, word):
    with pytest.raises(Exception, match=word):
        small_config(audio=changes)


@given(st.integers(160, 15 * 60 * 16_000), st.sampled_from([None, 8, 400, 800, 30_000]))
@example(160, 400)
@example(15 * 60 * 16_000, 400)
@example(15 * 60 * 16_000, None)
@settings(max_examples=60, deadline=None)
def test_the_encoder_gives_as_many_tokens_as_the_prompt_has_places_for_every_length(samples, window):
    frames = frame_count(samples)
    # One column stands for all of them: only the shapes count, and fifteen minutes are a lot to copy.
    mel = torch.zeros(1, 1, 1, dtype=torch.bool).expand(1, 1, frames)
    windows = cut_windows(mel, torch.tensor([frames]), window)
    encoded = sum(token_count(count) for count in windows.frames.tolist())
    prompt = processor().encode(default_prompt("What?"), [token_count(frames)])
    assert encoded == sum(prompt.audio)


@given(st.lists(st.integers(1, 900), min_size=1, max_size=4), st.sampled_from([None, 8, 400, 1000, 60_000]))
@settings(max_examples=40, deadline=None)
def test_windows_are_the_clips_in_order_with_nothing_but_zeros_behind_them(lengths, window):
    clips = torch.randn(len(lengths), 2, max(lengths), generator=torch.Generator().manual_seed(1))
    windows = cut_windows(clips, torch.tensor(lengths), window)
    wide = max(lengths) if all(windows.alone) else window
    assert windows.mel.shape[2] == wide
    pieces = list(zip(windows.mel, windows.frames.tolist(), windows.alone.tolist(), strict=True))
    assert all(not mel[:, frames:].any() for mel, frames, _ in pieces)
    for clip, length in zip(clips, lengths, strict=True):
        parts = []
        while sum(part.shape[1] for part in parts) < length:
            mel, frames, alone = pieces.pop(0)
            assert alone is (frames == length)
            parts.append(mel[:, :frames])
        assert torch.equal(torch.cat(parts, dim=1), clip[:, :length])
    assert not pieces


def test_a_window_longer_than_any_audio_costs_what_the_audio_is_long():
    mel = torch.zeros(1, 1, 1).expand(1, 1, 500)
    windows = cut_windows(mel, torch.tensor([500]), 1 << 40)
    assert windows.mel.shape == (1, 1, 500)


@pytest.mark.parametrize("frames", [1, 2, 7, 8, 9, 399, 400, 401, 407, 408, 409, 800, 1201])
def test_the_encoder_gives_one_token_for_every_eight_frames(frames):
    model = small_model()
    mel, lengths = log_mel([noise(frames * 160)])
    with torch.no_grad():
        found = model.audio_encoder(mel, lengths)
    assert found.tokens.shape == (token_count(frames), 32)
    assert [tap.shape for tap in found.taps] == [found.tokens.shape] * 3


@given(st.lists(st.integers(1, 1300), min_size=2, max_size=5), st.sampled_from([200, None]))
@settings(max_examples=15, deadline=None)
def test_a_clip_is_heard_as_if_alone_whatever_it_is_batched_with(lengths, n_window):
    model = small_model(audio={"n_window": n_window})
    clips = [noise(frames * 160, seed) for seed, frames in enumerate(lengths)]
    with torch.no_grad():
        together = model.encode_audio(*log_mel(clips))
        alone = [model.encode_audio(*log_mel([clip])) for clip in clips]
    torch.testing.assert_close(
        together.embeds, torch.cat([item.embeds for item in alone]), atol=2e-5, rtol=1e-5
    )
    for layer in range(3):
        rows = torch.cat([entry.deepstack[layer] for entry in alone])
        torch.testing.assert_close(together.deepstack[layer], rows, atol=2e-5, rtol=1e-5)


def test_windows_hear_nothing_of_one_another():
    model = small_model()
    mel, frames = log_mel([noise(800 * 160)])
    changed = mel.clone()
    changed[:, :, 400:] = 0.3
    with torch.no_grad():
        before, after = (model.audio_encoder(item, frames).tokens for item in (mel, changed))
    torch.testing.assert_close(before[:50], after[:50], atol=1e-5, rtol=1e-5)
    assert (before[50:] - after[50:]).abs().max() > 0.01


def test_one_window_over_the_whole_audio_is_a_setting():
    windowed, whole = small_model(), small_model(audio={"n_window": None})
    mel, frames = log_mel([noise(800 * 160)])
    with torch.no_grad():
        difference = windowed.audio_encoder(mel, frames).tokens - whole.audio_encoder(mel, frames).tokens
    assert difference.abs().max() > 0.01
    short, frames = log_mel([noise(400 * 160)])
    with torch.no_grad():
        assert torch.equal(
            windowed.audio_encoder(short, frames).tokens, whole.audio_encoder(short, frames).tokens
        )


def test_one_window_over_the_whole_audio_is_kept_when_the_model_is_saved(tmp_path):
    whole = small_model(audio={"n_window": None})
    whole.save_pretrained(tmp_path)
    again = MossAudioModel.from_pretrained(tmp_path, dtype=torch.float32)
    assert again.config.audio_config.n_window is None
    mel, frames = log_mel([noise(800 * 160)])
    with torch.no_grad():
        assert torch.equal(again.audio_encoder(mel, frames).tokens, whole.audio_encoder(mel, frames).tokens)


def test_conv_chunksize_changes_no_number():
    mel, frames = log_mel([noise(1700 * 160)])
    with torch.no_grad():
        few, many = (
            small_model(audio={"conv_chunksize": size}).audio_encoder(mel, frames).tokens for size in (1, 64)
        )
    torch.testing.assert_close(few, many, atol=1e-5, rtol=1e-5)


def test_positions_are_float32_and_right_in_a_model_cast_to_bfloat16():
    model = small_model().bfloat16()
    mel, frames = log_mel([noise(100 * 160)])
    with torch.no_grad():
        assert model.audio_encoder(mel, frames).tokens.dtype == torch.bfloat16
    table = positions(1500, 8)
    expected = torch.sin(torch.tensor(1499.0, dtype=torch.float64) * 10_000 ** (-1 / 3))
    assert table.dtype == torch.float32
    assert abs(table[1499, 1].double() - expected) < 1e-4


def test_windows_of_clips_know_their_lengths():
    windows = cut_windows(torch.zeros(2, 128, 900), torch.tensor([900, 123]), 400)
    assert windows.frames.tolist() == [400, 400, 100, 123]
    assert windows.alone.tolist() == [False, False, False, True]
    assert windows.mel.shape == (4, 128, 400)


def test_an_output_width_of_its_own_is_projected_taps_included():
    model = small_model(audio={"output_dim": 24})
    mel, frames = log_mel([noise(100 * 160)])
    with torch.no_grad():
        found = model.audio_encoder(mel, frames)
        model.encode_audio(mel, frames)
    assert found.tokens.shape == (13, 24) and found.taps[0].shape == (13, 24)
    assert "audio_encoder.out_proj.weight" in model.state_dict()


def test_taps_come_in_the_order_of_the_configuration():
    model = small_model(audio={"deepstack_encoder_layer_indexes": [2, 0, 1]})
    other = small_model(audio={"deepstack_encoder_layer_indexes": [0, 1, 2]})
    other.load_state_dict(model.state_dict())
    mel, frames = log_mel([noise(100 * 160)])
    with torch.no_grad():
        turned, straight = model.audio_encoder(mel, frames).taps, other.audio_encoder(mel, frames).taps
    assert all(torch.equal(turned[i], straight[j]) for i, j in enumerate([2, 0, 1]))


def test_fewer_injected_layers_than_taps_make_fewer_projections():
    model = small_model(deepstack_num_inject_layers=1)
    assert len(model.deepstack_audio_merger_list) == 1
    mel, frames = log_mel([noise(100 * 160)])
    with torch.no_grad():
        assert len(model.encode_audio(mel, frames).deepstack) == 1


def test_a_tap_beyond_the_last_decoder_layer_is_left_out_and_the_others_stay():
    model = small_model(language={"num_hidden_layers": 2})
    fewer = small_model(language={"num_hidden_layers": 2}, deepstack_num_inject_layers=2)
    fewer.load_state_dict(
        {name: tensor for name, tensor in model.state_dict().items() if "merger_list.2" not in name}
    )
    mel, frames = log_mel([noise(100 * 160)])
    inputs = {"input_ids": prompt(100), "audio_data": mel, "audio_data_seqlens": frames}
    with torch.no_grad():
        assert len(model.deepstack_audio_merger_list) == 3
        logits = model(**inputs).logits
        assert torch.equal(logits, fewer(**inputs).logits)
        fewer.deepstack_audio_merger_list[1].down_proj.weight.zero_()
        assert (logits - fewer(**inputs).logits).abs().max() > 1e-3


def test_every_injected_layer_changes_the_logits():
    model = small_model()
    mel, frames = log_mel([noise(300 * 160)])
    inputs = {"input_ids": prompt(300), "audio_data": mel, "audio_data_seqlens": frames}
    with torch.no_grad():
        whole = model(**inputs).logits
        for merger in model.deepstack_audio_merger_list:
            kept = merger.down_proj.weight.clone()
            merger.down_proj.weight.zero_()
            assert (model(**inputs).logits - whole).abs().max() > 1e-3
            merger.down_proj.weight.copy_(kept)


@pytest.mark.parametrize("left", [True, False])
def test_a_batch_of_unequal_lengths_gives_each_prompt_what_it_gets_alone(left):
    model = small_model()
    frames = [[37], [], [310, 900], [401]]
    clips = [[noise(n * 160, n) for n in row] for row in frames]
    prompts = [prompt(*row) for row in frames]
    mel, lengths = log_mel([clip for row in clips for clip in row])
    with torch.no_grad():
        batch = batch_of(prompts, left)
        together = model(**batch, audio_data=mel, audio_data_seqlens=lengths).logits
        for row, (ids, own) in enumerate(zip(prompts, clips, strict=True)):
            audio = dict(zip(("audio_data", "audio_data_seqlens"), log_mel(own), strict=True)) if own else {}
            alone = model(input_ids=ids, **audio).logits[0]
            rows = together[row][batch["attention_mask"][row].bool()]
            torch.testing.assert_close(rows, alone, atol=1e-4, rtol=1e-5)


def test_eager_and_sdpa_attention_agree():
    model = small_model()
    mel, frames = log_mel([noise(300 * 160)])
    inputs = {"input_ids": prompt(300), "audio_data": mel, "audio_data_seqlens": frames}
    with torch.no_grad():
        sdpa = model(**inputs).logits
        model.set_attn_implementation("eager")
        eager = model(**inputs).logits
    assert model.language_model.config._attn_implementation == "eager"
    torch.testing.assert_close(sdpa, eager, atol=1e-4, rtol=1e-5)


def test_only_the_wanted_positions_get_logits():
    model = small_model()
    with torch.no_grad():
        everything = model(input_ids=prompt()).logits
        last = model(input_ids=prompt(), logits_to_keep=2).logits
    torch.testing.assert_close(last, everything[:, -2:], atol=1e-6, rtol=1e-6)


def test_a_prompt_for_other_audio_is_refused_with_both_numbers():
    model = small_model()
    mel, frames = log_mel([noise(300 * 160)])
    with pytest.raises(PromptError, match=r"12 audio placeholders.*38 tokens"):
        model(input_ids=prompt(96), audio_data=mel, audio_data_seqlens=frames)


def test_an_audio_mask_decides_where_audio_belongs_not_the_id():
    model = small_model()
    mel, frames = log_mel([noise(80 * 160)])
    ids = prompt(80)
    mask = ids == AUDIO
    ids = torch.cat([ids, torch.tensor([[AUDIO]])], dim=1)
    mask = torch.cat([mask, torch.tensor([[False]])], dim=1)
    with torch.no_grad():
        out = model(input_ids=ids, audio_data=mel, audio_data_seqlens=frames, audio_input_mask=mask)
        without = model(input_ids=prompt(80), audio_data=mel, audio_data_seqlens=frames)
    torch.testing.assert_close(out.logits[:, :-1], without.logits, atol=1e-5, rtol=1e-5)


def test_the_loss_is_the_mean_over_labels_or_the_sum_over_a_given_number():
    logits = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([[-100, 1, 2, -100, 3], [-100, -100, -100, 4, 5]])
    mean = next_token_loss(logits, labels, -100)
    assert torch.isclose(next_token_loss(logits, labels, -100, 10), mean * 5 / 10)


def test_gradient_checkpointing_changes_no_gradient():
    mel, frames = log_mel([noise(500 * 160)])
    ids = prompt(500)
    gradients = []
    for checkpointing in (False, True):
        model = small_model().train()
        if checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False})
        model(input_ids=ids, labels=ids, audio_data=mel, audio_data_seqlens=frames).loss.backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    plain, checkpointed = gradients
    assert all(item is not None for item in checkpointed.values())
    for name, tensor in plain.items():
        torch.testing.assert_close(checkpointed[name], tensor, atol=1e-6, rtol=1e-4, msg=name)


def test_training_drops_nothing_out_unless_asked_to():
    model = small_model().train()
    mel, frames = log_mel([noise(100 * 160)])
    with torch.no_grad():
        assert torch.equal(model.audio_encoder(mel, frames).tokens, model.audio_encoder(mel, frames).tokens)
        model.audio_encoder.use_dropout = True
        assert not torch.equal(
            model.audio_encoder(mel, frames).tokens, model.audio_encoder(mel, frames).tokens
        )


def test_tied_embeddings_are_one_tensor_only_when_the_top_level_says_so():
    tied = MossAudioModel(small_config(tie_word_embeddings=True))
    assert tied.lm_head.weight is tied.language_model.embed_tokens.weight
    loose = MossAudioModel(small_config(language={"tie_word_embeddings": True}))
    assert loose.lm_head.weight is not loose.language_model.embed_tokens.weight


def test_the_decoder_computes_what_transformers_own_qwen3_computes():
    model = small_model()
    plain = Qwen3ForCausalLM(model.config.language_config).eval()
    state = {f"model.{name}": tensor for name, tensor in model.language_model.state_dict().items()}
    plain.load_state_dict({**state, "lm_head.weight": model.lm_head.weight})
    ids = torch.randint(0, 299, (3, 40), generator=torch.Generator().manual_seed(5))
    mask = torch.ones_like(ids)
    mask[1, :11] = 0
    with torch.no_grad():
        ours, theirs = (item(input_ids=ids, attention_mask=mask).logits for item in (model, plain))
    torch.testing.assert_close(ours[mask.bool()], theirs[mask.bool()], atol=1e-4, rtol=1e-5)
