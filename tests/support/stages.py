"""Real HTTP servers that tests take turns on: starting and ending one costs more than most tests."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

_idle: list[Stage] = []
_lock = threading.Lock()


class Stage:
    """A server in a thread; which application answers can be changed."""

    def __init__(self) -> None:
        self.app: Any = None
        self.inside = 0
        """Requests under way."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = uvicorn.Config(self, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
        self.server = uvicorn.Server(config)
        arguments = {"sockets": [listener]}
        thread = threading.Thread(target=self.server.run, kwargs=arguments, name="stage", daemon=True)
        thread.start()
        while not self.server.started:
            thread.join(0.005)
            assert thread.is_alive()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.inside += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.inside -= 1

    def is_empty(self, seconds: float) -> bool:
        """Whether all requests end within so many seconds."""
        end = time.monotonic() + seconds
        while self.inside and time.monotonic() < end:
            time.sleep(0.005)
        return not self.inside


@contextmanager
def on_stage(app: Any) -> Iterator[Stage]:
    """An application behind a server, until the end of the block; the server goes on to the next."""
    with _lock:
        stage = _idle.pop() if _idle else None
    stage = stage or Stage()
    stage.app = app
    try:
        yield stage
    finally:
        if stage.is_empty(2.0):
            with _lock:
                _idle.append(stage)
        else:
            stage.server.should_exit = True
