"""The Qwen3 decoder, with DeepStack as an argument.

Pre-norm layers with grouped-query attention, norms over each head of queries and keys, rotary positions
and a gated MLP (https://arxiv.org/abs/2505.09388). After each of the first layers, rows that the caller
gives are added at the audio positions; adding them here, in the loop, is what keeps gradient
checkpointing exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from transformers.cache_utils import Cache
from transformers.masking_utils import create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.qwen3 import Qwen3Config

Rotation = tuple[torch.Tensor, torch.Tensor]
"""Cosines and sines of the rotary positions, each ``[batch, length, head_dim]``."""


@dataclass(frozen=True)
class DeepStack:
    """Rows to add after the first decoder layers.

    Attributes:
        mask: bool ``[batch, length]``, true at the audio positions.
        rows: For layer 0, 1, …: ``[audio positions, hidden]``, in row-major order of ``mask``.
    """

    mask: torch.Tensor
    rows: tuple[torch.Tensor, ...]

    def add(self, hidden: torch.Tensor, layer: int) -> torch.Tensor:
        """The layer's output with its rows added, if it has any."""
        if layer >= len(self.rows):
            return hidden
        where = self.mask.to(hidden.device).nonzero(as_tuple=True)
        return hidden.index_put(where, self.rows[layer].to(hidden), accumulate=True)


class Decoder(nn.Module):
    """Embedding, layers, final norm.

    Args:
        config: Qwen3 sizes.
    """

    def __init__(self, config: Qwen3Config) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            DecoderLayer(config, number) for number in range(config.num_hidden_layers)
        )
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self,
        hidden: torch.Tensor,
        attention_mask: torch.Tensor | dict[str, torch.Tensor | None] | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        deepstack: DeepStack | None = None,
        states: list[torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Decode embeddings.

        Args:
            hidden: ``[batch, length, hidden]``.
            attention_mask: ``[batch, cached + length]``, 1 where a token is real; or a finished mask, which
                ``generate`` hands over in a dictionary by kind of layer where the cache is static.
            position_ids: ``[batch, length]``; by default counted from the mask, padding left out.
            past_key_values: Cache that is read and filled.
            deepstack: Rows to add after the first layers.
            states: Filled with what goes into each layer, and what comes out of the norm.

        Returns:
            ``[batch, length, hidden]``, after the final norm.
        """
        plain = None if isinstance(attention_mask, dict) else attention_mask
        if position_ids is None:
            position_ids = _positions(hidden, plain, past_key_values)
        if isinstance(attention_mask, dict):
            mask = attention_mask["full_attention"]
        else:
            mask = create_causal_mask(
                config=self.config,
                inputs_embeds=hidden,
                attention_mask=plain,
                past_key_values=past_key_values,
                position_ids=position_ids,
            )
        rotation = rotary(position_ids, self.config, hidden.dtype)
        for number, layer in enumerate(self.layers):
            if states is not None:
                states.append(hidden)
            hidden = layer(hidden, mask, rotation, past_key_values=past_key_values)
            if deepstack is not None:
                hidden = deepstack.add(hidden, number)
        hidden = self.norm(hidden)
        if states is not None:
            states.append(hidden)
        return hidden


class DecoderLayer(GradientCheckpointingLayer):
    """Attention and MLP, each behind a norm and beside a residual."""

    def __init__(self, config: Qwen3Config, number: int) -> None:
        super().__init__()
        self.self_attn = DecoderAttention(config, number)
        self.mlp = DecoderMLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self,
        hidden: torch.Tensor,
        mask: torch.Tensor | None,
        rotation: Rotation,
        past_key_values: Cache | None = None,
    ) -> torch.Tensor:
        """``[batch, length, hidden]`` to the same."""
        hidden = hidden + self.self_attn(self.input_layernorm(hidden), mask, rotation, past_key_values)
        return hidden + self.mlp(self.post_attention_layernorm(hidden))


class DecoderAttention(nn.Module):
    """Grouped-query attention; how it is computed (sdpa, flash, …) is transformers' registry's affair."""

    def __init__(self, config: Qwen3Config, number: int) -> None:
        super().__init__()
        self.config = config
        self.layer_idx = number
        self.head_dim = config.head_dim
        self.num_key_value_groups = config.num_attention_heads // config.num_key_value_heads
        self.scaling = config.head_dim**-0.5
        self.is_causal = True
        queries, keys = (
            heads * config.head_dim for heads in (config.num_attention_heads, config.num_key_value_heads)
        )
        self.q_proj = nn.Linear(config.hidden_size, queries, bias=config.attention_bias)
        self.k_proj = nn.Linear(config.hidden_size, keys, bias=config.attention_bias)
        self.v_proj = nn.Linear(config.hidden_size, keys, bias=config.attention_bias)
        self.o_proj = nn.Linear(queries, config.hidden_size, bias=config.attention_bias)
        self.q_norm = RMSNorm(config.head_dim, config.rms_norm_eps)
        self.k_norm = RMSNorm(config.head_dim, config.rms_norm_eps)

    def forward(
        self, hidden: torch.Tensor, mask: torch.Tensor | None, rotation: Rotation, cache: Cache | None
    ) -> torch.Tensor:
        """``[batch, length, hidden]`` to the same; new keys and values go to the cache."""
        q, k, v = self.project(hidden, rotation)
        if cache is not None:
            k, v = cache.update(k, v, self.layer_idx)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention)
        attended, _ = attend(
            self, q, k, v, mask, scaling=self.scaling,
            dropout=self.config.attention_dropout if self.training else 0.0,
        )  # fmt: skip
        return self.o_proj(attended.flatten(2))

    def project(
        self, hidden: torch.Tensor, rotation: Rotation
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries, keys and values, each ``[batch, heads, length, head_dim]``, the first two turned."""
        q, k, v = (
            project(hidden).unflatten(-1, (-1, self.head_dim))
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k, v = (heads.transpose(1, 2) for heads in (self.q_norm(q), self.k_norm(k), v))
        return rotate(q, rotation), rotate(k, rotation), v


class DecoderMLP(nn.Module):
    """``down(silu(gate(x)) * up(x))``."""

    def __init__(self, config: Qwen3Config) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[..., hidden]`` to the same."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class RMSNorm(nn.Module):
    """Root-mean-square norm (https://arxiv.org/abs/1910.07467), float32 inside."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[..., width]`` to the same; the weight is applied after the cast back."""
        wide = x.float()
        return self.weight * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype)


def rotary(position_ids: torch.Tensor, config: Qwen3Config, dtype: torch.dtype) -> Rotation:
    """Cosines and sines of rotary positions (https://arxiv.org/abs/2104.09864), computed in float32."""
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32, device=position_ids.device)
    inverse = 1.0 / (config.rope_parameters["rope_theta"] ** (exponents / config.head_dim))
    angles = position_ids[..., None].float() * inverse
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: torch.Tensor, rotation: Rotation) -> torch.Tensor:
    """Turn ``[batch, heads, length, head_dim]`` by its positions; pairs lie half a head apart."""
    cos, sin = (table[:, None] for table in rotation)
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


def eager_attention(
    module: DecoderAttention,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **_: object,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention spelled out, for ``attn_implementation="eager"``: softmax in float32, weights returned."""
    key, value = (states.repeat_interleave(module.num_key_value_groups, dim=1) for states in (key, value))
    weights = query @ key.transpose(2, 3) * scaling
    if attention_mask is not None:
        weights = weights + attention_mask
    weights = F.softmax(weights, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = F.dropout(weights, dropout, module.training)
    return (weights @ value).transpose(1, 2).contiguous(), weights


def _positions(
    hidden: torch.Tensor, attention_mask: torch.Tensor | None, cache: Cache | None
) -> torch.Tensor:
    """Positions of the last ``length`` tokens; padding does not count where a plain mask tells it."""
    length = hidden.shape[1]
    seen = cache.get_seq_length() if cache is not None else 0
    if attention_mask is not None and attention_mask.ndim == 2 and attention_mask.shape[1] == seen + length:
        counted = attention_mask.long().cumsum(-1) - 1
        return counted.clamp(min=0)[:, -length:]
    return torch.arange(seen, seen + length, device=hidden.device)[None]
