"""Attention of packed queries over the paged cache.

On a GPU in half precision it is torch's variable-length kernel, which reads the pages by a table. Elsewhere
it is scaled-dot-product attention, sequence by sequence, over a view of the pages where they are neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch.nn import functional as F
from torch.nn.attention.varlen import varlen_attn

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

    @cached_property
    def ends(self) -> torch.Tensor:
        """int32 ``[N + 1]``: where each sequence's new tokens begin, and where the last ones end."""
        counts = torch.tensor((0, *self.queries), dtype=torch.int32)
        return counts.cumsum(0, dtype=torch.int32).to(self.positions.device)

    @cached_property
    def used(self) -> torch.Tensor:
        """int32 ``[N]``: ``lengths``."""
        return torch.tensor(self.lengths, dtype=torch.int32).to(self.positions.device)

    @cached_property
    def table(self) -> torch.Tensor:
        """int32 ``[N, most pages]``: ``pages``, filled up with the first page, which is not read."""
        most = max(len(one) for one in self.pages)
        rows = [(*one, *(0,) * (most - len(one))) for one in self.pages]
        return torch.tensor(rows, dtype=torch.int32).to(self.positions.device)


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
    if reads_pages(query):
        return paged(query, cache, layer, packed.ends, packed.used, packed.table, scale, max(packed.queries))
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


def reads_pages(query: torch.Tensor) -> bool:
    """Whether the kernel that reads pages by a table can be used: a GPU, in half precision."""
    return query.is_cuda and query.dtype in (torch.bfloat16, torch.float16)


def paged(
    query: torch.Tensor,
    cache: KVCache,
    layer: int,
    ends: torch.Tensor,
    used: torch.Tensor,
    table: torch.Tensor,
    scale: float,
    most_queries: int,
) -> torch.Tensor:
    """The kernel that reads pages; arguments as in ``Packed``. Causal, aligned at each sequence's end."""
    found = varlen_attn(
        query,
        cache.keys[layer],
        cache.values[layer],
        ends,
        None,
        most_queries,
        table.shape[1] * cache.shape.page_size,
        scale=scale,
        window_size=(-1, 0),
        enable_gqa=query.shape[1] != cache.shape.heads,
        seqused_k=used,
        block_table=table,
    )
    assert isinstance(found, torch.Tensor)
    return found


def _mask(new: int, length: int, device: torch.device) -> torch.Tensor | None:
    """True where a new token may look: at all before it and at itself. None where that is everything."""
    if new in (1, length):
        return None
    return torch.ones(new, length, dtype=torch.bool, device=device).tril(length - new)
