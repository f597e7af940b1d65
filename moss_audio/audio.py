"""Any media file, or a stretch of it, to what the model hears: mono, 16 kHz, float32, in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer

from moss_audio.errors import AudioError
from moss_audio.model.mel import SAMPLE_RATE

MODEL_SECONDS = 600.0
"""The length the model's makers recommend at most: ten minutes in one request."""

MAX_SECONDS = 7200.0
"""More than this is not read into memory in one piece (two hours are 460 MB)."""

LATE_START = 0.04
"""Seconds by which a container's clock may differ from its first frame's without meaning silence."""

# Playlists and scripts can name other files and addresses: only plain containers are opened.
_FORMATS = (
    "wav,w64,aiff,caf,au,mp3,aac,flac,ogg,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,asf,flv,mpeg,mpegts,"
    "amr,ac3,eac3,dts,wv,ape,tta,voc,mpc,mpc8,rm,loas,gsm,sln,opus"
)


def load_audio(path: str | Path, start: float = 0.0, end: float | None = None) -> np.ndarray:
    """Decode the first audio stream of a media file, or the stretch ``[start, end)`` of it.

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
    with _open(path) as container:
        if not container.streams.audio:
            raise AudioError(f"{path.name} has no audio track; choose a file with sound.")
        known = container.duration / 1_000_000 if container.duration else 0.0
        if end is None and known - start > MAX_SECONDS:
            raise _too_long(path, known - start)
        audio, heard = _read(container, container.streams.audio[0], path, (start, end))
    if len(audio) == 0 and heard:
        raise AudioError(
            f"{path.name} is {heard / SAMPLE_RATE:.1f} s long; there is nothing at second {start:g}."
        )
    if len(audio) == 0:
        raise AudioError(f"{path.name} holds no audio that can be decoded; it may be damaged or empty.")
    return audio


def _read(
    container: InputContainer, stream: AudioStream, path: Path, stretch: tuple[float, float | None]
) -> tuple[np.ndarray, int]:
    """The samples of a stretch (seconds), and how many samples were read from the file's start on."""
    first = round(stretch[0] * SAMPLE_RATE)
    last = None if stretch[1] is None else round(stretch[1] * SAMPLE_RATE)
    kept: list[np.ndarray] = []
    position = 0
    for block in _blocks(container, stream):
        kept.append(block[max(0, first - position) : None if last is None else max(0, last - position)])
        position += len(block)
        if position - first > MAX_SECONDS * SAMPLE_RATE:
            raise _too_long(path, position / SAMPLE_RATE)
        if last is not None and position >= last:
            break
    return (np.concatenate(kept) if kept else np.zeros(0, np.float32)), position


def _blocks(container: InputContainer, stream: AudioStream) -> Iterator[np.ndarray]:
    resampler = _ToMono()
    begun = False
    for frame in _frames(container, stream):
        if not begun and frame.pts is not None and frame.time_base is not None:
            late = float(frame.pts * frame.time_base) - (container.start_time or 0) / 1_000_000
            if LATE_START < late < MAX_SECONDS:
                yield np.zeros(round(late * SAMPLE_RATE), np.float32)
        begun = True
        yield from resampler.push(frame)
    yield from resampler.flush()


def _frames(container: InputContainer, stream: AudioStream) -> Iterator[AudioFrame]:
    """Decoded frames; packets that are damaged are left out."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
            yield from packet.decode()
        except (StopIteration, av.error.EOFError):
            return
        except av.error.InvalidDataError:
            continue
        except av.error.FFmpegError:
            return


@dataclass
class _ToMono:
    """FFmpeg's resampler to 16 kHz, and the mean over channels; made anew when the format changes."""

    _inner: av.AudioResampler | None = None
    _format: tuple[str, str, int] = field(default=("", "", 0))

    def push(self, frame: AudioFrame) -> Iterator[np.ndarray]:
        incoming = (frame.format.name, frame.layout.name, frame.sample_rate)
        if incoming != self._format:
            yield from self.flush()
            self._format = incoming
            self._inner = av.AudioResampler(format="fltp", layout=frame.layout, rate=SAMPLE_RATE)
        assert self._inner is not None
        frame.pts = None  # the clock was read already; the resampler would act on it again
        for one in self._inner.resample(frame):
            yield one.to_ndarray().mean(axis=0, dtype=np.float32)

    def flush(self) -> Iterator[np.ndarray]:
        if self._inner is not None:
            for one in self._inner.resample(None):
                yield one.to_ndarray().mean(axis=0, dtype=np.float32)
        self._inner, self._format = None, ("", "", 0)


def _open(path: Path) -> InputContainer:
    if path.is_dir():
        raise AudioError(f"{path} is a folder; name a media file in it.")
    if not path.exists():
        raise AudioError(f"There is no file {path}; check the name.")
    if path.stat().st_size == 0:
        raise AudioError(f"{path.name} is empty (0 bytes); the copy or download of it may have failed.")
    av.logging.set_level(av.logging.PANIC)
    try:
        return av.open(str(path), options={"format_whitelist": _FORMATS, "protocol_whitelist": "file"})
    except PermissionError as error:
        raise AudioError(f"{path} cannot be read; check its permissions.") from error
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
