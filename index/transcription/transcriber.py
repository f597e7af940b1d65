"""The seam between a recording and the engine that transcribes it."""

from __future__ import annotations

import threading
from typing import Protocol

import numpy as np

from index.audio.windows import AudioWindow
from index.records import Segment


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
