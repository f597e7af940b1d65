"""``POST /v1/chat/completions``.

Server-sent events.

From what a model writes to what OpenAI's clients read: thought, content and calls of tools.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, TypeVar

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from moss_audio.backend import Backend
from moss_audio.generation.requests import Event, Reply, Request, TextDelta, ThinkingDelta
from moss_audio.generation.streaming import StopSequences
from moss_audio.generation.tool_calls import Call, CallReader
from web.api.chat_request import ChatRequest, decode_part, read_chat_request
from web.api.error_responses import ApiError, as_api_error
from web.api.limiter import BEAT_SECONDS, Ended, Feed, Limits, collected, first_item
from web.api.service import Service

Item = TypeVar("Item")


class EventStream(StreamingResponse):
    """Events as they come; whatever becomes of the client, the work ends with the response.

    Args:
        feed: The work behind the events.
        events: As ``event`` writes them.
    """

    def __init__(self, feed: Feed[Any], events: AsyncIterator[str]) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._feed = feed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One response, as ASGI asks for it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._feed.stop()


def event(document: dict[str, Any]) -> str:
    """One event that holds a JSON document."""
    return f"data: {json.dumps(document, ensure_ascii=False, separators=(',', ':'))}\n\n"


async def events(
    feed: Feed[Item], first: Item | None, write: Callable[[Item], Iterable[dict[str, Any]]]
) -> AsyncIterator[str]:
    """The stream of a feed, up to ``[DONE]``.

    Args:
        feed: Where items come from.
        first: The first one, or None if it has not come yet.
        write: An item as the documents that tell of it.
    """
    item = first
    while True:
        # Comments keep proxies from closing a stream that waits for its turn.
        if item is None:
            yield ": waiting\n\n"
        else:
            for document in write(item):
                yield event(document)
        try:
            item = await feed.next(BEAT_SECONDS)
        except TimeoutError:
            item = None
        except Ended:
            break
        except Exception as error:
            yield event(as_api_error(error).document())
            break
    yield "data: [DONE]\n\n"


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
    stops = StopSequences(asked.stops)
    calls = CallReader(repair=False) if asked.tools else None
    called = 0

    def parts(text: str, last: bool = False) -> Iterator[Part]:
        nonlocal called
        pieces: list[str | Call] = [text] if text else []
        if calls is not None:
            pieces = calls.feed(text) + (calls.finish() if last else [])
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
            yield from parts(stops.finish(), last=True)
            cut = event.stopped == "length" and not enough.is_set()
            yield Done("length" if cut else "tool_calls" if called else "stop", event)
        elif enough.is_set():
            continue
        elif isinstance(event, ThinkingDelta):
            yield Thought(event.text)
        elif isinstance(event, TextDelta):
            yield from parts(stops.feed(event.text))
            if stops.met or (asked.one_call and called):
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


CHUNK = "chat.completion.chunk"


async def chat_completions(request: HttpRequest) -> Response:
    """Answer a conversation, or a question about a recording; whole or as it is written."""
    service: Service = request.app.state.service
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ApiError(415, "Send the request as application/json.", "unsupported_media_type")
    slot = service.chats.enter()
    try:
        body = await request.body()
        asked = await asyncio.to_thread(read_chat_request, body, service.limits)
        backend = service.backend_for(asked.model)
        work = partial(_counted, service, partial(answer, backend, asked, service.limits))
        feed: Feed[Part] = Feed(work, service.chats, slot)
    except BaseException:
        slot.leave()
        raise
    shown = _Shown(backend.name)
    if not asked.stream:
        return JSONResponse(shown.whole(await collected(feed, request)))
    first = await first_item(feed, request)
    return EventStream(feed, events(feed, first, _Chunks(shown, asked.include_usage).of))


def _counted(
    service: Service, work: Callable[[threading.Event], Iterator[Part]], cancel: threading.Event
) -> Iterator[Part]:
    """The parts of an answer, its tokens and the time to its first part counted."""
    began = time.monotonic()
    first = True
    for part in work(cancel):
        if first:
            service.metrics.first_part.observe(time.monotonic() - began)
            first = False
        if isinstance(part, Done):
            service.metrics.tokens.labels("prompt").inc(part.reply.prompt_tokens)
            service.metrics.tokens.labels("completion").inc(part.reply.new_tokens)
        yield part


@dataclass(frozen=True)
class _Shown:
    """What all documents of one answer say."""

    model: str
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, parts: list[Part]) -> dict[str, Any]:
        """The document of a finished answer."""
        done = parts[-1]
        assert isinstance(done, Done)
        content = "".join(one.text for one in parts if isinstance(one, Content))
        thought = "".join(one.text for one in parts if isinstance(one, Thought))
        calls = [call_document(one) for one in parts if isinstance(one, Call)]
        message: dict[str, Any] = {"role": "assistant", "content": content if content or not calls else None}
        message |= _reasoning(thought) if thought else {}
        message |= {"tool_calls": calls} if calls else {}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": done.finish}
        return self.document("chat.completion", [choice], {"usage": _usage(done.reply)})

    def document(self, kind: str, choices: list[dict[str, Any]], more: dict[str, Any]) -> dict[str, Any]:
        """Any document of it."""
        known = {"id": self.id, "object": kind, "created": self.created, "model": self.model}
        return known | {"choices": choices} | more


class _Chunks:
    """The documents of an answer that is streamed."""

    def __init__(self, shown: _Shown, include_usage: bool) -> None:
        self._shown = shown
        self._more: dict[str, Any] = {"usage": None} if include_usage else {}
        self._begun = False
        self._calls = 0

    def of(self, part: Part) -> Iterator[dict[str, Any]]:
        """The documents that tell of one part; the first of all names the role."""
        if not self._begun:
            self._begun = True
            yield self._chunk({"role": "assistant", "content": ""})
        if isinstance(part, Thought):
            yield self._chunk(_reasoning(part.text))
        elif isinstance(part, Content):
            yield self._chunk({"content": part.text})
        elif isinstance(part, Call):
            yield self._chunk({"tool_calls": [{"index": self._calls} | call_document(part)]})
            self._calls += 1
        else:
            yield self._chunk({}, part.finish)
            if self._more:
                yield self._shown.document(CHUNK, [], {"usage": _usage(part.reply)})

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return self._shown.document(CHUNK, [choice], self._more)


def _reasoning(text: str) -> dict[str, str]:
    """A thought under both names that clients look for."""
    return {"reasoning": text, "reasoning_content": text}


def call_document(call: Call) -> dict[str, Any]:
    """A call in OpenAI's form, with an id of its own."""
    # JSON can name halves of surrogate pairs, which no response can hold.
    name, arguments = (
        text.encode("utf-8", "replace").decode()
        for text in (call.name, json.dumps(dict(call.arguments), ensure_ascii=False))
    )
    function = {"name": name, "arguments": arguments}
    return {"id": f"call_{uuid.uuid4().hex[:24]}", "type": "function", "function": function}


def _usage(reply: Reply) -> dict[str, int]:
    total = reply.prompt_tokens + reply.new_tokens
    return {
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.new_tokens,
        "total_tokens": total,
    }
