"""Any media file to 16 kHz mono, streamed, on the clock of the player.

FFmpeg (through PyAV, whose wheel bundles it) reads every container people have; soundfile reads and
writes the one lossless copy that player, recogniser and listener share, exact to the sample. Second
``t`` of that copy is second ``t`` of the original in a media player: time zero is the container's
start, a stream that starts late is preceded by silence, holes are filled with silence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from index.recording_errors import Cancelled, MediaError
from index.records import Note, NoteKind, Span, StageName

if TYPE_CHECKING:
    from av import AudioResampler
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer

SAMPLE_RATE = 16_000
"""Hz; what Whisper, Silero, Resemblyzer and MOSS-Audio all take."""

CLOCK_TOLERANCE = 0.04
"""Seconds a frame's timestamp may differ from the samples before it without being a hole. Containers
round timestamps (Matroska to 1 ms, some muxers to a frame of about 26 ms)."""

# Playlists and scripts (hls, concat, dash, …) can name other files and addresses, so only plain
# containers are opened, whatever a file calls itself.
_FORMATS = (
    "wav,w64,aiff,caf,au,mp3,aac,flac,ogg,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,asf,flv,mpeg,mpegts,"
    "amr,ac3,eac3,dts,wv,ape,tta,voc,mpc,mpc8,rm,loas,gsm,sln,opus"
)

Progress = Callable[[float], None]
"""Called with the seconds of audio done so far."""


@dataclass(frozen=True)
class Decoded:
    """What became of a media file: the copy's length in seconds, and what part of it was unusable."""

    duration: float
    notes: tuple[Note, ...] = ()


def file_id(path: Path) -> str:
    """SHA-256 of the file's bytes as 64 hex digits: the recording's id.

    Raises:
        MediaError: The file does not exist, is empty or cannot be read.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
        size = path.stat().st_size
    except IsADirectoryError as error:
        raise MediaError(f"{path.name} is a folder; name the media files in it.") from error
    except FileNotFoundError as error:
        raise MediaError(f"There is no file {path}; check the name.") from error
    except OSError as error:
        raise MediaError(f"{path.name} cannot be read ({error.strerror}); check its permissions.") from error
    if size == 0:
        raise MediaError(f"{path.name} is empty (0 bytes); the copy or download of it may have failed.")
    return digest.hexdigest()


def stream(path: Path, notes: list[Note] | None = None) -> Iterator[np.ndarray]:
    """Decode a media file's first audio stream, a little at a time.

    Args:
        path: Any media file FFmpeg reads.
        notes: Collects what part of the file could not be used.

    Yields:
        float32 ``[n_samples]`` blocks, mono, 16 kHz, in playing order without holes.

    Raises:
        MediaError: Not media, no audio stream, or nothing in it can be decoded.
    """
    with _open(path) as container:
        if not container.streams.audio:
            raise MediaError(f"{path.name} has no audio track; choose a file with sound.")
        yield from _Timeline(container, container.streams.audio[0], notes).blocks()


def decode_to_flac(
    source: Path,
    target: Path,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Decoded:
    """Write a media file's audio to ``target`` as 16 kHz mono FLAC, complete or not at all.

    Memory stays flat with length: blocks go from decoder to encoder as they come.

    Raises:
        MediaError: See ``stream``.
        Cancelled: ``cancelled()`` became true.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    notes: list[Note] = []
    samples = 0
    try:
        with soundfile.SoundFile(partial, "w", SAMPLE_RATE, 1, format="FLAC", subtype="PCM_16") as flac:
            for block in stream(source, notes):
                if cancelled():
                    raise Cancelled("Stopped while reading the file; nothing was kept.")
                flac.write(np.clip(block, -1.0, 1.0))
                samples += len(block)
                if progress:
                    progress(samples / SAMPLE_RATE)
        if samples == 0:
            raise MediaError(f"{source.name} holds no audio that can be decoded; it may be damaged.")
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return Decoded(samples / SAMPLE_RATE, tuple(notes))


def read_range(path: Path, start: float = 0.0, end: float | None = None) -> np.ndarray:
    """Samples of ``[start, end)`` seconds of a 16 kHz mono FLAC copy, float32 ``[n_samples]``.

    A range beyond the end gives what there is of it, possibly nothing.
    """
    with soundfile.SoundFile(path) as flac:
        first = min(max(0, round(start * SAMPLE_RATE)), flac.frames)
        last = flac.frames if end is None else min(max(first, round(end * SAMPLE_RATE)), flac.frames)
        flac.seek(first)
        return flac.read(last - first, dtype="float32")


def declared_duration(path: Path) -> float | None:
    """Seconds the container claims to last, for progress; None where it does not say."""
    with suppress(MediaError), _open(path) as container:
        return container.duration / 1_000_000 if container.duration else None
    return None


def _open(path: Path) -> InputContainer:
    import av

    av.logging.set_level(av.logging.PANIC)
    try:
        return av.open(str(path), options={"format_whitelist": _FORMATS, "protocol_whitelist": "file"})
    except (av.error.FFmpegError, ValueError) as error:
        raise MediaError(
            f"{path.name} is not a media file that can be read, or it is cut short; "
            "try to play it, or convert it to mp3 or wav."
        ) from error


class _Timeline:
    """Frames of one stream, laid on the player's clock and resampled."""

    def __init__(self, container: InputContainer, stream: AudioStream, notes: list[Note] | None) -> None:
        self.container = container
        self.stream = stream
        self.notes = notes if notes is not None else []
        # Players count from the earliest stream's start; AV_TIME_BASE is a microsecond.
        self.origin = (container.start_time or 0) / 1_000_000
        self.limit = container.duration / 1_000_000 if container.duration else None
        self.clock = 0.0
        """Where the next sample belongs, by the samples read so far (seconds)."""
        self.written = 0
        """Samples given out, at 16 kHz."""
        self.resampler = _Resampler()

    def blocks(self) -> Iterator[np.ndarray]:
        damaged = 0
        for frame in self._frames():
            if frame is None:
                damaged += 1
                continue
            yield from self._fill_hole(frame)
            yield from self._count(self.resampler.push(frame))
            self.clock += frame.samples / frame.sample_rate
        yield from self._count(self.resampler.flush())
        self._note_losses(damaged)

    def _frames(self) -> Iterator[AudioFrame | None]:
        """Decoded frames; None for each packet that is damaged."""
        import av

        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets)
                decoded = packet.decode()
            except StopIteration:
                return
            except av.error.EOFError:
                return
            except av.error.InvalidDataError:
                yield None
                continue
            except av.error.FFmpegError:
                yield None
                return
            yield from decoded

    def _fill_hole(self, frame: AudioFrame) -> Iterator[np.ndarray]:
        """Silence up to the frame's own time, when that lies ahead of the samples before it."""
        if frame.pts is None or frame.time_base is None:
            return
        time = float(frame.pts * frame.time_base) - self.origin
        hole = time - self.clock
        if abs(hole) <= CLOCK_TOLERANCE:
            return
        if hole < 0 or (self.limit is not None and time > self.limit + 1.0):
            # Timestamps that jump back or beyond the file's end are a muxer's fault, not a hole.
            self.origin += hole
            return
        yield from self._count(self.resampler.flush())
        missing = round(time * SAMPLE_RATE) - self.written
        while missing > 0:
            block = np.zeros(min(missing, SAMPLE_RATE * 10), dtype=np.float32)
            missing -= len(block)
            yield from self._count([block])
        self.clock = time

    def _count(self, blocks: list[np.ndarray]) -> Iterator[np.ndarray]:
        for block in blocks:
            if len(block):
                self.written += len(block)
                yield block

    def _note_losses(self, damaged: int) -> None:
        read = self.written / SAMPLE_RATE
        if (
            self.limit is not None
            and self.limit - read > max(2.0, 0.02 * self.limit)
            and self._audio_ends_early(read)
        ):
            missing = Span(read, self.limit)
            self.notes.append(Note(NoteKind.CUT_SHORT, StageName.READING, (missing,)))
        elif damaged > 5:
            numbers = {"packets": damaged}
            self.notes.append(Note(NoteKind.DAMAGED, StageName.READING, numbers=numbers))

    def _audio_ends_early(self, read: float) -> bool:
        """Whether the audio stream itself claims more than was read (a video may outlast its sound)."""
        if self.stream.duration is None or self.stream.time_base is None:
            return len(self.container.streams) == 1
        return float(self.stream.duration * self.stream.time_base) - read > 2.0


class _Resampler:
    """FFmpeg's resampler to 16 kHz mono float, made anew when the stream changes its format midway."""

    def __init__(self) -> None:
        self._inner: AudioResampler | None = None
        self._format: tuple[str, str, int] | None = None

    def push(self, frame: AudioFrame) -> list[np.ndarray]:
        from av import AudioResampler

        incoming = (frame.format.name, frame.layout.name, frame.sample_rate)
        out: list[np.ndarray] = []
        if incoming != self._format:
            out += self.flush()
            self._format = incoming
            self._inner = AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
        assert self._inner is not None
        # Timestamps were dealt with already; left in, the resampler would act on them again.
        frame.pts = None
        return out + [_samples(one) for one in self._inner.resample(frame)]

    def flush(self) -> list[np.ndarray]:
        if self._inner is None:
            return []
        out = [_samples(one) for one in self._inner.resample(None)]
        self._inner = self._format = None
        return out


def _samples(frame: AudioFrame) -> np.ndarray:
    return frame.to_ndarray().reshape(-1)
