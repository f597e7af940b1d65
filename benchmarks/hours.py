"""Long recordings: time and memory of each stage for one, two and ten hours of the sample meeting, looped.

Each length runs in a process of its own. Everything that adding a recording does is done, but the recogniser
is a stub that says one sentence for each stretch of speech: what is measured is what may grow with length
(copy, speech, windows, speakers, database, search index), not Whisper, which hears a window at a time. Memory
is the peak of the program and, added to it, that of the decoder's process. Stages are measured in processor
time of the program, which other programs hardly disturb.

    python -m benchmarks.hours [--hours 1 2 10] [--until copy|speech|all]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from agent.privacy import switch_off_telemetry

switch_off_telemetry()

import av
import numpy as np

from agent.settings import Settings
from agent.workspace import open_workspace
from benchmarks.common import SAMPLE, show
from index.audio.decode import decode_to_flac
from index.audio.windows import MAX_SPEECH_SECONDS, MAX_WINDOW_SECONDS, AudioWindow
from index.pipeline.ingest import Progress
from index.pipeline.transcribe_file import find_windows
from index.records import Segment
from moss_audio.decoder_process import give_back, take_process

SENTENCES = (
    "The last ferry leaves at half past ten, so the band has to stop by ten.",
    "Who is going to call the rowing club about the extra boats?",
    "I think the sound stage is too close to the harbour wall.",
    "Then we need four more volunteers at the gate on Sunday.",
    "The quote for the lights came in at eleven thousand five hundred.",
)


class Stub:
    """Says a sentence for each stretch of speech."""

    name = "stub"
    times_words = False
    windows_at_once = 2
    window_speech_seconds = MAX_SPEECH_SECONDS
    max_window_seconds = MAX_WINDOW_SECONDS
    max_splits = 0

    def prepare(self, stop: threading.Event | None = None) -> None:
        """Nothing is loaded."""

    def detect_language(self, audio: np.ndarray) -> tuple[str, float]:
        """English."""
        return "en", 1.0

    def transcribe(self, window: AudioWindow, careful: bool = False) -> list[Segment]:
        """One sentence for each stretch of speech in the window."""
        return [
            Segment(
                span.start,
                span.end,
                SENTENCES[round(span.start) % len(SENTENCES)],
                language="en",
                engine=self.name,
            )
            for span in window.speech
        ]


def looped(target: Path, hours: float) -> None:
    """Write the sample again and again, without encoding it anew."""
    with av.open(str(SAMPLE)) as source:
        stream = source.streams.audio[0]
        packets = [
            (bytes(packet), packet.pts, packet.duration) for packet in source.demux(stream) if packet.size
        ]
        length = packets[-1][1] + packets[-1][2] - packets[0][1]
        with av.open(str(target), "w") as container:
            copy = container.add_stream_from_template(stream)
            for turn in range(round(hours * 3600 / float(length * stream.time_base))):
                for data, pts, duration in packets:
                    packet = av.Packet(data)
                    packet.pts = packet.dts = pts + turn * length
                    packet.duration, packet.time_base = duration, stream.time_base
                    packet.stream = copy
                    container.mux(packet)


def peak(pid: int | str) -> float:
    """Most memory a process had, MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024


class Clock:
    """Processor seconds of each stage, of the program."""

    def __init__(self) -> None:
        self.taken: dict[str, float] = {}
        self._last = time.process_time()

    def end(self, stage: str) -> None:
        """Count what was done since the last call as part of a stage."""
        now = time.process_time()
        self.taken[stage] = self.taken.get(stage, 0.0) + now - self._last
        self._last = now


def measure(hours: float, until: str) -> dict[str, object]:
    """Time of each stage, and the peak of memory in MB, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "long.mp3"
        looped(file, hours)
        clock, started = Clock(), time.perf_counter()
        if until == "all":
            workspace = open_workspace(Settings(home=Path(folder) / "home"))
            workspace.engines.__dict__["transcriber"] = Stub()
            stage = "reading"

            def note(progress: Progress) -> None:
                nonlocal stage
                clock.end(stage)
                if progress.stage != stage:
                    so_far = f"{stage}: {clock.taken[stage]:.0f} s of processor time, {peak('self'):.0f} MB"
                    print(f"{time.perf_counter() - started:.0f} s, {so_far}", file=sys.stderr, flush=True)
                stage = progress.stage

            recording = workspace.add(file, progress=note)
            duration = recording.duration
            assert not recording.problems and len(workspace.library.segments(recording.id)) > 100 * hours
            workspace.close()
        else:
            copy = Path(folder) / "copy.flac"
            decoded = decode_to_flac(file, copy)
            assert not decoded.notes
            duration = decoded.duration
            clock.end("reading")
            if until == "speech":
                _, windows = find_windows(copy, duration, Stub(), threading.Event())
                assert len(windows) > 10 * hours
                clock.end("finding speech")
        wall = time.perf_counter() - started
        process = take_process()
        decoder = peak(process.pid)
        decoding = int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[0]) / 1e9
        give_back(process)
    return {
        "hours": duration / 3600,
        "wall": wall,
        "stages": {"decoding": decoding} | clock.taken,
        "program_mb": peak("self"),
        "decoder_mb": decoder,
    }


def main() -> None:
    """Measure each length in a process of its own, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, nargs="+", default=[1, 2, 10])
    parser.add_argument("--until", choices=("copy", "speech", "all"), default="all")
    parser.add_argument("--here", action="store_true", help="measure one length in this process")
    options = parser.parse_args()
    if options.here:
        print(json.dumps(measure(options.hours[0], options.until)))
        return
    rows: list[dict[str, object]] = []
    found = []
    for hours in options.hours:
        command = [sys.executable, "-m", "benchmarks.hours", "--here", "--until", options.until]
        done = subprocess.run(
            [*command, "--hours", str(hours)], stdout=subprocess.PIPE, check=True, text=True
        )
        result = json.loads(done.stdout.splitlines()[-1])
        found.append(result)
        processor = sum(result["stages"].values())
        rows.append(
            {
                "hours": f"{result['hours']:.1f}",
                "wall, s": f"{result['wall']:.0f}",
                "processor, s": f"{processor:.0f}",
                "processor, s an hour": f"{processor / result['hours']:.1f}",
                "stages, processor s": ", ".join(
                    f"{stage} {seconds:.0f}" for stage, seconds in result["stages"].items()
                ),
                "peak of the program, MB": f"{result['program_mb']:.0f}",
                "of the decoder, MB": f"{result['decoder_mb']:.0f}",
            }
        )
        print(rows[-1], flush=True)
    an_hour = [sum(result["stages"].values()) / result["hours"] for result in found]
    show(
        f"Long recordings, until {options.until}",
        rows,
        {
            "processor_time_an_hour_last_over_first": round(an_hour[-1] / an_hour[0], 2),
            "peak_mb": round(max(result["program_mb"] + result["decoder_mb"] for result in found)),
        },
    )


if __name__ == "__main__":
    main()
