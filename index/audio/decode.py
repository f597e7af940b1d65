"""The one lossless copy of a recording that player, recogniser and listener share: 16 kHz mono FLAC.

``moss_audio.audio`` decodes the media file, so second ``t`` of the copy is second ``t`` of the original in a
media player. soundfile writes and reads the copy, exact to the sample.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from index.audio.tracks import TrackChoice, choose_track
from index.disk_space import disk_full, noticing_full_disk
from index.recording_errors import Cancelled, MediaError
from index.records import Note, NoteKind, Span, StageName
from moss_audio.audio import SAMPLE_RATE, AudioStream, DecodeReport, check_media_file
from moss_audio.errors import AudioError

__all__ = [
    "SAMPLE_RATE",
    "Decoded",
    "declared_duration",
    "decode_to_flac",
    "file_id",
    "read_open_range",
    "read_range",
]

DAMAGED_PACKETS = 5
"""Damaged packets up to which nothing is said where no sound is missing between others: even whole files may
have a few at their beginning or end."""

Progress = Callable[[float], None]
"""Called with the seconds of audio done so far."""


@dataclass(frozen=True)
class Decoded:
    """What became of a media file.

    Attributes:
        duration: Length of the copy in seconds.
        notes: What part of the file was unusable.
    """

    duration: float
    notes: tuple[Note, ...] = ()


def file_id(path: Path) -> str:
    """SHA-256 of the file's bytes as 64 hex digits: the recording's id.

    Raises:
        MediaError: The file does not exist, is empty or cannot be read.
    """
    try:
        with _as_media_error():
            check_media_file(path)
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise MediaError(f"{path.name} cannot be read ({error.strerror}); check its permissions.") from error


def decode_to_flac(
    source: Path,
    target: Path,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Decoded:
    """Write a media file's audio to ``target`` as 16 kHz mono FLAC, complete or not at all.

    Memory stays flat with length: blocks go from decoder to encoder as they come.

    Args:
        source: Any media file that FFmpeg reads; of several audio tracks the default one is heard
            (``index.audio.tracks``).
        target: The copy; its folder is made.
        progress: Called after each block.
        cancelled: Asked before each block, and while one is waited for.

    Raises:
        MediaError: Not media, no audio stream, or nothing in it can be decoded.
        Cancelled: ``cancelled()`` became true.
        DiskFull: There is no room for the copy.
    """

    def check() -> None:
        if cancelled():
            raise Cancelled("Stopped while reading the file; nothing was kept.")

    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    samples = 0
    try:
        with _as_media_error():
            choice = choose_track(source, cancelled)
        with (
            noticing_full_disk(target.parent),
            _as_media_error(),
            soundfile.SoundFile(partial, "w", SAMPLE_RATE, 1, format="FLAC", subtype="PCM_16") as flac,
            AudioStream(source, choice.track, waiting=check) as stream,
        ):
            for block in stream.blocks():
                check()
                flac.write(np.clip(block, -1.0, 1.0))
                samples += len(block)
                if progress:
                    progress(samples / SAMPLE_RATE)
        _check_written(partial, samples)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return Decoded(samples / SAMPLE_RATE, (*_damage(stream.report), *_unheard(choice)))


def _check_written(copy: Path, samples: int) -> None:
    """Make sure that all of a copy is on the disk; libsndfile does not say what fails when it closes a file.

    Raises:
        DiskFull: It is not.
    """
    with noticing_full_disk(copy.parent), copy.open("rb") as file:
        os.fsync(file.fileno())
    try:
        with soundfile.SoundFile(copy) as flac:
            flac.seek(max(0, samples - 1))
            whole = flac.frames == samples and len(flac.read(1)) == min(samples, 1)
    except soundfile.SoundFileError:
        whole = False
    if not whole:
        raise disk_full(copy.parent)


def _damage(report: DecodeReport) -> tuple[Note, ...]:
    """What part of a file could not be read; nothing where that is not worth mentioning."""
    notes = []
    if report.cut_short and report.declared_seconds is not None:
        missing = Span(report.decoded_seconds, report.declared_seconds)
        notes.append(Note(NoteKind.CUT_SHORT, StageName.READING, (missing,)))
    holes = tuple(Span(start, end) for start, end in report.holes)
    if holes or (report.damaged_packets > DAMAGED_PACKETS and not report.cut_short):
        numbers = {"packets": report.damaged_packets}
        notes.append(Note(NoteKind.DAMAGED, StageName.READING, holes, numbers))
    if report.parts_left_out:
        numbers = {"parts": report.parts_left_out}
        notes.append(Note(NoteKind.PARTS_LEFT_OUT, StageName.READING, numbers=numbers))
    return tuple(notes)


def _unheard(choice: TrackChoice) -> tuple[Note, ...]:
    """What other tracks of the file have, which nobody heard."""
    if not choice.others:
        return ()
    # People count tracks from 1.
    numbers = {"heard": choice.track + 1, "others": len(choice.others), "other": choice.others[0] + 1}
    return (Note(NoteKind.TRACKS_NOT_HEARD, StageName.READING, choice.spans, numbers),)


def read_range(path: Path, start: float = 0.0, end: float | None = None) -> np.ndarray:
    """Samples of ``[start, end)`` seconds of a 16 kHz mono FLAC copy, float32 ``[n_samples]``.

    A range beyond the end gives what there is of it, possibly nothing.
    """
    with soundfile.SoundFile(path) as flac:
        return read_open_range(flac, start, end)


def read_open_range(flac: soundfile.SoundFile, start: float, end: float | None = None) -> np.ndarray:
    """As ``read_range``, from a copy that is open."""
    first = min(max(0, round(start * SAMPLE_RATE)), flac.frames)
    last = flac.frames if end is None else min(max(first, round(end * SAMPLE_RATE)), flac.frames)
    flac.seek(first)
    return flac.read(last - first, dtype="float32")


def declared_duration(path: Path) -> float | None:
    """Seconds the container claims to last, for progress; None where it does not say."""
    with suppress(AudioError), AudioStream(path) as stream:
        return stream.declared_seconds
    return None


@contextmanager
def _as_media_error() -> Iterator[None]:
    """Map the decoder's error to the one that recordings have; the sentence stays."""
    try:
        yield
    except AudioError as error:
        raise MediaError(str(error)) from error
