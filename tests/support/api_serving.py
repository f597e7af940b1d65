"""The API over real HTTP: a server in a thread of the test's process, and the official client for it."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import numpy as np
import openai
import soundfile

from tests.support.stages import Stage, on_stage
from web.api.api_server import create_api
from web.api.limiter import Limits
from web.api.service import Service


class Served:
    """A running server."""

    def __init__(self, service: Service, stage: Stage, key: str | None) -> None:
        self.service, self.url, self.key = service, stage.address, key
        self._stage = stage
        self._http = httpx2.Client(base_url=self.url, trust_env=False)
        self._clients: dict[str, openai.OpenAI] = {}

    def client(self, key: str | None = None) -> openai.OpenAI:
        """OpenAI's client as it is; without retries, so that a refusal is seen."""
        key = key or self.key or "none"
        if key not in self._clients:
            self._clients[key] = openai.OpenAI(
                base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=60
            )
        return self._clients[key]

    def get(self, path: str, **more: Any) -> httpx2.Response:
        return self._http.get(path, timeout=60, **more)

    def post(self, path: str, timeout: float = 60, **more: Any) -> httpx2.Response:
        return self._http.post(path, timeout=timeout, **more)

    def requests(self) -> int:
        """How many requests are under way."""
        return self._stage.inside

    def close(self) -> None:
        for client in (self._http, *self._clients.values()):
            client.close()


@contextmanager
def serving(
    backend: Any = None,
    transcriber: Any = None,
    limits: Limits | None = None,
    key: str | None = None,
    **more: Any,
) -> Iterator[Served]:
    """Serve until the end of the block."""
    service = Service(backend, transcriber, limits)
    with on_stage(create_api(service, key, **more)) as stage:
        served = Served(service, stage, key)
        try:
            yield served
        finally:
            service.close()
            served.close()
            assert stage.is_empty(60.0), "a request did not end"


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
