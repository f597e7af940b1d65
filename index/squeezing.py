"""A window without its long pauses: speech models invent text on silence, or stop there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from index.audio import SAMPLE_RATE
from index.records import Span
from index.windows import AudioWindow


@dataclass(frozen=True)
class Piece:
    """A stretch of a window that was kept: where it begins in the squeezed audio, and where it was."""

    start: float
    original: Span

    @property
    def end(self) -> float:
        """Where it ends in the squeezed audio, seconds."""
        return self.start + self.original.duration


def squeeze(window: AudioWindow, keep_pause: float) -> tuple[np.ndarray, list[Piece]]:
    """Shorten the pauses of a window.

    Args:
        window: What is to be heard.
        keep_pause: Seconds that are left of a longer pause, half on each side.

    Returns:
        float32 ``[n_samples]``, empty where nobody speaks, and the pieces that lead its times back.
    """
    margin = keep_pause / 2
    kept: list[Span] = []
    for span in window.speech:
        piece = Span(max(window.start, span.start - margin), min(window.end, span.end + margin))
        if kept and piece.start <= kept[-1].end:
            kept[-1] = Span(kept[-1].start, max(kept[-1].end, piece.end))
        elif piece.duration > 0:
            kept.append(piece)
    pieces: list[Piece] = []
    blocks: list[np.ndarray] = []
    position = 0
    for span in kept:
        first, last = (round((time - window.start) * SAMPLE_RATE) for time in (span.start, span.end))
        block = window.audio[first:last]
        pieces.append(Piece(position / SAMPLE_RATE, span))
        blocks.append(block)
        position += len(block)
    return (np.concatenate(blocks) if blocks else np.zeros(0, dtype=np.float32)), pieces


def original_time(time: float, pieces: Sequence[Piece], ends: bool = False) -> float:
    """A time of the squeezed audio on the recording's clock.

    Args:
        time: Seconds in the squeezed audio.
        pieces: At least one.
        ends: Whether something ends there, so that at a seam it belongs to the piece before it.
    """
    holds = (one for one in pieces if (time <= one.end if ends else time < one.end))
    piece = next(holds, pieces[-1])
    return min(max(time - piece.start, 0.0), piece.original.duration) + piece.original.start
