"""What the routes share: the engines, their queues, the limits and the numbers."""

from __future__ import annotations

import time

from index.transcriber import Transcriber
from moss_audio.backend import Backend
from moss_audio.engine import LocalBackend
from web.api.errors import ApiError
from web.api.health import Health
from web.api.hearing import Shared
from web.api.holding import Room
from web.api.limits import Limits
from web.api.metrics import Metrics
from web.api.queueing import Gate

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
        self.transcriber = Shared(transcriber) if transcriber is not None else None
        self.limits = limits or Limits()
        self.chats = Gate(backend.at_once if backend else 1, self.limits.waiting)
        self.transcriptions = Gate(self.limits.transcriptions, self.limits.waiting)
        self.metrics = Metrics()
        self.metrics.watch(self._gauges)
        self.health = Health(backend)
        busy = "Too many large requests are here; try again later."
        self.memory = Room(self.limits.held_bytes, busy)
        self.disk = Room(self.limits.disk_bytes, "Too many large files are being heard; try again later.")
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
            raise _unknown(model, "this server has no chat model; it is chosen with MOSS_AGENT_MODEL")
        if model not in self._chats():
            raise _unknown(model, f"the chat model of this server is {self.backend.name}")
        return self.backend

    def transcriber_for(self, model: str) -> Shared:
        """The model that a transcription request names.

        Raises:
            ApiError: 404, it is not here.
        """
        if self.transcriber is None:
            raise _unknown(model, "this server does not transcribe")
        if model not in {ANY_TRANSCRIBER, *self._hears()}:
            raise _unknown(model, f"what transcribes here is {self.models[-1]}")
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
        for gate in (self.chats, self.transcriptions):
            gate.close()
        if self.backend is not None:
            self.backend.close()

    def _gauges(self) -> dict[str, tuple[str, float]]:
        shown: dict[str, tuple[str, float]] = {}
        for name, gate in (("chat", self.chats), ("transcription", self.transcriptions)):
            running, waiting = min(gate.inside, gate.at_once), max(0, gate.inside - gate.at_once)
            shown[f"moss_agent_{name}_running"] = (f"Requests for {name} that have a turn.", running)
            shown[f"moss_agent_{name}_waiting"] = (f"Requests for {name} that wait for a turn.", waiting)
        if isinstance(self.backend, LocalBackend):
            engine = self.backend.engine.statistics()
            shown["moss_agent_engine_running"] = ("Sequences that the engine works on.", engine.running)
            shown["moss_agent_engine_waiting"] = (
                "Sequences that wait for room in the cache.",
                engine.waiting,
            )
            shown["moss_agent_engine_pages"] = ("Pages of the KV cache.", engine.pages)
            shown["moss_agent_engine_pages_free"] = (
                "Pages of the KV cache that are free.",
                engine.pages_free,
            )
            shown["moss_agent_engine_reused_tokens"] = (
                "Prompt tokens that were in the cache already.", engine.reused_tokens
            )  # fmt: skip
        return shown


def _unknown(model: str, there: str) -> ApiError:
    return ApiError(404, f"There is no model “{model[:100]}” here: {there}.", "model_not_found", "model")
