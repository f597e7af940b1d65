"""A file to its transcript without a library: decode, find speech, hear window by window, account for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from index.audio.decode import decode_to_flac, read_range
from index.audio.vad import detect_speech
from index.audio.windows import AudioWindow, cut_windows
from index.pipeline.parallel import in_order
from index.pipeline.stage import Failures
from index.pipeline.transcribe_stage import LANGUAGE_IS_CLEAR, LANGUAGE_WINDOWS
from index.recording_errors import Cancelled, HearingError
from index.records import Segment, Span
from index.transcription.coverage import coverage, find_gaps
from index.transcription.moss_transcriber import MossTranscriber
from index.transcription.retry import Heard, hear
from index.transcription.transcriber import Transcriber
from moss_audio.timestamps import clock
from web.api.error_responses import too_much

log = logging.getLogger(__name__)

TURN_SECONDS = 0.1
"""How often a window that waits for its turn looks whether anybody still wants it."""


@dataclass(frozen=True)
class Transcript:
    """What was heard, and how much of the speech that is.

    Attributes:
        segments: In time order.
        duration: Of the file, seconds.
        language: ISO 639-1 code, given or detected; None where the engine cannot tell.
        coverage: Share of detected speech that segments account for.
        gaps: Stretches of speech that none does.
        note: What of the file could not be read.
    """

    segments: tuple[Segment, ...]
    duration: float
    language: str | None
    coverage: float
    gaps: tuple[Span, ...]
    note: str | None = None


class Shared:
    """A ``Transcriber`` that several requests use at the same time, window by window in turn.

    Args:
        inner: What hears; it is never called from more threads at a time than it takes.
    """

    def __init__(self, inner: Transcriber) -> None:
        self._inner = inner
        self._turns = threading.BoundedSemaphore(max(1, inner.windows_at_once))
        self.name = inner.name
        self.times_words = not isinstance(inner, MossTranscriber)
        """Whether it can say when each word is spoken: the released MOSS-Audio times sentences."""
        self.windows_at_once = inner.windows_at_once
        self.window_speech_seconds = inner.window_speech_seconds
        self.max_window_seconds = inner.max_window_seconds
        self.halvings = inner.halvings

    def prepare(self, stop: threading.Event | None = None) -> None:
        """See ``Transcriber``."""
        self._inner.prepare(stop)

    def detect_language(self, audio: np.ndarray) -> tuple[str, float] | None:
        """See ``Transcriber``."""
        with self._turns:
            return self._inner.detect_language(audio)

    def transcribe(self, windows: Sequence[AudioWindow], careful: bool = False) -> list[list[Segment]]:
        """See ``Transcriber``; ``Cancelled`` when a window's ``stop`` is set before its turn."""
        while not self._turns.acquire(timeout=TURN_SECONDS):
            _check([one.stop for one in windows])
        try:
            _check([one.stop for one in windows])
            return self._inner.transcribe(windows, careful)
        finally:
            self._turns.release()


def hear_file(
    source: Path,
    transcriber: Transcriber,
    language: str | None,
    longest: float,
    cancel: threading.Event,
) -> Iterator[Sequence[Segment] | Transcript]:
    """The segments of each window in order, then the whole.

    Args:
        source: Any media file; a copy of its audio is written beside it.
        transcriber: What hears.
        language: ISO 639-1 code; None has it detected.
        longest: Seconds that are taken.
        cancel: Ends the work early.

    Raises:
        ApiError: 413, it is longer.
        MediaError: It cannot be read.
        HearingError: The engine failed on all of it, or on many windows in a row.
        Cancelled: ``cancel`` was set.
    """
    audio = source.with_name("heard.flac")
    # What a file says of its own length may be wrong; what was read of it counts.
    decoded = decode_to_flac(source, audio, partial(_check_length, longest), cancel.is_set)
    speech = detect_speech(audio, cancelled=cancel.is_set)
    windows = cut_windows(
        speech, decoded.duration, transcriber.window_speech_seconds, transcriber.max_window_seconds
    )
    spoken = language or _language(audio, windows, transcriber, cancel)

    def heard(window: Span) -> Heard | HearingError:
        inside = tuple(one for one in speech if window.start <= (one.start + one.end) / 2 < window.end)
        samples = read_range(audio, window.start, window.end)
        try:
            return hear(AudioWindow(samples, window.start, inside, spoken, cancel), transcriber, again)
        except HearingError as error:
            return error

    again = transcriber.halvings
    segments: list[Segment] = []
    failures = Failures()
    troubled = 0
    for window, result in in_order(heard, windows, transcriber.windows_at_once, cancel):
        if isinstance(result, HearingError):
            failures.failed(result, window.start)
            continue
        failures.heard()
        troubled += result.trouble is not None
        segments += result.segments
        yield result.segments
    _check([cancel])
    if failures.error is not None:
        failures.check_any()
        log.warning("%d windows were not heard: %s", failures.count, failures.error)
    notes = [decoded.note] if decoded.note else []
    if lost := failures.count + troubled:
        notes.append(f"The engine failed on {lost} of {len(windows)} stretches; see gaps.")
    yield Transcript(
        segments=tuple(segments),
        duration=decoded.duration,
        language=spoken,
        coverage=coverage(speech, segments),
        gaps=tuple(find_gaps(speech, segments)),
        note=" ".join(notes) or None,
    )


def _check_length(longest: float, seconds: float) -> None:
    if seconds > longest:
        raise too_much(
            f"The recording is longer than {clock(longest)}, the most in one request; send it in parts.",
            "file",
        )


def _language(
    audio: Path, windows: Sequence[Span], transcriber: Transcriber, cancel: threading.Event
) -> str | None:
    """The likeliest language of the first windows."""
    guesses: list[tuple[float, str]] = []
    for window in windows[:LANGUAGE_WINDOWS]:
        _check([cancel])
        found = transcriber.detect_language(read_range(audio, window.start, window.end))
        if found is None:
            break
        guesses.append((found[1], found[0]))
        if found[1] >= LANGUAGE_IS_CLEAR:
            break
    return max(guesses)[1] if guesses else None


def _check(stops: Sequence[threading.Event | None]) -> None:
    if any(one is not None and one.is_set() for one in stops):
        raise Cancelled("Nobody waits for this transcript any more.")
