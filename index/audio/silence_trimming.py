"""Silence trimming: a window without its long pauses, on which speech models invent text, or stop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from index.audio.windows import AudioWindow
from index.records import Span
from moss_audio.audio import SAMPLE_RATE


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
