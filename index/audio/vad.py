"""Voice activity detection: where somebody speaks, by Silero's detector, in a recording of any length.

The detector is the batched ONNX form that faster-whisper packages.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from index.recording_errors import Cancelled
from index.records import Span
from moss_audio.audio import SAMPLE_RATE

BLOCK_SECONDS = 600.0
"""Audio held at a time, so that memory does not grow with the recording: 38 MB."""

MAX_SPAN_SECONDS = 25.0
"""A longer stretch is split at its last short pause, so that windows always find a place to cut."""

MIN_PAUSE_SECONDS = 0.3
"""A pause shorter than this does not end a stretch of speech."""

MIN_SPEECH_SECONDS = 0.15
"""Shorter noises (clicks, knocks) are not speech."""

PADDING_SECONDS = 0.1
"""Added on both sides, since the detector clips soft beginnings and endings."""


def detect_speech(
    audio: Path,
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> list[Span]:
    """Find speech in a 16 kHz mono FLAC copy.

    Args:
        audio: The copy that ``index.audio.decode.decode_to_flac`` wrote.
        progress: Called with the seconds of audio done so far.
        cancelled: Asked between blocks.

    Returns:
        Spans in order, disjoint, within the recording.

    Raises:
        Cancelled: ``cancelled()`` became true.
    """
    spans: list[Span] = []
    with soundfile.SoundFile(audio) as flac:
        offset = 0
        while offset < flac.frames:
            if cancelled():
                raise Cancelled("Stopped while looking for speech; the decoded audio is kept.")
            block = flac.read(round(BLOCK_SECONDS * SAMPLE_RATE), dtype="float32")
            for span in _detect_block(block):
                shifted = Span(offset / SAMPLE_RATE + span.start, offset / SAMPLE_RATE + span.end)
                _append(spans, shifted)
            offset += len(block)
            if progress:
                progress(offset / SAMPLE_RATE)
    return spans


def _detect_block(block: np.ndarray) -> list[Span]:
    from faster_whisper.vad import VadOptions, get_speech_timestamps

    options = VadOptions(
        min_speech_duration_ms=round(MIN_SPEECH_SECONDS * 1000),
        max_speech_duration_s=MAX_SPAN_SECONDS,
        min_silence_duration_ms=round(MIN_PAUSE_SECONDS * 1000),
        speech_pad_ms=round(PADDING_SECONDS * 1000),
    )
    stretches = get_speech_timestamps(block, options)
    return [Span(found["start"] / SAMPLE_RATE, found["end"] / SAMPLE_RATE) for found in stretches]


def _append(spans: list[Span], span: Span) -> None:
    """Add a span; speech cut by a block's border becomes one span again unless that would be too long."""
    if spans and span.start - spans[-1].end < 0.01 and span.end - spans[-1].start <= MAX_SPAN_SECONDS:
        spans[-1] = Span(spans[-1].start, span.end)
    else:
        spans.append(span)
