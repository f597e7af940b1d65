"""Ingest speed, side by side with bare faster-whisper on the same file and settings.

faster-whisper runs with its own defaults: all cores on one stretch of audio at a time. Ours hears several
windows side by side. Both begin with the file and end with all words known; ours also keeps an audio copy,
accounts for all speech, tells the speakers apart, stores and indexes. All models are loaded before the
clock starts. The two take turns in one process, and the ratio is taken turn by turn: of wall time, which
other programs on the machine disturb, and of processor time, which they hardly do.

    python -m benchmarks.ingest [--turns N] [--file FILE] [--model base|tiny.en]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from agent.privacy import switch_off_telemetry

switch_off_telemetry()

from faster_whisper import WhisperModel

from agent.settings import Settings
from agent.workspace import Workspace, open_workspace
from benchmarks.common import SAMPLE, show
from index.pipeline.ingest import Progress
from index.weights import whisper_folder


@dataclass
class Clock:
    """Wall and processor seconds since it was made."""

    wall: float = field(default_factory=time.perf_counter)
    processor: float = field(default_factory=time.process_time)

    def read(self) -> tuple[float, float]:
        """Wall seconds, processor seconds (all threads)."""
        return time.perf_counter() - self.wall, time.process_time() - self.processor


def bare_model(workspace: Workspace) -> WhisperModel:
    """faster-whisper as its users load it, with the weights that ours uses."""
    folder = whisper_folder(workspace.settings.transcriber, workspace.home / "models")
    return WhisperModel(str(folder), device="cpu", compute_type="int8")


def bare(model: WhisperModel, file: Path) -> tuple[float, float]:
    """Seconds faster-whisper alone takes: beam 1, its own pause filter, no context, word times."""
    clock = Clock()
    segments, _ = model.transcribe(
        str(file), beam_size=1, vad_filter=True, condition_on_previous_text=False, word_timestamps=True
    )
    for _ in segments:
        pass
    return clock.read()


def whole(workspace: Workspace, file: Path) -> tuple[tuple[float, float], float, dict[str, float]]:
    """Seconds the whole ingest takes, the recording's length, and the seconds of each stage."""
    stages: dict[str, float] = {}
    clock, last = Clock(), time.perf_counter()
    stage = "reading"

    def note(progress: Progress) -> None:
        nonlocal last, stage
        now = time.perf_counter()
        stages[stage] = stages.get(stage, 0.0) + now - last
        last, stage = now, progress.stage

    recording = workspace.add(file, progress=note)
    taken = clock.read()
    workspace.remove(recording.id)
    return taken, recording.duration, stages


def warm(workspace: Workspace) -> None:
    """Load every model that either side uses."""
    from index.diarization.voice_embeddings import voice_encoder

    workspace.transcriber.load()  # type: ignore[attr-defined]
    workspace.embedder.load()
    workspace.embedder.encode_query("warm")
    voice_encoder().load()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--file", type=Path, default=SAMPLE)
    parser.add_argument("--model", default="base")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        workspace = open_workspace(Settings(home=Path(home), transcriber=options.model))
        warm(workspace)
        model = bare_model(workspace)
        bare(model, options.file)
        rows, ratios, processor, speeds = [], [], [], []
        for turn in range(1, options.turns + 1):
            alone = bare(model, options.file)
            taken, duration, stages = whole(workspace, options.file)
            ratios.append(taken[0] / alone[0])
            processor.append(taken[1] / alone[1])
            speeds.append(duration / taken[0])
            rows.append(
                {
                    "turn": turn,
                    "faster-whisper alone, s": f"{alone[0]:.1f}",
                    "whole ingest, s": f"{taken[0]:.1f}",
                    "ratio": f"{ratios[-1]:.2f}",
                    "ratio of processor time": f"{processor[-1]:.2f}",
                    "ingest × realtime": f"{speeds[-1]:.1f}",
                    "stages, s": ", ".join(f"{name} {seconds:.1f}" for name, seconds in stages.items()),
                }
            )
        workspace.close()
    result = {
        "model": options.model,
        "ratio": round(statistics.median(ratios), 3),
        "ratio_of_processor_time": round(statistics.median(processor), 3),
        "x_realtime": round(statistics.median(speeds), 2),
    }
    show(f"Ingest of {options.file.name}, Whisper {options.model}", rows, result)


if __name__ == "__main__":
    main()
