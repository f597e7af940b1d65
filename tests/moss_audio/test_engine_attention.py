"""Attention over pages: right wherever they lie, and the kernel is told what it needs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from moss_audio.engine import attention as kernel
from moss_audio.engine.attention import Packed, Table, _parts, looking_back, manner, paged, reads_pages
from moss_audio.engine.kv_cache import CacheShape, KVCache
from moss_audio.engine.model_runner import pack
from tests.support.paged_kernel import as_the_kernel

HEADS, KEY_HEADS, WIDTH, PAGE, PAGES = 6, 2, 8, 4, 24
SCALE = WIDTH**-0.5

Spans = list[tuple[int, int, tuple[int, ...]]]


def filled() -> KVCache:
    """A cache in which no two tokens are alike."""
    cache = KVCache(CacheShape(2, KEY_HEADS, WIDTH, PAGES, PAGE), torch.float32, torch.device("cpu"))
    chance = torch.Generator().manual_seed(3)
    for stored in (*cache.keys, *cache.values):
        stored.normal_(generator=chance)
    return cache


def expected(query: torch.Tensor, cache: KVCache, layer: int, spans: Spans) -> torch.Tensor:
    """Attention written out, token by token."""
    rows = []
    for cached, new, pages in spans:
        slots = [page * PAGE + offset for page in pages for offset in range(PAGE)]
        for number in range(cached, cached + new):
            seen = slots[: number + 1]
            keys, values = (one[layer].flatten(0, 1)[seen] for one in (cache.keys, cache.values))
            keys, values = (one.repeat_interleave(HEADS // KEY_HEADS, dim=1) for one in (keys, values))
            scores = torch.einsum("hd,thd->ht", query[len(rows)], keys) * SCALE
            rows.append(torch.einsum("ht,thd->hd", scores.softmax(-1), values))
    return torch.stack(rows)


@st.composite
def passes(draw: st.DrawFn) -> Spans:
    """Sequences on pages in any order, many of them with one new token."""
    free = draw(st.permutations(range(PAGES))) if draw(st.booleans()) else list(range(PAGES))
    spans: Spans = []
    for _ in range(draw(st.integers(1, 6))):
        count = draw(st.integers(1, 4))
        pages, free = tuple(free[:count]), free[count:]
        length = draw(st.integers(1, count * PAGE))
        new = draw(st.sampled_from([1, 1, 1, length]))
        spans.append((length - new, new, pages))
    return draw(st.permutations(spans))


@settings(max_examples=150, deadline=None)
@given(passes())
@example([(13, 1, (5, 9, 3, 8))])
@example([(10, 4, (5, 9, 3, 8))])
@example([(7, 1, (0, 1)), (5, 1, (3, 4)), (6, 1, (6, 7)), (7, 1, (22, 23))])
@example([(15, 1, (16, 17, 18, 19)), (7, 1, (22, 23))])
def test_every_token_sees_its_own_sequence_and_nothing_else_wherever_the_pages_lie(spans: Spans) -> None:
    cache = filled()
    packed = pack(spans, PAGE, torch.device("cpu"))
    attention = looking_back(packed, cache)
    query = torch.randn(len(packed.positions), HEADS, WIDTH, generator=torch.Generator().manual_seed(4))
    for layer in range(2):
        found = attention(query, layer, SCALE)
        torch.testing.assert_close(found, expected(query, cache, layer, spans), atol=2e-5, rtol=2e-5)


def test_sequences_that_lie_equally_far_apart_are_read_together() -> None:
    def calls(spans: Spans) -> int:
        return len(_parts(pack(spans, PAGE, torch.device("cpu")), filled()))

    assert calls([(5, 1, (3 * n, 3 * n + 1)) for n in range(7)]) == 1
    assert calls([(5 + n % 3, 1, (3 * n, 3 * n + 1)) for n in range(7)]) == 1
    # A sequence of other length, one far away, and one whose pages are scattered.
    spans = [(5, 1, (0, 1)), (5, 1, (2, 3)), (15, 1, (4, 5, 6, 7)), (5, 1, (20, 21)), (5, 1, (10, 9))]
    assert calls(spans) == 4


# --- the kernel of a GPU ----------------------------------------------------------------------------


def test_the_kernels_table_says_where_queries_and_keys_end() -> None:
    table = Table.of((3, 1, 2), (3, 9, 6), ((7,), (5, 9, 3), (1, 2)), torch.device("cpu"))
    assert table.ends.tolist() == [0, 3, 4, 6]
    assert table.key_ends.tolist() == [0, 3, 12, 18]
    assert table.used.tolist() == [3, 9, 6]
    assert table.pages.tolist() == [[7, 0, 0], [5, 9, 3], [1, 2, 0]]
    assert table.most_queries == 3
    for one in (table.ends, table.key_ends, table.used, table.pages):
        assert one.dtype == torch.int32 and one.is_contiguous()


def test_work_is_split_only_where_the_kernel_writes_all_rows_of_split_work() -> None:
    assert manner(1, grouped=True) == {"window_size": (-1, -1), "num_splits": None}
    for most, grouped in ((1, False), (2, True), (2, False)):
        assert manner(most, grouped) == {"window_size": (-1, 0), "num_splits": 1}


@pytest.mark.parametrize("heads", [KEY_HEADS, HEADS])
@pytest.mark.parametrize("queries", [(1, 1, 1), (3, 1, 2)])
def test_torchs_operator_takes_what_it_is_told(heads: int, queries: tuple[int, ...]) -> None:
    with FakeTensorMode():
        shape = CacheShape(1, KEY_HEADS, WIDTH, PAGES, 256)
        cache = KVCache(shape, torch.bfloat16, torch.device("cpu"))
        table = Table.of(queries, (3, 300, 6), ((7,), (5, 9), (1,)), torch.device("cpu"))
        query = torch.empty(sum(queries), heads, WIDTH, dtype=torch.bfloat16)
        found = paged(query, cache, 0, table, SCALE)
        assert found.shape == query.shape and found.dtype == query.dtype


@settings(max_examples=60, deadline=None)
@given(passes())
def test_what_the_kernel_is_told_means_the_same_attention(spans: Spans) -> None:
    cache = filled()
    packed: Packed = pack(spans, PAGE, torch.device("cpu"))
    query = torch.randn(len(packed.positions), HEADS, WIDTH, generator=torch.Generator().manual_seed(4))
    table = Table.of(packed.queries, packed.lengths, packed.pages, torch.device("cpu"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "varlen_attn", as_the_kernel)
        found = paged(query, cache, 1, table, SCALE)
    torch.testing.assert_close(found, expected(query, cache, 1, spans), atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize(
    ("capability", "can"), [((7, 0), False), ((7, 5), False), ((8, 0), True), ((9, 0), True)]
)
def test_the_kernel_is_for_gpus_from_ampere_on(monkeypatch, capability, can) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    cuda = torch.device("cuda")
    assert reads_pages(cuda, torch.bfloat16, 256) is can
    assert not reads_pages(cuda, torch.float32, 256)
    assert not reads_pages(cuda, torch.bfloat16, 16)
    assert not reads_pages(torch.device("cpu"), torch.bfloat16, 256)
