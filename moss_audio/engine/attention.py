"""Causal attention of packed queries over the paged KV cache.

On a GPU in half precision it is torch's variable-length FlashAttention 2, which runs from Ampere on.
Elsewhere it is scaled-dot-product attention over views of the blocks: sequence by sequence, or, for sequences
of one new token each that lie evenly spaced, many in one call.

Four properties of torch's kernel decide how it must be called:

- From torch 2.12 on it finds a sequence's keys by a block table. Before, there is none, but it takes the slot
  at which each sequence's keys begin and how many there are, so it reads sequences of contiguous blocks.
- With a block table it still wants to be told where each sequence's keys would end if they were packed.
- Where it splits the keys of packed queries among thread blocks, it writes the rows of the first sequence
  only (https://github.com/pytorch/pytorch/issues/194167). So it must not split (``num_splits=1``) …
- … except for one query a sequence under grouped-query attention: there it takes each group of heads as one
  sequence of queries, which is not packed any more, and may split as it likes. It does so only without a
  window, and one query, the last, needs none to be causal.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypedDict

import torch
from torch.nn import functional as F
from torch.nn.attention.varlen import varlen_attn

from moss_audio.engine.kv_cache import KVCache, Region, contiguous

BLOCK_TABLES = "block_table" in inspect.signature(varlen_attn).parameters
"""Whether torch's kernel finds keys by a block table (torch 2.12 and later)."""

BLOCK_MULTIPLE = 256
"""Tokens that a block must be a multiple of for the kernel."""

AMPERE = 8
"""Major compute capability that the kernel needs."""

Attention = Callable[[torch.Tensor, int, float], torch.Tensor]
"""Causal attention over everything in the cache, the new keys and values included.

Takes packed queries ``[T, heads, head_dim]``, the number of the layer and the scale of the scores; returns
the same shape.
"""


@dataclass(frozen=True)
class PackedBatch:
    """Sequences laid end to end for one pass: N sequences with T new tokens together.

    Attributes:
        positions: int64 ``[T]``, the position of each new token in its sequence.
        slots: int64 ``[T]``, where each new token's keys and values go in the cache.
        queries: New tokens of each sequence.
        lengths: Tokens of each sequence in the cache once the new ones are written.
        blocks: The blocks of each sequence that hold these.
    """

    positions: torch.Tensor
    slots: torch.Tensor
    queries: tuple[int, ...]
    lengths: tuple[int, ...]
    blocks: tuple[tuple[int, ...], ...]


def pack(
    spans: Sequence[tuple[int, int, tuple[int, ...]]], block_size: int, device: torch.device
) -> PackedBatch:
    """Lay sequences end to end.

    Args:
        spans: For each sequence its tokens in the cache, its new tokens, and its blocks.
        block_size: Tokens in a block.
        device: The decoder's.
    """
    positions: list[int] = []
    slots: list[int] = []
    used: list[tuple[int, ...]] = []
    for cached, new, blocks in spans:
        places = range(cached, cached + new)
        positions += places
        slots += [blocks[place // block_size] * block_size + place % block_size for place in places]
        used.append(blocks[: -(-(cached + new) // block_size)])
    return PackedBatch(
        positions=torch.tensor(positions, device=device),
        slots=torch.tensor(slots, device=device),
        queries=tuple(new for _, new, _ in spans),
        lengths=tuple(cached + new for cached, new, _ in spans),
        blocks=tuple(used),
    )


def cached_attention(packed: PackedBatch, cache: KVCache) -> Attention:
    """The attention of one pass, by the fastest way there is; what all layers share is computed here."""
    stored = cache.keys[0]
    if kernel_runs_on(stored.device, stored.dtype, cache.shape.block_size) and kernel_reads(packed.blocks):
        table = BlockTable.of(
            packed.queries, packed.lengths, packed.blocks, cache.shape.block_size, stored.device
        )
        return lambda query, layer, scale: paged_attention(query, cache, layer, table, scale)
    return sdpa_attention(packed, cache)


# --- torch's variable-length kernel ------------------------------------------------------------------------


class KernelOptions(TypedDict):
    """How the kernel masks later tokens, and among how many thread blocks it splits the keys."""

    window_size: tuple[int, int]
    num_splits: int | None


@dataclass(frozen=True)
class BlockTable:
    """Which queries belong to which keys, as the kernel takes it; N sequences.

    Attributes:
        query_offsets: int32 ``[N + 1]``: where each sequence's new tokens begin, and where the last ones end.
        key_offsets: int32 ``[N + 1]``, see ``key_offsets``.
        used: int32 ``[N]``: tokens of each sequence in the cache.
        blocks: int32 ``[N, most blocks]``; what stands behind a sequence's own blocks is not read.
        most_queries: New tokens of a sequence at most.
    """

    query_offsets: torch.Tensor
    key_offsets: torch.Tensor
    used: torch.Tensor
    blocks: torch.Tensor
    most_queries: int

    @classmethod
    def of(
        cls,
        queries: Sequence[int],
        lengths: Sequence[int],
        blocks: Sequence[Sequence[int]],
        block_size: int,
        device: torch.device,
    ) -> BlockTable:
        """The table for new tokens, all tokens and blocks of each sequence."""
        most = max(len(own) for own in blocks)
        rows = [(*own, *(0,) * (most - len(own))) for own in blocks]
        table = torch.tensor(rows, dtype=torch.int32)
        used = torch.tensor(lengths, dtype=torch.int32)
        return cls(
            query_offsets=offsets(torch.tensor(queries, dtype=torch.int32)).to(device),
            key_offsets=key_offsets(used, table, block_size).to(device),
            used=used.to(device),
            blocks=table.to(device),
            most_queries=max(queries),
        )


def offsets(counts: torch.Tensor) -> torch.Tensor:
    """Where each of int32 ``[N]`` counts begins, and where the last ends: int32 ``[N + 1]``."""
    return F.pad(counts.cumsum(0, dtype=torch.int32), (1, 0))


def key_offsets(used: torch.Tensor, blocks: torch.Tensor, block_size: int) -> torch.Tensor:
    """Where the kernel is to find each sequence's keys: int32 ``[N + 1]``, on the table's device.

    With a block table where they would begin if they were packed; without one, the slot of each sequence's
    first token in the cache. The last number is then not read, since ``used`` says how many keys there are.

    Args:
        used: int32 ``[N]``, tokens of each sequence in the cache.
        blocks: int32 ``[N, most blocks]``.
        block_size: Tokens in a block.
    """
    return offsets(used) if BLOCK_TABLES else F.pad(blocks[:, 0] * block_size, (0, 1))


def kernel_runs_on(device: torch.device, dtype: torch.dtype, block_size: int) -> bool:
    """Whether the kernel can be used: a GPU from Ampere on, half precision, blocks of a multiple of 256."""
    return (
        device.type == "cuda"
        and dtype in (torch.bfloat16, torch.float16)
        and block_size % BLOCK_MULTIPLE == 0
        and torch.cuda.get_device_capability(device)[0] >= AMPERE
    )


def kernel_reads(blocks: Sequence[Sequence[int]]) -> bool:
    """Whether the kernel finds sequences with these blocks: all with a block table, else contiguous ones."""
    return BLOCK_TABLES or all(contiguous(own) for own in blocks)


def kernel_options(most_queries: int, grouped: bool) -> KernelOptions:
    """Window and splits; see the head of this file.

    Args:
        most_queries: New tokens of a sequence at most.
        grouped: Whether several heads of queries share one of keys.
    """
    if most_queries == 1 and grouped:
        return {"window_size": (-1, -1), "num_splits": None}
    return {"window_size": (-1, 0), "num_splits": 1}


def paged_attention(
    query: torch.Tensor, cache: KVCache, layer: int, table: BlockTable, scale: float
) -> torch.Tensor:
    """Causal attention by torch's kernel, the last query of each sequence aligned with its last key.

    Args:
        query: ``[T, heads, head_dim]``, packed.
        cache: Keys and values, in half precision on a GPU.
        layer: Decoder layer.
        table: Where each sequence's queries and keys are.
        scale: Factor of the scores.

    Returns:
        ``[T, heads, head_dim]``.
    """
    grouped = query.shape[1] != cache.shape.heads
    longest = table.blocks.shape[1] * cache.shape.block_size
    if not BLOCK_TABLES:
        return _contiguous_attention(query, cache, layer, table, scale, longest)
    found = varlen_attn(
        query,
        cache.keys[layer],
        cache.values[layer],
        table.query_offsets,
        table.key_offsets,
        table.most_queries,
        longest,
        scale=scale,
        enable_gqa=grouped,
        seqused_k=table.used,
        block_table=table.blocks,
        **kernel_options(table.most_queries, grouped),
    )
    assert isinstance(found, torch.Tensor)
    return found


flash_attention_forward = torch.ops.aten._flash_attention_forward
"""The operator behind ``varlen_attn``; before torch 2.12 it alone takes ``seqused_k``."""


def _contiguous_attention(
    query: torch.Tensor, cache: KVCache, layer: int, table: BlockTable, scale: float, longest: int
) -> torch.Tensor:
    """``paged_attention`` without a block table, for sequences of contiguous blocks.

    This kernel drops the mask for single queries and splits only where it may, both by itself.
    """
    found, *_ = flash_attention_forward(
        query,
        cache.keys[layer].flatten(0, 1),
        cache.values[layer].flatten(0, 1),
        table.query_offsets,
        table.key_offsets,
        table.most_queries,
        longest,
        0.0,
        table.most_queries > 1,
        False,
        scale=scale,
        seqused_k=table.used,
    )
    assert isinstance(found, torch.Tensor)
    return found


# --- scaled-dot-product attention --------------------------------------------------------------------------

MOST_UNEQUAL = 2
"""Sequences are read together while the longest is at most so many times as long as the shortest: what
stands behind a shorter one's end is read for nothing."""


@dataclass(frozen=True)
class _Call:
    """Queries that are answered by one call.

    Attributes:
        rows: Which of the packed queries.
        region: Where the keys of their sequences lie.
        mask: Of the scores; None where everything that is read may be seen.
        causal: Whether the call itself shall mask later tokens.
    """

    rows: slice | torch.Tensor
    region: Region
    mask: torch.Tensor | None
    causal: bool = False


def sdpa_attention(packed: PackedBatch, cache: KVCache) -> Attention:
    """The attention of one pass by ``scaled_dot_product_attention``, on any device and in any precision."""
    calls = _calls(packed, cache)

    def attention(query: torch.Tensor, layer: int, scale: float) -> torch.Tensor:
        out = torch.empty_like(query)
        for call in calls:
            out[call.rows] = _answer(call, query[call.rows], cache, layer, scale)
        return out

    return attention


def _answer(call: _Call, query: torch.Tensor, cache: KVCache, layer: int, scale: float) -> torch.Tensor:
    """Queries ``[rows, heads, head_dim]`` of one call, to the same shape."""
    keys, values = cache.read(layer, call.region)
    one_each = len(query) == call.region.count
    # Heads that share keys are as many queries of one head: the fast kernels know no groups of heads.
    q = query.unflatten(1, (keys.shape[1], -1)) if one_each else query.transpose(0, 1)[None]
    found = F.scaled_dot_product_attention(
        q, keys, values, attn_mask=call.mask, is_causal=call.causal, scale=scale,
        enable_gqa=q.shape[1] != keys.shape[1],
    )  # fmt: skip
    return found.flatten(1, 2) if one_each else found[0].transpose(0, 1)


def _calls(packed: PackedBatch, cache: KVCache) -> list[_Call]:
    calls, single, start = [], [], 0
    for number, (new, length) in enumerate(zip(packed.queries, packed.lengths, strict=True)):
        region = cache.region(packed.blocks[number], length)
        if new == 1 and region.blocks is None:
            single.append((region.first, length, start))
        else:
            mask = _causal_mask(new, length, cache.keys[0].device)
            calls.append(_Call(slice(start, start + new), region, mask, 1 < new == length))
        start += new
    groups = _evenly_spaced(sorted(single), cache.shape.tokens)
    return calls + [_together(group, cache.keys[0]) for group in groups]


_Single = tuple[int, int, int]
"""First slot, length and query row of a sequence of contiguous blocks with one new token."""


def _evenly_spaced(singles: Sequence[_Single], slots: int) -> list[list[_Single]]:
    """Sequences in the order of their slots, cut where they are not evenly spaced, or too unequal."""
    groups: list[list[_Single]] = []
    shortest = longest = stride = 0
    for single in singles:
        first, length, _ = single
        gap = first - groups[-1][-1][0] if groups else 0
        low, high = min(shortest, length), max(longest, length)
        near = groups and (len(groups[-1]) == 1 or gap == stride)
        if near and high <= MOST_UNEQUAL * low and first + high <= slots:
            groups[-1].append(single)
            shortest, longest, stride = low, high, gap
        else:
            groups.append([single])
            shortest = longest = length
    return groups


def _together(group: list[_Single], like: torch.Tensor) -> _Call:
    """One call for sequences that lie evenly spaced."""
    firsts, lengths, rows = zip(*group, strict=True)
    longest = max(lengths)
    stride = firsts[1] - firsts[0] if len(group) > 1 else 0
    mask = None
    if min(lengths) < longest:
        seen = torch.arange(longest) < torch.tensor(lengths)[:, None]
        hidden = torch.zeros(seen.shape, dtype=like.dtype).masked_fill(~seen, float("-inf"))
        mask = hidden[:, None, None].to(like.device)
    if contiguous(rows):
        where: slice | torch.Tensor = slice(rows[0], rows[-1] + 1)
    else:
        where = torch.tensor(rows, device=like.device)
    return _Call(where, Region(firsts[0], longest, len(group), stride), mask)


def _causal_mask(new: int, length: int, device: torch.device) -> torch.Tensor | None:
    """True where a new token may look: everything up to itself. None where no mask is needed."""
    if new in (1, length):
        return None
    return torch.ones(new, length, dtype=torch.bool, device=device).tril(length - new)
