"""The seam between a recording and whatever hears it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from index.audio.windows import AudioWindow
from index.records import Segment


class Transcriber(Protocol):
    """Turns windows of audio into segments; knows no database, keeps no state between windows."""

    name: str
    """What is written down as the engine of each segment, e.g. ``whisper-base``."""

    @property
    def windows_at_once(self) -> int:
        """How many windows it hears side by side: as many threads may call ``transcribe`` at a time.

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
    def halvings(self) -> int:
        """How often a window that it failed on is worth halving, after it was heard again as it is.

        0 for an engine that does not lose the rest of a window once it went astray: what it left out is
        heard again on its own.
        """
        ...

    def prepare(self, stop: threading.Event | None = None) -> None:
        """Load what is large and not loaded yet; ``windows_at_once`` is exact from then on.

        Args:
            stop: Set when nobody waits for it any more.

        Raises:
            HearingError: It cannot be loaded.
            WeightsError: Its weights are missing or wrong.
            Cancelled: ``stop`` was set.
        """
        ...

    def detect_language(self, audio: np.ndarray) -> tuple[str, float] | None:
        """Language of speech in float32 ``[n_samples]`` (mono, 16 kHz): ISO 639-1 code and probability.

        None when the engine knows only one language or cannot tell.
        """
        ...

    def transcribe(self, windows: Sequence[AudioWindow], careful: bool = False) -> list[list[Segment]]:
        """Hear every window.

        Args:
            windows: In any order; each is heard on its own, nothing is carried from one to the next.
            careful: Use the slower settings that recover from loops and omissions.

        Returns:
            For each window its segments in time order, one sentence each, on the recording's clock.

        Raises:
            TooLong: A window is longer than the engine takes at a time.
            HearingError: The engine failed on a window, also when asked again.
            Cancelled: A window's ``stop`` was set.
        """
        ...
