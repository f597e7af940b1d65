"""How loud a recording is over time, for drawing it: one byte for 50 ms, kept beside the audio copy.

Ten hours are 720 KB. What is drawn is a few hundred points made of them.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import numpy as np
import soundfile

from index.disk_space import noticing_full_disk
from index.recording_errors import DiskFull

PEAKS_PER_SECOND = 20
BLOCK_SECONDS = 60
SUFFIX = ".peaks"

_locks: defaultdict[Path, threading.Lock] = defaultdict(threading.Lock)


def peaks_of(copy: Path) -> np.ndarray:
    """The peaks of an audio copy, uint8 ``[n]``, ``PEAKS_PER_SECOND`` of them.

    Each is 255 times the root of the loudest sample's magnitude, of all channels. They are computed once and
    kept beside the copy; where that cannot be written, they are computed each time.

    Raises:
        OSError, soundfile.LibsndfileError: The copy cannot be read.
    """
    kept = copy.with_suffix(SUFFIX)
    info = soundfile.info(copy)
    step = info.samplerate // PEAKS_PER_SECOND
    count = -(-info.frames // step)
    with _locks[kept]:
        with suppress(OSError):
            # Heard anew from another track, the copy is as long as it was.
            if kept.stat().st_mtime_ns >= copy.stat().st_mtime_ns:
                stored = np.frombuffer(kept.read_bytes(), dtype=np.uint8)
                if stored.size == count:
                    return stored
        peaks = _compute(copy, step)
        # A copy that was removed meanwhile leaves no peaks behind.
        with suppress(OSError, DiskFull), noticing_full_disk(copy.parent):
            if copy.exists():
                partial = kept.with_suffix(".peaks-partial")
                partial.write_bytes(peaks.tobytes())
                partial.replace(kept)
    return peaks


def _compute(copy: Path, step: int) -> np.ndarray:
    found = []
    with soundfile.SoundFile(copy) as file:
        for block in file.blocks(step * PEAKS_PER_SECOND * BLOCK_SECONDS, dtype="int16", always_2d=True):
            # int16 has no 32,768, so -32,768 has no magnitude of its own.
            loudest = np.maximum(block.max(axis=1), -np.maximum(block.min(axis=1), -32767))
            found.append(np.maximum.reduceat(loudest, np.arange(0, len(loudest), step)))
    loudest = np.concatenate(found) if found else np.zeros(0, dtype=np.int16)
    return np.round(255 * np.sqrt(loudest / 32767)).astype(np.uint8)


def drawn(peaks: np.ndarray, start: float, end: float, points: int) -> np.ndarray:
    """The mean peak in each of ``points`` equal parts of ``[start, end)`` seconds, uint8 ``[points]``.

    The mean, since the loudest peak of a long part is the same everywhere. 0 where the recording has no such
    seconds.

    Raises:
        ValueError: The range is empty, or there are no points.
    """
    if not end > start or points < 1:
        raise ValueError("The range and the number of points must be positive.")
    edges = np.linspace(start, end, points + 1) * PEAKS_PER_SECOND
    first = np.floor(edges[:-1] + 1e-6).astype(np.int64)
    after = np.maximum(np.ceil(edges[1:] - 1e-6).astype(np.int64), first + 1)
    inside = (first >= 0) & (first < peaks.size)
    out = np.zeros(points, dtype=np.uint8)
    if inside.any():
        before = np.concatenate([[0], np.cumsum(peaks, dtype=np.int64)])
        low, high = first[inside], np.minimum(after[inside], peaks.size)
        out[inside] = np.round((before[high] - before[low]) / (high - low)).astype(np.uint8)
    return out
