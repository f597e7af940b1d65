"""What a worker of the cluster is: an engine, and calls to it from far away.

A worker keeps nothing between calls and writes nothing; what it hears comes with the call. Errors that are
meant for people come back as values, so that they are the same here and there.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from index.audio.windows import AudioWindow
from index.recording_errors import HearingError, MossAgentError
from index.search.embeddings import Embedder
from index.transcription.languages import OtherLanguage
from index.transcription.transcriber import Transcriber
from moss_audio.backend import Backend, Loads
from moss_audio.errors import MossAudioError

KNOWN = (MossAgentError, MossAudioError, OtherLanguage)
"""Errors that are answers."""


@dataclass(frozen=True)
class Outcome:
    """What came of a call: a value, or an error; or nothing, where nobody waited for it any more."""

    value: Any = None
    error: Exception | None = None
    dropped: bool = False


class Host(Protocol):
    """An engine as calls reach it."""

    def load(self) -> int:
        """Load what is large; returns how many calls it takes at a time."""
        ...

    def do(self, what: str, arguments: tuple[Any, ...], payload: Any, stop: threading.Event) -> Any:
        """Do what a call asks for; ``stop`` is set when nobody waits for it any more."""
        ...


OVERTAKEN_CALLS = 1024
"""Calls that were stopped before they came, of which a worker knows at most; many more than it ever has in
hand."""

Make = Callable[[int], Host]
"""Makes a host with so many threads. It is sent to the worker by its name, so it is a function of a module
that the worker has too, or a ``functools.partial`` of one."""


class Worker:
    """A process of the cluster; ``index/cluster/ray_session.py`` makes it an actor.

    Args:
        make: Makes the engine.
        threads: How many threads it may use.
    """

    def __init__(self, make: Make, threads: int) -> None:
        self._make = make
        self._threads = threads
        self._host: Host | None = None
        self._stops: dict[str, threading.Event] = {}
        self._stopped_before: deque[str] = deque(maxlen=OVERTAKEN_CALLS)
        self._stops_lock = threading.Lock()
        self._lock = threading.Lock()

    def ready(self) -> Outcome:
        """How many calls it takes at a time; loads the engine the first time."""
        with self._lock:
            try:
                host = self._host or self._make(self._threads)
                at_once = host.load()
                self._host = host
                return Outcome(at_once)
            except Exception as error:
                return failed(error)

    def do(self, id: str, what: str, arguments: tuple[Any, ...], payload: Any) -> Outcome:
        """Do what a call asks for."""
        if self._host is None:
            # Ray started this process again, and sent it what the one before had in hand.
            loaded = self.ready()
            if loaded.error is not None:
                return loaded
        assert self._host is not None
        with self._stops_lock:
            stop = self._stops.setdefault(id, threading.Event())
            if id in self._stopped_before:
                stop.set()
        try:
            return Outcome(self._host.do(what, arguments, payload, stop))
        except Exception as error:
            return failed(error)
        finally:
            with self._stops_lock:
                self._stops.pop(id, None)

    def stop(self, calls: Sequence[str]) -> None:
        """Nobody waits for these calls any more.

        This may overtake the call itself, which waits for its audio to come.
        """
        with self._stops_lock:
            for id in calls:
                stop = self._stops.get(id)
                if stop is not None:
                    stop.set()
                else:
                    self._stopped_before.append(id)


def failed(error: Exception) -> Outcome:
    """An error as what came of a call; one that nobody foresaw is about that call alone."""
    if isinstance(error, KNOWN):
        return Outcome(error=error)
    return Outcome(error=HearingError(f"{type(error).__name__}: {error}"))


class TranscriberHost:
    """A ``Transcriber`` as calls reach it.

    Args:
        transcriber: The engine.
    """

    def __init__(self, transcriber: Transcriber) -> None:
        self.transcriber = transcriber

    def load(self) -> int:
        """See ``Host``."""
        self.transcriber.prepare()
        return self.transcriber.windows_at_once

    def do(self, what: str, arguments: tuple[Any, ...], payload: Any, stop: threading.Event) -> Any:
        """See ``Host``: ``transcribe`` or ``language``."""
        if what == "language":
            return self.transcriber.detect_language(payload)
        window: AudioWindow
        window, samples = payload
        careful, glossary = arguments
        engine = self._spelling(glossary)
        return engine.transcribe(replace(window, audio=samples, stop=stop), careful)

    def _spelling(self, glossary: tuple[str, ...]) -> Transcriber:
        """The engine that knows the words of whoever asks."""
        spelling = getattr(self.transcriber, "spelling", None)
        return self.transcriber if spelling is None else spelling(glossary)


class BackendHost:
    """A MOSS-Audio as calls reach it.

    Args:
        backend: The engine of this process.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def load(self) -> int:
        """See ``Host``."""
        if isinstance(self.backend, Loads):
            self.backend.loaded()
        return self.backend.at_once

    def do(self, what: str, arguments: tuple[Any, ...], payload: Any, stop: threading.Event) -> Any:
        """See ``Host``: ``ask``, ``stream`` or ``chat``; the events of an answer come all at once."""
        if what == "ask":
            requests, options = payload
            return self.backend.ask(requests, options, stop)
        if what == "stream":
            request, options = payload
            return list(self.backend.stream(request, options, stop))
        messages, tools, options = payload
        return list(self.backend.chat(messages, tools, options, stop))


class VectorHost:
    """The encoder of voices, and the embedder of sentences.

    Args:
        embedder: The embedder's name; see ``Embedder``.
        threads: Calls at a time; each uses one thread for the most part.
    """

    def __init__(self, embedder: str, threads: int) -> None:
        self._embedder = Embedder(embedder)
        self._threads = threads

    def load(self) -> int:
        """See ``Host``; each model is loaded at its first call."""
        return max(1, self._threads // 2)

    def do(self, what: str, arguments: tuple[Any, ...], payload: Any, stop: threading.Event) -> Any:
        """See ``Host``: ``voices`` or ``passages``."""
        if what == "voices":
            from index.diarization.voice_embeddings import voice_encoder

            windows: np.ndarray = payload
            return voice_encoder().embed(list(windows))
        return self._embedder.encode_passages(payload)


def vector_host(embedder: str, threads: int) -> VectorHost:
    """Makes the host of vectors."""
    return VectorHost(embedder, threads)
