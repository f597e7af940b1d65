"""The whole model: audio and text in, logits out.

The encoder's tokens pass the adapter and replace the embeddings of the audio placeholders; the encoder's
taps pass a projection each and are added after the first decoder layers (DeepStack). It is an ordinary
transformers model, so ``generate``, PEFT, ``device_map`` and ``Trainer`` work on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional as F
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMultimodalLM,
    GenerationMixin,
    PreTrainedModel,
)
from transformers.cache_utils import Cache, DynamicCache
from transformers.modeling_outputs import CausalLMOutputWithPast

from moss_audio.checkpoints.pretrained import PretrainedMixin
from moss_audio.errors import MossAudioError, PromptError
from moss_audio.model.config import MossAudioConfig
from moss_audio.model.decoder import Decoder, DeepStack, RMSNorm
from moss_audio.model.encoder import AudioEncoder
from moss_audio.model.mel import token_count


class GatedMLP(nn.Module):
    """``down(silu(gate(x)) * up(x))``, without biases (SwiGLU, https://arxiv.org/abs/2002.05202).

    Stands between encoder and decoder: one for the audio tokens, one for each DeepStack tap.

    Args:
        width_in: Width of the encoder's output.
        width_inner: ``adapter_hidden_size``.
        width_out: Width of the decoder.
    """

    def __init__(self, width_in: int, width_inner: int, width_out: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width_in, width_inner, bias=False)
        self.up_proj = nn.Linear(width_in, width_inner, bias=False)
        self.down_proj = nn.Linear(width_inner, width_out, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[..., width_in]`` to ``[..., width_out]``."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


AUDIO_INPUTS = ("audio_data", "audio_data_seqlens", "audio_input_mask", "audio_features")


@dataclass(frozen=True)
class AudioFeatures:
    """What the decoder needs of some clips.

    Attributes:
        embeds: ``[sum of tokens, hidden]``, in place of the placeholders' embeddings.
        deepstack: For decoder layer 0, 1, …: the same shape, added to the layer's output.
    """

    embeds: torch.Tensor
    deepstack: tuple[torch.Tensor, ...]

    def take(self, rows: list[int]) -> AudioFeatures:
        """These rows, in this order."""
        return AudioFeatures(self.embeds[rows], tuple(layer[rows] for layer in self.deepstack))


class MossAudioModel(PretrainedMixin, PreTrainedModel, GenerationMixin):
    """MOSS-Audio: encoder, adapters, decoder, language-model head.

    Args:
        config: All sizes.
    """

    config_class = MossAudioConfig
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = True
    _no_split_modules: ClassVar[list[str]] = ["AudioEncoder", "DecoderLayer", "GatedMLP"]
    _tied_weights_keys: ClassVar[dict[str, str]] = {"lm_head.weight": "language_model.embed_tokens.weight"}
    _skip_keys_device_placement: ClassVar[list[str]] = ["past_key_values"]
    # Some relatives of the released checkpoints carry the table of positions, which is computed here.
    _keys_to_ignore_on_load_unexpected: ClassVar[list[str]] = [r"audio_encoder\.embed_positions\..*"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True

    def __init__(self, config: MossAudioConfig) -> None:
        super().__init__(config)
        self._share_attention()
        audio, inner, width = config.audio_config, config.adapter_hidden_size, config.hidden_size
        self.audio_encoder = AudioEncoder(audio)
        self.audio_adapter = GatedMLP(audio.output_dim, inner, width)
        self.deepstack_audio_merger_list = nn.ModuleList(
            GatedMLP(audio.output_dim, inner, width) for _ in range(config.injected_layers)
        )
        self.language_model = Decoder(config.language_config)
        self.lm_head = nn.Linear(width, config.vocab_size, bias=False)
        self.post_init()

    def set_attn_implementation(self, *args: Any, **kwargs: Any) -> None:
        """Choose how the decoder's attention is computed, see transformers."""
        super().set_attn_implementation(*args, **kwargs)
        self._share_attention()

    def _share_attention(self) -> None:
        # The decoder is a plain module, so transformers does not hand its choice of attention on to it.
        self.config.language_config._attn_implementation = self.config._attn_implementation

    def get_input_embeddings(self) -> nn.Module:
        """The token embedding."""
        return self.language_model.embed_tokens

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the token embedding."""
        self.language_model.embed_tokens = value

    def encode_audio(self, audio_data: torch.Tensor, audio_data_seqlens: torch.Tensor) -> AudioFeatures:
        """Hear clips.

        Args:
            audio_data: Log-mel features ``[n_clips, 128, most_frames]``.
            audio_data_seqlens: int64 ``[n_clips]``, frames of each.
        """
        encoded = self.audio_encoder(audio_data, audio_data_seqlens)
        taps = zip(self.deepstack_audio_merger_list, encoded.taps, strict=False)
        return AudioFeatures(
            embeds=self.audio_adapter(encoded.tokens), deepstack=tuple(merge(tap) for merge, tap in taps)
        )

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        audio_data: torch.Tensor | None = None,
        audio_data_seqlens: torch.Tensor | None = None,
        audio_input_mask: torch.Tensor | None = None,
        audio_features: AudioFeatures | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits of the next token at every position, and the loss if labels are given.

        Args:
            input_ids: int64 ``[batch, length]``.
            attention_mask: ``[batch, cached + length]``, 1 where a token is real.
            audio_data: Log-mel features ``[n_clips, 128, most_frames]``, in the order of the placeholders.
            audio_data_seqlens: int64 ``[n_clips]``; by default all frames of each.
            audio_input_mask: bool ``[batch, length]``, where placeholders stand; by default where
                ``input_ids`` is the configuration's ``audio_token_id``.
            audio_features: The clips as ``encode_audio`` gave them, instead of ``audio_data``.
            position_ids: ``[batch, length]``; by default counted without padding.
            past_key_values: Cache to read and fill.
            inputs_embeds: ``[batch, length, hidden]`` instead of ``input_ids``; audio is put into them too.
            labels: int64 ``[batch, length]``, ``ignore_index`` where nothing is learned.
            use_cache: Whether to return a cache.
            logits_to_keep: How many last positions (or which positions) get logits; 0 is all.
            output_hidden_states: Whether to return the embeddings, audio included, what each decoder layer
                hands on, and for the last one that after the final norm: ``[batch, length, hidden]`` each.
            **kwargs: ``num_items_in_batch`` (supervised tokens of a whole optimiser step) divides the summed
                loss; what else transformers passes along is not needed.

        Raises:
            PromptError: Placeholders and audio tokens differ in number.
            MossAudioError: Attention weights are asked for (``output_attentions``).
        """
        if kwargs.get("output_attentions") or self.config.output_attentions:
            raise MossAudioError("This model gives no attention weights; leave out output_attentions.")
        if (input_ids is None) == (inputs_embeds is None):
            raise PromptError("Give either input_ids or inputs_embeds.")
        hidden = self.get_input_embeddings()(input_ids) if inputs_embeds is None else inputs_embeds
        if audio_features is None and audio_data is not None:
            if audio_data_seqlens is None:
                audio_data_seqlens = torch.full(audio_data.shape[:1], audio_data.shape[-1])
            audio_features = self.encode_audio(audio_data, audio_data_seqlens.to(audio_data.device))
        deepstack = None
        if audio_features is not None:
            where = self._placeholders(input_ids, audio_input_mask, hidden)
            hidden = insert(hidden, where, audio_features.embeds)
            deepstack = DeepStack(where, audio_features.deepstack)
        use_cache = self.config.language_config.use_cache if use_cache is None else use_cache
        if self.training and self.language_model.layers[0].gradient_checkpointing:
            use_cache = False
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config.language_config)
        keep_states = (
            self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        )
        states: list[torch.Tensor] | None = [] if keep_states else None
        hidden = self.language_model(
            hidden, attention_mask, position_ids, past_key_values if use_cache else None, deepstack, states
        )
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(hidden[:, keep])
        loss = None
        if labels is not None:
            loss = next_token_loss(logits, labels, self.config.ignore_index, kwargs.get("num_items_in_batch"))
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=past_key_values if use_cache else None,
            hidden_states=None if states is None else tuple(states),
        )

    def _placeholders(
        self, input_ids: torch.Tensor | None, mask: torch.Tensor | None, hidden: torch.Tensor
    ) -> torch.Tensor:
        """Bool ``[batch, length]``; tokens generated after the mask was made are no placeholders."""
        if mask is None:
            if input_ids is None:
                raise PromptError("With inputs_embeds, audio_input_mask must say where the audio belongs.")
            mask = input_ids == self.config.audio_token_id
        return F.pad(mask.bool(), (0, hidden.shape[1] - mask.shape[1])).to(hidden.device)

    def prepare_inputs_for_generation(
        self, input_ids: torch.Tensor, is_first_iteration: bool | None = False, **kwargs: Any
    ) -> dict[str, Any]:
        """Inputs of one step of ``generate``: with a cache, audio goes in once, with the prompt."""
        inputs = super().prepare_inputs_for_generation(
            input_ids, is_first_iteration=is_first_iteration, **kwargs
        )
        if not is_first_iteration and kwargs.get("use_cache", True):
            for name in AUDIO_INPUTS:
                inputs.pop(name, None)
        return inputs

    def _prefill(
        self, input_ids: torch.Tensor, generation_config: Any, model_kwargs: dict[str, Any], **kwargs: Any
    ) -> Any:
        """Read the prompt: with audio, as a whole."""
        heard = any(model_kwargs.get(name) is not None for name in ("audio_data", "audio_features"))
        if heard and generation_config.prefill_chunk_size is not None:
            raise MossAudioError("A prompt with audio is read as a whole; leave out prefill_chunk_size.")
        return super()._prefill(input_ids, generation_config, model_kwargs, **kwargs)

    def _expand_inputs_for_generation(
        self,
        expand_size: int = 1,
        is_encoder_decoder: bool = False,
        input_ids: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor | None, dict[str, Any]]:
        """Repeat every prompt for beams or samples, and with it its clips, together and in order."""
        taken = ("audio_data", "audio_data_seqlens", "audio_features")
        audio = {name: kwargs.pop(name) for name in taken if kwargs.get(name) is not None}
        if expand_size > 1 and audio and input_ids is not None:
            mask = kwargs.get("audio_input_mask")
            mask = input_ids == self.config.audio_token_id if mask is None else mask
            places = mask.sum(1).tolist()
            if (features := audio.pop("audio_features", None)) is not None:
                rows = repeat_by_prompt(places, [1] * features.embeds.shape[0], expand_size)
                audio = {"audio_features": features.take(rows)}
            elif "audio_data" in audio:
                if (frames := audio.get("audio_data_seqlens")) is None:
                    frames = torch.full(audio["audio_data"].shape[:1], audio["audio_data"].shape[-1])
                    audio["audio_data_seqlens"] = frames
                clips = repeat_by_prompt(places, [token_count(int(count)) for count in frames], expand_size)
                audio = {name: value[clips] for name, value in audio.items()}
        input_ids, kwargs = super()._expand_inputs_for_generation(
            expand_size, is_encoder_decoder, input_ids, **kwargs
        )
        return input_ids, {**kwargs, **audio}

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, RMSNorm):
            nn.init.ones_(module.weight)


def insert(hidden: torch.Tensor, where: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Embeddings ``[batch, length, hidden]`` with rows in place of the placeholders, in row-major order.

    Raises:
        PromptError: Placeholders and rows differ in number.
    """
    if (count := int(where.sum())) != rows.shape[0]:
        raise PromptError(
            f"The prompt has {count} audio placeholders, but the audio gives {rows.shape[0]} tokens; "
            "build the prompt for exactly this audio."
        )
    return hidden.index_put(where.nonzero(as_tuple=True), rows.to(hidden))


def next_token_loss(
    logits: torch.Tensor, labels: torch.Tensor, ignore_index: int, items: torch.Tensor | int | None = None
) -> torch.Tensor:
    """Cross entropy of each next token, in float32.

    Args:
        logits: ``[batch, length, vocab]``.
        labels: int64 ``[batch, length]``, not shifted.
        ignore_index: Label that does not count.
        items: Supervised tokens over all accumulated batches; the sum is divided by it, so that accumulating
            batches gives what one large batch gives. None: the mean over this batch.
    """
    shifted = F.pad(labels, (0, 1), value=ignore_index)[:, 1:].to(logits.device)
    reduction = "mean" if items is None else "sum"
    loss = F.cross_entropy(
        logits.float().flatten(0, 1), shifted.flatten(), ignore_index=ignore_index, reduction=reduction
    )
    return loss if items is None else loss / items


def repeat_by_prompt(placeholders: list[int], tokens: list[int], times: int) -> list[int]:
    """Which clip goes where when every prompt is repeated: prompt by prompt, its clips together.

    Args:
        placeholders: Audio placeholders of each prompt.
        tokens: Audio tokens of each clip, in the order of the prompts.
        times: How often each prompt is repeated.

    Raises:
        PromptError: The clips do not fill the prompts.
    """
    order: list[int] = []
    clip = 0
    for wanted in placeholders:
        first = clip
        while wanted > 0 and clip < len(tokens):
            wanted -= tokens[clip]
            clip += 1
        if wanted:
            raise PromptError("The clips do not fill the prompts' audio placeholders one after another.")
        order += list(range(first, clip)) * times
    return order


MossAudio = MossAudioModel
"""The name users know; checkpoints say ``MossAudioModel``."""

for auto_class in (AutoModel, AutoModelForCausalLM, AutoModelForMultimodalLM):
    auto_class.register(MossAudioConfig, MossAudioModel, exist_ok=True)
