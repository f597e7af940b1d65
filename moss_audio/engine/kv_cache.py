"""The paged KV cache: keys and values in blocks of a fixed number of tokens, and which sequence owns which.

``KVCache`` holds the tensors, ``BlockPool`` hands out the blocks. A sequence gets all the blocks it can ever
need when it is admitted, so it never runs out half way and nothing has to be preempted. Blocks are contiguous
where possible, so that they can be read without copying. A full block of a prompt is remembered by a hash of
all tokens up to its end (prefix caching), and a later prompt that begins the same way shares it instead of
computing it again.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import torch
from transformers.models.qwen3 import Qwen3Config


@dataclass(frozen=True)
class CacheShape:
    """The sizes of a paged KV cache.

    Attributes:
        layers: Decoder layers.
        heads: Heads of keys and values; fewer than those of queries under grouped-query attention.
        head_dim: Width of a head.
        n_blocks: Blocks.
        block_size: Tokens in a block.
    """

    layers: int
    heads: int
    head_dim: int
    n_blocks: int
    block_size: int

    @classmethod
    def of(cls, config: Qwen3Config, n_blocks: int, block_size: int) -> CacheShape:
        """The shape for a decoder."""
        return cls(
            config.num_hidden_layers, config.num_key_value_heads, config.head_dim, n_blocks, block_size
        )

    @property
    def tokens(self) -> int:
        """Slots of the whole cache, one for each token."""
        return self.n_blocks * self.block_size


@dataclass(frozen=True)
class Region:
    """Where the tokens of one sequence, or of several evenly spaced ones, lie; the same in every layer.

    Attributes:
        first: Slot of the first token of the first sequence.
        tokens: Tokens read of each sequence.
        count: Sequences.
        stride: Slots from one sequence to the next.
        blocks: int64, the blocks of a single sequence where they are not contiguous; else None.
    """

    first: int
    tokens: int
    count: int = 1
    stride: int = 0
    blocks: torch.Tensor | None = None


def bytes_per_token(config: Qwen3Config, dtype: torch.dtype) -> int:
    """Bytes that one token's keys and values take in all layers: 147,456 for 8B and 4B in bfloat16."""
    return 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * dtype.itemsize


def contiguous(blocks: Sequence[int]) -> bool:
    """Whether each block lies right behind the one before it."""
    return tuple(blocks) == tuple(range(blocks[0], blocks[0] + len(blocks)))


class KVCache:
    """One tensor of keys and one of values for each layer, ``[n_blocks, block_size, heads, head_dim]``.

    Args:
        shape: Its sizes.
        dtype: The decoder's.
        device: The decoder's.
    """

    def __init__(self, shape: CacheShape, dtype: torch.dtype, device: torch.device) -> None:
        self.shape = shape
        size = (shape.n_blocks, shape.block_size, shape.heads, shape.head_dim)
        self.keys = [_zeros(size, dtype, device) for _ in range(shape.layers)]
        self.values = [_zeros(size, dtype, device) for _ in range(shape.layers)]

    def write(self, layer: int, keys: torch.Tensor, values: torch.Tensor, slots: torch.Tensor) -> None:
        """Store the keys and values of some tokens.

        Args:
            layer: Decoder layer.
            keys: ``[tokens, heads, head_dim]``.
            values: ``[tokens, heads, head_dim]``.
            slots: int64 ``[tokens]``: block · block_size + offset in the block.
        """
        self.keys[layer].flatten(0, 1).index_copy_(0, slots, keys)
        self.values[layer].flatten(0, 1).index_copy_(0, slots, values)

    def region(self, blocks: Sequence[int], tokens: int) -> Region:
        """Where the first tokens of a sequence with these blocks lie."""
        first = blocks[0] * self.shape.block_size
        if contiguous(blocks):
            return Region(first, tokens)
        return Region(first, tokens, blocks=torch.tensor(blocks, device=self.keys[0].device))

    def read(self, layer: int, region: Region) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values ``[count, heads, tokens, head_dim]``: a view, or a copy of scattered blocks."""
        return self._read(self.keys[layer], region), self._read(self.values[layer], region)

    def _read(self, stored: torch.Tensor, region: Region) -> torch.Tensor:
        if region.blocks is not None:
            found = stored.index_select(0, region.blocks).flatten(0, 1)[None, : region.tokens]
        else:
            _, _, heads, width = stored.shape
            row = heads * width
            found = stored.as_strided(
                (region.count, region.tokens, heads, width),
                (region.stride * row, row, width, 1),
                region.first * row,
            )
        return found.transpose(1, 2)


def _zeros(size: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Zeros; in main memory such that take up room only as they are written.

    torch writes its zeros, so a cache for a million tokens would take all its gigabytes at once; NumPy asks
    the system for memory that is zero already.
    """
    if device.type != "cpu":
        return torch.zeros(size, dtype=dtype, device=device)
    return torch.from_numpy(np.zeros(math.prod(size) * dtype.itemsize, dtype=np.uint8)).view(dtype).view(size)


Key = int | bytes
"""What stands at one position of a prompt: a token id, or for audio a name of the clip and its token."""


@dataclass(frozen=True)
class Allocation:
    """The blocks of one sequence, in order.

    Attributes:
        blocks: Indices into the KV cache.
        cached_tokens: Tokens at the start of the prompt that are in the cache already.
    """

    blocks: tuple[int, ...]
    cached_tokens: int


def block_hashes(keys: Sequence[Key], block_size: int) -> tuple[bytes, ...]:
    """For each full block of a prompt a hash of everything up to the block's end."""
    hashes: list[bytes] = []
    before = b""
    for start in range(0, len(keys) - block_size + 1, block_size):
        content = repr(keys[start : start + block_size]).encode()
        before = blake2b(before + content, digest_size=16).digest()
        hashes.append(before)
    return tuple(hashes)


class BlockPool:
    """Allocates blocks.

    Args:
        n_blocks: Blocks there are.
        block_size: Tokens in a block.
    """

    def __init__(self, n_blocks: int, block_size: int) -> None:
        self.n_blocks = n_blocks
        self.block_size = block_size
        self._free = np.ones(n_blocks, dtype=bool)
        self._users: dict[int, int] = {}
        self._block_of: dict[bytes, int] = {}
        self._hash_of: dict[int, bytes] = {}
        # Remembered blocks that nobody uses, the least recently used first.
        self._idle: OrderedDict[int, None] = OrderedDict()

    @property
    def available(self) -> int:
        """Blocks that no sequence uses, remembered ones included."""
        return int(self._free.sum()) + len(self._idle)

    @property
    def tokens(self) -> int:
        """Tokens that all blocks hold together."""
        return self.n_blocks * self.block_size

    def blocks_for(self, tokens: int) -> int:
        """Blocks that so many tokens need."""
        return -(-tokens // self.block_size)

    def allocate(self, hashes: Sequence[bytes], tokens: int, capacity: int) -> Allocation | None:
        """Blocks for a prompt and everything that may be written after it; None while there are too few.

        Args:
            hashes: Of the prompt's full blocks, from ``block_hashes``.
            tokens: Tokens of the prompt.
            capacity: Tokens of prompt and answer together, at most.
        """
        shared = self._match(hashes, tokens)
        wanted = self.blocks_for(capacity) - len(shared)
        # A block that is about to be shared cannot be taken for something new.
        if wanted > self.available - sum(block in self._idle for block in shared):
            return None
        for block in shared:
            self._use(block)
        own = self._take(wanted)
        return Allocation((*shared, *own), len(shared) * self.block_size)

    def remember(self, hashes: Sequence[bytes], blocks: Sequence[int]) -> None:
        """Note what the full blocks of a prompt hold, now that it has been computed."""
        for content, block in zip(hashes, blocks, strict=False):
            if content not in self._block_of and block not in self._hash_of:
                self._block_of[content] = block
                self._hash_of[block] = content

    def release(self, blocks: Sequence[int]) -> None:
        """Give a sequence's blocks back."""
        for block in blocks:
            self._users[block] -= 1
            if self._users[block]:
                continue
            del self._users[block]
            if block in self._hash_of:
                self._idle[block] = None
            else:
                self._free[block] = True

    def _match(self, hashes: Sequence[bytes], tokens: int) -> list[int]:
        """Remembered blocks at the start of a prompt; its last token is always computed anew."""
        blocks: list[int] = []
        for content in hashes[: (tokens - 1) // self.block_size]:
            block = self._block_of.get(content)
            if block is None:
                break
            blocks.append(block)
        return blocks

    def _use(self, block: int) -> None:
        self._users[block] = self._users.get(block, 0) + 1
        self._idle.pop(block, None)

    def _take(self, count: int) -> list[int]:
        while self._free.sum() < count:
            block, _ = self._idle.popitem(last=False)
            del self._block_of[self._hash_of.pop(block)]
            self._free[block] = True
        free = np.flatnonzero(self._free)
        chosen = free[_contiguous_run(free, count)] if count else free[:0]
        self._free[chosen] = False
        blocks = [int(block) for block in chosen]
        for block in blocks:
            self._users[block] = 1
        return blocks


def _contiguous_run(free: np.ndarray, count: int) -> slice:
    """The first ``count`` contiguous blocks among the free ones (ascending); without any, the first free."""
    if len(free) > count:
        ends = free[count - 1 :] - free[: len(free) - count + 1]
        first = int(np.argmax(ends == count - 1))
        if ends[first] == count - 1:
            return slice(first, first + count)
    return slice(0, count)
