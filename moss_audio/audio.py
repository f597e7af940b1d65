"""Any media file to blocks of mono float32 at 16 kHz, on the clock of a media player.

FFmpeg (through PyAV, whose wheel bundles it) reads every container people have. Second ``t`` of what comes
out is second ``t`` of the file in a media player: time zero is the container's start, a stream that starts
late is preceded by silence, and holes are filled with silence.

``AudioStream`` decodes a little at a time and reports what could not be read; ``load_audio`` puts a file, or
a stretch of it, in memory. Decoding runs in a process of its own (``moss_audio.decoder_process``), so that a
file that crashes FFmpeg ends in an ``AudioError``.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from types import TracebackType

import numpy as np

from moss_audio.decoder_process import DecoderEnded, DecoderProcess, Opened, Waiting, give_back, take_process
from moss_audio.errors import AudioError
from moss_audio.track_decoder import SAMPLE_RATE, DecodeReport

__all__ = [
    "MAX_SECONDS",
    "MODEL_SECONDS",
    "SAMPLE_RATE",
    "AudioStream",
    "DecodeReport",
    "check_media_file",
    "load_audio",
]

MODEL_SECONDS = 600.0
"""The length the model's makers recommend at most: ten minutes in one request."""

MAX_SECONDS = 7200.0
"""More than this is not read into memory in one piece (two hours are 460 MB)."""


class AudioStream:
    """One audio track of a media file, decoded once from beginning to end.

    Damage ends nothing: what cannot be decoded becomes silence of its length where that is known, and
    ``report`` says where. Files that were joined to one are read one after the other.

    All channels count alike in the mono mix, so that it stays within their range: FFmpeg's own matrix makes
    two alike channels 3 dB louder, drops the low-frequency channel, and knows no layout of nine channels.
    Where two would cancel, or one only hums, one is heard alone (``moss_audio.channels``).

    Use it as a context manager, or ``close`` it. Decoding runs a few seconds ahead, in a process of its own.

    Args:
        path: Any audio or video file that FFmpeg reads.
        track: Number of the audio track, from 0; by default the one that the file flags as its default, as
            players do, or else the first.
        mixed: Whether the channels are mixed to one; otherwise ``blocks`` gives all of them.
        waiting: Called several times a second while the decoder is waited for; what it raises comes out of
            the constructor or ``blocks``, and the decoder stops at once.

    Attributes:
        path: The file.
        track: Number of the audio track that is decoded, from 0.
        tracks: How many audio tracks the file has.
        declared_seconds: Length the file claims; None where it does not say.
        languages: What the file says is spoken on each track, as it spells it; None where it does not say.

    Raises:
        AudioError: No such file, empty, not media, without such a track, or the decoder crashes on it.
    """

    def __init__(
        self,
        path: str | Path,
        track: int | None = None,
        mixed: bool = True,
        waiting: Waiting | None = None,
    ) -> None:
        self.path = Path(path)
        self._waiting = waiting
        check_media_file(self.path)
        self._process, opened = _opened(self.path, track, mixed, waiting)
        self._release = weakref.finalize(self, give_back, self._process)
        self.track, self.tracks = opened.track, opened.tracks
        self.declared_seconds = opened.declared_seconds
        self.languages = opened.languages
        self._is_read = False
        self._samples = 0
        self._report: DecodeReport | None = None

    def __enter__(self) -> AudioStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what was not read is not decoded any more."""
        self._release()

    @property
    def report(self) -> DecodeReport:
        """What became of the file, when ``blocks`` has ended; before, only how far it was read is known."""
        if self._report is not None:
            return self._report
        return DecodeReport(self._samples / SAMPLE_RATE, self.declared_seconds, 0, False)

    def blocks(self) -> Iterator[np.ndarray]:
        """Decode the stream. It can be read once, and until it is closed; then there are no more blocks.

        Yields:
            float32 ``[n_samples]`` blocks, mono, 16 kHz, finite, in playing order without holes. Where
            channels are not mixed, ``[n_channels, n_samples]``; how many there are may change midway, and the
            silence in place of a hole is one channel.

        Raises:
            AudioError: Nothing in the stream can be decoded, or the decoder crashes, hangs or needs too much
                memory on it.
        """
        if self._is_read:
            return
        self._is_read = True
        blocks = self._process.read(self._waiting)
        # Once the stream is closed, the process may read another file.
        while self._release.alive:
            block = next(blocks)
            if isinstance(block, DecodeReport):
                self._report = block
                return
            self._samples += block.shape[-1]
            yield block


def _opened(
    path: Path, track: int | None, mixed: bool, waiting: Waiting | None
) -> tuple[DecoderProcess, Opened]:
    """A process that has the file open."""
    try:
        return _taken(path, track, mixed, waiting)
    except DecoderEnded:
        # It may have been ended while it waited for a file, which is none of this file's fault.
        return _taken(path, track, mixed, waiting)


def _taken(
    path: Path, track: int | None, mixed: bool, waiting: Waiting | None
) -> tuple[DecoderProcess, Opened]:
    process = take_process()
    try:
        return process, process.open(path, track, mixed, waiting)
    except BaseException:
        give_back(process)
        raise


def load_audio(path: str | Path, start: float = 0.0, end: float | None = None) -> np.ndarray:
    """Decode the default audio track of a media file, or the stretch ``[start, end)`` of it, into memory.

    Args:
        path: Any audio or video file FFmpeg reads.
        start: Seconds from the beginning of the file, as a player counts them.
        end: Seconds; None for the end of the file. An end beyond it gives what there is.

    Returns:
        float32 ``[n_samples]``, one channel of all (``moss_audio.channels``), 16 kHz.

    Raises:
        AudioError: No such file, no audio in it, nothing that can be decoded, an impossible stretch, or
            more than two hours at once.
    """
    path = Path(path)
    if not (start >= 0.0 and (end is None or end > start)):
        raise AudioError(f"{path.name}: cannot read from second {start:g} to {end}; the end must come later.")
    if end is not None and end - start > MAX_SECONDS:
        raise _too_long(path, end - start)
    with AudioStream(path) as stream:
        declared = stream.declared_seconds or 0.0
        if end is None and declared - start > MAX_SECONDS:
            raise _too_long(path, declared - start)
        audio = _read_stretch(stream, start, end)
        if len(audio) == 0:
            raise AudioError(
                f"{path.name} is {stream.report.decoded_seconds:.1f} s long; "
                f"there is nothing at second {start:g}."
            )
    return audio


def _read_stretch(stream: AudioStream, start: float, end: float | None) -> np.ndarray:
    """The samples of a stretch (seconds); nothing behind its end is decoded."""
    first = round(start * SAMPLE_RATE)
    last = None if end is None else round(end * SAMPLE_RATE)
    kept: list[np.ndarray] = []
    position = 0
    for block in stream.blocks():
        piece = block[max(0, first - position) : None if last is None else max(0, last - position)]
        if len(piece):
            kept.append(piece)
        position += len(block)
        if position - first > MAX_SECONDS * SAMPLE_RATE:
            raise _too_long(stream.path, position / SAMPLE_RATE)
        if last is not None and position >= last:
            break
    return np.concatenate(kept) if kept else np.zeros(0, np.float32)


def check_media_file(path: Path) -> None:
    """Make sure that there is a file with something in it.

    Raises:
        AudioError: It does not exist, cannot be reached, or is a folder or empty.
    """
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise AudioError(f"There is no file {path}; check the name.") from error
    except OSError as error:
        raise AudioError(f"{path.name} cannot be read ({error.strerror}); check its permissions.") from error
    if S_ISDIR(found.st_mode):
        raise AudioError(f"{path.name or path} is a folder; name the media files in it.")
    if not S_ISREG(found.st_mode):
        raise AudioError(f"{path.name} is a pipe or a device, not a file; save its sound as a file first.")
    if found.st_size == 0:
        raise AudioError(f"{path.name} is empty (0 bytes); the copy or download of it may have failed.")


def _too_long(path: Path, seconds: float) -> AudioError:
    return AudioError(
        f"{path.name}: {seconds / 3600:.1f} hours are more than can be read at once (2 hours); "
        "choose a part by start and end."
    )
