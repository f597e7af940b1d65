"""Blocks of the KV cache: never two owners unless shared, none lost, neighbours where possible."""

from __future__ import annotations

import resource
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from moss_audio.engine.kv_cache import Allocation, BlockPool, CacheShape, KVCache, block_hashes
from moss_audio.generation.loops import LOOP_TOKENS, is_loop


def admit(pool: BlockPool, keys: list[int], capacity: int) -> Allocation | None:
    return pool.allocate(block_hashes(keys, pool.block_size), len(keys), capacity)


class Blocks(RuleBasedStateMachine):
    """Prompts come and go at random; what the pool says must always add up."""

    def __init__(self) -> None:
        super().__init__()
        self.live: list[tuple[list[int], tuple[int, ...]]] = []
        self.held: dict[int, tuple[int, ...]] = {}

    @initialize(size=st.integers(1, 4), blocks=st.integers(3, 20))
    def start(self, size, blocks):
        self.pool = BlockPool(blocks, size)

    def shareable(self, keys):
        """Blocks without an owner that a prompt could share: those are not free for anything else."""
        used = {block for _, blocks in self.live for block in blocks}
        starts = {tuple(keys[:end]) for end in range(1, len(keys))}
        return sum(block not in used and held in starts for block, held in self.held.items())

    @rule(keys=st.lists(st.integers(0, 2), min_size=1, max_size=20), more=st.integers(1, 6))
    def admit(self, keys, more):
        before = self.pool.available
        allocation = admit(self.pool, keys, len(keys) + more)
        if allocation is None:
            assert self.pool.available == before
            assert self.pool.blocks_for(len(keys) + more) > before - self.shareable(keys)
            return
        assert len(allocation.blocks) == self.pool.blocks_for(len(keys) + more)
        assert len(set(allocation.blocks)) == len(allocation.blocks)
        assert allocation.cached_tokens < len(keys)
        for number in range(allocation.cached_tokens // self.pool.block_size):
            # A shared block holds exactly what stands at the same place of this prompt.
            end = (number + 1) * self.pool.block_size
            assert self.held[allocation.blocks[number]] == tuple(keys[:end])
        self.live.append((keys, allocation.blocks))

    @precondition(lambda self: self.live)
    @rule(which=st.integers(0, 100))
    def computed(self, which):
        keys, blocks = self.live[which % len(self.live)]
        self.pool.remember(block_hashes(keys, self.pool.block_size), blocks)
        for number in range(len(keys) // self.pool.block_size):
            self.held[blocks[number]] = tuple(keys[: (number + 1) * self.pool.block_size])

    @precondition(lambda self: self.live)
    @rule(which=st.integers(0, 100))
    def leave(self, which):
        _, blocks = self.live.pop(which % len(self.live))
        self.pool.release(blocks)

    @invariant()
    def every_page_is_free_or_used(self):
        if hasattr(self, "pool"):
            used = {block for _, blocks in self.live for block in blocks}
            assert self.pool.available == self.pool.n_blocks - len(used)

    @invariant()
    def only_remembered_pages_have_two_owners(self):
        owners = Counter(block for _, blocks in self.live for block in blocks)
        for block, count in owners.items():
            assert count == 1 or block in self.held


TestBlocks = Blocks.TestCase
TestBlocks.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_a_prompt_that_begins_like_an_earlier_one_takes_over_its_full_pages():
    pool = BlockPool(10, 4)
    first = admit(pool, [*range(10)], 12)
    pool.remember(block_hashes([*range(10)], pool.block_size), first.blocks)
    second = admit(pool, [*range(9), 77], 12)
    assert second.cached_tokens == 8 and second.blocks[:2] == first.blocks[:2]
    assert not set(second.blocks[2:]) & set(first.blocks)


def test_the_last_token_of_a_prompt_is_never_taken_over():
    pool = BlockPool(10, 4)
    first = admit(pool, [1, 2, 3, 4], 5)
    pool.remember(block_hashes([1, 2, 3, 4], pool.block_size), first.blocks)
    assert admit(pool, [1, 2, 3, 4], 5).cached_tokens == 0


def test_pages_are_neighbours_where_there_is_a_run_of_them():
    pool = BlockPool(8, 1)
    first, second, third = (admit(pool, [n], 2) for n in (1, 2, 3))
    assert (first.blocks, second.blocks, third.blocks) == ((0, 1), (2, 3), (4, 5))
    pool.release(first.blocks)
    pool.release(third.blocks)
    # Free are 0, 1 and 4 to 7: the run of four is taken, not the first free ones.
    assert admit(pool, [4], 4).blocks == (4, 5, 6, 7)


def test_pages_need_not_be_neighbours():
    pool = BlockPool(6, 1)
    allocations = [admit(pool, [n], 1) for n in range(6)]
    for allocation in allocations[::2]:
        pool.release(allocation.blocks)
    assert admit(pool, [9], 3).blocks == (0, 2, 4)


def test_remembered_pages_are_given_up_oldest_first_when_room_is_needed():
    pool = BlockPool(4, 2)
    for first in (1, 5):
        allocation = admit(pool, [first, 2, 3], 4)
        pool.remember(block_hashes([first, 2, 3], pool.block_size), allocation.blocks)
        pool.release(allocation.blocks)
    assert pool.available == 4
    third = admit(pool, [9, 9, 9], 6)
    assert third is not None and pool.available == 1
    pool.release(third.blocks)
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
    assert sum(stored.nbytes for stored in (*cache.keys, *cache.values)) > 4_000_000_000
    assert not any(stored[-1].any() for stored in (*cache.keys, *cache.values))
    assert resident() - before < 200_000_000
