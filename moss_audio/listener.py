"""The seam between the program and an ear: one stretch of audio, one question, one answer."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Listener(Protocol):
    """Something that can listen to audio and answer a question about it in words."""

    def listen(self, audio: np.ndarray, question: str) -> str:
        """Answer ``question`` about ``audio``.

        Args:
            audio: float32 ``[n_samples]``, mono, 16 kHz, in [-1, 1]; at most ten minutes.
            question: One question in plain words.

        Returns:
            The answer; times in it are seconds from the start of ``audio``.
        """
        ...
