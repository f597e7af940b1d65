"""What the routes share: the engines, their queues, the limits and the numbers.

Whether the model behind the server can be used, as far as is known; asking loads nothing.

Numbers for Prometheus; none of them says what was asked or heard.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily

from agent.engines.loading import LoadingBackend
from agent.engines.model_pool import ModelPool
from index.transcription.transcriber import SharedTranscriber, Transcriber
from moss_audio.backend import Backend
from moss_audio.errors import MossAudioError
from moss_audio.served import ServedBackend
from web.api.error_responses import ApiError
from web.api.limiter import ByteBudget, Limiter, Limits

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

Status = Literal["ready", "waiting", "loading", "failed"]

AGAIN_SECONDS = 10.0
"""How often a server that was away is looked for, while somebody asks."""


class Health:
    """Of one server.

    Args:
        backend: What answers; None where there is no such model, and files are transcribed alone.
    """

    def __init__(self, backend: Backend | None) -> None:
        self._backend = backend
        self._lock = threading.Lock()
        self._asked = float("-inf")

    def status(self) -> Status:
        """What is known now; waits for nothing.

        ``waiting`` is a model that is loaded when the first request comes. A server that was away is looked
        for in the background, so that a later answer is another one once it is back.
        """
        if isinstance(self._backend, LoadingBackend):
            return self._backend.state
        if not isinstance(self._backend, ServedBackend | ModelPool) or self._backend.reached:
            return "ready"
        self._look_for(self._backend)
        return "loading" if self._backend.reached is None else "failed"

    def _look_for(self, backend: ServedBackend | ModelPool) -> None:
        with self._lock:
            if time.monotonic() - self._asked < AGAIN_SECONDS:
                return
            self._asked = time.monotonic()
        threading.Thread(target=_ask, args=(backend,), name="looking-for-server", daemon=True).start()


def _ask(backend: ServedBackend | ModelPool) -> None:
    # Where it is still away, the backend remembers that.
    with suppress(MossAudioError):
        backend.check()


CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1200.0)


class Metrics:
    """Of one server; several servers in one process do not share them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "moss_agent_requests_total", "Requests answered.", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "moss_agent_request_seconds", "From a request to the end of its answer.", ["route"],
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self.first_part = Histogram(
            "moss_agent_first_part_seconds", "From a chat request's turn to the first part of its answer.",
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self.tokens = Counter(
            "moss_agent_tokens_total", "Tokens read and written by chat.", ["kind"], registry=self.registry
        )
        self.audio = Counter(
            "moss_agent_transcribed_seconds_total", "Seconds of audio transcribed.", registry=self.registry
        )

    def watch(self, gauges: Callable[[], dict[str, tuple[str, float]]]) -> None:
        """Show numbers that are read when they are asked for: name to description and value."""
        self.registry.register(_Watched(gauges))

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)


class _Watched:
    def __init__(self, gauges: Callable[[], dict[str, tuple[str, float]]]) -> None:
        self._gauges = gauges

    def collect(self) -> Iterable[Metric]:
        for name, (description, value) in self._gauges().items():
            yield GaugeMetricFamily(name, description, value)


ANY_TRANSCRIBER = "whisper-1"
"""A name under which clients ask for transcription wherever they are; it means what transcribes here."""


class Service:
    """The engines behind one server.

    Args:
        backend: What answers; None where there is no such model.
        transcriber: What hears files; None where there is none.
        limits: How much is taken.
    """

    def __init__(
        self, backend: Backend | None, transcriber: Transcriber | None, limits: Limits | None = None
    ) -> None:
        self.backend = backend
        self.transcriber = SharedTranscriber(transcriber) if transcriber is not None else None
        self.limits = limits or Limits()
        self.chats = Limiter(backend.at_once if backend else 1, self.limits.waiting)
        self.transcriptions = Limiter(self.limits.transcriptions, self.limits.waiting)
        self.asks = Limiter(self.limits.asks, self.limits.waiting)
        self.lookups = Limiter(self.limits.lookups, self.limits.waiting)
        self.metrics = Metrics()
        self.metrics.watch(self._gauges)
        self.health = Health(backend)
        busy = "Too many large requests are being processed; try again later."
        self.memory = ByteBudget(self.limits.held_bytes, busy)
        self.disk = ByteBudget(
            self.limits.disk_bytes, "Too many large files are being transcribed; try again later."
        )
        self.since = int(time.time())
        self._same = bool(backend and transcriber and backend.name in transcriber.name)
        """Whether the chat model is what transcribes."""
        self._names = {backend.name} if backend else set()

    @property
    def models(self) -> list[str]:
        """Names of what is here now, without ``ANY_TRANSCRIBER``."""
        names = [self.backend.name] if self.backend else []
        self._names.update(names)
        return names if self._same or not self.transcriber else [*names, self.transcriber.name]

    @property
    def known(self) -> set[str]:
        """Names that requests may give."""
        return {*self.models, *self._chats(), *self._hears()}

    def backend_for(self, model: str) -> Backend:
        """The model that a chat request names.

        Raises:
            ApiError: 404, it is not here.
        """
        if self.backend is None:
            raise _unknown(model, "this server has no chat model; set one with MOSS_AGENT_MODEL")
        if model not in self._chats():
            raise _unknown(model, f"the chat model of this server is {self.backend.name}")
        return self.backend

    def transcriber_for(self, model: str) -> SharedTranscriber:
        """The model that a transcription request names.

        Raises:
            ApiError: 404, it is not here.
        """
        if self.transcriber is None:
            raise _unknown(model, "this server does not transcribe")
        if model not in {ANY_TRANSCRIBER, *self._hears()}:
            raise _unknown(model, f"the transcription model of this server is {self.models[-1]}")
        return self.transcriber

    def _chats(self) -> set[str]:
        """Names that the chat model has had: of a server only the host is known until it was reached, and a
        name that was listed once is understood from then on."""
        if self.backend is not None:
            self._names.add(self.backend.name)
        return self._names

    def _hears(self) -> set[str]:
        there = {self.transcriber.name} if self.transcriber else set()
        return there | self._chats() if self._same else there

    def close(self) -> None:
        """End all work."""
        for limiter in (self.chats, self.transcriptions, self.asks, self.lookups):
            limiter.close()
        if self.backend is not None:
            self.backend.close()

    def _gauges(self) -> dict[str, tuple[str, float]]:
        shown: dict[str, tuple[str, float]] = {}
        for name, limiter in (("chat", self.chats), ("transcription", self.transcriptions)):
            running, waiting = min(limiter.inside, limiter.at_once), max(0, limiter.inside - limiter.at_once)
            shown[f"moss_agent_{name}_running"] = (f"Requests for {name} being processed.", running)
            shown[f"moss_agent_{name}_waiting"] = (f"Requests for {name} waiting in the queue.", waiting)
        if self.backend is None:
            return shown
        # With torch, for which a page would have to wait when it is started.
        from moss_audio.engine import LocalBackend

        if isinstance(self.backend, LocalBackend):
            engine = self.backend.engine.statistics()
            shown["moss_agent_engine_running"] = ("Sequences running in the engine.", engine.running)
            shown["moss_agent_engine_waiting"] = (
                "Sequences waiting for free blocks of the KV cache.",
                engine.waiting,
            )
            shown["moss_agent_engine_pages"] = ("Blocks of the KV cache.", engine.blocks)
            shown["moss_agent_engine_pages_free"] = (
                "Free blocks of the KV cache.",
                engine.blocks_free,
            )
            shown["moss_agent_engine_reused_tokens"] = (
                "Prompt tokens found in the KV cache.", engine.reused_tokens
            )  # fmt: skip
        return shown


def _unknown(model: str, there: str) -> ApiError:
    return ApiError(404, f"There is no model “{model[:100]}” here: {there}.", "model_not_found", "model")
