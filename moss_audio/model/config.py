"""All sizes of the model, as a checkpoint's ``config.json`` gives them.

Keys that no part of the model reads (``encoder_attention_window_size``, ``max_source_positions``, …) are kept
when a configuration is saved again, and otherwise ignored.
"""

from __future__ import annotations

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.models.qwen3 import Qwen3Config

from moss_audio.model.mel import FRAMES_PER_TOKEN, N_MELS


@strict
class AudioEncoderConfig(PreTrainedConfig):
    """Sizes of the audio encoder.

    Attributes:
        d_model: Width of the encoder's layers.
        output_dim: Width of what it hands on; another than ``d_model`` adds a projection.
        encoder_layers, encoder_attention_heads, encoder_ffn_dim: The transformer's sizes.
        downsample_hidden_size: Channels of the convolution stem.
        layer_norm_eps: The final norm's; the layers' own norms always use 1e-5.
        n_window: Half the mel frames of one window. The encoder hears windows of ``2 * n_window`` frames
            (4 s) alone; None is one window over the whole audio. Released checkpoints do not record it;
            every maintained implementation uses 200.
        conv_chunksize: Windows that go through the stem at a time; bounds memory, changes no number.
        deepstack_encoder_layer_indexes: Layers (0-based) whose output is handed to the decoder as well, in
            this order.
        dropout, attention_dropout, activation_dropout: Those of the published training; used only where a
            training run asks for them.
    """

    model_type = "moss_audio_encoder"
    attribute_map = {  # noqa: RUF012
        "num_hidden_layers": "encoder_layers",
        "hidden_size": "d_model",
        "num_attention_heads": "encoder_attention_heads",
        "intermediate_size": "encoder_ffn_dim",
    }

    d_model: int = 1280
    output_dim: int = 1280
    num_mel_bins: int = 128
    encoder_layers: int = 32
    encoder_attention_heads: int = 20
    encoder_ffn_dim: int = 5120
    downsample_hidden_size: int = 480
    activation_function: str = "gelu"
    layer_norm_eps: float = 1e-5
    n_window: int | None = 200
    conv_chunksize: int = 64
    deepstack_encoder_layer_indexes: list[int] | tuple[int, ...] = (8, 16, 24)
    dropout: float | int = 0.1
    attention_dropout: float | int = 0.1
    activation_dropout: float | int = 0.0
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        # How attention is computed is chosen when a model is loaded, not by the file.
        kwargs.pop("_attn_implementation", None)
        super().__post_init__(**kwargs)

    @property
    def window_frames(self) -> int | None:
        """Mel frames of one window; None for the whole audio."""
        return None if self.n_window is None else 2 * self.n_window

    def validate_sizes(self) -> None:
        """Refuse sizes the architecture cannot have."""
        if self.num_mel_bins != N_MELS:
            raise ValueError(f"num_mel_bins is {self.num_mel_bins}, but the stem takes {N_MELS}.")
        if self.activation_function != "gelu":
            raise ValueError(f"activation_function is {self.activation_function!r}, but only gelu is known.")
        if self.d_model % self.encoder_attention_heads or self.d_model % 2:
            raise ValueError(
                f"d_model {self.d_model} is not even, or no multiple of {self.encoder_attention_heads} heads."
            )
        frames = self.window_frames
        if frames is not None and (frames <= 0 or frames % FRAMES_PER_TOKEN):
            raise ValueError(
                f"n_window {self.n_window} makes windows of {frames} mel frames; it must be a positive "
                f"multiple of {FRAMES_PER_TOKEN // 2}, or tokens and placeholders would not agree."
            )
        outside = [i for i in self.deepstack_encoder_layer_indexes if not 0 <= i < self.encoder_layers]
        if outside:
            raise ValueError(
                f"deepstack_encoder_layer_indexes names layer {outside[0]}, "
                f"but there are {self.encoder_layers} layers."
            )


@strict
class MossAudioConfig(PreTrainedConfig):
    """Sizes of the whole model.

    Attributes:
        audio_config: The encoder's.
        language_config: The Qwen3 decoder's.
        adapter_hidden_size: Inner width of the adapter and of the DeepStack projections.
        deepstack_num_inject_layers: Decoder layers that encoder taps are added to; None is one for every tap.
        ignore_index: Label that is left out of the loss.
        audio_token_id: Placeholder of one audio token in ``input_ids``.
        tie_word_embeddings: Whether ``lm_head`` is the embedding; decided here, not in
            ``language_config``.
    """

    model_type = "moss_audio"
    # The same under the name that transformers before 5.23 looks for.
    sub_configs_defaults = {"audio_config": AudioEncoderConfig, "language_config": Qwen3Config}  # noqa: RUF012
    sub_configs = {"audio_config": AudioEncoderConfig, "language_config": Qwen3Config}  # noqa: RUF012
    keys_to_ignore_at_inference = ["past_key_values"]  # noqa: RUF012

    # An AudioEncoderConfig and a Qwen3Config once constructed; may be given as dictionaries or left out.
    audio_config: Any = None
    language_config: Any = None
    adapter_hidden_size: int = 8192
    deepstack_num_inject_layers: int | None = None
    ignore_index: int = -100
    audio_token_id: int = 151654
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        # Copies of the decoder's sizes; the decoder's own are what counts.
        for name in ("num_hidden_layers", "vocab_size", "hidden_size"):
            kwargs.pop(name, None)
        # Newer versions of transformers would do this by themselves.
        for name, kind in (("audio_config", AudioEncoderConfig), ("language_config", Qwen3Config)):
            sizes = getattr(self, name)
            if sizes is None or isinstance(sizes, dict):
                setattr(self, name, kind(**(sizes or {})))
        super().__post_init__(**kwargs)

    @property
    def injected_layers(self) -> int:
        """DeepStack projections: one for each tap, unless fewer are asked for."""
        taps = len(self.audio_config.deepstack_encoder_layer_indexes)
        wanted = self.deepstack_num_inject_layers
        return taps if wanted is None else min(taps, wanted)

    @property
    def vocab_size(self) -> int:
        """Ids the decoder knows."""
        return self.language_config.vocab_size

    @property
    def hidden_size(self) -> int:
        """Width of the decoder."""
        return self.language_config.hidden_size

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> PreTrainedConfig:
        """The decoder's configuration, where transformers looks for text sizes and cache shapes."""
        return self.language_config

    def validate_language_config(self) -> None:
        """Refuse a decoder other than Qwen3 with plain rotary positions."""
        rope = self.language_config.rope_parameters or {}
        if rope.get("rope_type", "default") != "default":
            raise ValueError(f"rope_type {rope['rope_type']!r} of the language model is not known.")
        if self.language_config.hidden_act != "silu":
            raise ValueError(
                f"hidden_act {self.language_config.hidden_act!r} of the language model is not known."
            )
        if self.language_config.use_sliding_window:
            raise ValueError("A language model with sliding-window attention is not known.")


AutoConfig.register(MossAudioConfig.model_type, MossAudioConfig, exist_ok=True)
AutoConfig.register(AudioEncoderConfig.model_type, AudioEncoderConfig, exist_ok=True)
