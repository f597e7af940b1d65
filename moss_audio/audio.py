"""The decoder: any media file to blocks of mono float32 at 16 kHz, on the clock of a media player.

FFmpeg (through PyAV, whose wheel bundles it) reads every container people have. Second ``t`` of what comes
out is second ``t`` of the file in a media player: time zero is the container's start, a stream that starts
late is preceded by silence, and holes are filled with silence.

``AudioStream`` decodes a little at a time and reports what could not be read; ``load_audio`` puts a file, or
a stretch of it, in memory. PyAV is imported when a file is opened, not before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from stat import S_ISDIR
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from moss_audio.errors import AudioError

if TYPE_CHECKING:
    from av import AudioResampler
    from av.audio.frame import AudioFrame
    from av.container import InputContainer

SAMPLE_RATE = 16_000
"""Hz; what the model takes, and Whisper, Silero and Resemblyzer too."""

MODEL_SECONDS = 600.0
"""The length the model's makers recommend at most: ten minutes in one request."""

MAX_SECONDS = 7200.0
"""More than this is not read into memory in one piece (two hours are 460 MB)."""

CLOCK_TOLERANCE = 0.04
"""Seconds a frame's timestamp may differ from the samples before it without being a hole. Containers
round timestamps (Matroska to 1 ms, some muxers to a frame of about 26 ms)."""

_SILENCE_BLOCK = 10 * SAMPLE_RATE
"""Samples of silence given out at a time, so that a long hole needs no memory."""

# Playlists and scripts (hls, concat, dash, …) can name other files and addresses, so only plain
# containers are opened, whatever a file calls itself.
_FORMATS = (
    "wav,w64,aiff,caf,au,mp3,aac,flac,ogg,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,asf,flv,mpeg,mpegts,"
    "amr,ac3,eac3,dts,wv,ape,tta,voc,mpc,mpc8,rm,loas,gsm,sln,opus"
)


@dataclass(frozen=True)
class DecodeReport:
    """What became of a media file.

    Attributes:
        decoded_seconds: Length of the audio given out, silence in place of holes included.
        declared_seconds: Length the container claims; None where it does not say.
        damaged_packets: Packets that could not be decoded and were left out.
        cut_short: Whether the audio ends well before the end that the file declares for it.
    """

    decoded_seconds: float
    declared_seconds: float | None
    damaged_packets: int
    cut_short: bool


class AudioStream:
    """The first audio stream of a media file, decoded once from beginning to end.

    All channels count alike in the mono mix, so that it stays within their range: FFmpeg's own matrix makes
    two alike channels 3 dB louder, drops the low-frequency channel, and knows no layout of nine channels.

    Use it as a context manager, or ``close`` it.

    Args:
        path: Any audio or video file that FFmpeg reads.

    Raises:
        AudioError: No such file, empty, not media, or without an audio stream.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._container = _open(self.path)
        if not self._container.streams.audio:
            self.close()
            raise AudioError(f"{self.path.name} has no audio track; choose a file with sound.")
        self._stream = self._container.streams.audio[0]
        # PyAV counts a container's times in microseconds (AV_TIME_BASE).
        duration = self._container.duration
        self.declared_seconds: float | None = duration / 1_000_000 if duration else None
        self._own_seconds = self._stream_seconds()
        # Players count from the earliest stream's start.
        self._origin = (self._container.start_time or 0) / 1_000_000
        self._clock = 0.0
        """Seconds of the file read so far: where the next frame belongs."""
        self._written = 0
        """Samples given out so far, at 16 kHz."""
        self._damaged = 0
        self._resampler = _Resampler()

    def __enter__(self) -> AudioStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    @property
    def report(self) -> DecodeReport:
        """What was read so far; final when ``blocks`` has ended."""
        decoded = self._written / SAMPLE_RATE
        return DecodeReport(decoded, self.declared_seconds, self._damaged, self._is_cut_short(decoded))

    def blocks(self) -> Iterator[np.ndarray]:
        """Decode the stream. It can be read once.

        Yields:
            float32 ``[n_samples]`` blocks, mono, 16 kHz, in playing order without holes. Damaged packets are
            left out.

        Raises:
            AudioError: Nothing in the stream can be decoded.
        """
        for frame in self._frames():
            time = self._time_after_hole(frame)
            if time is not None:
                yield from self._silence_until(time)
            yield from self._count(self._resampler.push(frame))
            self._clock += frame.samples / frame.sample_rate
        yield from self._count(self._resampler.flush())
        if self._written == 0:
            raise AudioError(
                f"{self.path.name} holds no audio that can be decoded; it may be damaged or empty."
            )

    def _frames(self) -> Iterator[AudioFrame]:
        """Decoded frames; damaged packets are counted and left out."""
        import av

        packets = self._container.demux(self._stream)
        while True:
            try:
                decoded = next(packets).decode()
            except (StopIteration, av.error.EOFError):
                return
            except av.error.InvalidDataError:
                self._damaged += 1
                continue
            except av.error.FFmpegError:
                self._damaged += 1
                return
            yield from decoded

    def _time_after_hole(self, frame: AudioFrame) -> float | None:
        """The frame's own time in seconds, where that lies ahead of the samples before it; else None."""
        # `frame.time` is `pts * time_base` without fractions, which cost a tenth of decoding an mp3.
        time = frame.time
        if time is None or not isfinite(time):
            return None
        time -= self._origin
        hole = time - self._clock
        if abs(hole) <= CLOCK_TOLERANCE:
            return None
        if hole < 0 or (self.declared_seconds is not None and time > self.declared_seconds + 1.0):
            # Timestamps that jump back or beyond the file's end are a muxer's fault, not a hole.
            self._origin += hole
            return None
        return time

    def _silence_until(self, time: float) -> Iterator[np.ndarray]:
        yield from self._count(self._resampler.flush())
        missing = round(time * SAMPLE_RATE) - self._written
        while missing > 0:
            silence = np.zeros(min(missing, _SILENCE_BLOCK), dtype=np.float32)
            missing -= len(silence)
            yield from self._count([silence])
        self._clock = time

    def _count(self, blocks: list[np.ndarray]) -> Iterator[np.ndarray]:
        for block in blocks:
            if len(block):
                self._written += len(block)
                yield block

    def _is_cut_short(self, decoded: float) -> bool:
        """Whether more is missing than containers round away, and it is the audio that is missing."""
        declared = self.declared_seconds
        if declared is None or declared - decoded <= max(2.0, 0.02 * declared):
            return False
        return self._own_seconds is not None and self._own_seconds - decoded > 2.0

    def _stream_seconds(self) -> float | None:
        """Length that the file declares for the audio stream: a video may outlast its sound."""
        if self._stream.duration is not None and self._stream.time_base is not None:
            return float(self._stream.duration * self._stream.time_base)
        return self.declared_seconds if len(self._container.streams) == 1 else None


def load_audio(path: str | Path, start: float = 0.0, end: float | None = None) -> np.ndarray:
    """Decode the first audio stream of a media file, or the stretch ``[start, end)`` of it, into memory.

    Args:
        path: Any audio or video file FFmpeg reads.
        start: Seconds from the beginning of the file, as a player counts them.
        end: Seconds; None for the end of the file. An end beyond it gives what there is.

    Returns:
        float32 ``[n_samples]``, the mean of all channels, 16 kHz.

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
        kept.append(block[max(0, first - position) : None if last is None else max(0, last - position)])
        position += len(block)
        if position - first > MAX_SECONDS * SAMPLE_RATE:
            raise _too_long(stream.path, position / SAMPLE_RATE)
        if last is not None and position >= last:
            break
    return np.concatenate(kept)


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
    if found.st_size == 0:
        raise AudioError(f"{path.name} is empty (0 bytes); the copy or download of it may have failed.")


class _Resampler:
    """FFmpeg's resampler to mono float32 at 16 kHz, made anew when the stream changes its format midway."""

    def __init__(self) -> None:
        self._inner: AudioResampler | None = None
        self._format: tuple[str, str, int] | None = None
        self._channels = 1
        """Channels that come out of FFmpeg, which are averaged."""

    def push(self, frame: AudioFrame) -> list[np.ndarray]:
        """float32 ``[n_samples]`` blocks that the frame completes."""
        incoming = (frame.format.name, frame.layout.name, frame.sample_rate)
        # Timestamps were dealt with already; left in, the resampler would act on them again.
        frame.pts = None
        if incoming == self._format:
            return self._resample(frame)
        flushed = self.flush()
        self._format = incoming
        self._set_up(frame)
        return flushed + self._resample(frame)

    def flush(self) -> list[np.ndarray]:
        """What the resampler still holds; it starts anew with the next frame."""
        if self._inner is None:
            return []
        rest = self._resample(None)
        self._inner = self._format = None
        return rest

    def _set_up(self, frame: AudioFrame) -> None:
        from av import AudioResampler

        self._channels = frame.layout.nb_channels
        # Several channels interleaved ("flt"): PyAV crashes on planar frames of more than six. One channel
        # planar ("fltp"), as most decoders give it: PyAV then hands on what is at 16 kHz already.
        sample_format = "fltp" if self._channels == 1 else "flt"
        self._inner = AudioResampler(format=sample_format, layout=frame.layout, rate=SAMPLE_RATE)

    def _resample(self, frame: AudioFrame | None) -> list[np.ndarray]:
        assert self._inner is not None
        return [self._mono(resampled.to_ndarray()) for resampled in self._inner.resample(frame)]

    def _mono(self, interleaved: np.ndarray) -> np.ndarray:
        """float32 ``[1, n_samples * n_channels]`` → ``[n_samples]``."""
        if self._channels == 1:
            return interleaved.reshape(-1)
        channels = interleaved.reshape(-1, self._channels).T
        # NumPy averages whole rows four times as fast as many short columns.
        return np.ascontiguousarray(channels).mean(axis=0, dtype=np.float32)


def _open(path: Path) -> InputContainer:
    import av

    check_media_file(path)
    av.logging.set_level(av.logging.PANIC)
    try:
        return av.open(
            str(path.absolute()), options={"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
        )
    except PermissionError as error:
        raise AudioError(f"{path.name} cannot be read; check its permissions.") from error
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise AudioError(
            f"{path.name} is not a media file that can be read, or it is cut short; "
            "try to play it, or convert it to mp3 or wav."
        ) from error


def _too_long(path: Path, seconds: float) -> AudioError:
    return AudioError(
        f"{path.name}: {seconds / 3600:.1f} hours are more than can be read at once (2 hours); "
        "choose a part by start and end."
    )
