"""A server that says what it is told to, over real HTTP: whole, in pieces, slowly, cut off, or not at all."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.stages import on_stage

SAID = Path(__file__).parents[1] / "data" / "served"


def said(name: str) -> bytes:
    return (SAID / name).read_bytes()


@dataclass
class Act:
    """What is done about one request.

    Attributes:
        pieces: The body, each sent on its own.
        pause: Seconds before each piece.
        cut: Break the connection after the last piece, with the body unfinished.
        hang: Send nothing more after the last piece until the client goes away.
    """

    pieces: list[bytes]
    status: int = 200
    kind: str = "text/event-stream; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)
    pause: float = 0.0
    cut: bool = False
    hang: bool = False


def stream(name: str, size: int | None = None, **more: Any) -> Act:
    """A stored stream, in pieces of so many bytes; at once by default."""
    body = said(name)
    step = size or len(body)
    return Act([body[at : at + step] for at in range(0, len(body), step)], **more)


def document(name: str, status: int = 200, **more: Any) -> Act:
    return Act([said(name)], status, "application/json", **more)


@dataclass
class Asked:
    """A request that came in."""

    path: str
    headers: dict[str, str]
    body: Any


class Replay:
    """Answers ``/v1/models`` with a stored list, everything else with the acts in order; the last repeats."""

    def __init__(self, *acts: Act, models: str | Act = "vllm_models.json") -> None:
        self.acts = list(acts)
        self.models = document(models) if isinstance(models, str) else models
        self.choose: Callable[[Any], Act] | None = None
        self.asked: list[Asked] = []
        self.left = threading.Event()
        """A client went away before its answer was complete."""
        self.now = self.most = 0
        """Chat requests under way, and the most there ever were."""
        self.url = ""

    @property
    def chats(self) -> list[Asked]:
        return [request for request in self.asked if request.path.endswith("/chat/completions")]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        asked = Asked(scope["path"], headers, json.loads(body) if body else None)
        self.asked.append(asked)
        if scope["path"].endswith("/models"):
            await self.play(self.models, receive, send)
            return
        act = self.choose(asked.body) if self.choose else self.acts[min(len(self.chats), len(self.acts)) - 1]
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.play(act, receive, send)
        finally:
            self.now -= 1

    async def play(self, act: Act, receive: Any, send: Any) -> None:
        gone = asyncio.ensure_future(receive())
        headers = {"content-type": act.kind, **act.headers}
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": act.status, "headers": raw})
        for piece in act.pieces:
            if act.pause and await asyncio.wait({gone}, timeout=act.pause) and gone.done():
                self.left.set()
                return
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        if act.hang:
            await gone
            self.left.set()
        elif not act.cut:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        gone.cancel()


@contextmanager
def replaying(*acts: Act, models: str | Act = "vllm_models.json") -> Iterator[Replay]:
    replay = Replay(*acts, models=models)
    with on_stage(replay) as stage:
        replay.url = f"{stage.address}/v1"
        yield replay
