"""How much the server accepts: limits of a request, bytes that requests share, slots, and work in threads."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from starlette.requests import ClientDisconnect, Request

from moss_audio.audio import MODEL_SECONDS
from web.api.error_responses import queue_full

MIB = 2**20


@dataclass(frozen=True)
class Limits:
    """Limits of one server.

    Attributes:
        waiting: Requests of a kind that may wait for their turn; more are refused.
        transcriptions: Transcriptions that run side by side; their windows share the recogniser.
        chat_bytes: Body of a chat request. Ten minutes of 16-bit stereo at 48 kHz are 147 MiB as base64.
        held_bytes: Bodies of all chat requests at a time, which are held in memory.
        upload_bytes: Body of a transcription request.
        disk_bytes: Uploads of all transcription requests at a time, each counted twice, since a copy of it is
            decoded. Beside them lies what was decoded: at most 115 MB an hour of audio, for as many
            recordings as are transcribed side by side.
        library_bytes: A file that is sent to the library.
        transcript_bytes: Body of a request that imports a transcript.
        asks: Questions about the library that are answered side by side.
        lookups: Searches, summaries and the like that are worked on side by side.
        text_chars: Text of a chat request, tools and their results included.
        chat_seconds: Audio of a chat request; the model's makers recommend ten minutes at most.
        upload_seconds: Audio of a transcription request.
        new_tokens: Tokens of an answer where the request names no number.
        idle_seconds: How long a body may make no progress.
    """

    waiting: int = 32
    transcriptions: int = 2
    chat_bytes: int = 160 * MIB
    held_bytes: int = 1024 * MIB
    upload_bytes: int = 1024 * MIB
    disk_bytes: int = 8 * 1024 * MIB
    library_bytes: int = 4096 * MIB
    transcript_bytes: int = 64 * MIB
    asks: int = 8
    lookups: int = 4
    text_chars: int = 1_000_000
    chat_seconds: float = MODEL_SECONDS
    upload_seconds: float = 6 * 3600.0
    new_tokens: int = 2048
    idle_seconds: float = 60.0


class ByteBudget:
    """Bytes of memory or disk that all requests share.

    Args:
        most: Bytes in all.
        full: The sentence of the refusal when they are used up.
    """

    def __init__(self, most: int, full: str) -> None:
        self._most, self._full = most, full
        self._lock = threading.Lock()
        self.taken = 0

    def take(self, size: int) -> None:
        """Count bytes that have arrived, also beyond the budget.

        Raises:
            ApiError: 429, the budget is used up.
        """
        with self._lock:
            self.taken += size
            full = self.taken > self._most
        if full:
            raise queue_full(self._full)

    def release(self, size: int) -> None:
        """Return bytes to the budget."""
        with self._lock:
            self.taken -= size


Item = TypeVar("Item")

BEAT_SECONDS = 10.0
"""Seconds between keep-alive events while there is nothing to send."""


class Ended(Exception):
    """A feed has no more items."""


class Slot:
    """The slot of one request; freed once, from any thread."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter: Limiter | None = limiter
        self._since = time.monotonic()
        self._lock = threading.Lock()

    def leave(self) -> None:
        """Free the slot; calling it again does nothing."""
        with self._lock:
            limiter, self._limiter = self._limiter, None
        if limiter is not None:
            limiter._left(time.monotonic() - self._since)


class Limiter:
    """Bounds the requests that are worked on at once, and those that wait.

    Args:
        at_once: Worked on side by side.
        waiting: May wait besides.
    """

    def __init__(self, at_once: int, waiting: int) -> None:
        self.at_once = max(1, at_once)
        self.limit = self.at_once + max(0, waiting)
        self.inside = 0
        self.feeds: WeakSet[Feed[Any]] = WeakSet()
        self.pool = ThreadPoolExecutor(self.at_once, thread_name_prefix="moss-api")
        self._usual = 1.0
        """Moving average of the seconds that requests took."""
        self._lock = threading.Lock()

    def enter(self) -> Slot:
        """Take a slot.

        Raises:
            ApiError: 429, there is none; ``Retry-After`` says when one may be.
        """
        with self._lock:
            if self.inside >= self.limit:
                turns = (self.limit - self.at_once + 1) / self.at_once
                seconds = min(60, max(1, math.ceil(self._usual * turns)))
                raise queue_full(
                    f"The server is busy with {self.inside} requests; try again in {seconds} s.",
                    seconds,
                )
            self.inside += 1
        return Slot(self)

    def close(self) -> None:
        """End all work."""
        for feed in list(self.feeds):
            feed.stop()
        self.pool.shutdown(wait=False, cancel_futures=True)

    def _left(self, seconds: float) -> None:
        with self._lock:
            self.inside -= 1
            self._usual += 0.2 * (seconds - self._usual)


class Feed(Generic[Item]):
    """Items of a blocking iterator, made in a thread and read in the event loop.

    The slot is freed when the thread is done, so that threads never outnumber slots.

    Args:
        work: Gives the iterator; it is to end soon after the event it is given is set.
        limiter: Its threads are used.
        slot: The slot of this request.
    """

    def __init__(
        self, work: Callable[[threading.Event], Iterator[Item]], limiter: Limiter, slot: Slot
    ) -> None:
        self._cancel = threading.Event()
        self._slot = slot
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[tuple[str, Item | BaseException | None]] = asyncio.Queue()
        try:
            self._future = limiter.pool.submit(copy_context().run, self._run, work)
        except RuntimeError:
            slot.leave()
            raise
        limiter.feeds.add(self)

    def stop(self) -> None:
        """End the work: nobody waits for it any more."""
        self._cancel.set()
        if self._future.cancel():
            self._slot.leave()

    async def next(self, patience: float | None = None) -> Item:
        """The next item.

        Raises:
            Ended: There are no more.
            TimeoutError: None came within ``patience`` seconds; ask again.
            Exception: Whatever the work raised.
        """
        async with asyncio.timeout(patience):
            kind, what = await self._queue.get()
        if kind == "end":
            raise Ended
        if isinstance(what, BaseException) and kind == "error":
            raise what
        return what  # type: ignore[return-value]

    def _run(self, work: Callable[[threading.Event], Iterator[Item]]) -> None:
        try:
            for item in work(self._cancel):
                self._put("item", item)
            self._put("end", None)
        except BaseException as error:
            self._put("error", error)
        finally:
            self._slot.leave()

    def _put(self, kind: str, what: Item | BaseException | None) -> None:
        # A loop that is closed has nobody who reads.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._queue.put_nowait, (kind, what))


async def collected(feed: Feed[Item], request: Request) -> list[Item]:
    """All items of a feed.

    Raises:
        ClientDisconnect: The client went away first; the work was ended.
        Exception: Whatever the work raised.
    """
    items = []
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        while True:
            coming = asyncio.ensure_future(feed.next())
            await asyncio.wait({coming, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                coming.cancel()
                raise ClientDisconnect
            items.append(coming.result())
    except Ended:
        return items
    finally:
        gone.cancel()
        feed.stop()


async def first_item(feed: Feed[Item], request: Request, patience: float = BEAT_SECONDS) -> Item | None:
    """The first item, or None when it takes longer than ``patience`` seconds.

    Raises:
        ClientDisconnect: The client went away first; the work was ended.
        Exception: Whatever the work raised, while a status can still tell of it.
    """
    gone = asyncio.ensure_future(_disconnected(request))
    coming = asyncio.ensure_future(feed.next(patience))
    try:
        await asyncio.wait({coming, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not coming.done():
            raise ClientDisconnect
        return coming.result()
    except TimeoutError:
        return None
    except BaseException:
        feed.stop()
        raise
    finally:
        gone.cancel()
        coming.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
