"""Whether an imported transcript fits its media: the clock against the length, and against detected speech.

Where a transcript's clock began earlier or later than the media, its lines and the detected speech have the
same pattern of talk and pauses, moved. The lag at which both agree best is that of the peak of their
cross-correlation; it counts only where they agree well there, and not without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from index.imports.cues import interpolated
from index.imports.transcript_files import move
from index.recording_errors import TranscriptError
from index.records import Segment, Span
from moss_audio.timestamps import clock

BINS_A_SECOND = 20
SHORTEST_SECONDS = 20.0
"""Shorter recordings have too few pauses to compare."""

MOST_LAG_SECONDS = 900.0

LEAST_AGREEMENT = 0.3
CHANCE = 2.2
"""A lower correlation is no sign; nor is one below ``CHANCE`` / √n with n stretches of speech: patterns of so
many that have nothing to do with each other reach about 1.4 / √n at their best lag."""

MUCH_BETTER = 2.0
"""How many times the correlation without a lag it must be for the transcript to be moved."""

NEAR_SECONDS = 0.5
"""Times of subtitles are off by as much; what agrees within it fits as it is."""

BEYOND_SECONDS, BEYOND_SHARE = 2.0, 0.01
"""How far the last line may go beyond the media's end: players and recorders round."""


def find_lag(segments: Sequence[Segment], speech: Sequence[Span], duration: float) -> float:
    """How much later (seconds) a transcript must be to fit; 0 where it fits, and where nothing can be said.

    Args:
        segments: The transcript, on its own clock.
        speech: Detected speech, on the media's.
        duration: The media's length, seconds.
    """
    spoken = [Span(segment.start, segment.end) for segment in segments if segment.kind == "speech"]
    length = max([duration, *(span.end for span in spoken)])
    if duration < SHORTEST_SECONDS or not spoken or not speech:
        return 0.0
    written, heard = _activity(spoken, length), _activity(speech, length)
    if min(written.std(), heard.std()) < 0.05:
        return 0.0
    size = 1 << int(2 * len(written) - 1).bit_length()
    spectrum = np.fft.rfft(heard - heard.mean(), size) * np.conj(np.fft.rfft(written - written.mean(), size))
    agreement = np.fft.irfft(spectrum, size)
    most = int(min(MOST_LAG_SECONDS, length / 2) * BINS_A_SECOND)
    # Lags -most … most, 0 in the middle.
    agreement = np.concatenate([agreement[-most:], agreement[: most + 1]])
    agreement /= len(written) * written.std() * heard.std()
    best = int(np.argmax(agreement))
    near = round(NEAR_SECONDS * BINS_A_SECOND)
    now = float(agreement[most - near : most + near + 1].max())
    clear = max(LEAST_AGREEMENT, CHANCE / min(_stretches(written), _stretches(heard)) ** 0.5)
    if agreement[best] < max(clear, MUCH_BETTER * now):
        return 0.0
    return (best - most) / BINS_A_SECOND


def _activity(spans: Sequence[Span], length: float) -> np.ndarray:
    """Whether somebody speaks, float64 ``[n_bins]``."""
    active = np.zeros(int(length * BINS_A_SECOND) + 1)
    for span in spans:
        first, last = round(span.start * BINS_A_SECOND), round(span.end * BINS_A_SECOND)
        active[first : max(first + 1, last)] = 1.0
    return active


def _stretches(active: np.ndarray) -> int:
    """How many times somebody begins to speak."""
    return max(1, int(np.count_nonzero(np.diff(active, prepend=0.0) > 0)))


def fit_to_media(
    segments: Sequence[Segment], speech: Sequence[Span], duration: float, media: str
) -> tuple[Callable[[Segment], Segment], float]:
    """How a transcript comes onto its media's clock, with interpolated words where somebody speaks.

    Args:
        segments: The transcript, on its own clock.
        speech: Detected speech.
        duration: The media's length, seconds.
        media: The media file's name.

    Returns:
        What brings one of its segments there, and how much later they are than before, seconds.

    Raises:
        TranscriptError: The transcript goes on where the media has ended.
    """
    lag = find_lag(segments, speech, duration)
    moved = [move(segment, lag) if lag else segment for segment in segments]
    last = max((segment.end for segment in moved), default=0.0)
    first_beyond = max((segment.start for segment in moved), default=0.0)
    if last > duration + max(BEYOND_SECONDS, BEYOND_SHARE * duration) or first_beyond > duration:
        raise TranscriptError(
            f"The transcript goes on until {clock(last)}, but {media} ends at {clock(duration)}: it is "
            "another recording, or its clock began at another time. Nothing was changed."
        )

    def fit(segment: Segment) -> Segment:
        return _within(_respread(move(segment, lag) if lag else segment, speech), duration)

    return fit, lag


def _respread(segment: Segment, speech: Sequence[Span]) -> Segment:
    """A segment with its words laid on the speech in it, where their times were interpolated anyway."""
    if not segment.words or any(word.probability > 0.0 for word in segment.words):
        return segment
    return replace(segment, words=interpolated(segment.text, segment.start, segment.end, speech))


def _within(segment: Segment, duration: float) -> Segment:
    if segment.end <= duration:
        return segment
    words = tuple(
        replace(word, start=min(word.start, duration), end=min(word.end, duration)) for word in segment.words
    )
    return replace(segment, end=max(segment.start, duration), words=words)
