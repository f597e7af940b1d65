"""Torch's variable-length attention kernel over the paged cache, and what it is told.

Torch 2.13 runs FlashAttention 2 behind ``varlen_attn``, on GPUs from Ampere on. Three of its ways decide
how it must be called:

- It takes where each sequence's keys end together (``cu_seq_k``) also where it reads them by a table.
- Where it splits the keys of packed queries among blocks, it writes the rows of the first sequence alone
  (https://github.com/pytorch/pytorch/issues/194167). So it must not split (``num_splits=1``) …
- … but for one query a sequence with heads in groups: there it takes each group as one sequence of queries,
  which is not packed any more, and may split as it likes. It does so only without a window, and one query,
  the last, needs none to be causal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import torch
from torch.nn import functional as F
from torch.nn.attention.varlen import varlen_attn

from moss_audio.engine.cache import KVCache

PAGE_MULTIPLE = 256
"""Tokens a page must be a multiple of."""

AMPERE = 8
"""Compute capability, its first number, that the kernel needs."""


class Manner(TypedDict):
    """How the kernel hides what comes later, and how it divides the work."""

    window_size: tuple[int, int]
    num_splits: int | None


@dataclass(frozen=True)
class Table:
    """Which queries belong to which pages. N sequences.

    Attributes:
        ends: int32 ``[N + 1]``: where each sequence's new tokens begin, and where the last ones end.
        key_ends: int32 ``[N + 1]``: the same of all their tokens.
        used: int32 ``[N]``: tokens of each sequence in the cache.
        pages: int32 ``[N, most pages]``; what stands behind a sequence's own pages is not read.
        most_queries: New tokens of a sequence at most.
    """

    ends: torch.Tensor
    key_ends: torch.Tensor
    used: torch.Tensor
    pages: torch.Tensor
    most_queries: int

    @classmethod
    def of(
        cls,
        queries: Sequence[int],
        lengths: Sequence[int],
        pages: Sequence[Sequence[int]],
        device: torch.device,
    ) -> Table:
        """From new tokens, all tokens and pages of each sequence."""
        most = max(len(one) for one in pages)
        rows = [(*one, *(0,) * (most - len(one))) for one in pages]
        counts, used = (torch.tensor(one, dtype=torch.int32) for one in (queries, lengths))
        return cls(
            ends=ends_of(counts).to(device),
            key_ends=ends_of(used).to(device),
            used=used.to(device),
            pages=torch.tensor(rows, dtype=torch.int32).to(device),
            most_queries=max(queries),
        )


def ends_of(counts: torch.Tensor) -> torch.Tensor:
    """Where each of int32 ``[N]`` begins, and the last one ends: int32 ``[N + 1]``, on their device."""
    return F.pad(counts.cumsum(0, dtype=torch.int32), (1, 0))


def reads_pages(device: torch.device, dtype: torch.dtype, page_size: int) -> bool:
    """Whether the kernel can be used: a GPU from Ampere on, half precision, pages of whole blocks."""
    return (
        device.type == "cuda"
        and dtype in (torch.bfloat16, torch.float16)
        and page_size % PAGE_MULTIPLE == 0
        and torch.cuda.get_device_capability(device)[0] >= AMPERE
    )


def manner(most_queries: int, grouped: bool) -> Manner:
    """See the head of this file.

    Args:
        most_queries: New tokens of a sequence at most.
        grouped: Whether several heads of queries share one of keys.
    """
    if most_queries == 1 and grouped:
        return {"window_size": (-1, -1), "num_splits": None}
    return {"window_size": (-1, 0), "num_splits": 1}


def paged(query: torch.Tensor, cache: KVCache, layer: int, table: Table, scale: float) -> torch.Tensor:
    """Causal attention of packed queries ``[T, heads, head_dim]``, aligned at each sequence's end."""
    grouped = query.shape[1] != cache.shape.heads
    found = varlen_attn(
        query,
        cache.keys[layer],
        cache.values[layer],
        table.ends,
        table.key_ends,
        table.most_queries,
        table.pages.shape[1] * cache.shape.page_size,
        scale=scale,
        enable_gqa=grouped,
        seqused_k=table.used,
        block_table=table.pages,
        **manner(table.most_queries, grouped),
    )
    assert isinstance(found, torch.Tensor)
    return found
