"""``POST /v1/chat/completions``."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from moss_audio.answers import Reply
from web.api.answering import Content, Done, Part, Thought, answer
from web.api.chat_request import read_chat_request
from web.api.errors import ApiError
from web.api.event_stream import EventStream, events
from web.api.queueing import Feed, collected, first_item
from web.api.service import Service
from web.api.tool_calls import Call

CHUNK = "chat.completion.chunk"


async def chat_completions(request: Request) -> Response:
    """Answer a conversation, or a question about a recording; whole or as it is written."""
    service: Service = request.app.state.service
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ApiError(415, "Send the request as application/json.", "unsupported_media_type")
    seat = service.chats.enter()
    try:
        body = await request.body()
        asked = await asyncio.to_thread(read_chat_request, body, service.limits)
        backend = service.backend_for(asked.model)
        work = partial(_counted, service, partial(answer, backend, asked, service.limits))
        feed: Feed[Part] = Feed(work, service.chats, seat)
    except BaseException:
        seat.leave()
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
        calls = [_call(one) for one in parts if isinstance(one, Call)]
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
            yield self._chunk({"tool_calls": [{"index": self._calls} | _call(part)]})
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


def _call(call: Call) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": f"call_{uuid.uuid4().hex[:24]}", "type": "function", "function": function}


def _usage(reply: Reply) -> dict[str, int]:
    total = reply.prompt_tokens + reply.new_tokens
    return {
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.new_tokens,
        "total_tokens": total,
    }
