"""The engine: continuous batching of requests with and without audio over a paged KV cache."""

from moss_audio.engine.engine import Engine, QueueFull
from moss_audio.engine.local import LocalBackend
from moss_audio.engine.sequence import Statistics, Ticket
from moss_audio.engine.sizes import EngineOptions

__all__ = ["Engine", "EngineOptions", "LocalBackend", "QueueFull", "Statistics", "Ticket"]
