"""Windows: stretches of audio, cut at silence, that are transcribed in one go.

A window is the unit of work that is stored, resumed and retried. How long it is, the transcriber says;
cutting only at pauses keeps sentences whole, which is what loses no words (docs/decisions/0002-windows.md).
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
