"""Configurations of the released checkpoints, and of a random model small enough for every test."""

from __future__ import annotations

import torch

from moss_audio.model.config import MossAudioConfig
from moss_audio.model.mel import token_count
from moss_audio.model.modeling import MossAudioModel

AUDIO = 300
"""The placeholder's id in the small configuration."""

RELEASED_LANGUAGE = {
    "4B": {"hidden_size": 2560, "intermediate_size": 9728},
    "8B": {"hidden_size": 4096, "intermediate_size": 12288},
}


def released_config(size: str) -> MossAudioConfig:
    """The configuration as the released ``config.json`` spells it: flat ``rope_theta``, no ``n_window``."""
    language = {
        "model_type": "qwen3",
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
        "rope_theta": 1_000_000.0,
        "max_position_embeddings": 40960,
        "tie_word_embeddings": size == "4B",
        **RELEASED_LANGUAGE[size],
    }
    audio = {"encoder_attention_window_size": 100, "max_source_positions": 1500, "downsample_rate": 8}
    return MossAudioConfig(audio_config=audio, language_config=language, deepstack_num_inject_layers=3)


def small_config(**changes: object) -> MossAudioConfig:
    """About 100,000 parameters; ``audio`` and ``language`` change parts of it."""
    audio = {
        "d_model": 32,
        "output_dim": 32,
        "encoder_layers": 3,
        "encoder_attention_heads": 4,
        "encoder_ffn_dim": 64,
        "downsample_hidden_size": 6,
        "deepstack_encoder_layer_indexes": [0, 1, 2],
        **changes.pop("audio", {}),  # type: ignore[dict-item]
    }
    language = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": 320,
        "max_position_embeddings": 4096,
        **changes.pop("language", {}),  # type: ignore[dict-item]
    }
    sizes = {"adapter_hidden_size": 48, "audio_token_id": AUDIO, **changes}
    return MossAudioConfig(audio_config=audio, language_config=language, **sizes)


def small_model(seed: int = 0, **changes: object) -> MossAudioModel:
    """A random float32 model, large enough weights that a mistake shows."""
    torch.manual_seed(seed)
    model = MossAudioModel(small_config(**changes)).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.15)
            else:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def noise(samples: int, seed: int = 0) -> torch.Tensor:
    """The same each time."""
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def prompt(*frames: int, before: int = 3, between: int = 2, after: int = 4) -> torch.Tensor:
    """Ids with placeholders for clips of that many frames; the rest is arbitrary but fixed."""
    ids = [*range(10, 10 + before)]
    for number, n_frames in enumerate(frames):
        ids += [AUDIO] * token_count(n_frames) + [*range(40 + number, 40 + number + between)]
    return torch.tensor([[*ids, *range(60, 60 + after)]])


def batch_of(prompts: list[torch.Tensor], left: bool = True) -> dict[str, torch.Tensor]:
    """Prompts filled up to the longest, and their mask."""
    longest = max(prompt_ids.shape[1] for prompt_ids in prompts)
    ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt_ids in enumerate(prompts):
        where = slice(longest - prompt_ids.shape[1], None) if left else slice(None, prompt_ids.shape[1])
        ids[row, where] = prompt_ids[0]
        mask[row, where] = 1
    return {"input_ids": ids, "attention_mask": mask}
