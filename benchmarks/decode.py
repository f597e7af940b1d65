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

import numpy as np
import soundfile

from benchmarks.common import SAMPLE, show
from benchmarks.media import Form, write
from moss_audio.audio import SAMPLE_RATE, AudioStream
from moss_audio.decoder_process import DecoderProcess, give_back, take_process
from moss_audio.track_decoder import TrackDecoder

FORMS = (
    Form("wav", "pcm_s16le", layout="stereo"),
    Form("flac", "flac", layout="stereo"),
    Form("mp3", "libmp3lame", layout="stereo"),
    Form("m4a", "aac", layout="stereo"),
    Form("opus", "libopus", 48_000, layout="stereo"),
    Form("mkv", "aac", 48_000, layout="stereo", pictures="rawvideo"),
)

Blocks = Callable[[Path], Iterator[np.ndarray]]


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
        audio, rate = soundfile.read(options.file, dtype="float32", always_2d=True)
        seconds = len(audio) / rate
        for form in FORMS:
            path = Path(folder) / f"sample.{form.suffix}"
            write(path, audio.mean(axis=1), rate, form)
            row: dict[str, object] = {"format": form.name}
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
