"""One pass of packed tokens through the decoder, over the paged cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch

from moss_audio.decoder import DecoderLayer, rotary
from moss_audio.engine.attention import Attend, Packed, looking_back
from moss_audio.engine.cache import KVCache
from moss_audio.model import MossAudioModel


@dataclass(frozen=True)
class Stack:
    """DeepStack rows of a packed pass: added after decoder layer 0, 1, … at the given tokens."""

    index: torch.Tensor
    rows: tuple[torch.Tensor, ...]


@torch.inference_mode()
def run(
    model: MossAudioModel, hidden: torch.Tensor, packed: Packed, cache: KVCache, stack: Stack | None = None
) -> torch.Tensor:
    """Logits of the last token of each sequence.

    Args:
        model: Its decoder and head.
        hidden: Embeddings of all new tokens, ``[T, hidden]``.
        packed: Which token belongs where.
        cache: Read and written.
        stack: DeepStack rows, in a prefill with audio.

    Returns:
        ``[N, vocab]``.
    """
    attention = looking_back(packed, cache)
    hidden = through_layers(model, hidden, packed.positions, packed.slots, cache, attention, stack)
    ends = torch.tensor(packed.queries).cumsum(0).to(hidden.device) - 1
    return model.lm_head(model.language_model.norm(hidden[ends]))


def through_layers(
    model: MossAudioModel,
    hidden: torch.Tensor,
    positions: torch.Tensor,
    slots: torch.Tensor,
    cache: KVCache,
    attention: Attend,
    stack: Stack | None = None,
) -> torch.Tensor:
    """Packed tokens ``[T, hidden]`` through all decoder layers; the same arithmetic as ``Decoder.forward``.

    Args:
        model: Its decoder.
        hidden: Embeddings.
        positions: int64 ``[T]``.
        slots: int64 ``[T]``, where keys and values go.
        cache: Written here, read by ``attention``.
        attention: How queries look back.
        stack: DeepStack rows.
    """
    decoder = model.language_model
    rotation = rotary(positions[None], decoder.config, hidden.dtype)
    hidden = hidden[None]
    for number, layer in enumerate(cast("Sequence[DecoderLayer]", decoder.layers)):
        q, k, v = layer.self_attn.project(layer.input_layernorm(hidden), rotation)
        cache.write(number, k[0].transpose(0, 1), v[0].transpose(0, 1), slots)
        attended = attention(q[0].transpose(0, 1), number, layer.self_attn.scaling)
        hidden = hidden + layer.self_attn.o_proj(attended.flatten(1)[None])
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        if stack is not None and number < len(stack.rows):
            hidden = hidden.index_add(1, stack.index, stack.rows[number].to(hidden)[None])
    return hidden[0]


def pack(spans: Sequence[tuple[int, int, tuple[int, ...]]], page_size: int, device: torch.device) -> Packed:
    """Lay sequences end to end.

    Args:
        spans: For each the tokens in the cache, the new tokens, and its pages.
        page_size: Tokens a page.
        device: Where the decoder is.
    """
    positions: list[int] = []
    slots: list[int] = []
    used: list[tuple[int, ...]] = []
    for cached, new, pages in spans:
        places = range(cached, cached + new)
        positions += places
        slots += [pages[place // page_size] * page_size + place % page_size for place in places]
        used.append(pages[: -(-(cached + new) // page_size)])
    return Packed(
        positions=torch.tensor(positions, device=device),
        slots=torch.tensor(slots, device=device),
        queries=tuple(new for _, new, _ in spans),
        lengths=tuple(cached + new for cached, new, _ in spans),
        pages=tuple(used),
    )
