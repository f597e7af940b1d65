"""A model that is loaded when it is first needed, or behind the page's back while that is already open."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from moss_audio.backend import Backend
from moss_audio.errors import MossAudioError
from moss_audio.generation.requests import Event, Options, Reply, Request
from moss_audio.generation.thinking import name_says_thinking

GB = 1_000_000_000

POLL_SECONDS = 0.1
"""How often a wish to stop is looked for while a model is loaded."""

AT_ONCE = 64
"""Requests an engine batches; asked before there is one."""

State = Literal["waiting", "loading", "ready", "failed"]
Progress = Callable[[int, int], None]

log = logging.getLogger(__name__)


class StillLoading(MossAudioError):
    """The model is still being loaded; the question is answered without it."""


class LoadingBackend:
    """A ``Backend`` in front of one that takes its time to load.

    Work in the background (``ask``) waits for the model. A person who asks (``stream``, ``chat``) waits too,
    unless it is being loaded in the background: then they are told how far it is.

    Args:
        source: What is loaded: a folder or a name on the hub.
        load: Does it; is told whom to tell of a download, or None for a bar on stderr.
    """

    def __init__(self, source: str, load: Callable[[Progress | None], Backend]) -> None:
        self.source = source
        self.name = Path(source).name
        self.state: State = "waiting"
        self._load = load
        self._backend: Backend | None = None
        self._error: MossAudioError | None = None
        self._downloaded = (0, 0)
        self._in_background = False
        self._closed = False
        self._lock = threading.Lock()
        self._done = threading.Event()

    @property
    def thinks(self) -> bool:
        """As the model says, before that as its name does."""
        return self._backend.thinks if self._backend else name_says_thinking(self.source)

    @property
    def at_once(self) -> int:
        """See ``Backend``."""
        return self._backend.at_once if self._backend else AT_ONCE

    @property
    def context_tokens(self) -> int | None:
        """Tokens it holds; None before it is there."""
        return getattr(self._backend, "context_tokens", None)

    @property
    def count_tokens(self) -> Callable[[str], int] | None:
        """Counts the tokens of a text; None before it is there, and where its tokenizer is not."""
        return getattr(self._backend, "count_tokens", None)

    @property
    def progress(self) -> str:
        """Where it stands, in a few words; empty once it is ready, and before anybody wanted it."""
        if self.state == "failed":
            return str(self._error)
        if self.state != "loading":
            return ""
        done, total = self._downloaded
        if 0 < done < total:
            return f"being downloaded, {done / GB:.1f} of {total / GB:.1f} GB"
        return "being loaded"

    def start(self) -> None:
        """Begin to load in the background; once is enough."""
        with self._lock:
            if self.state != "waiting":
                return
            self.state, self._in_background = "loading", True
        self._begin(self._told)

    def loaded(self, cancel: threading.Event | None = None) -> Backend:
        """The model, once it is there; who stops waiting does not stop the loading.

        Raises:
            MossAudioError: It cannot be loaded, or ``cancel`` was set.
        """
        with self._lock:
            mine = self.state in ("waiting", "failed")
            if mine:
                self.state, self._in_background = "loading", False
                self._done.clear()
        if mine:
            self._begin(None)
        while not self._done.wait(POLL_SECONDS):
            if cancel is not None and cancel.is_set():
                raise MossAudioError("Stopped.")
        if self._backend is None:
            raise self._error or MossAudioError(f"{self.name} was closed.")
        return self._backend

    def ask(
        self, requests: Sequence[Request], options: Options, cancel: threading.Event | None = None
    ) -> list[Reply | MossAudioError]:
        """See ``Backend``."""
        return self.loaded(cancel).ask(requests, options, cancel)

    def stream(
        self, request: Request, options: Options, cancel: threading.Event | None = None
    ) -> Iterator[Event]:
        """See ``Backend``."""
        return self._now(cancel).stream(request, options, cancel)

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        options: Options,
        cancel: threading.Event | None = None,
    ) -> Iterator[Event]:
        """See ``Backend``."""
        return self._now(cancel).chat(messages, tools, options, cancel)

    def close(self) -> None:
        """See ``Backend``; one that is still being loaded is closed as soon as it is there."""
        with self._lock:
            self._closed = True
            backend = self._backend
        if backend is not None:
            backend.close()

    def _now(self, cancel: threading.Event | None) -> Backend:
        if self.state == "loading" and self._in_background:
            raise StillLoading(f"{self.name} is still {self.progress}; ask again once it is ready.")
        if self.state == "failed":
            assert self._error is not None
            raise self._error
        return self.loaded(cancel)

    def _begin(self, told: Progress | None) -> None:
        """Load in a thread that neither a wish to stop nor the program's end has to wait for."""
        threading.Thread(target=self._work, args=(told,), name="loading-moss-audio", daemon=True).start()

    def _work(self, told: Progress | None) -> None:
        backend: Backend | None = None
        try:
            backend = self._load(told)
        except MossAudioError as error:
            self._error = error
        except Exception as error:
            # Any library may fail in any way; whoever asks is told in one sentence.
            log.exception("loading %s failed", self.source)
            self._error = MossAudioError(
                f"{self.name} could not be loaded ({type(error).__name__}: {error})."
            )
        with self._lock:
            self._backend = backend
            self.state = "ready" if backend else "failed"
            closed = self._closed
            self._done.set()
        if closed and backend is not None:
            backend.close()

    def _told(self, done: int, total: int) -> None:
        self._downloaded = (done, total)
