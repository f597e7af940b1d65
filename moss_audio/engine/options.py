"""How large an engine is, and how much memory its caches get."""

from __future__ import annotations

from dataclasses import dataclass

from moss_audio.checkpoints.memory import available
from moss_audio.engine.encoder_cache import WINDOWS_AT_ONCE
from moss_audio.engine.kv_cache import bytes_per_token
from moss_audio.errors import NotEnoughMemory
from moss_audio.model.mel import N_MELS
from moss_audio.model.modeling import MossAudioModel

GB = 1_000_000_000


@dataclass(frozen=True)
class EngineOptions:
    """Sizes of an engine.

    Attributes:
        max_batch: Sequences that run at the same time.
        block_size: Tokens in a block of the KV cache; torch's paged attention wants 256 on a GPU.
        cache_bytes: Bytes of the KV cache; None takes ``cache_share`` of the free memory, or less where
            remembered windows and the work itself need the rest.
        cache_share: See ``cache_bytes``.
        max_tokens: Tokens of the KV cache at most, however much memory there is.
        max_length: Tokens of one sequence at most; by default what the released models were trained for.
        prefill_tokens: Prompt tokens in one pass; longer prompts take several.
        encoder_bytes: Bytes for encoder output that is remembered; at most a tenth of the free memory.
        max_waiting: Requests that may wait; more are refused.
        cuda_graphs: Decode with CUDA graphs where they can be used; False runs the layers one by one.
    """

    max_batch: int = 64
    block_size: int = 256
    cache_bytes: int | None = None
    cache_share: float = 0.6
    max_tokens: int = 1_000_000
    max_length: int = 40_960
    prefill_tokens: int = 8192
    encoder_bytes: int = GB
    max_waiting: int = 4096
    cuda_graphs: bool = True


@dataclass(frozen=True)
class Budget:
    """How the free memory is divided.

    Attributes:
        blocks: Blocks of the KV cache.
        encoder_bytes: Bytes for encoder output that is remembered.
    """

    blocks: int
    encoder_bytes: int

    @classmethod
    def of(cls, model: MossAudioModel, options: EngineOptions) -> Budget:
        """The budget for a model that is loaded already.

        Raises:
            NotEnoughMemory: There is no room for a cache worth having.
        """
        free = available(model.device)
        windows = min(options.encoder_bytes, free // 10)
        size = options.cache_bytes
        if size is None:
            size = max(0, min(int(options.cache_share * free), free - windows - workspace(model, options)))
        token = bytes_per_token(model.config.language_config, model.dtype)
        tokens = min(size // token, options.max_tokens)
        if tokens < 2 * options.block_size:
            raise NotEnoughMemory(
                f"The KV cache needs {2 * token * options.block_size / GB:.3f} GB for its first blocks "
                f"and gets {size / GB:.3f} GB of the {free / GB:.2f} GB free; choose a smaller model, or "
                "free memory."
            )
        return cls(tokens // options.block_size, windows)


def workspace(model: MossAudioModel, options: EngineOptions) -> int:
    """Bytes that the largest passes take beside the cache, from their shapes: calculated, not measured."""
    language, audio = model.config.language_config, model.config.audio_config
    hidden, taps = language.hidden_size, len(model.deepstack_audio_merger_list)
    # The first convolution's output, before and after its activation, is the most an encoder pass holds.
    frames = audio.window_frames or 0
    encoder = 2 * WINDOWS_AT_ONCE * audio.downsample_hidden_size * (N_MELS // 2) * (frames // 2)
    # Both halves of the MLP and their product, a handful of rows of the model's width, and audio features.
    decoder = options.prefill_tokens * (3 * language.intermediate_size + 8 * hidden)
    features = 2 * options.prefill_tokens * (1 + taps) * hidden
    logits = 4 * options.max_batch * language.vocab_size
    return (max(encoder, decoder) + features + logits) * model.dtype.itemsize
