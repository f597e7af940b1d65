"""Models of random weights, from tiny to the released 8B: speed does not depend on the weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from moss_audio.model.config import MossAudioConfig
from moss_audio.model.modeling import MossAudioModel
from moss_audio.model.processor import AudioTokens, MossAudioProcessor


@dataclass(frozen=True)
class Sizes:
    """The sizes of one configuration.

    Attributes:
        encoder: Width, layers and heads of the audio encoder.
        channels: Channels of the convolutions before it.
        decoder: Width, layers, heads of queries, and heads of keys and values of the decoder.
        inner: Width inside the decoder's MLP.
        vocab: Tokens of the vocabulary.
        adapter: Width inside the audio adapter.
    """

    encoder: tuple[int, int, int]
    channels: int
    decoder: tuple[int, int, int, int]
    inner: int
    vocab: int
    adapter: int

    def config(self) -> MossAudioConfig:
        """As the model takes it."""
        width, layers, heads = self.encoder
        hidden, depth, queries, keys = self.decoder
        taps = [layers // 4, layers // 2, 3 * layers // 4]
        return MossAudioConfig(
            audio_config={
                "d_model": width, "output_dim": width, "encoder_layers": layers,
                "encoder_attention_heads": heads,
                "encoder_ffn_dim": 4 * width, "downsample_hidden_size": self.channels,
                "deepstack_encoder_layer_indexes": taps,
            },
            language_config={
                "hidden_size": hidden, "num_hidden_layers": depth, "num_attention_heads": queries,
                "num_key_value_heads": keys, "head_dim": 128 if hidden > 1024 else 64,
                "vocab_size": self.vocab, "intermediate_size": self.inner, "max_position_embeddings": 40960,
                "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
            },
            adapter_hidden_size=self.adapter, audio_token_id=self.vocab - 1,
        )  # fmt: skip


CONFIGS = {
    "tiny": Sizes((192, 4, 6), 32, (256, 4, 4, 2), 768, 1_000, 512),
    "mid": Sizes((512, 12, 8), 128, (768, 12, 12, 4), 2_304, 32_000, 2_048),
    "4b": Sizes((1280, 32, 20), 480, (2560, 36, 32, 8), 9_728, 151_936, 8_192),
    "8b": Sizes((1280, 32, 20), 480, (4096, 36, 32, 8), 12_288, 151_936, 8_192),
}


def build(name: str, device: str) -> MossAudioModel:
    """A random model, made on its device; bfloat16 on a GPU, float32 on a CPU.

    Args:
        name: One of ``CONFIGS``.
        device: ``cpu`` or ``cuda``.
    """
    torch.manual_seed(0)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    with torch.device("meta"):
        model = MossAudioModel(CONFIGS[name].config())
    model = model.to(dtype).to_empty(device=device).eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.02)
            else:
                parameter.fill_(0.0 if parameter_name.endswith("bias") else 1.0)
    return model


def with_processor(model: MossAudioModel) -> MossAudioModel:
    """The model with a processor whose tokens are bytes, and no wish ever to end an answer."""
    controls = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*alphabet, *controls])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    fast.add_special_tokens({"additional_special_tokens": list(controls)})
    last = model.config.vocab_size - 1
    tokens = AudioTokens(
        audio=last, start=last - 1, end=last - 2, endoftext=256, im_start=257, im_end=258,
        digits=tuple(vocabulary[digit] for digit in "0123456789"),
    )  # fmt: skip
    with torch.no_grad():
        model.lm_head.weight[[tokens.endoftext, tokens.im_end]] = 0.0
    model.processor = MossAudioProcessor(fast, tokens=tokens)
    return model
