"""Questions to a MOSS-Audio about stretches of a recording: asked side by side, again where it failed."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from index.audio import SAMPLE_RATE
from index.errors import Cancelled, HearingError
from moss_audio.answers import Options, Reply, Request
from moss_audio.backend import Backend
from moss_audio.errors import AudioError, CheckpointError, MossAudioError, NotEnoughMemory, PromptError

MOST_AT_ONCE = 64
"""Stretches asked about at a time at most, whatever the engine takes: each holds its audio in memory (two
minutes are 8 MB)."""

SHORTEST_SECONDS = 1.0
"""A shorter clip is padded with silence to this length; servers refuse very short ones."""

AGAIN_AFTER_SECONDS = 0.5
"""Pause before a failed request is sent once more."""


HOPELESS = (AudioError, CheckpointError, NotEnoughMemory, PromptError)
"""What goes wrong the same way each time, and is not asked again."""


class Asker:
    """Asks one backend from many threads, no more at a time than it wants.

    Args:
        backend: What answers.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._free = threading.BoundedSemaphore(self.at_once)

    @property
    def at_once(self) -> int:
        """Requests worth having in work at a time, at least 1."""
        return max(1, min(self.backend.at_once, MOST_AT_ONCE))

    def ask(
        self,
        prompt: str,
        clips: Sequence[np.ndarray],
        options: Options,
        stop: threading.Event | None = None,
    ) -> list[Reply]:
        """Ask one thing about each of some clips; what fails is asked once more, if that can help.

        Args:
            prompt: The question.
            clips: float32 ``[n_samples]``, mono, 16 kHz.
            options: How to answer.
            stop: Set when nobody waits any more.

        Raises:
            HearingError: The engine failed on one of them, also when asked again; with its sentence.
            Cancelled: ``stop`` was set.
        """
        requests = [Request(prompt, (_padded(one),)) for one in clips]
        with self._free:
            answers = self._once(requests, options, stop)
            failed = [at for at, one in enumerate(answers) if not isinstance(one, (Reply, *HOPELESS))]
            if failed:
                (stop or threading.Event()).wait(AGAIN_AFTER_SECONDS)
                again = self._once([requests[at] for at in failed], options, stop)
                for at, one in zip(failed, again, strict=True):
                    answers[at] = one
        return [_reply(one) for one in answers]

    def _once(
        self, requests: list[Request], options: Options, stop: threading.Event | None
    ) -> list[Reply | Exception]:
        if stop is not None and stop.is_set():
            raise _stopped()
        try:
            answers: list[Reply | Exception] = list(self.backend.ask(requests, options, stop))
        except Exception as error:
            # Whatever a library behind the backend raises concerns these requests, not the recording.
            answers = [error for _ in requests]
        if stop is not None and stop.is_set():
            raise _stopped()
        return answers


def _reply(answer: Reply | Exception) -> Reply:
    if isinstance(answer, Reply):
        if answer.stopped == "cancelled":
            raise _stopped()
        return answer
    known = isinstance(answer, MossAudioError)
    raise HearingError(str(answer) if known else f"{type(answer).__name__}: {answer}") from answer


def _stopped() -> Cancelled:
    return Cancelled("Stopped while listening; what was heard before is kept.")


def _padded(clip: np.ndarray) -> np.ndarray:
    short = round(SHORTEST_SECONDS * SAMPLE_RATE) - len(clip)
    return np.pad(clip, (0, short)) if short > 0 else clip
