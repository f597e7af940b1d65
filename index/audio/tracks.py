"""Which of a file's audio tracks is heard, and what the others have that it has not.

A player plays the track that is flagged as the default. It may be silent, or one of two: a call recorded with
the other side on a track of its own, or a film in two languages. Tracks are compared by how loud they are in
each tenth of a second.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from index.recording_errors import Cancelled
from index.records import Span
from moss_audio.audio import SAMPLE_RATE, AudioStream
from moss_audio.errors import AudioError

STEP_SECONDS = 0.1

AUDIBLE = 0.002
"""Root mean square of a tenth of a second from which there is sound: -54 dB of full scale."""

ALIKE = 0.9
"""Correlation of loudness from which two tracks are the same sound, for example in stereo and in 5.1."""

PAUSE_SECONDS = 2.0
"""Shorter pauses do not end a stretch of sound."""


@dataclass(frozen=True)
class TrackChoice:
    """What is heard of a file with several audio tracks.

    Attributes:
        track: Number of the audio track that is heard, from 0.
        others: Numbers of the tracks that have another sound.
        spans: Where those have any, seconds.
    """

    track: int
    others: tuple[int, ...] = ()
    spans: tuple[Span, ...] = ()


def choose_track(path: Path, cancelled: Callable[[], bool]) -> TrackChoice:
    """Decide which audio track is heard: the default one, or the loudest where that is silent.

    A file with one track is not decoded for that.

    Raises:
        AudioError: Not media, or without sound.
        Cancelled: ``cancelled()`` became true.
    """
    with AudioStream(path) as stream:
        track, count = stream.track, stream.tracks
    if count == 1:
        return TrackChoice(track)
    levels = [_levels(path, number, cancelled) for number in range(count)]
    if not _is_audible(levels[track]).any():
        track = max(range(count), key=lambda number: float(np.square(levels[number]).sum()))
    others = tuple(
        number
        for number in range(count)
        if number != track and _is_audible(levels[number]).any() and not _alike(levels[track], levels[number])
    )
    return TrackChoice(track, others, _stretches([levels[number] for number in others]))


def _levels(path: Path, track: int, cancelled: Callable[[], bool]) -> np.ndarray:
    """Root mean square of each tenth of a second of a track; empty where it cannot be decoded."""
    step = round(STEP_SECONDS * SAMPLE_RATE)
    rest = np.zeros(0, np.float32)
    levels = []
    try:
        with AudioStream(path, track) as stream:
            for block in stream.blocks():
                if cancelled():
                    raise Cancelled("Stopped while reading the file; nothing was kept.")
                rest = np.concatenate([rest, block])
                whole = len(rest) // step * step
                levels.append(np.sqrt(np.square(rest[:whole].reshape(-1, step)).mean(axis=1)))
                rest = rest[whole:]
    except AudioError:
        return np.zeros(0)
    return np.concatenate(levels)


def _is_audible(levels: np.ndarray) -> np.ndarray:
    return levels > AUDIBLE


def _alike(levels: np.ndarray, others: np.ndarray) -> bool:
    length = max(len(levels), len(others))
    first, second = (np.pad(each, (0, length - len(each))) for each in (levels, others))
    if first.std() < 1e-9 or second.std() < 1e-9:
        return False
    return bool(np.corrcoef(first, second)[0, 1] >= ALIKE)


def _stretches(tracks: list[np.ndarray]) -> tuple[Span, ...]:
    """Where any of the tracks has sound, with short pauses as part of it."""
    stretches: list[Span] = []
    for step in sorted({step for levels in tracks for step in np.flatnonzero(_is_audible(levels)).tolist()}):
        start = step * STEP_SECONDS
        if stretches and start - stretches[-1].end <= PAUSE_SECONDS:
            stretches[-1] = Span(stretches[-1].start, start + STEP_SECONDS)
        else:
            stretches.append(Span(start, start + STEP_SECONDS))
    return tuple(stretches)
