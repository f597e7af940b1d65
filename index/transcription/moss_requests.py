"""Questions to a MOSS-Audio about stretches of a recording: asked side by side, again where it failed."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from index.audio.decode import SAMPLE_RATE
from index.recording_errors import Cancelled, HearingError, TooLong
from moss_audio.backend import Backend, Loads
from moss_audio.errors import (
    AudioError,
    CheckpointError,
    MossAudioError,
    NotEnoughMemory,
    PromptError,
    ServerError,
)
from moss_audio.generation.requests import Options, Reply, Request

MOST_AT_ONCE = 64
"""Stretches asked about at a time at most, whatever the engine takes: each holds its audio in memory (two
minutes are 8 MB)."""

SHORTEST_SECONDS = 1.0
"""A shorter clip is padded with silence to this length; servers refuse very short ones."""

AGAIN_AFTER_SECONDS = 0.5
"""Pause before a failed request is sent once more."""

CAREFUL_TEMPERATURE = 0.4
CAREFUL_TOP_P = 0.9
SEED = 1
"""How something is heard again: sampled, which gets greedy decoding off a wrong track, and repeatably."""

HOPELESS = (AudioError, CheckpointError, NotEnoughMemory, PromptError)
"""What goes wrong the same way each time, and is not asked again."""


def sampled(options: Options) -> Options:
    """The same, for hearing something again."""
    return replace(options, temperature=CAREFUL_TEMPERATURE, top_p=CAREFUL_TOP_P, seed=SEED)


class Asker:
    """Asks one backend from many threads, no more at a time than it wants.

    Args:
        backend: What answers.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._free: threading.BoundedSemaphore | None = None
        self._lock = threading.Lock()

    @property
    def at_once(self) -> int:
        """Requests worth having in work at a time, at least 1; before ``prepare`` a guess."""
        return max(1, min(self.backend.at_once, MOST_AT_ONCE))

    def prepare(self, stop: threading.Event | None = None) -> None:
        """Load what is not loaded yet.

        Raises:
            HearingError: It cannot be loaded.
            Cancelled: ``stop`` was set.
        """
        if not isinstance(self.backend, Loads):
            return
        try:
            self.backend.loaded(stop)
        except Exception as error:
            if stop is not None and stop.is_set():
                raise _stopped() from error
            raise _hearing_error(error) from error

    def _places(self) -> threading.BoundedSemaphore:
        """One for each request that may be in work; as many as the backend wants once it is loaded."""
        with self._lock:
            if self._free is None:
                self._free = threading.BoundedSemaphore(self.at_once)
            return self._free

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
            TooLong: One of them is longer than the engine takes at a time.
            HearingError: The engine failed on one of them, also when asked again; with its sentence.
            Cancelled: ``stop`` was set.
        """
        requests = [Request(prompt, (_padded(one),)) for one in clips]
        self.prepare(stop)
        with self._places():
            answers = self._once(requests, options, stop)
            failed = [at for at, one in enumerate(answers) if not _is_final(one)]
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
    if _is_refused_for_size(answer):
        raise TooLong(str(answer)) from answer
    raise _hearing_error(answer) from answer


def _is_final(answer: Reply | Exception) -> bool:
    return isinstance(answer, (Reply, *HOPELESS)) or _is_refused_for_size(answer)


def _is_refused_for_size(answer: Exception | Reply) -> bool:
    """Whether less audio may be taken: the cache cannot hold it, or the server's context, or its proxy."""
    too_long = isinstance(answer, ServerError) and answer.trouble == "too-long"
    return too_long or isinstance(answer, NotEnoughMemory)


def _hearing_error(error: Exception) -> HearingError:
    known = isinstance(error, MossAudioError)
    return HearingError(str(error) if known else f"{type(error).__name__}: {error}")


def _stopped() -> Cancelled:
    return Cancelled("Stopped while listening; what was heard before is kept.")


def _padded(clip: np.ndarray) -> np.ndarray:
    short = round(SHORTEST_SECONDS * SAMPLE_RATE) - len(clip)
    return np.pad(clip, (0, short)) if short > 0 else clip
