"""The seam between a recording and the engine that transcribes it; one engine may serve several requests."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from index.audio.windows import AudioWindow
from index.recording_errors import Cancelled
from index.records import Segment

TURN_SECONDS = 0.1
"""How often a window that waits for its turn checks whether its result is still wanted."""


class Transcriber(Protocol):
    """Turns a window of audio into segments; knows no database, keeps no state between windows."""

    name: str
    """Stored as the engine of each segment, e.g. ``whisper-base``."""

    @property
    def times_words(self) -> bool:
        """Whether it can say when each word is spoken, and not only each sentence."""
        ...

    @property
    def windows_at_once(self) -> int:
        """How many windows it processes side by side: as many threads may call ``transcribe`` at a time.

        Before ``prepare`` it is a guess.
        """
        ...

    @property
    def window_speech_seconds(self) -> float:
        """Seconds of speech it wants in one window at most."""
        ...

    @property
    def max_window_seconds(self) -> float:
        """Length of a window in seconds at most, silence included."""
        ...

    @property
    def max_splits(self) -> int:
        """How many times a window that it failed on is split in half, after it was tried again as a whole.

        0 for an engine that does not lose the rest of a window once it went astray: what it left out is
        transcribed again on its own.
        """
        ...

    def prepare(self, stop: threading.Event | None = None) -> None:
        """Load what is large and not loaded yet; ``windows_at_once`` is exact from then on.

        Args:
            stop: Set when the result is no longer wanted.

        Raises:
            HearingError: It cannot be loaded.
            WeightsError: Its weights are missing or wrong.
            Cancelled: ``stop`` was set.
        """
        ...

    def detect_language(self, audio: np.ndarray) -> tuple[str, float] | None:
        """Language of speech in float32 ``[n_samples]`` (mono, 16 kHz): ISO 639-1 code and probability.

        None when the engine cannot tell.
        """
        ...

    def transcribe(self, window: AudioWindow, careful: bool = False) -> list[Segment]:
        """Transcribe one window.

        Args:
            window: Processed on its own; nothing is carried over from one to the next.
            careful: Use the slower settings that recover from loops and omissions.

        Returns:
            Segments in time order, one sentence each, on the recording's clock, in the window's language.

        Raises:
            TooLong: The window is longer than the engine takes at a time.
            HearingError: The engine failed on the window, also when asked again.
            Cancelled: The window's ``stop`` was set.
            OtherLanguage: The window's language is a guess, and not all of it is spoken in that language.
        """
        ...


@runtime_checkable
class Spells(Protocol):
    """A ``Transcriber`` that can be told words to spell right; a new list is used from the next window on."""

    glossary: Sequence[str]


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
