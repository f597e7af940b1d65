"""What FlashAttention 2 computes from the arguments of torch's two entries to it, spelled out for a CPU."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F


def as_varlen_attn(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    query_offsets: torch.Tensor,
    key_offsets: torch.Tensor | None,
    most_q: int,
    most_k: int,
    **told: Any,
) -> torch.Tensor:
    """Takes the place of torch 2.12's ``varlen_attn``; what the kernel demands is asserted."""
    table, used = told["block_table"], told["seqused_k"]
    assert key_offsets is not None and key_offsets.shape == query_offsets.shape == (len(used) + 1,)
    assert all(tensor.dtype == torch.int32 for tensor in (query_offsets, key_offsets, used, table))
    alike = told["enable_gqa"] and most_q == 1 and told["window_size"] == (-1, -1)
    assert told["num_splits"] == 1 or alike
    assert int(used.max()) <= most_k
    pairs = [
        tuple(stored[row.long()].flatten(0, 1)[: int(length)] for stored in (keys, values))
        for row, length in zip(table, used, strict=True)
    ]
    return _attend(query, pairs, query_offsets, most_q, told["window_size"] == (-1, 0), told["scale"])


def as_flash_forward(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    query_offsets: torch.Tensor,
    starts: torch.Tensor,
    most_q: int,
    most_k: int,
    dropout: float,
    causal: bool,
    debug: bool,
    *,
    scale: float,
    seqused_k: torch.Tensor,
) -> tuple[torch.Tensor, None]:
    """Takes the place of ``aten::_flash_attention_forward``, which knows no block table."""
    assert dropout == 0.0 and not debug
    assert starts.shape == query_offsets.shape == (len(seqused_k) + 1,)
    assert all(tensor.dtype == torch.int32 for tensor in (query_offsets, starts, seqused_k))
    assert int(seqused_k.max()) <= most_k
    spans = [slice(int(start), int(start + used)) for start, used in zip(starts, seqused_k, strict=False)]
    pairs = [(keys[span], values[span]) for span in spans]
    return _attend(query, pairs, query_offsets, most_q, causal, scale), None


def _attend(
    query: torch.Tensor,
    pairs: Sequence[tuple[torch.Tensor, ...]],
    query_offsets: torch.Tensor,
    most_q: int,
    causal: bool,
    scale: float,
) -> torch.Tensor:
    out = torch.full_like(query, float("nan"))
    for (begin, end), (keys, values) in zip(itertools.pairwise(query_offsets), pairs, strict=True):
        new, length = int(end - begin), len(keys)
        assert new <= most_q
        mask = torch.ones(new, length, dtype=torch.bool)
        if causal:
            mask = mask.tril(length - new)
        q, k, v = (tensor.transpose(0, 1) for tensor in (query[begin:end], keys, values))
        out[begin:end] = F.scaled_dot_product_attention(
            q, k, v, mask, scale=scale, enable_gqa=True
        ).transpose(0, 1)
    return out
