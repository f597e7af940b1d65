"""Keys and values of all running sequences, in pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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


def bytes_per_token(config: Qwen3Config, dtype: torch.dtype) -> int:
    """Keys and values of one position in all layers: 147,456 bytes for 8B and 4B in bfloat16."""
    return 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * dtype.itemsize


class KVCache:
    """One tensor of keys and one of values for each layer, ``[pages, page_size, heads, head_dim]``.

    Args:
        shape: How large.
        dtype, device: Of the decoder.
    """

    def __init__(self, shape: CacheShape, dtype: torch.dtype, device: torch.device) -> None:
        self.shape = shape
        size = (shape.n_pages, shape.page_size, shape.heads, shape.head_dim)
        self.keys = [torch.zeros(size, dtype=dtype, device=device) for _ in range(shape.layers)]
        self.values = [torch.zeros(size, dtype=dtype, device=device) for _ in range(shape.layers)]

    def write(self, layer: int, keys: torch.Tensor, values: torch.Tensor, slots: torch.Tensor) -> None:
        """Store keys and values ``[tokens, heads, head_dim]`` at int64 slots (page · page_size + offset)."""
        self.keys[layer].flatten(0, 1).index_copy_(0, slots, keys)
        self.values[layer].flatten(0, 1).index_copy_(0, slots, values)

    def read(self, layer: int, pages: Sequence[int], tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
        """A sequence's first keys and values, ``[tokens, heads, head_dim]``.

        A view where its pages are neighbours in memory, else a copy.
        """
        first, last = pages[0], pages[-1]
        if last - first == len(pages) - 1:
            begin = first * self.shape.page_size
            span = slice(begin, begin + tokens)
            return self.keys[layer].flatten(0, 1)[span], self.values[layer].flatten(0, 1)[span]
        index = torch.tensor(pages, device=self.keys[layer].device)
        return (
            self.keys[layer][index].flatten(0, 1)[:tokens],
            self.values[layer][index].flatten(0, 1)[:tokens],
        )
