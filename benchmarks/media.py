"""Media files made for benchmarks: one recording in many containers."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

FRAMES_PER_SECOND = 25


@dataclass(frozen=True)
class Form:
    """How a recording is written.

    Attributes:
        suffix: The file's, which names the container.
        codec: FFmpeg's name of the encoder.
        rate: Hz.
        layout: FFmpeg's name of the channels.
        pictures: FFmpeg's name of the encoder of pictures beside the sound; None for sound alone.
        container: FFmpeg's name of the container where the suffix does not tell.
        options: The container's.
        bit_rate: Bits a second where the encoder needs to be told.
    """

    suffix: str
    codec: str
    rate: int = 44_100
    layout: str = "mono"
    pictures: str | None = None
    container: str | None = None
    options: tuple[tuple[str, str], ...] = ()
    bit_rate: int | None = None

    @property
    def name(self) -> str:
        """Suffix and codec, for tables."""
        return f"{self.suffix} ({self.codec}{', pictures' if self.pictures else ''})"


def write(target: Path, audio: np.ndarray, rate: int, form: Form) -> None:
    """Encode a recording, with grey pictures where the form has them.

    Args:
        target: The file.
        audio: float32 ``[n_samples]``.
        rate: Of the audio, Hz.
        form: Container and codecs.
    """
    with av.open(str(target), "w", format=form.container, options=dict(form.options)) as container:
        film, grey = None, np.full((288 * 3 // 2, 352), 128, np.uint8)
        if form.pictures is not None:
            film = container.add_stream(form.pictures, rate=FRAMES_PER_SECOND)
            film.width, film.height, film.pix_fmt = 352, 288, "yuv420p"
        stream = container.add_stream(form.codec, rate=form.rate, options={"strict": "experimental"})
        stream.layout = form.layout
        if form.bit_rate is not None:
            stream.bit_rate = form.bit_rate
        context = stream.codec_context
        size = context.frame_size or form.rate // FRAMES_PER_SECOND
        resampler = av.AudioResampler(context.format.name, form.layout, form.rate, frame_size=size)
        position, shown = 0, 0
        pieces = (audio[start : start + rate] for start in range(0, len(audio), rate))
        for piece in [*pieces, None]:
            frame = None
            if piece is not None:
                frame = av.AudioFrame.from_ndarray(piece.reshape(1, -1), format="fltp", layout="mono")
                frame.sample_rate = rate
            for resampled in resampler.resample(frame):
                resampled.pts, resampled.time_base = position, Fraction(1, form.rate)
                position += resampled.samples
                while film is not None and shown / FRAMES_PER_SECOND < position / form.rate:
                    picture = av.VideoFrame.from_ndarray(grey, format="yuv420p")
                    picture.pts, picture.time_base = shown, Fraction(1, FRAMES_PER_SECOND)
                    shown += 1
                    container.mux(film.encode(picture))
                container.mux(stream.encode(resampled))
        if film is not None:
            container.mux(film.encode(None))
        container.mux(stream.encode(None))
