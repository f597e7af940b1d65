"""What is asked of a model, and what comes back; the same for every way of running one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from moss_audio.errors import PromptError

if TYPE_CHECKING:
    from moss_audio.model.processor import Wave

Stopped = Literal["end", "length", "cancelled", "loop"]

THOUGHT_TOKENS = 4096
"""Tokens added to the room of an answer for the thought of a Thinking model that has no budget."""


@dataclass(frozen=True)
class Options:
    """How an answer is written.

    Attributes:
        max_new_tokens: Tokens of thought and answer together.
        temperature: 0 takes the likeliest token each time, as suits whatever is parsed.
        top_p: Share of probability that is sampled from.
        top_k: Tokens that are sampled from; 0 is all.
        thinking: False has a Thinking model answer at once; None and True leave a model its way.
        thinking_budget: Tokens a thought may have before it is closed; None is no limit. The sentence that
            closes it comes on top (about twenty tokens), and an answer has to fit behind both.
        seed: Makes sampling repeatable.
        stop_loops: End an answer that says one phrase over and over.
        fit: Where ``max_new_tokens`` do not fit behind the prompt, write as many as do.
    """

    max_new_tokens: int = 1024
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 50
    thinking: bool | None = None
    thinking_budget: int | None = None
    seed: int | None = None
    stop_loops: bool = False
    fit: bool = False

    def __post_init__(self) -> None:
        wrong = {
            "max_new_tokens must be at least 1": self.max_new_tokens < 1,
            "temperature must not be negative": not self.temperature >= 0.0,
            "top_p must be above 0 and at most 1": not 0.0 < self.top_p <= 1.0,
            "top_k must not be negative": self.top_k < 0,
            "thinking_budget must not be negative": (self.thinking_budget or 0) < 0,
            "thinking_budget leaves no token for the answer; raise max_new_tokens": (
                self.thinking_budget is not None and self.thinking_budget >= self.max_new_tokens
            ),
        }
        for sentence, holds in wrong.items():
            if holds:
                raise PromptError(f"{sentence} ({self}).")

    def within(self, room: int) -> Options:
        """The same with at most ``room`` new tokens, where that was left open (``fit``)."""
        if not self.fit or not 0 < room < self.max_new_tokens:
            return self
        budget = None if self.thinking_budget is None else min(self.thinking_budget, room - 1)
        return replace(self, max_new_tokens=room, thinking_budget=budget)


FREE = Options(temperature=1.0)
"""The official sampling, for free questions: temperature 1, top_p 1, top_k 50."""


@dataclass(frozen=True)
class Request:
    """A prompt and its recordings, in the order of its spans."""

    prompt: str
    audios: Sequence[Wave] = ()


@dataclass(frozen=True)
class Reply:
    """A finished answer.

    Attributes:
        text: The answer.
        thinking: The thought before it; empty where there was none.
        stopped: "end" when the model ended it, "length" at ``max_new_tokens``, "loop" where it repeated
            itself (``stop_loops``), or "cancelled".
        prompt_tokens: Tokens read, those of the audio among them.
        new_tokens: Tokens written, without the one that ends the answer.
        seconds: From the request to the last token.
    """

    text: str
    thinking: str
    stopped: Stopped
    prompt_tokens: int
    new_tokens: int
    seconds: float


@dataclass(frozen=True)
class ThinkingDelta:
    """More of the thought."""

    text: str


@dataclass(frozen=True)
class TextDelta:
    """More of the answer."""

    text: str


Event = ThinkingDelta | TextDelta | Reply
