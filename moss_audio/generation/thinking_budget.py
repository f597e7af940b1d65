"""The budget of a thought inside transformers' ``generate``.

It holds for any batch and with sampling, greedy choice or beams, since what is forced follows from the ids of
each row alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import LogitsProcessor

from moss_audio.generation.thinking import ThinkTags, Thought


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
        thought = self.follow(inside)
        for token in ids:
            thought.add(token)
        return thought.forced

    def follow(self, inside: bool) -> Thought:
        """One answer that begins, inside a thought or not."""
        return Thought(self.budget, self.tags, self.transition, inside)
