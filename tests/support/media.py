"""Media files made for tests: click tracks, speech cut from the sample, and broken ones."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile

CLICK_RATE = 44_100


def click_track(seconds: int = 12) -> np.ndarray:
    """A click of one millisecond at every full second from 1 on, float32, 44.1 kHz."""
    audio = np.zeros(seconds * CLICK_RATE, dtype=np.float32)
    for second in range(1, seconds):
        audio[second * CLICK_RATE : second * CLICK_RATE + 44] = 0.9
    return audio


def find_clicks(audio: np.ndarray, rate: int = 16_000) -> list[float]:
    """Times of clicks in seconds, at least half a second apart."""
    level = np.abs(audio)
    threshold = 0.3 * level.max()
    times: list[float] = []
    position = 0
    while (above := np.flatnonzero(level[position:] > threshold)).size:
        first = position + int(above[0])
        times.append((first + int(np.argmax(level[first : first + rate // 100]))) / rate)
        position = first + rate // 2
    return times


def encode(
    path: Path,
    audio: np.ndarray,
    rate: int,
    codec: str,
    *,
    late: float = 0.0,
    video: bool = False,
    out_rate: int | None = None,
    codec_options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    quality: int | None = None,
    hole: tuple[float, float] | None = None,
) -> Path:
    """Encode mono audio; ``late`` seconds after the container's start, with a video track if asked.

    ``hole`` leaves the timestamps between two times (seconds of audio) without any sound.
    """
    out_rate = out_rate or rate
    with av.open(str(path), "w", options=container_options or {}) as container:
        picture = _video_stream(container) if video else None
        stream = container.add_stream(codec, rate=out_rate, options=codec_options or {})
        stream.layout = "mono"
        if quality is not None:
            stream.codec_context.qscale = True
            stream.codec_context.global_quality = quality
        if picture is not None:
            _paint(container, picture, len(audio) / rate + late)
        resampler = av.AudioResampler(stream.codec_context.format.name, "mono", out_rate, frame_size=1152)
        frame = av.AudioFrame.from_ndarray(audio.reshape(1, -1), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = rate, 0
        position = 0
        for resampled in [*resampler.resample(frame), *resampler.resample(None)]:
            time = position / out_rate
            position += resampled.samples
            if hole and hole[0] <= time < hole[1]:
                continue
            resampled.pts = round((time + late) * out_rate)
            resampled.time_base = Fraction(1, out_rate)
            container.mux(stream.encode(resampled))
        container.mux(stream.encode(None))
    return path


def _video_stream(container):
    stream = container.add_stream("mpeg4", rate=10)
    stream.width = stream.height = 64
    stream.pix_fmt = "yuv420p"
    return stream


def _paint(container, stream, seconds: float) -> None:
    for number in range(int(seconds * 10)):
        frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), number % 255, np.uint8), format="rgb24")
        frame.pts, frame.time_base = number, Fraction(1, 10)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def tracks(path: Path, *sounds: np.ndarray, languages: Sequence[str] = (), rate: int = 16_000) -> Path:
    """Write sounds at ``rate`` as FLAC tracks of one file, with ISO 639-2 codes of their languages.

    Args:
        path: The file.
        sounds: float32 ``[n_samples]``, or ``[2, n_samples]`` for stereo.
    """
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("flac", rate=rate) for _ in sounds]
        layouts = ["mono" if sound.ndim == 1 else "stereo" for sound in sounds]
        for stream, layout in zip(streams, layouts, strict=True):
            stream.layout = layout
            stream.codec_context.format = "s16"
        for stream, language in zip(streams, languages, strict=False):
            stream.metadata["language"] = language
        for stream, sound, layout in zip(streams, sounds, layouts, strict=True):
            for start in range(0, sound.shape[-1], 4096):
                # Sample by sample, the channels of each.
                part = (sound[..., start : start + 4096] * 32_768).astype(np.int16).T.reshape(1, -1)
                frame = av.AudioFrame.from_ndarray(part, format="s16", layout=layout)
                frame.sample_rate, frame.pts = rate, start
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


def cut(source: Path, start: float, end: float) -> tuple[np.ndarray, int]:
    """``[start, end)`` seconds of a file soundfile reads: float32 mono samples and their rate."""
    with soundfile.SoundFile(source) as file:
        file.seek(int(start * file.samplerate))
        return file.read(int((end - start) * file.samplerate), dtype="float32"), file.samplerate
