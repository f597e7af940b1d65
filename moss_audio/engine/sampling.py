"""The next token of every running sequence, each by its own settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Sampling:
    """How one sequence's tokens are chosen.

    Attributes:
        temperature: 0 takes the likeliest.
        top_p: Share of probability that is sampled from.
        top_k: Tokens that are sampled from; 0 is all.
        generator: Source of random numbers of this sequence alone; None shares the device's.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 50
    generator: torch.Generator | None = None


def sample(logits: torch.Tensor, settings: Sequence[Sampling]) -> torch.Tensor:
    """One token for each row, without waiting for the device.

    Args:
        logits: ``[rows, vocab]``.
        settings: Of each row.

    Returns:
        int64 ``[rows]``.
    """
    tokens = logits.argmax(dim=-1)
    for row, own in enumerate(settings):
        if own.temperature > 0.0:
            tokens[row] = _sample_row(logits[row].float(), own)
    return tokens


def _sample_row(logits: torch.Tensor, settings: Sampling) -> torch.Tensor:
    """A token of ``[vocab]``: temperature, then top-k, then top-p, as transformers orders them."""
    logits = logits / settings.temperature
    if 0 < settings.top_k < len(logits):
        least = logits.topk(settings.top_k).values[-1]
        logits = logits.masked_fill(logits < least, float("-inf"))
    if settings.top_p < 1.0:
        # Masked in their order and put back: picking by a mask would wait for the device to count.
        ordered, index = logits.sort(descending=True)
        likely = ordered.softmax(-1)
        ordered = ordered.masked_fill(likely.cumsum(-1) - likely >= settings.top_p, float("-inf"))
        logits = torch.empty_like(logits).scatter_(0, index, ordered)
    # Exponential races choose as multinomial does and need no look at the result (Gumbel's trick).
    race = torch.empty_like(logits).exponential_(generator=settings.generator)
    return (logits.softmax(-1) / race).argmax()
