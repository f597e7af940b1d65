"""Latency of questions without a language model, at 1,000 and at 100,000 segments.

The library is filled with made-up meetings of 1,000 segments each; segments and passages are embedded
for real at the small size, and the large one repeats those vectors with a little noise (embedding
100,000 sentences would take minutes and is not what is measured).

With ``--servers`` the library is in PostgreSQL and its vectors are on Chroma's server, both started here.

    python -m benchmarks.ask [--small N] [--large N] [--questions N] [--servers]
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from agent.privacy import switch_off_telemetry

switch_off_telemetry()

from agent.settings import Settings
from agent.workspace import Workspace, open_workspace
from benchmarks.common import percentiles, show
from benchmarks.servers import servers
from index.search.indexing import index_recording
from index.search.passages import PassageStore
from index.store.database import RecordingRow, SegmentRow, SpeakerRow

PER_RECORDING = 1000
_COLUMNS = {"p50": "p50_ms", "p95": "p95_ms", "processor, p95": "processor_p95_ms"}
SECONDS_A_SEGMENT = 4.0

_WHO = ["Anna", "Ben", "the operator", "the council", "our supplier", "the landlord", "the press", "Maria"]
_DOES = ["confirmed", "postponed", "asked about", "paid for", "forgot", "explained", "rejected", "measured"]
_WHAT = ["ferry", "budget", "stage", "volunteer app", "insurance", "fireworks", "printing", "server", "roof"]
_WHEN = ["on Monday", "last week", "before the summer", "at noon", "in March", "this afternoon", "again"]
_TAIL = ["and nobody objected", "because it was cheap", "although it rained", "for the whole team", "twice"]


def sentence(rng: random.Random) -> str:
    """A sentence of plain words."""
    parts = (_WHO, _DOES, ["the"], _WHAT, _WHEN, _TAIL)
    return " ".join(rng.choice(part) for part in parts) + "."


def fill(workspace: Workspace, segments: int) -> list[str]:
    """Add recordings until there are so many segments; returns their ids."""
    ids: list[str] = []
    for number in range(segments // PER_RECORDING):
        rng = random.Random(number)
        recording = f"{number:064x}"
        with workspace.library.database.transaction() as session:
            session.add(
                RecordingRow(
                    id=recording,
                    title=f"Meeting {number}",
                    source_name="made up",
                    duration=PER_RECORDING * SECONDS_A_SEGMENT,
                    status="ready",
                    added_at=f"2026-01-01T00:00:{number % 60:02d}+00:00",
                    language="en",
                    coverage=1.0,
                    gaps=[],
                    speech=[],
                    engine="made up",
                    seconds_taken=0.0,
                )
            )
            speaker = SpeakerRow(recording_id=recording, name="Speaker 1")
            session.add(speaker)
            session.flush()
            session.add_all(
                SegmentRow(
                    recording_id=recording,
                    speaker_id=speaker.id,
                    start=index * SECONDS_A_SEGMENT,
                    end=index * SECONDS_A_SEGMENT + 3.5,
                    kind="speech",
                    text=sentence(rng),
                    words=[],
                    engine="made up",
                )
                for index in range(PER_RECORDING)
            )
        _index(workspace, recording, ids[0] if ids else None)
        ids.append(recording)
    return ids


def _index(workspace: Workspace, recording: str, model: str | None) -> None:
    """Index for real, or with the vectors of an indexed recording and a little noise."""
    if model is None:
        index_recording(workspace.library, workspace.embedder, workspace.vectors, recording)
        return
    index_recording(workspace.library, _Noisy(workspace, model), workspace.vectors, recording)


class _Noisy:
    """An embedder's stand-in: the vectors of an indexed recording, each moved a little, at no cost."""

    def __init__(self, workspace: Workspace, recording: str) -> None:
        self.name = workspace.embedder.name
        self.dimensions = workspace.embedder.dimensions
        self._known = PassageStore(workspace.library.database).vectors(recording).embeddings
        self._rng = np.random.default_rng(0)

    def encode_passages(self, texts) -> np.ndarray:
        """Unit vectors, float32 ``[n, dimensions]``, at a cosine of about 0.95 to real ones."""
        chosen = self._known[self._rng.integers(len(self._known), size=len(texts))]
        noise = self._rng.standard_normal(chosen.shape) * 0.33 / np.sqrt(self.dimensions)
        made = (chosen + noise).astype(np.float32)
        return made / np.linalg.norm(made, axis=1, keepdims=True)


def measure(workspace: Workspace, ids: list[str], count: int) -> dict[str, dict[str, float]]:
    """Percentiles of four kinds of question, each about a recording or time of its own.

    Of the time that each took, and of the processor time, which other programs hardly change.
    """
    rng = random.Random(7)

    def time_question(number: int) -> None:
        minute = rng.randrange(60)
        workspace.assistant.ask(f"what was said at minute {minute}?", rng.choice(ids), f"time {number}")

    def search(_number: int) -> None:
        workspace.search.search(f"{rng.choice(_WHAT)} {rng.choice(_WHEN)}")

    def content_question(number: int) -> None:
        question = f"what did {rng.choice(_WHO)} say about the {rng.choice(_WHAT)}?"
        workspace.assistant.ask(question, rng.choice(ids), f"content {number}")

    def library_question(number: int) -> None:
        workspace.assistant.ask(
            f"who {rng.choice(_DOES)} the {rng.choice(_WHAT)}?", None, f"library {number}"
        )

    out = {}
    kinds = {
        "time question": time_question,
        "search": search,
        "content question": content_question,
        "content question, whole library": library_question,
    }
    for name, act in kinds.items():
        for number in range(3):
            act(-1 - number)
        taken, worked = [], []
        for number in range(count):
            began, busy = time.perf_counter(), time.process_time()
            act(number)
            taken.append(time.perf_counter() - began)
            worked.append(time.process_time() - busy)
        out[name] = percentiles(taken)
        out[name].update((f"processor_{figure}", value) for figure, value in percentiles(worked).items())
    return out


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", type=int, default=1_000)
    parser.add_argument("--large", type=int, default=100_000)
    parser.add_argument("--questions", type=int, default=60)
    parser.add_argument("--servers", action="store_true")
    options = parser.parse_args()
    results: dict[int, dict[str, dict[str, float]]] = {}
    for size in (options.small, options.large):
        with tempfile.TemporaryDirectory() as home, ExitStack() as running:
            settings = Settings(home=Path(home))
            if options.servers:
                database, vectors = running.enter_context(servers())
                settings = Settings(home=Path(home), database=database, vectors=vectors)
            workspace = open_workspace(settings)
            ids = fill(workspace, size)
            results[size] = measure(workspace, ids, options.questions)
            workspace.close()
    rows = [
        {
            "question": kind,
            **{
                f"{label}, ms, {size:,} segments": results[size][kind][figure]
                for size in results
                for label, figure in _COLUMNS.items()
            },
        }
        for kind in results[options.small]
    ]
    show("Questions without a language model", rows, {str(size): one for size, one in results.items()})


if __name__ == "__main__":
    main()
