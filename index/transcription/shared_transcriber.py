"""One transcriber for several requests at a time."""

from __future__ import annotations

import threading

import numpy as np

from index.audio.windows import AudioWindow
from index.recording_errors import Cancelled
from index.records import Segment
from index.transcription.transcriber import Transcriber

TURN_SECONDS = 0.1
"""How often a window that waits for its turn checks whether its result is still wanted."""


class SharedTranscriber:
    """A ``Transcriber`` that several requests use at the same time, window by window in turn.

    Args:
        inner: The engine; it is never called from more threads at a time than it takes.
    """

    def __init__(self, inner: Transcriber) -> None:
        self._inner = inner
        self._turns = threading.BoundedSemaphore(max(1, inner.windows_at_once))
        self.name = inner.name
        self.times_words = inner.times_words
        self.windows_at_once = inner.windows_at_once
        self.window_speech_seconds = inner.window_speech_seconds
        self.max_window_seconds = inner.max_window_seconds
        self.max_splits = inner.max_splits

    def prepare(self, stop: threading.Event | None = None) -> None:
        """See ``Transcriber``."""
        self._inner.prepare(stop)

    def detect_language(self, audio: np.ndarray) -> tuple[str, float] | None:
        """See ``Transcriber``."""
        with self._turns:
            return self._inner.detect_language(audio)

    def transcribe(self, window: AudioWindow, careful: bool = False) -> list[Segment]:
        """See ``Transcriber``; ``Cancelled`` also when the window's ``stop`` is set before its turn."""
        while not self._turns.acquire(timeout=TURN_SECONDS):
            _check_stop(window)
        try:
            _check_stop(window)
            return self._inner.transcribe(window, careful)
        finally:
            self._turns.release()


def _check_stop(window: AudioWindow) -> None:
    if window.stop is not None and window.stop.is_set():
        raise Cancelled("Stopped while waiting for a turn; the result is no longer wanted.")
