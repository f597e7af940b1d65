"""Voice activity detection: where somebody speaks, by Silero's detector, in a recording of any length.

The detector is the batched ONNX form that faster-whisper packages.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile

from index.audio.sides import frame_levels, own_speech
from index.audio.windows import raise_quiet
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

OWN_SPEECH_SECONDS = 1.0
"""Speech of its own that makes a channel a side of a conversation."""

PADDING_SECONDS = 0.1
"""Added on both sides, since the detector clips soft beginnings and endings."""


def detect_speech(
    audio: Path,
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> list[Span]:
    """Find speech in a 16 kHz FLAC copy.

    Args:
        audio: The copy that ``index.audio.decode.decode_to_flac`` wrote.
        progress: Called with the seconds of audio done so far.
        cancelled: Asked between blocks.

    Returns:
        Spans in order, within the recording; those of one channel are disjoint. Where the copy has several,
        each span has its channel, and what is only a copy of another one's speech is left out.

    Raises:
        Cancelled: ``cancelled()`` became true.
    """
    with soundfile.SoundFile(audio) as flac:
        listener = _Listener(flac.channels)
        for block in flac.blocks(round(BLOCK_SECONDS * SAMPLE_RATE), dtype="float32", always_2d=True):
            if cancelled():
                raise Cancelled("Stopped while looking for speech; the decoded audio is kept.")
            listener.hear(block.T)
            if progress:
                progress(listener.seconds)
    return listener.speech()


def speaking(audio: Path, most: int, cancelled: Callable[[], bool] = lambda: False) -> list[int]:
    """Channels of a copy that have speech of their own.

    Args:
        audio: The copy.
        most: As many may have; all of it is listened to only until they are found.
        cancelled: Asked between blocks.

    Raises:
        Cancelled: ``cancelled()`` became true.
    """
    own: list[int] = []
    with soundfile.SoundFile(audio) as flac:
        listener = _Listener(flac.channels)
        for block in flac.blocks(round(BLOCK_SECONDS * SAMPLE_RATE), dtype="float32", always_2d=True):
            if cancelled():
                raise Cancelled("Stopped while looking for speech; nothing was kept.")
            listener.hear(block.T)
            seconds = [0.0] * flac.channels
            for span in listener.speech():
                seconds[span.channel or 0] += span.duration
            own = [channel for channel, spoken in enumerate(seconds) if spoken >= OWN_SPEECH_SECONDS]
            if len(own) == most:
                break
    return own


class _Listener:
    """The speech of every channel of a copy, block by block."""

    def __init__(self, channels: int) -> None:
        self.seconds = 0.0
        self._spans: list[list[Span]] = [[] for _ in range(channels)]
        self._levels: list[np.ndarray] = []

    def hear(self, rows: np.ndarray) -> None:
        """The next samples, float32 ``[n_channels, n_samples]``."""
        for spans, samples in zip(self._spans, rows, strict=True):
            # Each by itself: one side of a call may be far quieter than the other.
            for span in _detect_block(np.ascontiguousarray(raise_quiet(samples))):
                _append(spans, Span(self.seconds + span.start, self.seconds + span.end))
        if len(rows) > 1:
            self._levels.append(frame_levels(np.diff(rows, axis=1, prepend=rows[:, :1])))
        self.seconds += rows.shape[1] / SAMPLE_RATE

    def speech(self) -> list[Span]:
        """What was found so far, in order."""
        if len(self._spans) == 1:
            return self._spans[0]
        own = own_speech(np.concatenate(self._levels, axis=1), self._spans)
        found = [replace(span, channel=channel) for channel, spans in enumerate(own) for span in spans]
        return sorted(found, key=lambda span: (span.start, span.channel))


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
