"""A ``Backend`` that answers by a rule the test gives, as a model would: streamed, cancellable, counted."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from moss_audio.errors import MossAudioError
from moss_audio.generation.requests import Event, Options, Reply, Request, Stopped, TextDelta, ThinkingDelta
from moss_audio.generation.thinking import ThoughtSplitter

Said = str | tuple[str, Stopped] | Exception
Messages = Sequence[Mapping[str, Any]]


class RuleBackend:
    """Answers requests by ``hear`` and conversations by ``think``.

    What a rule returns is what a model writes, thoughts in ``<think>`` and calls in ``<tool_call>``, with how
    it stopped if not by itself; an error is raised. It is handed out a few characters at a time.

    Args:
        hear: From a request to what is written.
        think: From a conversation and the names of the tools that are offered.
        pace: Seconds between two pieces.
    """

    name = "RuleMoss-1B"
    thinks = True
    at_once = 4
    hears = True
    """Whether audio is a part of the prompt; else it is dropped without a word."""

    def __init__(
        self,
        hear: Callable[[Request], Said] = lambda _: "Nothing.",
        think: Callable[[Messages, list[str]], Said] = lambda *_: "I do not know.",
        pace: float = 0.0,
    ) -> None:
        self._hear, self._think, self.pace = hear, think, pace
        self.heard: list[tuple[Request, Options]] = []
        self.chats: list[tuple[list[dict[str, Any]], list[str], Options]] = []
        self.written = 0
        self.closed = False

    def ask(
        self, requests: Sequence[Request], options: Options, cancel: threading.Event | None = None
    ) -> list[Reply | MossAudioError]:
        """See ``Backend``."""
        answers: list[Reply | MossAudioError] = []
        for request in requests:
            try:
                *_, last = self.stream(request, options, cancel)
                assert isinstance(last, Reply)
                answers.append(last)
            except MossAudioError as error:
                answers.append(error)
        return answers

    def stream(
        self, request: Request, options: Options, cancel: threading.Event | None = None
    ) -> Iterator[Event]:
        """See ``Backend``."""
        self.heard.append((request, options))
        seconds = sum(len(audio) for audio in request.audios) / 16_000
        read = 10 + round(12.5 * seconds) * self.hears
        yield from self._write(self._hear(request), options, cancel, read)

    def chat(
        self,
        messages: Messages,
        tools: Sequence[Mapping[str, Any]] | None,
        options: Options,
        cancel: threading.Event | None = None,
    ) -> Iterator[Event]:
        """See ``Backend``."""
        names = [str(tool["function"]["name"]) for tool in tools or ()]
        self.chats.append(([dict(message) for message in messages], names, options))
        yield from self._write(self._think(messages, names), options, cancel, 10)

    def close(self) -> None:
        """See ``Backend``."""
        self.closed = True

    def _write(
        self, said: Said, options: Options, cancel: threading.Event | None, prompt: int
    ) -> Iterator[Event]:
        if isinstance(said, Exception):
            raise said
        text, stopped = said if isinstance(said, tuple) else (said, "end")
        if len(text) > 4 * options.max_new_tokens:
            text, stopped = text[: 4 * options.max_new_tokens], "length"
        parts: dict[str, str] = {"thinking": "", "text": ""}
        splitter = ThoughtSplitter()
        for piece in [*re.findall(r".{1,5}", text, re.DOTALL), None]:
            if cancel is not None and cancel.is_set():
                stopped = "cancelled"
                break
            for kind, written in splitter.flush() if piece is None else splitter.feed(piece):
                self.written += len(written)
                parts[kind] += written
                yield ThinkingDelta(written) if kind == "thinking" else TextDelta(written)
            time.sleep(self.pace)
        yield Reply(parts["text"], parts["thinking"], stopped, prompt, len(text) // 4 + 1, 0.1)
