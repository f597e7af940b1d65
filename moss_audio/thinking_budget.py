"""A thinking budget: after so many tokens the thought is closed, and the model goes on to its answer.

Works on token ids inside ``generate``, for any batch and with sampling, greedy choice or beams: what is
forced follows from the ids of each row alone. ``Thought`` follows one answer id by id, for whoever writes
it that way.
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
        thought = self.follow(inside)
        for token in ids:
            thought.add(token)
        return thought.must

    def follow(self, inside: bool) -> Thought:
        """One answer that begins, inside a thought or not."""
        return Thought(self.budget, self.tags, self.transition, inside)


class Thought:
    """Follows the thoughts of one answer as its ids come.

    Args:
        budget, tags, transition: See ``ThinkingBudget``.
        inside: Whether the prompt ends inside a thought.
    """

    def __init__(self, budget: int, tags: ThinkTags, transition: tuple[int, ...], inside: bool) -> None:
        self._budget, self._tags, self._transition = budget, tags, transition
        self._inside = inside
        self._used = self._over = 0
        self._script = transition + tags.closing
        self._tail: tuple[int, ...] = ()
        self._longest = max(len(tags.opening), len(tags.closing))

    @property
    def must(self) -> int | None:
        """The id that must come next, or None."""
        if self._inside and self._used >= self._budget and self._over < len(self._script):
            return self._script[self._over]
        return None

    def add(self, token: int) -> None:
        """One more id of the answer."""
        self._tail = (*self._tail, token)[-self._longest :]
        if not self._inside and self._ends_with(self._tags.opening):
            self._inside, self._over = True, 0
            fresh = self._used < self._budget or self._used == 0
            self._script = self._transition + self._tags.closing if fresh else self._tags.closing
        elif self._inside and self._ends_with(self._tags.closing):
            self._inside = False
        elif self._inside and self._used < self._budget:
            self._used += 1
        elif self._inside:
            self._over += 1

    def _ends_with(self, tag: tuple[int, ...]) -> bool:
        return self._tail[-len(tag) :] == tag


def transition_ids(tokenizer: Any) -> list[int]:
    """Ids of the transition sentence."""
    return list(tokenizer(TRANSITION, add_special_tokens=False)["input_ids"])


def _ids(tokenizer: Any, tag: str) -> tuple[int, ...]:
    # A tag that is one token is taken as that; the tokenizer may hold it as an added or a plain token.
    number = tokenizer.get_vocab().get(tag)
    return (number,) if number is not None else tuple(tokenizer(tag, add_special_tokens=False)["input_ids"])
