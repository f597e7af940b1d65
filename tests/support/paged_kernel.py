"""What FlashAttention 2 computes from the arguments of ``varlen_attn``, spelled out for a CPU."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch.nn import functional as F


def as_the_kernel(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    ends: torch.Tensor,
    key_ends: torch.Tensor | None,
    most_q: int,
    most_k: int,
    **told: Any,
) -> torch.Tensor:
    """Takes ``varlen_attn``'s place; what the kernel demands is asserted."""
    table, used = told["block_table"], told["seqused_k"]
    assert key_ends is not None and key_ends.shape == ends.shape == (len(used) + 1,)
    assert all(one.dtype == torch.int32 for one in (ends, key_ends, used, table))
    alike = told["enable_gqa"] and most_q == 1 and told["window_size"] == (-1, -1)
    assert told["num_splits"] == 1 or alike
    out = torch.full_like(query, float("nan"))
    for row, (begin, end) in enumerate(itertools.pairwise(ends)):
        length, new = int(used[row]), int(end - begin)
        assert new <= most_q and length <= most_k
        k, v = (one[table[row].long()].flatten(0, 1)[:length].transpose(0, 1) for one in (keys, values))
        mask = torch.ones(new, length, dtype=torch.bool)
        if told["window_size"] == (-1, 0):
            mask = mask.tril(length - new)
        q = query[begin:end].transpose(0, 1)
        answer = F.scaled_dot_product_attention(q, k, v, mask, scale=told["scale"], enable_gqa=True)
        out[begin:end] = answer.transpose(0, 1)
    return out
