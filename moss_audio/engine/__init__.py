"""The engine: continuous batching of requests with and without audio over a paged KV cache."""

from moss_audio.engine.engine import Engine, EngineOptions, Statistics
from moss_audio.engine.local_backend import LocalBackend
from moss_audio.engine.sequence import RequestHandle
from moss_audio.errors import QueueFull

__all__ = ["Engine", "EngineOptions", "LocalBackend", "QueueFull", "RequestHandle", "Statistics"]
