"""From the tokens of ``generate`` to the deltas of an answer, and the ways to end it early."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Collection, Iterator
from typing import Any

import torch
from transformers import StoppingCriteria
from transformers.generation.streamers import BaseStreamer

from moss_audio.generation.loops import is_loop
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


class Streamer(BaseStreamer):
    """Hands tokens from the thread of ``generate`` to whoever iterates over it, without the prompt."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[int | BaseException | None] = queue.SimpleQueue()
        self._prompt_seen = False

    def put(self, value: torch.Tensor) -> None:
        """Called by ``generate``: first with the prompt ``[B, L]``, then with each new token ``[B]``."""
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        for token in value.reshape(-1).tolist():
            self._queue.put(token)

    def end(self) -> None:
        """Called by ``generate`` after the last token."""
        self._queue.put(None)

    def fail(self, error: BaseException) -> None:
        """Raise an error where the tokens are read."""
        self._queue.put(error)

    def __iter__(self) -> Iterator[int]:
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item


class Cancelled(StoppingCriteria):
    """Ends every row once the event is set."""

    def __init__(self, cancel: threading.Event) -> None:
        self.cancel = cancel

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        """``input_ids`` [B, L]: whether each row ends here, bool ``[B]``."""
        return torch.full((len(input_ids),), self.cancel.is_set(), dtype=torch.bool, device=input_ids.device)


class Looping(StoppingCriteria):
    """Ends a row that says one phrase over and over."""

    def __init__(self, prompt_length: int) -> None:
        self.prompt_length = prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        """``input_ids`` [B, L]: whether each row ends here, bool ``[B]``."""
        rows = input_ids[:, self.prompt_length :].tolist()
        return torch.tensor([is_loop(row) for row in rows], device=input_ids.device)


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
