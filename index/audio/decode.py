"""The one lossless copy of a recording that player, recogniser and listener share: 16 kHz FLAC.

``moss_audio.audio`` decodes the media file, so second ``t`` of the copy is second ``t`` of the original in a
media player. soundfile writes and reads the copy, exact to the sample. The copy is mono, but where several
sides of a conversation are heard each on its own (``index.audio.tracks``), it has a channel for each.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import soundfile

from index.audio.overload import Overload
from index.audio.sides import HUM_FRAME, Hum
from index.audio.tracks import Heard, Signal, Signals, check, choose_heard
from index.audio.vad import speaking
from index.disk_space import disk_full, noticing_full_disk
from index.recording_errors import MediaError
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
        tracks: Numbers of the audio tracks that are in the copy, from 1 as people count.
    """

    duration: float
    notes: tuple[Note, ...] = ()
    tracks: tuple[int, ...] = (1,)


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
    track: int | None = None,
) -> Decoded:
    """Write a media file's audio to ``target`` as 16 kHz FLAC, complete or not at all.

    Memory stays flat with length: blocks go from decoder to encoder as they come.

    Args:
        source: Any media file that FFmpeg reads.
        target: The copy; its folder is made. It has one channel, or one for each side of a conversation.
        progress: Called after each block.
        cancelled: Asked before each block, and while one is waited for.
        track: The audio track to hear, from 1; by default ``index.audio.tracks`` decides.

    Raises:
        MediaError: Not media, no audio stream, no such track, or nothing in it can be decoded.
        Cancelled: ``cancelled()`` became true.
        DiskFull: There is no room for the copy.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    try:
        with _as_media_error():
            heard = choose_heard(source, None if track is None else track - 1, cancelled)
        signals, overload = Signals(source, heard, cancelled), Overload()
        with _as_media_error():
            samples = _write(partial, signals.blocks(), progress, cancelled, overload)
            if (gain := overload.gain) < 1.0:
                signals = Signals(source, heard, cancelled)
                quieter = (block * np.float32(gain) for block in signals.blocks())
                samples = _write(partial, quieter, progress, cancelled)
        heard = _only_speaking(partial, heard, cancelled)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    damage = dict.fromkeys(note for report in signals.reports for note in _damage(report))
    tracks = tuple(number + 1 for number in heard.tracks)
    return Decoded(samples / SAMPLE_RATE, (*damage, *_unheard(heard, track)), tracks)


def _write(
    copy: Path,
    blocks: Iterator[np.ndarray],
    progress: Progress | None,
    cancelled: Callable[[], bool],
    overload: Overload | None = None,
) -> int:
    """Write blocks, float32 ``[n_channels, n_samples]``, and tell ``overload`` of them; how many samples
    there are.

    Raises:
        Cancelled: ``cancelled()`` became true.
        DiskFull: There is no room for them.
    """
    samples = 0
    first = next(blocks)
    with (
        noticing_full_disk(copy.parent),
        soundfile.SoundFile(copy, "w", SAMPLE_RATE, len(first), format="FLAC", subtype="PCM_16") as flac,
    ):
        for block in chain((first,), blocks):
            check(cancelled)
            if overload is not None:
                overload.hear(block)
            flac.write(np.clip(block.T, -1.0, 1.0))
            samples += block.shape[1]
            if progress:
                progress(samples / SAMPLE_RATE)
    _check_written(copy, samples)
    return samples


def _only_speaking(copy: Path, heard: Heard, cancelled: Callable[[], bool]) -> Heard:
    """Make a copy again where not all of its channels have speech of their own. Of a track of which fewer
    than two have, it has one: the mix of all but those that hum."""
    if len(heard.signals) == 1:
        return heard
    places = dict(zip(heard.places, heard.signals, strict=True))
    found = speaking(copy, len(places), cancelled)
    if len(found) == len(places):
        return heard
    kept: list[tuple[Signal, list[int]]] = []
    for track in heard.tracks:
        own = [place for place, signal in places.items() if signal.track == track]
        said = [place for place in own if place in found]
        if len(said) > 1 or said == own:
            kept += [(places[place], [place]) for place in said]
        elif said or track == heard.tracks[0]:
            # The first is heard in any case; other tracks without speech lack nothing of what was said.
            humming = _humming(copy, cancelled) - set(found) if len(own) > 1 else set()
            clear = [place for place in own if place not in humming] or own
            kept.append((places[own[0]] if len(own) == 1 else Signal(track), clear))
    again = replace(heard, signals=tuple(signal for signal, _ in kept))
    whole = copy.with_suffix(".sides")
    try:
        copy.replace(whole)
        _write(copy, _kept(whole, [channels for _, channels in kept], again), None, cancelled)
    finally:
        whole.unlink(missing_ok=True)
    return again


def _humming(copy: Path, cancelled: Callable[[], bool]) -> set[int]:
    """The channels of a copy in which there is one noise and nothing else, which may come and go."""
    with soundfile.SoundFile(copy) as flac:
        channels = [Hum() for _ in range(flac.channels)]
        for block in flac.blocks(80 * HUM_FRAME, dtype="float32", always_2d=True):
            check(cancelled)
            for channel, samples in zip(channels, block.T, strict=True):
                channel.add(samples)
    return {number for number, channel in enumerate(channels) if channel.is_hum}


def _kept(copy: Path, mixes: list[list[int]], heard: Heard) -> Iterator[np.ndarray]:
    """Mixes of channels of a copy, as float32 ``[n_channels, n_samples]`` blocks."""
    with soundfile.SoundFile(copy) as flac:
        for block in flac.blocks(10 * SAMPLE_RATE, dtype="float32", always_2d=True):
            rows = [block[:, channels].mean(axis=1, dtype=np.float32) for channels in mixes]
            yield heard.placed(np.stack(rows))


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


def _unheard(heard: Heard, chosen: int | None) -> tuple[Note, ...]:
    """What other tracks of the file have, which nobody heard."""
    if not heard.others:
        return ()
    # People count tracks from 1.
    numbers = {"heard": heard.tracks[0] + 1, "others": len(heard.others)}
    names = ("other", *(f"other_{number}" for number in range(2, len(heard.others) + 1)))
    numbers.update(zip(names, (number + 1 for number in heard.others), strict=True))
    if len(heard.tracks) > 1:
        numbers["heard_too"] = len(heard.tracks) - 1
    if chosen is not None:
        numbers["chosen"] = chosen
    return (Note(NoteKind.TRACKS_NOT_HEARD, StageName.READING, heard.spans, numbers),)


def read_range(
    path: Path, start: float = 0.0, end: float | None = None, channel: int | None = None
) -> np.ndarray:
    """Samples of ``[start, end)`` seconds of a 16 kHz FLAC copy, float32 ``[n_samples]``.

    A range beyond the end gives what there is of it, possibly nothing. Without a ``channel``, it is the mix.
    """
    with soundfile.SoundFile(path) as flac:
        return read_open_range(flac, start, end, channel)


def read_open_range(
    flac: soundfile.SoundFile, start: float, end: float | None = None, channel: int | None = None
) -> np.ndarray:
    """As ``read_range``, from a copy that is open."""
    first = min(max(0, round(start * SAMPLE_RATE)), flac.frames)
    last = flac.frames if end is None else min(max(first, round(end * SAMPLE_RATE)), flac.frames)
    flac.seek(first)
    samples = flac.read(last - first, dtype="float32")
    if flac.channels == 1:
        return samples
    if channel is not None:
        return np.ascontiguousarray(samples[:, channel])
    return samples.mean(axis=1, dtype=np.float32)


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
