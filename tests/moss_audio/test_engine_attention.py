"""Attention over blocks: right wherever they lie, and the kernel is told what it needs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from moss_audio.engine import attention as kernel
from moss_audio.engine.attention import (
    BlockTable,
    PackedBatch,
    cached_attention,
    kernel_options,
    kernel_reads,
    kernel_runs_on,
    pack,
    paged_attention,
)
from moss_audio.engine.kv_cache import CacheShape, KVCache, contiguous
from tests.support.paged_kernel import as_flash_forward, as_varlen_attn

HEADS, KEY_HEADS, WIDTH, BLOCK, BLOCKS = 6, 2, 8, 4, 24
SCALE = WIDTH**-0.5
CPU = torch.device("cpu")

Spans = list[tuple[int, int, tuple[int, ...]]]


def filled() -> KVCache:
    """A cache in which no two tokens are alike."""
    cache = KVCache(CacheShape(2, KEY_HEADS, WIDTH, BLOCKS, BLOCK), torch.float32, CPU)
    chance = torch.Generator().manual_seed(3)
    for stored in (*cache.keys, *cache.values):
        stored.normal_(generator=chance)
    return cache


def queries(packed: PackedBatch) -> torch.Tensor:
    return torch.randn(len(packed.positions), HEADS, WIDTH, generator=torch.Generator().manual_seed(4))


def expected(query: torch.Tensor, cache: KVCache, layer: int, spans: Spans) -> torch.Tensor:
    """Attention written out, token by token."""
    rows = []
    for cached, new, blocks in spans:
        slots = [block * BLOCK + offset for block in blocks for offset in range(BLOCK)]
        for number in range(cached, cached + new):
            seen = slots[: number + 1]
            keys, values = (stored[layer].flatten(0, 1)[seen] for stored in (cache.keys, cache.values))
            keys, values = (heads.repeat_interleave(HEADS // KEY_HEADS, dim=1) for heads in (keys, values))
            scores = torch.einsum("hd,thd->ht", query[len(rows)], keys) * SCALE
            rows.append(torch.einsum("ht,thd->hd", scores.softmax(-1), values))
    return torch.stack(rows)


@st.composite
def passes(draw: st.DrawFn, scattered: bool = True) -> Spans:
    """Sequences on blocks in any order, many of them with one new token."""
    shuffled = scattered and draw(st.booleans())
    free = draw(st.permutations(range(BLOCKS))) if shuffled else list(range(BLOCKS))
    spans: Spans = []
    for _ in range(draw(st.integers(1, 6))):
        count = draw(st.integers(1, 4))
        blocks, free = tuple(free[:count]), free[count:]
        length = draw(st.integers(1, count * BLOCK))
        new = draw(st.sampled_from([1, 1, 1, length]))
        spans.append((length - new, new, blocks))
    return draw(st.permutations(spans))


@settings(max_examples=60, deadline=None)
@given(passes())
@example([(13, 1, (5, 9, 3, 8))])
@example([(10, 4, (5, 9, 3, 8))])
@example([(7, 1, (0, 1)), (5, 1, (3, 4)), (6, 1, (6, 7)), (7, 1, (22, 23))])
@example([(15, 1, (16, 17, 18, 19)), (7, 1, (22, 23))])
def test_every_token_sees_its_own_sequence_and_nothing_else_wherever_the_blocks_lie(spans: Spans) -> None:
    cache = filled()
    packed = pack(spans, BLOCK, CPU)
    attention = cached_attention(packed, cache)
    query = queries(packed)
    for layer in range(2):
        found = attention(query, layer, SCALE)
        torch.testing.assert_close(found, expected(query, cache, layer, spans), atol=2e-5, rtol=2e-5)


def test_sequences_that_lie_evenly_spaced_are_read_together(monkeypatch) -> None:
    calls = []
    sdpa = F.scaled_dot_product_attention

    def counting(*given, **told):
        calls.append(1)
        return sdpa(*given, **told)

    monkeypatch.setattr(F, "scaled_dot_product_attention", counting)

    def count(spans: Spans) -> int:
        calls.clear()
        packed = pack(spans, BLOCK, CPU)
        cached_attention(packed, filled())(queries(packed), 0, SCALE)
        return len(calls)

    assert count([(5, 1, (3 * n, 3 * n + 1)) for n in range(7)]) == 1
    assert count([(5 + n % 3, 1, (3 * n, 3 * n + 1)) for n in range(7)]) == 1
    # A sequence of other length, one far away, and one whose blocks are scattered.
    spans = [(5, 1, (0, 1)), (5, 1, (2, 3)), (15, 1, (4, 5, 6, 7)), (5, 1, (20, 21)), (5, 1, (10, 9))]
    assert count(spans) == 4


# --- the kernel of a GPU ----------------------------------------------------------------------------


def test_the_block_table_says_where_queries_and_keys_are(monkeypatch) -> None:
    monkeypatch.setattr(kernel, "BLOCK_TABLES", True)
    table = BlockTable.of((3, 1, 2), (3, 9, 6), ((7,), (5, 9, 3), (1, 2)), BLOCK, CPU)
    assert table.query_offsets.tolist() == [0, 3, 4, 6]
    assert table.key_offsets.tolist() == [0, 3, 12, 18]
    assert table.used.tolist() == [3, 9, 6]
    assert table.blocks.tolist() == [[7, 0, 0], [5, 9, 3], [1, 2, 0]]
    assert table.most_queries == 3
    for tensor in (table.query_offsets, table.key_offsets, table.used, table.blocks):
        assert tensor.dtype == torch.int32 and tensor.is_contiguous()


def test_without_block_tables_keys_are_found_by_their_first_slot(monkeypatch) -> None:
    monkeypatch.setattr(kernel, "BLOCK_TABLES", False)
    table = BlockTable.of((3, 1), (3, 9), ((7,), (4, 5, 6)), BLOCK, CPU)
    assert table.key_offsets.tolist()[:2] == [7 * BLOCK, 4 * BLOCK] and len(table.key_offsets) == 3
    assert table.key_offsets.dtype == torch.int32 and table.key_offsets.is_contiguous()
    assert kernel_reads([(7,), (4, 5, 6)]) and not kernel_reads([(7,), (4, 6, 5)])
    monkeypatch.setattr(kernel, "BLOCK_TABLES", True)
    assert kernel_reads([(4, 6, 5)])


def test_work_is_split_only_where_the_kernel_writes_all_rows_of_split_work() -> None:
    assert kernel_options(1, grouped=True) == {"window_size": (-1, -1), "num_splits": None}
    for most, grouped in ((1, False), (2, True), (2, False)):
        assert kernel_options(most, grouped) == {"window_size": (-1, 0), "num_splits": 1}


@pytest.mark.parametrize("heads", [KEY_HEADS, HEADS])
@pytest.mark.parametrize("new", [(1, 1, 1), (3, 1, 2)])
@pytest.mark.parametrize("block_tables", [True, False])
def test_torchs_operator_takes_what_it_is_told(
    monkeypatch, heads: int, new: tuple[int, ...], block_tables: bool
) -> None:
    if block_tables and not kernel.BLOCK_TABLES:
        pytest.skip("this torch has no block tables")
    monkeypatch.setattr(kernel, "BLOCK_TABLES", block_tables)
    with FakeTensorMode():
        cache = KVCache(CacheShape(1, KEY_HEADS, WIDTH, BLOCKS, 256), torch.bfloat16, CPU)
        table = BlockTable.of(new, (3, 300, 6), ((7,), (5, 6), (1,)), 256, CPU)
        query = torch.empty(sum(new), heads, WIDTH, dtype=torch.bfloat16)
        found = paged_attention(query, cache, 0, table, SCALE)
        assert found.shape == query.shape and found.dtype == query.dtype


@settings(max_examples=60, deadline=None)
@given(passes())
def test_what_the_kernel_is_told_means_the_same_attention(spans: Spans) -> None:
    check_kernel(spans, block_tables=True)


@settings(max_examples=60, deadline=None)
@given(passes(scattered=False))
def test_what_the_kernel_without_block_tables_is_told_means_the_same_attention(spans: Spans) -> None:
    assert all(contiguous(blocks) for _, _, blocks in spans)
    check_kernel(spans, block_tables=False)


def check_kernel(spans: Spans, block_tables: bool) -> None:
    cache = filled()
    packed = pack(spans, BLOCK, CPU)
    query = queries(packed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "BLOCK_TABLES", block_tables)
        patch.setattr(kernel, "varlen_attn", as_varlen_attn)
        patch.setattr(kernel, "flash_attention_forward", as_flash_forward)
        table = BlockTable.of(packed.queries, packed.lengths, packed.blocks, BLOCK, CPU)
        found = paged_attention(query, cache, 1, table, SCALE)
    torch.testing.assert_close(found, expected(query, cache, 1, spans), atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize(
    ("capability", "can"), [((7, 0), False), ((7, 5), False), ((8, 0), True), ((9, 0), True)]
)
def test_the_kernel_is_for_gpus_from_ampere_on(monkeypatch, capability, can) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    cuda = torch.device("cuda")
    assert kernel_runs_on(cuda, torch.bfloat16, 256) is can
    assert not kernel_runs_on(cuda, torch.float32, 256)
    assert not kernel_runs_on(cuda, torch.bfloat16, 16)
    assert not kernel_runs_on(CPU, torch.bfloat16, 256)
