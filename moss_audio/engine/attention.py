"""Attention of packed queries over the paged cache.

On a GPU that has it in half precision, it is torch's variable-length kernel, which reads pages by a table
(``kernel.py``). Elsewhere it is scaled-dot-product attention over views of the pages: sequence by sequence,
or, for sequences of one new token each that lie equally far apart, many in one call.

Torch's variable-length attention kernel over the paged cache, and what it is told.

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

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypedDict

import torch
from torch.nn import functional as F
from torch.nn.attention.varlen import varlen_attn

from moss_audio.engine.kv_cache import KVCache, Place, are_neighbours

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


Attend = Callable[[torch.Tensor, int, float], torch.Tensor]
"""Causal attention of packed queries ``[T, heads, head_dim]`` in a layer, by a scale of the scores, over all
that is in the cache, the new keys and values included; to the same shape."""

MOST_UNEQUAL = 2
"""Sequences are read together while the longest is at most so many times as long as the shortest: what
stands behind a shorter one's end is read for nothing."""


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


@dataclass(frozen=True)
class _Part:
    """Queries that are answered by one call.

    Attributes:
        rows: Which of the packed queries.
        place: Where their sequences lie.
        mask: Of the scores; None where all that is read may be seen.
        causal: Whether the call itself shall hide what comes later.
    """

    rows: slice | torch.Tensor
    place: Place
    mask: torch.Tensor | None
    causal: bool = False


def looking_back(packed: Packed, cache: KVCache) -> Attend:
    """How the queries of a pass look back; what all layers share is found here, once."""
    stored = cache.keys[0]
    if reads_pages(stored.device, stored.dtype, cache.shape.page_size):
        table = Table.of(packed.queries, packed.lengths, packed.pages, stored.device)
        return lambda query, layer, scale: paged(query, cache, layer, table, scale)
    parts = _parts(packed, cache)

    def attention(query: torch.Tensor, layer: int, scale: float) -> torch.Tensor:
        out = torch.empty_like(query)
        for one in parts:
            out[one.rows] = _answer(one, query[one.rows], cache, layer, scale)
        return out

    return attention


def _answer(part: _Part, query: torch.Tensor, cache: KVCache, layer: int, scale: float) -> torch.Tensor:
    """Queries ``[rows, heads, head_dim]`` of one part, to the same shape."""
    keys, values = cache.read(layer, part.place)
    one_each = len(query) == part.place.count
    # Heads that share keys are as many queries of one head: the fast kernels know no groups of heads.
    q = query.unflatten(1, (keys.shape[1], -1)) if one_each else query.transpose(0, 1)[None]
    found = F.scaled_dot_product_attention(
        q, keys, values, attn_mask=part.mask, is_causal=part.causal, scale=scale,
        enable_gqa=q.shape[1] != keys.shape[1],
    )  # fmt: skip
    return found.flatten(1, 2) if one_each else found[0].transpose(0, 1)


def _parts(packed: Packed, cache: KVCache) -> list[_Part]:
    parts, single, start = [], [], 0
    for number, (new, length) in enumerate(zip(packed.queries, packed.lengths, strict=True)):
        place = cache.place(packed.pages[number], length)
        if new == 1 and place.pages is None:
            single.append((place.first, length, start))
        else:
            mask = _mask(new, length, cache.keys[0].device)
            parts.append(_Part(slice(start, start + new), place, mask, 1 < new == length))
        start += new
    return parts + [_together(run, cache.keys[0]) for run in _runs(sorted(single), cache.shape.tokens)]


_Single = tuple[int, int, int]
"""First slot, length and query row of a sequence of neighbouring pages with one new token."""


def _runs(singles: Sequence[_Single], slots: int) -> list[list[_Single]]:
    """Sequences in the order of their slots, cut where they are not equally far apart, or too unequal."""
    runs: list[list[_Single]] = []
    shortest = longest = apart = 0
    for one in singles:
        first, length, _ = one
        gap = first - runs[-1][-1][0] if runs else 0
        low, high = min(shortest, length), max(longest, length)
        near = runs and (len(runs[-1]) == 1 or gap == apart)
        if near and high <= MOST_UNEQUAL * low and first + high <= slots:
            runs[-1].append(one)
            shortest, longest, apart = low, high, gap
        else:
            runs.append([one])
            shortest = longest = length
    return runs


def _together(run: list[_Single], like: torch.Tensor) -> _Part:
    """One call for sequences that lie equally far apart."""
    firsts, lengths, rows = zip(*run, strict=True)
    longest = max(lengths)
    apart = firsts[1] - firsts[0] if len(run) > 1 else 0
    mask = None
    if min(lengths) < longest:
        seen = torch.arange(longest) < torch.tensor(lengths)[:, None]
        hidden = torch.zeros(seen.shape, dtype=like.dtype).masked_fill(~seen, float("-inf"))
        mask = hidden[:, None, None].to(like.device)
    if are_neighbours(rows):
        where: slice | torch.Tensor = slice(rows[0], rows[-1] + 1)
    else:
        where = torch.tensor(rows, device=like.device)
    return _Part(where, Place(firsts[0], longest, len(run), apart), mask)


def _mask(new: int, length: int, device: torch.device) -> torch.Tensor | None:
    """True where a new token may look: at all before it and at itself. None where that is everything."""
    if new in (1, length):
        return None
    return torch.ones(new, length, dtype=torch.bool, device=device).tril(length - new)
