"""New ids of one answer, turned into text as they come, and the text into thought and answer."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

from moss_audio.answers import Reply, Stopped, TextDelta, ThinkingDelta
from moss_audio.thinking import Piece, ThoughtSplitter
from moss_audio.thinking_budget import ThinkTags
from moss_audio.token_stream import TextDecoder

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
        """The whole of it."""
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
        return [ThinkingDelta(one.text) if one.kind == "thinking" else TextDelta(one.text) for one in pieces]
