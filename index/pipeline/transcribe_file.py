"""From a media file to its transcript: the steps, and all of them at once without storing anything.

The ingest takes the same steps and stores the result of each (``index/pipeline/ingest.py``).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

import numpy as np

from index.audio.decode import decode_to_flac, read_range
from index.audio.vad import detect_speech
from index.audio.windows import AudioWindow, cut_windows, raise_quiet
from index.pipeline.stage import Failures, attempts, in_order
from index.recording_errors import Cancelled, HearingError
from index.records import Note, NoteKind, Segment, Span, StageName
from index.store.database import WindowRow
from index.transcription.coverage import coverage, find_gaps
from index.transcription.languages import (
    LanguageGuess,
    SpokenWindow,
    languages_spoken,
    transcribe_by_language,
)
from index.transcription.transcriber import Transcriber
from moss_audio.audio import SAMPLE_RATE

log = logging.getLogger(__name__)

LANGUAGE_IS_CLEAR = 0.5
"""Probability from which the language of one window is expected of the recording."""

LANGUAGE_WINDOWS = 3
"""Windows asked for their language before the likeliest answer is taken."""

SOFTENED = 0.05
"""Gain of what is between a side's own speech: -26 dB, so that a faint copy of another's is no more heard."""

RAMP_SECONDS = 0.02
"""Length of the change from one gain to the other, which would else be a click."""

OfChannel = Span | WindowRow
"""What has a ``start`` and an ``end``, in seconds, and the ``channel`` it is on."""

NO_SPEECH = Note(NoteKind.NO_SPEECH, StageName.FINDING_SPEECH)


@dataclass(frozen=True)
class Transcript:
    """What was heard in a file, and how much of its speech that is.

    Attributes:
        segments: In time order.
        duration: The file's length, seconds.
        language: ISO 639-1 code of the language that was given, or else is spoken longest; None where the
            engine cannot tell.
        coverage: Share of speech that segments account for, in [0, 1]; None where there is no speech.
        gaps: Stretches of speech that no segment accounts for.
        notes: What could not be read or transcribed.
    """

    segments: tuple[Segment, ...]
    duration: float
    language: str | None
    coverage: float | None
    gaps: tuple[Span, ...]
    notes: tuple[Note, ...] = ()


def transcribe_file(
    source: Path,
    transcriber: Transcriber,
    language: str | None,
    cancel: threading.Event,
    decoding: Callable[[float], None] | None = None,
) -> Iterator[Sequence[Segment] | Transcript]:
    """Transcribe a file without storing it.

    Args:
        source: Any media file; a copy of its audio is written beside it.
        transcriber: The engine.
        language: ISO 639-1 code of the one language to expect; None finds out what is spoken where.
        cancel: Ends the work early.
        decoding: Called with the seconds of audio read so far; what it raises ends the work.

    Yields:
        The segments of each window in order, then the whole transcript.

    Raises:
        MediaError: The file cannot be read.
        HearingError: The engine failed on all of it, or on many windows in a row.
        Cancelled: ``cancel`` was set.
    """
    audio = source.with_name("heard.flac")
    decoded = decode_to_flac(source, audio, decoding, cancel.is_set)
    speech, windows = find_windows(audio, decoded.duration, transcriber, cancel)
    guess = LanguageGuess(language)
    first = language
    for channel in dict.fromkeys(window.channel for window in windows):
        if language is None:
            own = [window for window in windows if window.channel == channel]
            found = detect_language(audio, own, transcriber, cancel)
            guess.heard(0.0, found, channel)
            first = first or found

    def transcribe(window: Span) -> SpokenWindow:
        expected = guess.at(window.start, window.channel)
        loaded = load_window(audio, window, speech, expected, cancel)
        return transcribe_by_language(replace(loaded, language_is_guess=language is None), transcriber)

    segments: list[Segment] = []
    waiting: list[Segment] = []
    starts = [*(window.start for window in windows), inf]
    next_start = dict(zip(windows, starts[1:], strict=True))
    failures = Failures(StageName.TRANSCRIBING)
    incomplete = 0
    results = attempts(transcribe, windows, transcriber.windows_at_once, cancel, failures, in_order)
    for window, result in results:
        if isinstance(result, HearingError):
            continue
        if result.spoken:
            guess.heard(window.start, result.spoken[-1].language, window.channel)
        incomplete += result.trouble is not None
        waiting += [replace(segment, channel=window.channel) for segment in result.segments]
        # Windows of several channels overlap: what may come after the beginning of the next has to wait.
        waiting.sort(key=lambda segment: segment.start)
        ready = [part for part in waiting if window.channel is None or part.start < next_start[window]]
        waiting = waiting[len(ready) :]
        segments += ready
        yield ready
    if waiting:
        segments += waiting
        yield waiting
    check_wanted(cancel)
    failures.check_any()
    notes = list(decoded.notes)
    if failures.error is not None:
        log.warning("%d windows could not be transcribed: %s", failures.count, failures.error)
    if failed := failures.count + incomplete:
        numbers = {"failed": failed, "total": len(windows)}
        notes.append(Note(NoteKind.WINDOWS_FAILED, StageName.TRANSCRIBING, numbers=numbers))
    if not speech:
        notes.append(NO_SPEECH)
    yield Transcript(
        segments=tuple(segments),
        duration=decoded.duration,
        language=language or next(iter(languages_spoken(segments)), first),
        coverage=coverage(speech, segments, notes),
        gaps=tuple(find_gaps(speech, segments, notes)),
        notes=tuple(notes),
    )


def find_windows(
    audio: Path,
    duration: float,
    transcriber: Transcriber,
    cancel: threading.Event,
    progress: Callable[[float], None] | None = None,
) -> tuple[list[Span], list[Span]]:
    """Detect speech, and cut the windows that a transcriber wants.

    Args:
        audio: 16 kHz copy of ``duration`` seconds.
        duration: Its length.
        transcriber: Says how long windows may be.
        cancel: Ends the work early.
        progress: Called with the seconds that are done.

    Returns:
        Detected speech and the windows that hold all of it, both in order; where the copy has several
        channels, each with its channel, and windows of different channels overlap.

    Raises:
        Cancelled: ``cancel`` was set.
    """
    speech = detect_speech(audio, progress=progress, cancelled=cancel.is_set)
    longest = transcriber.window_speech_seconds, transcriber.max_window_seconds
    windows = [
        replace(window, channel=channel)
        for channel in dict.fromkeys(span.channel for span in speech)
        for window in cut_windows([span for span in speech if span.channel == channel], duration, *longest)
    ]
    return speech, sorted(windows, key=lambda window: window.start)


def load_window(
    audio: Path, window: OfChannel, speech: Sequence[Span], language: str | None, stop: threading.Event
) -> AudioWindow:
    """A window with its samples and the speech whose middle lies in it.

    On one channel of several, what is not its own speech is softened: it may be a copy of another's.
    """
    inside = tuple(
        Span(span.start, span.end)
        for span in speech
        if span.channel == window.channel and window.start <= (span.start + span.end) / 2 < window.end
    )
    samples = read_range(audio, window.start, window.end, window.channel)
    if window.channel is not None:
        samples = samples * _gain(len(samples), window.start, inside)
    return AudioWindow(raise_quiet(samples), window.start, inside, language, stop=stop)


def _gain(samples: int, start: float, speech: Sequence[Span]) -> np.ndarray:
    """1 where there is speech and ``SOFTENED`` elsewhere, float32 ``[samples]``, with short ramps."""
    gain = np.full(samples, SOFTENED, np.float32)
    for span in speech:
        first, last = (round((time - start) * SAMPLE_RATE) for time in (span.start, span.end))
        gain[max(0, first) : max(0, last)] = 1.0
    ramp = round(RAMP_SECONDS * SAMPLE_RATE)
    steps = np.flatnonzero(np.diff(gain)) + 1
    for step in steps.tolist():
        first, last = max(0, step - ramp // 2), min(samples, step + ramp // 2)
        gain[first:last] = np.linspace(gain[first], gain[last - 1], last - first)
    return gain


def detect_language(
    audio: Path, windows: Sequence[OfChannel], transcriber: Transcriber, cancel: threading.Event
) -> str | None:
    """The likeliest language of the first windows as ISO 639-1 code; None where the engine cannot tell.

    Raises:
        Cancelled: ``cancel`` was set.
    """
    guesses: list[tuple[float, str]] = []
    for window in windows[:LANGUAGE_WINDOWS]:
        check_wanted(cancel)
        heard = raise_quiet(read_range(audio, window.start, window.end, window.channel))
        found = transcriber.detect_language(heard)
        if found is None:
            break
        language, probability = found
        guesses.append((probability, language))
        if probability >= LANGUAGE_IS_CLEAR:
            break
    return max(guesses)[1] if guesses else None


def check_wanted(cancel: threading.Event | None) -> None:
    """Stop here if nobody wants the result any more.

    Raises:
        Cancelled: ``cancel`` is set.
    """
    if cancel is not None and cancel.is_set():
        raise Cancelled("Stopped; nobody is waiting for this transcript any more.")
