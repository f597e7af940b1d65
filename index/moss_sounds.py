"""MOSS-Audio as an ear for sounds: everything that can be heard in a minute, with its times."""

from __future__ import annotations

import threading

import numpy as np

from index.audio import SAMPLE_RATE
from index.moss_asking import Asker
from moss_audio.answers import Options
from moss_audio.backend import Backend
from moss_audio.tasks import TASKS, Events, Parsed

TOKENS = 128
TOKENS_PER_SECOND = 6.0
"""Tokens a list of sounds may have, in all and a second of audio: a line takes about twenty."""

SILENCE = 1e-4
"""Peak of audio in which nothing can be heard (-80 dB): it is not asked about, since models invent there."""


class MossSounds:
    """Lists sounds with any MOSS-Audio backend.

    Args:
        backend: What answers; stays open.
    """

    def __init__(self, backend: Backend) -> None:
        self.name = backend.name
        self._asker = Asker(backend)

    @property
    def at_once(self) -> int:
        """How many stretches it listens to side by side."""
        return self._asker.at_once

    def prepare(self, stop: threading.Event | None = None) -> None:
        """Load what is not loaded yet; ``at_once`` is exact from then on.

        Raises:
            HearingError: It cannot be loaded.
            Cancelled: ``stop`` was set.
        """
        self._asker.prepare(stop)

    def listen(self, audio: np.ndarray, stop: threading.Event | None = None) -> Events:
        """What can be heard in float32 ``[n_samples]`` (mono, 16 kHz); times are seconds from its start.

        Raises:
            HearingError: The engine failed, also when asked again.
            Cancelled: ``stop`` was set.
        """
        if not len(audio) or float(np.abs(audio).max()) < SILENCE:
            return Events()
        seconds = len(audio) / SAMPLE_RATE
        task = TASKS["events"]
        tokens = TOKENS + round(TOKENS_PER_SECOND * seconds)
        options = Options(max_new_tokens=tokens, thinking=False, stop_loops=True)
        (reply,) = self._asker.ask(task.prompt, [audio], options, stop)
        parsed: Parsed[Events] = task.parse(reply.text, seconds)
        return parsed.value
