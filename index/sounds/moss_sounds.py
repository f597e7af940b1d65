"""MOSS-Audio as an ear for sounds: everything that can be heard in a minute, with its times."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np

from index.audio.decode import SAMPLE_RATE
from index.recording_errors import HearingError, TooLong
from index.sounds.sound_segments import SEAM_SECONDS, is_quiet
from index.transcription.moss_requests import Asker, sampled
from moss_audio.backend import Backend
from moss_audio.generation.requests import Options, Reply
from moss_audio.tasks import TASKS, Event, Events, Parsed

TOKENS = 128
TOKENS_PER_SECOND = 6.0
"""Tokens a list of sounds may have, in all and a second of audio: a line takes about twenty."""

SILENCE = 1e-4
"""Peak of audio in which nothing can be heard (-80 dB): it is not asked about, since models invent there."""


HALVINGS = 1
"""How often a stretch is halved of which no list could be had."""

SHORTEST_HALF_SECONDS = 4.0
"""A shorter half is not listened to on its own."""


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

        An answer that says one thing over and over, breaks off, or is words without any time is no list of
        sounds: it is asked for again, sampled, and then for each half. What is too long for the engine is
        halved at once.

        Raises:
            HearingError: The engine failed, also when asked again, or gave no list.
            Cancelled: ``stop`` was set.
        """
        return Events(self._events(audio, stop, HALVINGS))

    def _events(self, audio: np.ndarray, stop: threading.Event | None, halvings: int) -> list[Event]:
        if not len(audio) or float(np.abs(audio).max()) < SILENCE:
            return []
        seconds = len(audio) / SAMPLE_RATE
        tokens = TOKENS + round(TOKENS_PER_SECOND * seconds)
        options = Options(max_new_tokens=tokens, thinking=False, stop_loops=True)
        try:
            for way in (options, sampled(options)):
                (reply,) = self._asker.ask(TASKS["events"].prompt, [audio], way, stop)
                parsed: Parsed[Events] = TASKS["events"].parse(reply.text, seconds)
                if _is_list(reply, parsed):
                    return list(parsed.value)
            problem = HearingError(f"What is written about these {seconds:.0f} s is no list of sounds.")
        except TooLong as refusal:
            problem, halvings = refusal, halvings + 1
        if not halvings or seconds < 2 * SHORTEST_HALF_SECONDS:
            raise problem
        return self._in_halves(audio, stop, halvings - 1)

    def _in_halves(self, audio: np.ndarray, stop: threading.Event | None, halvings: int) -> list[Event]:
        """The sounds of both halves; each hears a little of the other too, and keeps its own."""
        middle, seam = len(audio) // 2, round(SEAM_SECONDS * SAMPLE_RATE)
        cut, begins = middle / SAMPLE_RATE, (middle - seam) / SAMPLE_RATE
        found = self._events(audio[: middle + seam], stop, halvings)
        later = self._events(audio[middle - seam :], stop, halvings)
        moved = [replace(one, start=one.start + begins, end=one.end + begins) for one in later]
        return [one for one in found if one.start + one.end < 2 * cut] + [
            one for one in moved if one.start + one.end >= 2 * cut
        ]


def _is_list(reply: Reply, parsed: Parsed[Events]) -> bool:
    """Whether an answer lists sounds, or says that there are none, and came to its end."""
    if reply.stopped in ("loop", "length"):
        return False
    told = any(one.kind not in ("fence", "thinking", "special token") for one in parsed.dropped)
    return bool(parsed.value) or not told or is_quiet(" ".join(reply.text.split()))
