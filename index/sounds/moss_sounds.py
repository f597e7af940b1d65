"""MOSS-Audio lists sounds: everything that can be heard in a minute, with its times."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np

from index.audio.decode import SAMPLE_RATE
from index.recording_errors import HearingError, TooLong
from index.sounds.sound_segments import SEAM_SECONDS, is_quiet
from index.transcription.moss_requests import BackendClient, sampled
from moss_audio.generation.requests import Options, Reply
from moss_audio.tasks import TASKS, Event, Events, Parsed

TOKENS = 128
TOKENS_PER_SECOND = 6.0
"""Tokens a list of sounds may have, in all and a second of audio: a line takes about twenty."""

SILENCE = 1e-4
"""Peak of audio in which nothing can be heard (-80 dB): it is not asked about, since models invent there."""

MAX_SPLITS = 1
"""How many times a stretch is split in half when the model gives no list of its sounds."""

SHORTEST_HALF_SECONDS = 4.0
"""A shorter half is not listened to on its own."""


class MossSounds(BackendClient):
    """Lists sounds with any MOSS-Audio backend.

    Args:
        backend: Stays open.
    """

    def listen(self, audio: np.ndarray, stop: threading.Event | None = None) -> Events:
        """What can be heard in float32 ``[n_samples]`` (mono, 16 kHz); times are seconds from its start.

        An answer that repeats itself, breaks off, or is words without any time is no list of sounds: the
        request is retried with sampling, and then for each half. What is too long for the engine is split at
        once.

        Raises:
            HearingError: The engine failed, also when asked again, or gave no list.
            Cancelled: ``stop`` was set.
        """
        return Events(self._events(audio, stop, MAX_SPLITS))

    def _events(self, audio: np.ndarray, stop: threading.Event | None, splits: int) -> list[Event]:
        if not len(audio) or float(np.abs(audio).max()) < SILENCE:
            return []
        seconds = len(audio) / SAMPLE_RATE
        tokens = TOKENS + round(TOKENS_PER_SECOND * seconds)
        options = Options(max_new_tokens=tokens, thinking=False, stop_loops=True)
        try:
            for way in (options, sampled(options)):
                reply = self.ask(TASKS["events"].prompt, audio, way, stop)
                parsed: Parsed[Events] = TASKS["events"].parse(reply.text, seconds)
                if _is_list(reply, parsed):
                    return list(parsed.value)
            problem = HearingError(
                f"The answer about these {seconds:.0f} s of audio is not a list of sounds."
            )
        except TooLong as refusal:
            problem, splits = refusal, splits + 1
        if not splits or seconds < 2 * SHORTEST_HALF_SECONDS:
            raise problem
        return self._in_halves(audio, stop, splits - 1)

    def _in_halves(self, audio: np.ndarray, stop: threading.Event | None, splits: int) -> list[Event]:
        """The sounds of both halves; each hears a little of the other too, and keeps its own."""
        middle, seam = len(audio) // 2, round(SEAM_SECONDS * SAMPLE_RATE)
        cut, begins = middle / SAMPLE_RATE, (middle - seam) / SAMPLE_RATE
        found = self._events(audio[: middle + seam], stop, splits)
        later = self._events(audio[middle - seam :], stop, splits)
        moved = [replace(event, start=event.start + begins, end=event.end + begins) for event in later]
        return [event for event in found if event.start + event.end < 2 * cut] + [
            event for event in moved if event.start + event.end >= 2 * cut
        ]


def _is_list(reply: Reply, parsed: Parsed[Events]) -> bool:
    """Whether an answer lists sounds, or says that there are none, and came to its end."""
    if reply.stopped in ("loop", "length"):
        return False
    says_more = any(part.kind not in ("fence", "thinking", "special token") for part in parsed.dropped)
    return bool(parsed.value) or not says_more or is_quiet(" ".join(reply.text.split()))
