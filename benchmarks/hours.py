"""Long recordings: time and memory of each stage for one, two and ten hours of the sample meeting, looped.

Each length runs in a process of its own. Everything that adding a recording does is done, but the recogniser
is a stub that says one sentence for each stretch of speech: what is measured is what may grow with length
(copy, speech, windows, speakers, database, search index), not Whisper, which hears a window at a time. Memory
is the peak of the program and, added to it, that of the decoder's process.

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


def measure(hours: float, until: str) -> dict[str, float]:
    """Seconds of each stage, and the peak of memory in MB, in this process."""
    taken: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "long.mp3"
        looped(file, hours)
        before = peak("self")
        started = time.perf_counter()
        if until == "all":
            workspace = open_workspace(Settings(home=Path(folder) / "home"))
            workspace.engines.__dict__["transcriber"] = Stub()
            last, stage = started, "reading"

            def note(progress: Progress) -> None:
                nonlocal last, stage
                now = time.perf_counter()
                taken[stage] = taken.get(stage, 0.0) + now - last
                if progress.stage != stage:
                    print(f"{stage} {taken[stage]:.0f} s, {peak('self'):.0f} MB", file=sys.stderr, flush=True)
                last, stage = now, progress.stage

            recording = workspace.add(file, progress=note)
            duration = recording.duration
            assert not recording.problems and len(workspace.library.segments(recording.id)) > 100 * hours
            workspace.close()
        else:
            copy = Path(folder) / "copy.flac"
            decoded = decode_to_flac(file, copy)
            assert not decoded.notes
            duration = decoded.duration
            taken["reading"] = time.perf_counter() - started
            if until == "speech":
                started = time.perf_counter()
                _, windows = find_windows(copy, duration, Stub(), threading.Event())
                assert len(windows) > 10 * hours
                taken["finding speech"] = time.perf_counter() - started
        process = take_process()
        child = peak(process.pid)
        give_back(process)
    return taken | {
        "hours": duration / 3600,
        "total": sum(taken.values()),
        "before_mb": before,
        "program_mb": peak("self"),
        "decoder_mb": child,
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
        sizes = {"hours", "total", "before_mb", "program_mb", "decoder_mb"}
        rows.append(
            {
                "hours": f"{result['hours']:.1f}",
                "total, s": f"{result['total']:.0f}",
                "an hour, s": f"{result['total'] / result['hours']:.0f}",
                "stages, s": ", ".join(
                    f"{stage} {seconds:.0f}" for stage, seconds in result.items() if stage not in sizes
                ),
                "peak of the program, MB": f"{result['program_mb']:.0f}",
                "of the decoder, MB": f"{result['decoder_mb']:.0f}",
            }
        )
        print(rows[-1], flush=True)
    growth = found[-1]["total"] / found[-1]["hours"] / (found[0]["total"] / found[0]["hours"])
    show(
        f"Long recordings, until {options.until}",
        rows,
        {
            "time_an_hour_last_over_first": round(growth, 2),
            "peak_mb": round(max(result["program_mb"] + result["decoder_mb"] for result in found)),
        },
    )


if __name__ == "__main__":
    main()
