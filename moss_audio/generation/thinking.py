"""The thought before an answer: split off the text, and closed when its budget of tokens is used up.

Qwen3, and MOSS-Audio with it, writes ``<think>`` and ``</think>`` as ordinary text of the answer; what
stands between them is the thought. ``ThoughtSplitter`` reads a whole text and a stream in any pieces alike,
so both always agree.

The budget works on token ids. ``Thought`` follows one answer id by id, for the engine; ``ThinkingBudget`` in
``generate.py`` does so for transformers' ``generate``. This module needs neither torch nor transformers,
since whoever asks whether a model's name says that it thinks has not loaded them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

OPEN_TAG = "<think>"
CLOSE_TAG = "</think>"


class Piece(NamedTuple):
    """A piece of output, all of it thought or all of it answer."""

    kind: Literal["thinking", "text"]
    text: str


class ThoughtSplitter:
    """Splits a stream of text into thought and answer, however tags are cut by the stream.

    White space next to a tag belongs to the tag, and an answer never begins with white space. A tag
    that says what is already so (a second ``<think>`` inside a thought, a ``</think>`` outside) is
    dropped. A thought ends at the first ``</think>``, so that stray opening tags never swallow an
    answer; without one it ends with the text.

    Args:
        opened: Whether the text begins inside a thought: True where the prompt ended with ``<think>``,
            False where it did not. None means unknown: everything is held back until a tag (or the end)
            tells, and a ``</think>`` that comes first makes what stood before it the thought.
    """

    def __init__(self, opened: bool | None = False) -> None:
        self._inside = opened is True
        self._undecided = opened is None
        self._buffer = ""
        """What may still turn out to be a tag."""
        self._space = ""
        """White space at the end of the present stretch: whether it stays depends on what follows."""
        self._between = ""
        """White space between the last stretch of the answer and the thought after it."""
        self._at_seam = True
        """Nothing but white space has come since the last tag (or the start)."""
        self._written = {"thinking": False, "text": False}

    def feed(self, text: str) -> list[Piece]:
        """Take more text; returns, in order, what is certain by now."""
        self._buffer += text
        pieces: list[Piece] = []
        while (found := _first_tag(self._buffer)) is not None:
            at, tag = found
            before, self._buffer = self._buffer[:at], self._buffer[at + len(tag) :]
            if self._undecided:
                self._inside, self._undecided = tag == CLOSE_TAG, False
            self._write(before, pieces)
            self._turn(tag == OPEN_TAG)
        if not self._undecided:
            certain = len(self._buffer) - _begun_tag(self._buffer)
            self._write(self._buffer[:certain], pieces)
            self._buffer = self._buffer[certain:]
        return pieces

    def flush(self) -> list[Piece]:
        """The text has ended; returns what was held back."""
        self._undecided = False
        pieces: list[Piece] = []
        self._write(self._buffer, pieces)
        self._buffer = ""
        if self._space and not self._inside and not self._at_seam:
            pieces.append(Piece("text", self._space))
        self._space = ""
        return pieces

    def _write(self, text: str, pieces: list[Piece]) -> None:
        text = self._space + text
        solid = text.rstrip()
        self._space = text[len(solid) :]
        if not solid:
            return
        kind: Literal["thinking", "text"] = "thinking" if self._inside else "text"
        if self._at_seam:
            bare = solid.lstrip()
            if self._written[kind]:
                bare = ("\n" if self._inside else self._between or solid[: -len(bare)]) + bare
            solid = bare
        pieces.append(Piece(kind, solid))
        self._written[kind] = True
        self._at_seam = False
        if not self._inside:
            self._between = ""

    def _turn(self, inside: bool) -> None:
        if inside == self._inside:
            return
        if inside:
            self._between = self._between or self._space
        self._inside, self._space, self._at_seam = inside, "", True


def split_thought(text: str, opened: bool | None = None) -> tuple[str, str]:
    """The thought and the answer of a whole text, ``(thinking, answer)``; see ``ThoughtSplitter``."""
    splitter = ThoughtSplitter(opened)
    pieces = splitter.feed(text) + splitter.flush()
    thinking = "".join(piece.text for piece in pieces if piece.kind == "thinking")
    return thinking, "".join(piece.text for piece in pieces if piece.kind == "text")


def prompt_opens_thought(prompt: str) -> bool:
    """Whether a prompt ends with ``<think>``, so that what the model writes begins inside the thought."""
    return prompt.rstrip().endswith(OPEN_TAG)


def name_says_thinking(name: str) -> bool:
    """Whether a hub name or a checkpoint's folder calls it a Thinking model.

    The released checkpoints differ in nothing else that could be read: their configurations are equal.
    Only the folder's own name counts, and in the hub's cache the folder of the repository.
    """
    parts = [part for part in name.replace("\\", "/").split("/") if part]
    return bool(parts) and any(
        "thinking" in part.lower() for part in parts if part is parts[-1] or part.startswith("models--")
    )


def _first_tag(text: str) -> tuple[int, str] | None:
    """Where the first whole tag begins, and which it is."""
    places = [(at, tag) for tag in (OPEN_TAG, CLOSE_TAG) if (at := text.find(tag)) >= 0]
    return min(places, default=None)


def _begun_tag(text: str) -> int:
    """How many characters at the end of ``text`` may be the beginning of a tag."""
    for length in range(min(len(text), len(CLOSE_TAG) - 1), 0, -1):
        if OPEN_TAG.startswith(text[-length:]) or CLOSE_TAG.startswith(text[-length:]):
            return length
    return 0


TRANSITION = "\n\nI have thought long enough; now I answer with what I have found.\n"
"""Forced when the budget is used up, so that the thought ends as a thought."""


@dataclass(frozen=True)
class ThinkTags:
    """The two tags as token ids: one id each in Qwen's vocabulary (151667 and 151668), else their text."""

    opening: tuple[int, ...]
    closing: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: Any) -> ThinkTags:
        """The tags of a transformers tokenizer."""
        return cls(_ids(tokenizer, OPEN_TAG), _ids(tokenizer, CLOSE_TAG))


class Thought:
    """Follows the thoughts of one answer as its ids come.

    Args:
        budget: Tokens all thoughts of an answer may have together, tags not counted, at least 0.
        tags: The tags' ids.
        transition: Ids of the sentence forced before ``</think>``; it comes on top of the budget.
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
    def forced(self) -> int | None:
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
