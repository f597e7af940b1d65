"""Pages of the KV cache: never two owners unless shared, none lost, neighbours where possible."""

from __future__ import annotations

import resource
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from moss_audio.engine.block_pool import Grant, PagePool, page_names
from moss_audio.engine.kv_cache import CacheShape, KVCache
from moss_audio.generation.loops import LOOP_TOKENS, is_loop


def admit(pool: PagePool, keys: list[int], capacity: int) -> Grant | None:
    return pool.admit(page_names(keys, pool.page_size), len(keys), capacity)


class Pages(RuleBasedStateMachine):
    """Prompts come and go at random; what the pool says must always add up."""

    def __init__(self) -> None:
        super().__init__()
        self.live: list[tuple[list[int], tuple[int, ...]]] = []
        self.held: dict[int, tuple[int, ...]] = {}

    @initialize(size=st.integers(1, 4), pages=st.integers(3, 20))
    def start(self, size, pages):
        self.pool = PagePool(pages, size)

    def shareable(self, keys):
        """Pages without an owner that a prompt could share: those are not free for anything else."""
        used = {page for _, pages in self.live for page in pages}
        starts = {tuple(keys[:end]) for end in range(1, len(keys))}
        return sum(page not in used and held in starts for page, held in self.held.items())

    @rule(keys=st.lists(st.integers(0, 2), min_size=1, max_size=20), more=st.integers(1, 6))
    def admit(self, keys, more):
        before = self.pool.available
        grant = admit(self.pool, keys, len(keys) + more)
        if grant is None:
            assert self.pool.available == before
            assert self.pool.pages_for(len(keys) + more) > before - self.shareable(keys)
            return
        assert len(grant.pages) == self.pool.pages_for(len(keys) + more)
        assert len(set(grant.pages)) == len(grant.pages)
        assert grant.cached_tokens < len(keys)
        for number in range(grant.cached_tokens // self.pool.page_size):
            # A shared page holds exactly what stands at the same place of this prompt.
            end = (number + 1) * self.pool.page_size
            assert self.held[grant.pages[number]] == tuple(keys[:end])
        self.live.append((keys, grant.pages))

    @precondition(lambda self: self.live)
    @rule(which=st.integers(0, 100))
    def computed(self, which):
        keys, pages = self.live[which % len(self.live)]
        self.pool.remember(page_names(keys, self.pool.page_size), pages)
        for number in range(len(keys) // self.pool.page_size):
            self.held[pages[number]] = tuple(keys[: (number + 1) * self.pool.page_size])

    @precondition(lambda self: self.live)
    @rule(which=st.integers(0, 100))
    def leave(self, which):
        _, pages = self.live.pop(which % len(self.live))
        self.pool.release(pages)

    @invariant()
    def every_page_is_free_or_used(self):
        if hasattr(self, "pool"):
            used = {page for _, pages in self.live for page in pages}
            assert self.pool.available == self.pool.n_pages - len(used)

    @invariant()
    def only_remembered_pages_have_two_owners(self):
        owners = Counter(page for _, pages in self.live for page in pages)
        for page, count in owners.items():
            assert count == 1 or page in self.held


TestPages = Pages.TestCase
TestPages.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_a_prompt_that_begins_like_an_earlier_one_takes_over_its_full_pages():
    pool = PagePool(10, 4)
    first = admit(pool, [*range(10)], 12)
    pool.remember(page_names([*range(10)], pool.page_size), first.pages)
    second = admit(pool, [*range(9), 77], 12)
    assert second.cached_tokens == 8 and second.pages[:2] == first.pages[:2]
    assert not set(second.pages[2:]) & set(first.pages)


def test_the_last_token_of_a_prompt_is_never_taken_over():
    pool = PagePool(10, 4)
    first = admit(pool, [1, 2, 3, 4], 5)
    pool.remember(page_names([1, 2, 3, 4], pool.page_size), first.pages)
    assert admit(pool, [1, 2, 3, 4], 5).cached_tokens == 0


def test_pages_are_neighbours_where_there_is_a_run_of_them():
    pool = PagePool(8, 1)
    first, second, third = (admit(pool, [n], 2) for n in (1, 2, 3))
    assert (first.pages, second.pages, third.pages) == ((0, 1), (2, 3), (4, 5))
    pool.release(first.pages)
    pool.release(third.pages)
    # Free are 0, 1 and 4 to 7: the run of four is taken, not the first free ones.
    assert admit(pool, [4], 4).pages == (4, 5, 6, 7)


def test_pages_need_not_be_neighbours():
    pool = PagePool(6, 1)
    grants = [admit(pool, [n], 1) for n in range(6)]
    for one in grants[::2]:
        pool.release(one.pages)
    assert admit(pool, [9], 3).pages == (0, 2, 4)


def test_remembered_pages_are_given_up_oldest_first_when_room_is_needed():
    pool = PagePool(4, 2)
    for first in (1, 5):
        grant = admit(pool, [first, 2, 3], 4)
        pool.remember(page_names([first, 2, 3], pool.page_size), grant.pages)
        pool.release(grant.pages)
    assert pool.available == 4
    third = admit(pool, [9, 9, 9], 6)
    assert third is not None and pool.available == 1
    pool.release(third.pages)
    assert admit(pool, [1, 2, 3], 4).cached_tokens == 0
    assert admit(pool, [5, 2, 3], 4).cached_tokens == 2


@pytest.mark.parametrize("period", [1, 3, 17, 40])
def test_a_phrase_over_and_over_is_a_loop_whatever_its_length(period):
    phrase = [*range(100, 100 + period)]
    assert is_loop([5, 6, 7] + phrase * (LOOP_TOKENS // period + 7))


@given(st.lists(st.integers(0, 10_000), max_size=200, unique=True))
def test_an_answer_that_never_repeats_is_no_loop(ids):
    assert not is_loop(ids)


def test_a_word_said_three_times_is_no_loop():
    assert not is_loop([*range(50), 7, 7, 7])


def test_a_cache_takes_memory_only_as_it_is_written():
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    before = resident()
    cache = KVCache(CacheShape(4, 8, 128, 1_000, 256), torch.bfloat16, torch.device("cpu"))
    assert sum(one.nbytes for one in (*cache.keys, *cache.values)) > 4_000_000_000
    assert not any(one[-1].any() for one in (*cache.keys, *cache.values))
    assert resident() - before < 200_000_000
