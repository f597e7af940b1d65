"""From what a model writes to what OpenAI's clients read: thought, content and calls of tools."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from moss_audio.answers import Event, Reply, Request, TextDelta, ThinkingDelta
from moss_audio.backend import Backend
from web.api.audio_parts import decode_part
from web.api.chat_request import ChatRequest
from web.api.limits import Limits
from web.api.stopping import StopSplitter
from web.api.tool_calls import Call, CallSplitter

Finish = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True)
class Thought:
    """More of the thought."""

    text: str


@dataclass(frozen=True)
class Content:
    """More of the answer."""

    text: str


@dataclass(frozen=True)
class Done:
    """The end: why, and what it took."""

    finish: Finish
    reply: Reply


Part = Thought | Content | Call | Done


def answer(backend: Backend, asked: ChatRequest, limits: Limits, cancel: threading.Event) -> Iterator[Part]:
    """Answer a chat request; blocks, and ends soon after ``cancel`` is set.

    Raises:
        ApiError: Its recording cannot be used.
        MossAudioError: The model cannot answer it.
    """
    enough = threading.Event()
    both = _Either(cancel, enough)
    if asked.audio is None:
        tools = asked.tools or None
        events = backend.chat(asked.messages, tools, asked.options, both)
    else:
        wave = decode_part(asked.audio, limits.chat_seconds)
        events = backend.stream(Request(harmless(asked.question), [wave]), asked.options, both)
    yield from shape(events, asked, enough)


def shape(events: Iterator[Event], asked: ChatRequest, enough: threading.Event) -> Iterator[Part]:
    """Parts of an answer from a model's events; sets ``enough`` when no more need be written."""
    stops = StopSplitter(asked.stops)
    calls = CallSplitter() if asked.tools else None
    called = 0

    def parts(text: str, last: bool = False) -> Iterator[Part]:
        nonlocal called
        pieces: list[str | Call] = [text] if text else []
        if calls is not None:
            pieces = calls.feed(text) + (calls.flush() if last else [])
        for piece in pieces:
            if asked.one_call and called:
                return
            if isinstance(piece, Call):
                called += 1
                yield piece
            else:
                yield Content(piece)

    for event in events:
        if isinstance(event, Reply):
            yield from parts(stops.flush(), last=True)
            cut = event.stopped == "length" and not enough.is_set()
            yield Done("length" if cut else "tool_calls" if called else "stop", event)
        elif enough.is_set():
            continue
        elif isinstance(event, ThinkingDelta):
            yield Thought(event.text)
        elif isinstance(event, TextDelta):
            yield from parts(stops.feed(event.text))
            if stops.stopped or (asked.one_call and called):
                enough.set()


def harmless(text: str) -> str:
    """Text of others with every control string (``<|im_end|>``, an audio span) broken by a space."""
    return re.sub(r"<\|(?=\w+\|>)", "< |", text)


class _Either(threading.Event):
    """Set when it or one of two others is set."""

    def __init__(self, *others: threading.Event) -> None:
        super().__init__()
        self._others = others

    def is_set(self) -> bool:
        """See ``threading.Event``."""
        return super().is_set() or any(one.is_set() for one in self._others)
