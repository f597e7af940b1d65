"""Tokenizers and folders of checkpoints for the tests of the processor."""

from __future__ import annotations

import json
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from moss_audio.model.processor import AudioTokens, MossAudioProcessor

PARITY = Path(__file__).parents[1] / "data" / "parity"
SMALL = AudioTokens(audio=300, start=301, end=302, im_start=257, im_end=258, endoftext=256)
"""Ids of the small model of ``v1_core``."""

ADDED = {
    "<|endoftext|>": 151643,
    "<|im_start|>": 151644,
    "<|im_end|>": 151645,
    "<|vision_pad|>": 151654,
    "<tool_call>": 151657,
    "</tool_call>": 151658,
    "<think>": 151667,
    "</think>": 151668,
    "<|system|>": 151669,
    "<|user|>": 151670,
}
"""Added tokens as the 8B checkpoints name them: those of the audio's start and end have other names."""

RELEASED_PROCESSOR = {
    "mel_config": {
        "mel_sr": 16000,
        "mel_dim": 128,
        "mel_n_fft": 400,
        "mel_hop_length": 160,
        "mel_dtype": "bfloat16",
        "use_whisper_feature_extractor": True,
    },
    "enable_time_marker": True,
    "audio_token_id": 151654,
    "audio_start_id": 151669,
    "audio_end_id": 151670,
}


def tokenizer(name: str = "v2_processor/tokenizer.json") -> PreTrainedTokenizerFast:
    """A recorded tokenizer; by default the one with the ids of the released checkpoints."""
    return PreTrainedTokenizerFast(tokenizer_file=str(PARITY / name))


def processor() -> MossAudioProcessor:
    """A processor with the ids of the released checkpoints."""
    return MossAudioProcessor(tokenizer())


def write_released_form(folder: Path, with_config: bool = True) -> Path:
    """A folder with a tokenizer in the files that released checkpoints have, but of few words."""
    letters = json.loads((PARITY / "v2_processor" / "tokenizer.json").read_text())["model"]["vocab"]
    vocab = {letter: number for letter, number in letters.items() if number < 256} | {"he": 256, "Ġa": 257}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("#version: 0.2\nh e\nĠ a\n")
    (folder / "added_tokens.json").write_text(json.dumps(ADDED))
    (folder / "processor_config.json").write_text(json.dumps(RELEASED_PROCESSOR))
    if with_config:
        added = {
            str(number): {"content": content, "special": content.startswith("<|"), "normalized": False}
            for content, number in ADDED.items()
        }
        config = {"added_tokens_decoder": added, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
        config |= {"tokenizer_class": "Qwen2Tokenizer", "model_max_length": 131072, "unk_token": None}
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder
