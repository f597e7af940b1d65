"""Windows: stretches of audio, cut at silence, that are transcribed in one go.

A window is the unit of work that is stored, resumed and retried. How long it is, the transcriber says;
cutting only at pauses keeps sentences whole, which is what loses no words (docs/decisions/0002-windows.md).
For models that invent text on long pauses, or stop there, a window is heard with its silence trimmed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np

from index.records import Span
from moss_audio.audio import SAMPLE_RATE

MAX_SPEECH_SECONDS = 60.0
"""Speech in one window of a transcriber that works in passes of its own, as Whisper does: enough to keep
its 30-second passes full, and all that a ``kill -9`` can cost."""

MAX_WINDOW_SECONDS = 300.0
"""Length of such a window, silence included; bounds the memory of a sparse recording."""

QUIET, USUAL = 0.05, 0.3
"""Speech below the one is raised to the other: the level that one sample in 200 exceeds, of full scale."""

MOST_RAISED = 1000.0
"""60 dB: beyond that, 16 bits hold no speech."""

MARGIN_SECONDS = 0.3
"""Silence kept around a window's speech, where there is any: Whisper clips words at a hard edge."""


@dataclass(frozen=True)
class AudioWindow:
    """What a transcriber hears in one go.

    Attributes:
        audio: float32 ``[n_samples]``, mono, 16 kHz.
        start: Where the window begins on the recording's clock, seconds.
        speech: Detected speech inside it, on the recording's clock.
        language: ISO 639-1 code, or None when unknown.
        language_is_guess: Whether some or all of it may be spoken in another language.
        stop: Set when nobody waits for the result any more; an engine that can stop early raises
            ``Cancelled`` then.
    """

    audio: np.ndarray = field(repr=False)
    start: float
    speech: tuple[Span, ...]
    language: str | None = None
    language_is_guess: bool = False
    stop: threading.Event | None = field(default=None, repr=False, compare=False)

    @property
    def end(self) -> float:
        """Where it ends on the recording's clock, seconds."""
        return self.start + len(self.audio) / SAMPLE_RATE


def raise_quiet(samples: np.ndarray) -> np.ndarray:
    """Samples as loud as speech usually is, where all of them are far from it.

    Silero hears nothing at -60 dB of what it hears whole at 0 dB, and Whisper's log-mel moves with the level.

    Args:
        samples: float32 in [-1, 1], of any shape; all channels are raised by the same.
    """
    loud = float(np.percentile(np.abs(samples), 99.5)) if samples.size else 0.0
    if not 0.0 < loud < QUIET:
        return samples
    return np.clip(samples * np.float32(min(MOST_RAISED, USUAL / loud)), -1.0, 1.0)


def cut_windows(
    speech: Sequence[Span],
    duration: float,
    speech_seconds: float = MAX_SPEECH_SECONDS,
    window_seconds: float = MAX_WINDOW_SECONDS,
) -> list[Span]:
    """Pack spans of speech into windows, cut at long pauses.

    Each holds at least half of what it may, in speech or in length, unless no way of cutting allows that.

    Args:
        speech: Detected speech, in order and disjoint, each span shorter than ``speech_seconds``.
        duration: The recording's length in seconds.
        speech_seconds: Speech in one window at most.
        window_seconds: Length of one window at most, silence included.

    Returns:
        Disjoint windows in order; every span of speech lies inside exactly one.
    """
    windows: list[Span] = []
    first = 0
    for last in _last_spans(speech, speech_seconds, window_seconds):
        before = speech[first - 1].end if first else 0.0
        after = speech[last + 1].start if last + 1 < len(speech) else duration
        # A pause shorter than two margins is shared at its middle.
        lead = min(MARGIN_SECONDS, (speech[first].start - before) / (2 if first else 1))
        tail = min(MARGIN_SECONDS, (after - speech[last].end) / (2 if last + 1 < len(speech) else 1))
        windows.append(Span(speech[first].start - max(0.0, lead), speech[last].end + max(0.0, tail)))
        first = last + 1
    return windows


def _last_spans(speech: Sequence[Span], speech_seconds: float, window_seconds: float) -> Iterator[int]:
    """Index of the last span of each window, for the best of all ways to cut.

    What counts is by how much windows fall short of being half full, and if that is equal, how short the
    pauses are at which they are cut. Found from the end backwards: ``best[first]`` is that for everything
    from span ``first`` on, and where the window that begins there ends.
    """
    spoken = list(accumulate((span.duration for span in speech), initial=0.0))
    best: list[tuple[float, float, int]] = [(0.0, 0.0, len(speech))] * (len(speech) + 1)
    for first in reversed(range(len(speech))):
        ways = []
        for last in range(first, len(speech)):
            length = speech[last].end - speech[first].start
            full = max((spoken[last + 1] - spoken[first]) / speech_seconds, length / window_seconds)
            if last > first and full > 1.0:
                break
            short, cuts, _ = best[last + 1]
            if last + 1 < len(speech):
                cuts += 1.0 / (1.0 + speech[last + 1].start - speech[last].end)
            ways.append((round(short + max(0.0, 0.5 - full), 6), cuts, last))
        best[first] = min(ways)
    first = 0
    while first < len(speech):
        yield best[first][2]
        first = best[first][2] + 1


@dataclass(frozen=True)
class KeptSpan:
    """A stretch of a window that trimming kept.

    Attributes:
        start: Where it begins in the trimmed audio, seconds.
        original: Where it was on the recording's clock.
    """

    start: float
    original: Span

    @property
    def end(self) -> float:
        """Where it ends in the trimmed audio, seconds."""
        return self.start + self.original.duration


def trim_silence(window: AudioWindow, keep_pause: float) -> tuple[np.ndarray, list[KeptSpan]]:
    """Shorten the pauses of a window.

    Args:
        window: What is to be heard.
        keep_pause: Seconds that are left of a longer pause, half on each side.

    Returns:
        float32 ``[n_samples]``, 16 kHz, empty where nobody speaks, and the spans it consists of, by which
        ``original_time`` leads its times back.
    """
    margin = keep_pause / 2
    originals: list[Span] = []
    for speech in window.speech:
        span = Span(max(window.start, speech.start - margin), min(window.end, speech.end + margin))
        if originals and span.start <= originals[-1].end:
            originals[-1] = Span(originals[-1].start, max(originals[-1].end, span.end))
        elif span.duration > 0:
            originals.append(span)
    kept: list[KeptSpan] = []
    blocks: list[np.ndarray] = []
    position = 0
    for span in originals:
        first, last = (round((time - window.start) * SAMPLE_RATE) for time in (span.start, span.end))
        block = window.audio[first:last]
        kept.append(KeptSpan(position / SAMPLE_RATE, span))
        blocks.append(block)
        position += len(block)
    return (np.concatenate(blocks) if blocks else np.zeros(0, dtype=np.float32)), kept


def original_time(time: float, kept: Sequence[KeptSpan], ends: bool = False) -> float:
    """A time of the trimmed audio on the recording's clock.

    Args:
        time: Seconds in the trimmed audio.
        kept: What it consists of; at least one span.
        ends: Whether something ends there, so that at a seam it belongs to the span before it.
    """
    holding = (span for span in kept if (time <= span.end if ends else time < span.end))
    span = next(holding, kept[-1])
    return min(max(time - span.start, 0.0), span.original.duration) + span.original.start
