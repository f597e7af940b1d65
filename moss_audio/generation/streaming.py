"""An answer as it is written: decoded from tokens, parted from its thought, ended by stop sequences.

Needs neither torch nor transformers, since text that comes from a server is read with it too.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from typing import Any

from moss_audio.generation.requests import Reply, Stopped, TextDelta, ThinkingDelta
from moss_audio.generation.thinking import Piece, ThinkTags, ThoughtSplitter


class TextDecoder:
    """Turns ids into text as they come; a character is held back until all its bytes are there."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._given = 0

    def add(self, token: int) -> str:
        """The text that is certain with this token."""
        self._ids.append(token)
        text = self._text()
        if not text.endswith("\N{REPLACEMENT CHARACTER}"):
            fresh = text[self._given :]
            self._ids, self._given = [], 0
            return fresh
        # All but the last character is certain: what is unfinished shows as one replacement character.
        fresh = text[self._given : -1]
        self._given = max(self._given, len(text) - 1)
        return fresh

    def flush(self) -> str:
        """What was held back."""
        rest = self._text()[self._given :] if self._ids else ""
        self._ids, self._given = [], 0
        return rest

    def _text(self) -> str:
        return self._tokenizer.decode(
            self._ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )


Delta = ThinkingDelta | TextDelta


class AnswerWriter:
    """Writes one answer.

    Args:
        processor: Its tokenizer and control ids.
        stops: Ids that end the answer.
        opened: Whether the prompt ends inside a thought.
        began: When the answer was asked for, by ``time.monotonic``; by default now.
    """

    def __init__(
        self, processor: Any, stops: Collection[int], opened: bool = False, began: float | None = None
    ) -> None:
        tokenizer = processor.tokenizer
        tags = ThinkTags.of(tokenizer)
        own = processor.tokens
        self._hidden = {*tokenizer.all_special_ids, *stops, own.audio, own.start, own.end}
        self._hidden -= {*tags.opening, *tags.closing}
        self._decoder = TextDecoder(tokenizer)
        self._splitter = ThoughtSplitter(opened)
        self._stops = stops
        self._began = time.monotonic() if began is None else began
        self._parts: dict[str, list[str]] = {"thinking": [], "text": []}
        self.count = 0
        """Tokens so far, without the one that ends the answer."""
        self.ended = False
        """Whether a stop id has come; what follows it is not looked at."""

    def add(self, token: int) -> list[Delta]:
        """What is certain of thought and answer with one more token."""
        if self.ended:
            return []
        if token in self._stops:
            self.ended = True
            return []
        self.count += 1
        if token in self._hidden:
            return []
        return self._keep(self._splitter.feed(self._decoder.add(token)))

    def finish(self) -> list[Delta]:
        """What was held back, when no more will come."""
        rest = self._splitter.feed(self._decoder.flush())
        return self._keep(rest + self._splitter.flush())

    def reply(self, stopped: Stopped, prompt_tokens: int) -> Reply:
        """The whole answer.

        Args:
            stopped: Why it ended.
            prompt_tokens: Tokens of its prompt.
        """
        return Reply(
            text="".join(self._parts["text"]),
            thinking="".join(self._parts["thinking"]),
            stopped=stopped,
            prompt_tokens=prompt_tokens,
            new_tokens=self.count,
            seconds=time.monotonic() - self._began,
        )

    def _keep(self, pieces: list[Piece]) -> list[Delta]:
        for piece in pieces:
            self._parts[piece.kind].append(piece.text)
        return [
            ThinkingDelta(piece.text) if piece.kind == "thinking" else TextDelta(piece.text)
            for piece in pieces
        ]


def begun(text: str, sequences: Iterable[str]) -> int:
    """How many characters at the end of a text may be the beginning of one of these sequences.

    A whole sequence at the end does not count: whoever asks has looked for those already.
    """
    longest = 0
    for sequence in sequences:
        for length in range(min(len(text), len(sequence) - 1), longest, -1):
            if text.endswith(sequence[:length]):
                longest = length
                break
    return longest


class StopSequences:
    """Lets text through up to the first stop sequence, which is left out.

    Where sequences overlap, the one that is complete first counts, as if the text had come character by
    character. So the pieces in which it comes make no difference.

    Args:
        sequences: Any of them ends the text; empty ones do not count.

    Attributes:
        met: Whether one has come. Nothing goes through after it.
        text: All that was let through.
    """

    def __init__(self, sequences: Iterable[str] | None) -> None:
        self.met = False
        self.text = ""
        self._sequences = [sequence for sequence in sequences or () if sequence]
        self._held = ""

    def feed(self, text: str) -> str:
        """Take more text; returns what is certain to stand before any stop sequence."""
        if self.met:
            return ""
        text, self._held = self._held + text, ""
        found = [(at + len(stop), at) for stop in self._sequences if (at := text.find(stop)) >= 0]
        if found:
            self.met = True
            return self._let_through(text[: min(found)[1]])
        certain = len(text) - begun(text, self._sequences)
        self._held = text[certain:]
        return self._let_through(text[:certain])

    def finish(self) -> str:
        """The text has ended; returns what was held back."""
        rest, self._held = self._held, ""
        return self._let_through(rest)

    def _let_through(self, text: str) -> str:
        self.text += text
        return text
