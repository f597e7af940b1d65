"""The engine: continuous batching of requests with and without audio over a paged KV cache."""

from moss_audio.engine.engine import Engine, EngineOptions, QueueFull
from moss_audio.engine.sequence import Statistics, Ticket

__all__ = ["Engine", "EngineOptions", "QueueFull", "Statistics", "Ticket"]
