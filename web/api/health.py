"""Whether the model behind the server can be used, as far as is known; asking loads nothing."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Literal

from agent.loading import LoadingBackend
from moss_audio.backend import Backend
from moss_audio.errors import MossAudioError
from moss_audio.served import ServedBackend

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
        if not isinstance(self._backend, ServedBackend) or self._backend.reached:
            return "ready"
        self._look_for(self._backend)
        return "loading" if self._backend.reached is None else "failed"

    def _look_for(self, backend: ServedBackend) -> None:
        with self._lock:
            if time.monotonic() - self._asked < AGAIN_SECONDS:
                return
            self._asked = time.monotonic()
        threading.Thread(target=_ask, args=(backend,), name="looking-for-server", daemon=True).start()


def _ask(backend: ServedBackend) -> None:
    # Where it is still away, the backend remembers that.
    with suppress(MossAudioError):
        backend.check()
