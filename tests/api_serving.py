"""The API over real HTTP: a server in a thread of the test's process, and the official client for it."""

from __future__ import annotations

import base64
import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import numpy as np
import openai
import soundfile
import uvicorn

from web.api.app import create_api
from web.api.limits import Limits
from web.api.service import Service


class Served:
    """A running server."""

    def __init__(self, service: Service, url: str, key: str | None) -> None:
        self.service, self.url, self.key = service, url, key

    def client(self, key: str | None = None) -> openai.OpenAI:
        """OpenAI's client as it is; without retries, so that a refusal is seen."""
        return openai.OpenAI(
            base_url=f"{self.url}/v1", api_key=key or self.key or "none", max_retries=0, timeout=60
        )

    def get(self, path: str, **more: Any) -> httpx2.Response:
        return httpx2.get(self.url + path, timeout=60, **more)

    def post(self, path: str, timeout: float = 60, **more: Any) -> httpx2.Response:
        return httpx2.post(self.url + path, timeout=timeout, **more)


@contextmanager
def serving(
    backend: Any = None, transcriber: Any = None, limits: Limits | None = None, key: str | None = None
) -> Iterator[Served]:
    """Serve until the end of the block."""
    service = Service(backend, transcriber, limits)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        create_api(service, key), log_level="warning", lifespan="on", timeout_graceful_shutdown=2
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    try:
        yield Served(service, f"http://127.0.0.1:{listener.getsockname()[1]}", key)
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive(), "the server did not end"


def wait_until(true: Any, seconds: float = 20.0) -> None:
    """Wait for something that is to happen soon."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def wav(seconds: float = 1.0, rate: int = 16_000) -> bytes:
    """A tone as a WAV file."""
    times = np.arange(int(seconds * rate)) / rate
    data = io.BytesIO()
    soundfile.write(data, 0.1 * np.sin(2 * np.pi * 300 * times), rate, format="WAV")
    return data.getvalue()


def hears(data: bytes, question: str = "What is this?", kind: str = "input_audio") -> dict[str, Any]:
    """A user's message with a recording."""
    text = base64.b64encode(data).decode()
    audio = (
        {"type": "input_audio", "input_audio": {"data": text, "format": "wav"}}
        if kind == "input_audio"
        else {"type": "audio_url", "audio_url": {"url": f"data:audio/wav;base64,{text}"}}
    )
    return {"role": "user", "content": [audio, {"type": "text", "text": question}]}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}
