"""Keys and values of all running sequences, in pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers.models.qwen3 import Qwen3Config


@dataclass(frozen=True)
class CacheShape:
    """Of a paged cache.

    Attributes:
        layers, heads, head_dim: Of the decoder; ``heads`` are those of keys and values.
        n_pages, page_size: Pages, and tokens a page.
    """

    layers: int
    heads: int
    head_dim: int
    n_pages: int
    page_size: int

    @classmethod
    def of(cls, config: Qwen3Config, n_pages: int, page_size: int) -> CacheShape:
        """The shape for a decoder."""
        return cls(config.num_hidden_layers, config.num_key_value_heads, config.head_dim, n_pages, page_size)

    @property
    def tokens(self) -> int:
        """Positions in all."""
        return self.n_pages * self.page_size


@dataclass(frozen=True)
class Place:
    """Where some sequences of equal page order lie; found once, used in every layer.

    Attributes:
        first: Slot of the first token of the first sequence.
        tokens: Tokens read of each sequence.
        count: Sequences.
        apart: Slots from one sequence to the next.
        pages: int64, the pages of a single sequence where they are no neighbours; else None.
    """

    first: int
    tokens: int
    count: int = 1
    apart: int = 0
    pages: torch.Tensor | None = None


def bytes_per_token(config: Qwen3Config, dtype: torch.dtype) -> int:
    """Keys and values of one position in all layers: 147,456 bytes for 8B and 4B in bfloat16."""
    return 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * dtype.itemsize


def are_neighbours(pages: Sequence[int]) -> bool:
    """Whether each page lies right behind the one before it."""
    return tuple(pages) == tuple(range(pages[0], pages[0] + len(pages)))


class KVCache:
    """One tensor of keys and one of values for each layer, ``[pages, page_size, heads, head_dim]``.

    Args:
        shape: How large.
        dtype, device: Of the decoder.
    """

    def __init__(self, shape: CacheShape, dtype: torch.dtype, device: torch.device) -> None:
        self.shape = shape
        size = (shape.n_pages, shape.page_size, shape.heads, shape.head_dim)
        self.keys = [_zeros(size, dtype, device) for _ in range(shape.layers)]
        self.values = [_zeros(size, dtype, device) for _ in range(shape.layers)]

    def write(self, layer: int, keys: torch.Tensor, values: torch.Tensor, slots: torch.Tensor) -> None:
        """Store keys and values ``[tokens, heads, head_dim]`` at int64 slots (page · page_size + offset)."""
        self.keys[layer].flatten(0, 1).index_copy_(0, slots, keys)
        self.values[layer].flatten(0, 1).index_copy_(0, slots, values)

    def place(self, pages: Sequence[int], tokens: int) -> Place:
        """Where a sequence's first tokens lie."""
        first = pages[0] * self.shape.page_size
        if are_neighbours(pages):
            return Place(first, tokens)
        return Place(first, tokens, pages=torch.tensor(pages, device=self.keys[0].device))

    def read(self, layer: int, place: Place) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values ``[sequences, heads, tokens, head_dim]``: a view, or a copy of scattered pages."""
        return self._read(self.keys[layer], place), self._read(self.values[layer], place)

    def _read(self, stored: torch.Tensor, place: Place) -> torch.Tensor:
        if place.pages is not None:
            found = stored.index_select(0, place.pages).flatten(0, 1)[None, : place.tokens]
        else:
            _, _, heads, width = stored.shape
            row = heads * width
            found = stored.as_strided(
                (place.count, place.tokens, heads, width),
                (place.apart * row, row, width, 1),
                place.first * row,
            )
        return found.transpose(1, 2)


def _zeros(size: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Zeros; in a machine's own memory such that take up room only as they are written.

    torch writes its zeros, so a cache for a million tokens would take all its gigabytes at once; NumPy asks
    the system for memory that is zero already.
    """
    if device.type != "cpu":
        return torch.zeros(size, dtype=dtype, device=device)
    return torch.from_numpy(np.zeros(math.prod(size) * dtype.itemsize, dtype=np.uint8)).view(dtype).view(size)
