"""What decoding in a process of its own costs, side by side with the same code in this process.

The sample meeting is written in each format first. Then the two take turns: all blocks are read, and for the
second pair a FLAC copy is written of them, as adding a recording does. The process is there already, as it is
from the second file on; how long it takes to start is measured alone. Other programs disturb wall time; the
processor time, of both processes together, they hardly disturb.

    python -m benchmarks.decode [--turns N] [--file FILE]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import soundfile

from benchmarks.common import SAMPLE, show
from moss_audio.audio import SAMPLE_RATE, AudioStream
from moss_audio.decoder_process import DecoderProcess, give_back, take_process
from moss_audio.track_decoder import TrackDecoder

FORMATS = {
    "wav": ("pcm_s16le", 44_100, False),
    "flac": ("flac", 44_100, False),
    "mp3": ("libmp3lame", 44_100, False),
    "m4a": ("aac", 44_100, False),
    "opus": ("libopus", 48_000, False),
    "mkv": ("aac", 48_000, True),
}
"""Codec, Hz, and whether there are pictures beside the sound."""

Blocks = Callable[[Path], Iterator[np.ndarray]]


def write(source: Path, target: Path, codec: str, rate: int, pictures: bool) -> None:
    """Encode a recording in stereo; with pictures of 64 kB each, 25 a second, when wanted."""
    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        film = written.add_stream("rawvideo", rate=25) if pictures else None
        if film is not None:
            film.width, film.height, film.pix_fmt = 256, 170, "yuv420p"
        stream = written.add_stream(codec, rate=rate)
        stream.layout = "stereo"
        context = stream.codec_context
        resampler = av.AudioResampler(
            context.format.name, "stereo", rate, frame_size=context.frame_size or 1152
        )
        position, shown = 0, 0
        for frame in [*read.decode(audio=0), None]:
            for resampled in resampler.resample(frame):
                resampled.pts = position
                position += resampled.samples
                written.mux(stream.encode(resampled))
            while film is not None and shown < position / rate * 25:
                picture = av.VideoFrame(256, 170, "yuv420p")
                picture.pts = shown
                shown += 1
                written.mux(film.encode(picture))
        written.mux(stream.encode(None))


def here(path: Path) -> Iterator[np.ndarray]:
    """Blocks decoded in this process."""
    decoder = TrackDecoder(path)
    yield from decoder.blocks()
    decoder.close()


def apart(path: Path) -> Iterator[np.ndarray]:
    """Blocks decoded as the program does it."""
    with AudioStream(path) as stream:
        yield from stream.blocks()


def read(blocks: Blocks, path: Path) -> None:
    """Read all of a file."""
    for _ in blocks(path):
        pass


def copy(blocks: Blocks, path: Path) -> None:
    """Read all of a file and write a FLAC copy."""
    target = path.with_suffix(".copy.flac")
    with soundfile.SoundFile(target, "w", SAMPLE_RATE, 1, format="FLAC", subtype="PCM_16") as flac:
        for block in blocks(path):
            flac.write(block)


def taken(work: Callable[[Blocks, Path], None], blocks: Blocks, path: Path) -> tuple[float, float]:
    """Wall and processor seconds of some work."""
    wall, processor = time.perf_counter(), processor_seconds()
    work(blocks, path)
    return time.perf_counter() - wall, processor_seconds() - processor


def processor_seconds() -> float:
    """Processor time of this process and of the decoder's."""
    process = take_process()
    give_back(process)
    nanoseconds = Path(f"/proc/{process.pid}/schedstat").read_text().split()[0]
    return time.process_time() + int(nanoseconds) / 1e9


def start() -> float:
    """Seconds until a new process is ready."""
    started = time.perf_counter()
    process = DecoderProcess()
    seconds = time.perf_counter() - started
    process.kill()
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--file", type=Path, default=SAMPLE)
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    ratios: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (codec, rate, pictures) in FORMATS.items():
            path = Path(folder) / f"sample.{name}"
            write(options.file, path, codec, rate, pictures)
            seconds = sum(len(block) for block in apart(path)) / SAMPLE_RATE
            row: dict[str, object] = {"format": name}
            for title, work in (("read", read), ("copy", copy)):
                turns = [(*taken(work, here, path), *taken(work, apart, path)) for _ in range(options.turns)]
                wall = statistics.median(turn[2] / turn[0] for turn in turns)
                processor = statistics.median(turn[3] / turn[1] for turn in turns)
                walls = [statistics.median(turn[place] for turn in turns) for place in (0, 2)]
                row |= {
                    f"{title}, here / apart, s": f"{walls[0]:.2f} / {walls[1]:.2f}",
                    f"{title}, ratio": f"{wall:.2f}",
                    f"{title}, of processor time": f"{processor:.2f}",
                }
                ratios.setdefault(title, []).append(wall)
                ratios.setdefault(f"{title}_processor", []).append(processor)
            rows.append(row | {"× realtime": f"{seconds / walls[1]:.0f}"})
    result = {f"ratio_{title}": round(statistics.median(all_of_it), 3) for title, all_of_it in ratios.items()}
    result["start_s"] = round(statistics.median(start() for _ in range(options.turns)), 3)
    show(f"Decoding {options.file.name} ({seconds:.0f} s)", rows, result)


if __name__ == "__main__":
    main()
