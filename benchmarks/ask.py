"""Latency of questions without a language model, at 1,000 and at 100,000 segments.

The library is filled with made-up meetings of 1,000 segments each; those of the first are embedded for real,
and the others repeat its vectors with a little noise (embedding 100,000 sentences would take minutes and is
not what is measured). From the sixth on, meetings repeat the sentences of the first five, too.

With ``--servers`` the library is in PostgreSQL and its vectors are on Chroma's server, both started here.

    python -m benchmarks.ask [--small N] [--large N] [--questions N] [--servers]
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import func, insert, literal, select

from agent.privacy import switch_off_telemetry

switch_off_telemetry()

from agent.settings import Settings
from agent.workspace import Workspace, open_workspace
from benchmarks.common import percentiles, processor_seconds, show
from benchmarks.servers import servers
from index.records import Passage
from index.search.indexing import index_recording
from index.search.passages import PassageStore
from index.store.database import PassageRow, RecordingRow, SegmentRow, SpeakerRow

PER_RECORDING = 1000

WRITTEN = 5
"""Meetings with sentences of their own."""

COPIED_AT_ONCE = 20
"""Meetings whose vectors are sent together."""

_COLUMNS = {"p50": "p50_ms", "p95": "p95_ms", "processor, p95": "processor_p95_ms"}
_SERVERS = {"with the servers', p95": "with_servers_p95_ms"}
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
    count = segments // PER_RECORDING
    ids: list[str] = []
    for number in range(min(count, WRITTEN)):
        _write(workspace, number)
        _index(workspace, _id(number), ids[0] if ids else None)
        ids.append(_id(number))
    noisy = _Noisy(workspace, ids[0]) if ids else None
    for first in range(WRITTEN, count, COPIED_AT_ONCE):
        assert noisy is not None
        numbers = range(first, min(count, first + COPIED_AT_ONCE))
        _copy(workspace, numbers, noisy)
        ids += map(_id, numbers)
    return ids


def _id(number: int) -> str:
    return f"{number:064x}"


def _recording(number: int) -> dict[str, Any]:
    return {
        "id": _id(number),
        "title": f"Meeting {number}",
        "source_name": "made up",
        "duration": PER_RECORDING * SECONDS_A_SEGMENT,
        "status": "ready",
        "added_at": f"2026-01-01T00:00:{number % 60:02d}+00:00",
        "language": "en",
        "coverage": 1.0,
        "gaps": [],
        "speech": [],
        "engine": "made up",
        "seconds_taken": 0.0,
    }


def _write(workspace: Workspace, number: int) -> None:
    rng = random.Random(number)
    recording = _id(number)
    with workspace.library.database.transaction() as session:
        session.add(RecordingRow(**_recording(number)))
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


def _index(workspace: Workspace, recording: str, model: str | None) -> None:
    """Index for real, or with the vectors of an indexed recording and a little noise."""
    if model is None:
        index_recording(workspace.library, workspace.embedder, workspace.vectors, recording)
        return
    index_recording(workspace.library, _Noisy(workspace, model), workspace.vectors, recording)


def _copy(workspace: Workspace, numbers: Sequence[int], noisy: _Noisy) -> None:
    """Add meetings that repeat the sentences of others; the database copies most of their rows by itself."""
    segments, passages = SegmentRow.__table__, PassageRow.__table__
    own = {"id", "recording_id", "speaker_id"}
    kept = [column for column in segments.c if column.name not in own]
    sent: list[Passage] = []
    vectors: list[np.ndarray] = []
    with workspace.library.database.engine.begin() as connection:
        connection.execute(insert(RecordingRow), [_recording(number) for number in numbers])
        for number in numbers:
            model, recording = _id(number % WRITTEN), _id(number)
            speaker = connection.execute(
                insert(SpeakerRow).returning(SpeakerRow.id), {"recording_id": recording, "name": "Speaker 1"}
            ).scalar_one()
            again = select(literal(recording), literal(speaker), *kept).where(
                segments.c.recording_id == model
            )
            names = ["recording_id", "speaker_id", *(column.name for column in kept)]
            connection.execute(insert(segments).from_select(names, again.order_by(segments.c.id)))
            first = select(func.min(segments.c.id))
            moved = connection.scalar(first.where(segments.c.recording_id == recording)) - connection.scalar(
                first.where(segments.c.recording_id == model)
            )
            found = connection.execute(
                select(passages).where(passages.c.recording_id == model).order_by(passages.c.id)
            )
            rows = [dict(row) for row in found.mappings()]
            made = noisy.encode_passages([row["text"] for row in rows])
            for row, vector in zip(rows, made, strict=True):
                del row["id"]
                row |= {"recording_id": recording, "embedding": vector.tobytes()}
                row["segment_ids"] = [moved + segment for segment in row["segment_ids"]]
            added = insert(passages).returning(passages.c.id, sort_by_parameter_order=True)
            ids = connection.execute(added, rows).scalars()
            sent += [
                Passage(recording, row["start"], row["end"], row["text"], tuple(row["segment_ids"]), id)
                for row, id in zip(rows, ids, strict=True)
            ]
            vectors.append(made)
    workspace.vectors.add(sent, np.concatenate(vectors))


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

    Of the time that each took, and of the processor time, which other programs hardly change: that of this
    program, and that of the servers with it.
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
        taken, worked, together = [], [], []
        for number in range(count):
            everybody = processor_seconds()
            began, busy = time.perf_counter(), time.process_time()
            act(number)
            taken.append(time.perf_counter() - began)
            worked.append(time.process_time() - busy)
            together.append(processor_seconds() - everybody)
        out[name] = percentiles(taken)
        out[name].update((f"processor_{figure}", value) for figure, value in percentiles(worked).items())
        out[name].update((f"with_servers_{figure}", value) for figure, value in percentiles(together).items())
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
    columns = _COLUMNS | (_SERVERS if options.servers else {})
    rows = [
        {
            "question": kind,
            **{
                f"{label}, ms, {size:,} segments": results[size][kind][figure]
                for size in results
                for label, figure in columns.items()
            },
        }
        for kind in results[options.small]
    ]
    show("Questions without a language model", rows, {str(size): one for size, one in results.items()})


if __name__ == "__main__":
    main()
