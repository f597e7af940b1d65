"""Requests to MOSS-Audio about stretches of a recording: sent side by side, and again where one failed."""

from __future__ import annotations

import threading
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
"""Requests in flight at most, whatever the engine takes: each holds its audio in memory (two minutes are
8 MB)."""

SHORTEST_SECONDS = 1.0
"""A shorter clip is padded with silence to this length; servers refuse very short ones."""

AGAIN_AFTER_SECONDS = 0.5
"""Pause before a failed request is sent once more."""

CAREFUL_TEMPERATURE = 0.4
CAREFUL_TOP_P = 0.9
SEED = 1
"""Retry settings: sampling at a low temperature, which gets greedy decoding off a wrong track, with a fixed
seed."""

HOPELESS = (AudioError, CheckpointError, NotEnoughMemory, PromptError)
"""Errors that would come back the same way; such requests are not repeated."""


def sampled(options: Options) -> Options:
    """The same options with the retry settings."""
    return replace(options, temperature=CAREFUL_TEMPERATURE, top_p=CAREFUL_TOP_P, seed=SEED)


class BackendClient:
    """Sends requests to one backend from many threads, no more at a time than it wants.

    Args:
        backend: Stays open.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.name = backend.name
        self._free: threading.BoundedSemaphore | None = None
        self._lock = threading.Lock()

    @property
    def at_once(self) -> int:
        """Requests worth having in flight at a time, at least 1; a guess before ``prepare``."""
        return max(1, min(self.backend.at_once, MOST_AT_ONCE))

    def prepare(self, stop: threading.Event | None = None) -> None:
        """Load what is not loaded yet; ``at_once`` is exact from then on.

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

    def ask(
        self, prompt: str, clip: np.ndarray, options: Options, stop: threading.Event | None = None
    ) -> Reply:
        """Ask something about a clip, and once more if that failed and can help.

        Args:
            prompt: The question.
            clip: float32 ``[n_samples]``, mono, 16 kHz.
            options: How to answer.
            stop: Set when the answer is no longer wanted.

        Raises:
            TooLong: The clip is longer than the engine takes at a time.
            HearingError: The engine failed, also when asked again; with its own sentence.
            Cancelled: ``stop`` was set.
        """
        request = Request(prompt, (_padded(clip),))
        self.prepare(stop)
        with self._places():
            answer = self._send(request, options, stop)
            if not _is_final(answer):
                (stop or threading.Event()).wait(AGAIN_AFTER_SECONDS)
                answer = self._send(request, options, stop)
        return _reply(answer)

    def _places(self) -> threading.BoundedSemaphore:
        """A place for each request in flight; as many as the backend wants once it is loaded."""
        with self._lock:
            if self._free is None:
                self._free = threading.BoundedSemaphore(self.at_once)
            return self._free

    def _send(self, request: Request, options: Options, stop: threading.Event | None) -> Reply | Exception:
        if stop is not None and stop.is_set():
            raise _stopped()
        answer: Reply | Exception
        try:
            (answer,) = self.backend.ask([request], options, stop)
        except Exception as error:
            # Whatever a library behind the backend raises concerns this request, not the recording.
            answer = error
        if stop is not None and stop.is_set():
            raise _stopped()
        return answer


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
    """Whether a shorter clip may be taken: this one exceeds the cache, the server's context or its proxy."""
    too_long = isinstance(answer, ServerError) and answer.trouble == "too-long"
    return too_long or isinstance(answer, NotEnoughMemory)


def _hearing_error(error: Exception) -> HearingError:
    known = isinstance(error, MossAudioError)
    return HearingError(str(error) if known else f"{type(error).__name__}: {error}")


def _stopped() -> Cancelled:
    return Cancelled("Stopped while listening; what was finished before is kept.")


def _padded(clip: np.ndarray) -> np.ndarray:
    short = round(SHORTEST_SECONDS * SAMPLE_RATE) - len(clip)
    return np.pad(clip, (0, short)) if short > 0 else clip
