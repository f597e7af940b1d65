"""Attention of packed queries over the paged cache: torch's varlen kernel on a GPU, SDPA elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from moss_audio.engine.cache import KVCache


@dataclass(frozen=True)
class Packed:
    """Sequences laid end to end for one pass. N sequences, T tokens in all.

    Attributes:
        positions: int64 ``[T]``, of each token in its sequence.
        slots: int64 ``[T]``, where each token's keys and values go.
        queries: New tokens of each sequence.
        lengths: Tokens of each sequence in the cache once the new ones are written.
        pages: Pages of each sequence that hold these.
    """

    positions: torch.Tensor
    slots: torch.Tensor
    queries: tuple[int, ...]
    lengths: tuple[int, ...]
    pages: tuple[tuple[int, ...], ...]


def attend(query: torch.Tensor, cache: KVCache, layer: int, packed: Packed, scale: float) -> torch.Tensor:
    """Causal attention of each sequence's new tokens over all of its tokens.

    Args:
        query: ``[T, heads, head_dim]``.
        cache: Holds the new keys and values already.
        layer: Of the decoder.
        packed: Which token belongs where.
        scale: Of the scores.

    Returns:
        ``[T, heads, head_dim]``.
    """
    out = torch.empty_like(query)
    start = 0
    for new, length, pages in zip(packed.queries, packed.lengths, packed.pages, strict=True):
        keys, values = cache.read(layer, pages, length)
        q, k, v = (one.transpose(0, 1)[None] for one in (query[start : start + new], keys, values))
        found = F.scaled_dot_product_attention(
            q, k, v, attn_mask=_mask(new, length, query.device), is_causal=1 < new == length, scale=scale,
            enable_gqa=q.shape[1] != k.shape[1],
        )  # fmt: skip
        out[start : start + new] = found[0].transpose(0, 1)
        start += new
    return out


def _mask(new: int, length: int, device: torch.device) -> torch.Tensor | None:
    """True where a new token may look: at all before it and at itself. None where that is everything."""
    if new in (1, length):
        return None
    return torch.ones(new, length, dtype=torch.bool, device=device).tril(length - new)
