"""A thinking budget: after so many tokens the thought is closed, and the model goes on to its answer.

Works on token ids inside ``generate``, for any batch and with sampling, greedy choice or beams: what is
forced follows from the ids of each row alone, nothing is remembered between steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LogitsProcessor

from moss_audio.thinking import CLOSE_TAG, OPEN_TAG

TRANSITION = "\n\nI have thought long enough; now I answer with what I have found.\n"
"""Put into the model's mouth when its budget is used up, so that the thought ends as a thought."""


@dataclass(frozen=True)
class ThinkTags:
    """The two tags as token ids: one id each in Qwen's vocabulary (151667 and 151668), else their text."""

    opening: tuple[int, ...]
    closing: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: Any) -> ThinkTags:
        """The tags of a transformers tokenizer."""
        return cls(_ids(tokenizer, OPEN_TAG), _ids(tokenizer, CLOSE_TAG))


class ThinkingBudget(LogitsProcessor):
    """Lets a thought have ``budget`` tokens, then forces the transition sentence and ``</think>``.

    Args:
        budget: Tokens all thoughts of an answer may have together, tags not counted, at least 0.
        tags: The tags' ids.
        transition: Ids of the sentence forced before ``</think>``; it comes on top of the budget.
        prompt_length: Tokens before the generated ones, padding included.
        opened: For each prompt, whether it ends inside a thought.

    A thought opened anew after the budget is used up is closed at once.
    """

    def __init__(
        self,
        budget: int,
        tags: ThinkTags,
        transition: Sequence[int],
        prompt_length: int,
        opened: Sequence[bool] = (False,),
    ) -> None:
        self.budget = budget
        self.tags = tags
        self.transition = tuple(transition)
        self.prompt_length = prompt_length
        self.opened = tuple(opened)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """``input_ids`` [B, L], ``scores`` [B, vocabulary]: scores with the forced id alone possible."""
        # Beams and several answers to one prompt stand next to each other.
        share = max(1, len(input_ids) // len(self.opened))
        forced = {}
        for row, ids in enumerate(input_ids[:, self.prompt_length :].tolist()):
            opened = self.opened[min(row // share, len(self.opened) - 1)]
            if (token := self.forced(ids, opened)) is not None:
                forced[row] = token
        if not forced:
            return scores
        changed = scores.clone()
        for row, token in forced.items():
            changed[row] = float("-inf")
            changed[row, token] = 0.0
        return changed

    def forced(self, ids: list[int], inside: bool) -> int | None:
        """The id that must come next after these generated ones, or None."""
        opening, closing = self.tags.opening, self.tags.closing
        used, over = 0, 0
        script = self.transition + closing
        for end in range(1, len(ids) + 1):
            if not inside and _ends_with(ids, end, opening):
                inside, over = True, 0
                script = self.transition + closing if used < self.budget or used == 0 else closing
            elif inside and _ends_with(ids, end, closing):
                inside = False
            elif inside and used < self.budget:
                used += 1
            elif inside:
                over += 1
        if inside and used >= self.budget and over < len(script):
            return script[over]
        return None


def transition_ids(tokenizer: Any) -> list[int]:
    """Ids of the transition sentence."""
    return list(tokenizer(TRANSITION, add_special_tokens=False)["input_ids"])


def _ends_with(ids: list[int], end: int, tag: tuple[int, ...]) -> bool:
    return end >= len(tag) and ids[end - 1] == tag[-1] and tuple(ids[end - len(tag) : end]) == tag


def _ids(tokenizer: Any, tag: str) -> tuple[int, ...]:
    # A tag that is one token is taken as that; the tokenizer may hold it as an added or a plain token.
    number = tokenizer.get_vocab().get(tag)
    return (number,) if number is not None else tuple(tokenizer(tag, add_special_tokens=False)["input_ids"])
