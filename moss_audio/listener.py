"""The seam between the program and an ear: one stretch of audio, one question, one answer."""

from __future__ import annotations

import threading
from typing import Protocol

import numpy as np


class Listener(Protocol):
    """Something that can listen to audio and answer a question about it in words."""

    def listen(self, audio: np.ndarray, question: str, cancel: threading.Event | None = None) -> str:
        """Answer ``question`` about ``audio``.

        Args:
            audio: float32 ``[n_samples]``, mono, 16 kHz, in [-1, 1]; at most ten minutes.
            question: One question in plain words.
            cancel: Set it from another thread to stop.

        Returns:
            The answer; times in it are seconds from the start of ``audio``.

        Raises:
            MossAudioError: There is no answer.
        """
        ...
