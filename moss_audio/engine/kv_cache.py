"""The KV cache: keys and values of all running sequences, in blocks of a fixed number of tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

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
