"""Server-sent events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, TypeVar

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from web.api.errors import as_api_error
from web.api.queueing import BEAT_SECONDS, Ended, Feed

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
