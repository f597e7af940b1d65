"""What is listed of short talks, and which sentence leads an answer: beside what their authors noted.

``talks.jsonl.gz`` holds 142 talks of 110 to 170 sentences (work, clubs, families, offices, lectures), written
for this, with what a careful secretary would note and with questions. Their authors had not seen the program,
and wrote that things are settled in many ways, mostly without "we decided". Each line has the ``part``
(``train`` is learned from, on ``val`` thresholds were chosen, ``test`` is looked at last), the ``title``,
``sentences`` as ``[speaker, text]``, and by the numbers of sentences ``decisions``, ``actions`` with
``owner`` and ``due`` words, ``open`` questions, and ``questions``, each with the sentences that answer it,
the best first, and none where the talk does not.

    python -m benchmarks.talks [val|test] [--wrong]
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from agent.privacy import switch_off_telemetry

switch_off_telemetry()

from agent.settings import Settings
from agent.workspace import Workspace, open_workspace
from benchmarks.common import show
from index.records import ActionItem, Item, Recording, Segment
from moss_audio.timestamps import clock

TALKS = Path(__file__).with_name("talks.jsonl.gz")
WORD_S = 0.38
"""Seconds that a spoken word takes."""
NEAR = 1
"""Sentences that may lie between what is listed and what was noted."""
KINDS = {"decisions": "decisions", "actions": "action items", "open": "open questions"}


@dataclass(frozen=True)
class Talk:
    """A talk and what was noted of it, by the numbers of sentences.

    Attributes:
        title: Its title.
        sentences: Who says what.
        noted: ``decisions``, ``actions`` and ``open``, each as the sentences of every item.
        owners: Who takes on each action, and the due words, if any.
        questions: What is asked, and what answers it.
    """

    title: str
    sentences: Sequence[tuple[str, str]]
    noted: dict[str, list[list[int]]]
    owners: Sequence[tuple[str, str | None]]
    questions: Sequence[tuple[str, list[int]]]

    @property
    def speakers(self) -> list[str]:
        """Who says each sentence."""
        return [speaker for speaker, _ in self.sentences]

    @property
    def texts(self) -> list[str]:
        """Each sentence."""
        return [text for _, text in self.sentences]

    @cached_property
    def acts(self) -> np.ndarray:
        """Which sentences belong to what was noted: float32 ``[n_sentences, 3]``, as ``ACTS`` has them."""
        found = np.zeros((len(self.sentences), len(KINDS)), dtype=np.float32)
        for column, kind in enumerate(KINDS):
            for item in self.noted[kind]:
                found[item, column] = 1.0
        return found


def talks_of(part: str) -> Iterator[Talk]:
    """The talks of ``train``, ``val`` or ``test``."""
    with gzip.open(TALKS, "rt", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            if row["part"] != part:
                continue
            noted = {kind: row[kind] for kind in KINDS}
            noted["actions"] = [item["sentences"] for item in row["actions"]]
            owners = [(item["owner"], item["due"]) for item in row["actions"]]
            yield Talk(row["title"], row["sentences"], noted, owners, row["questions"])


def add(talk: Talk, workspace: Workspace, folder: Path) -> Recording:
    """A recording of a talk, imported from a transcript."""
    file = folder / "talk.txt"
    at = 0.0
    lines = []
    for speaker, text in talk.sentences:
        lines.append(f"[{clock(at)}] {speaker}: {text}\n")
        at += max(1.0, WORD_S * len(text.split()))
    file.write_text("".join(lines), "utf-8")
    return workspace.import_transcript(file, title=talk.title)


def numbers_of(segments: Sequence[Segment], talk: Talk) -> dict[int, int]:
    """Which sentence of the talk each segment is of, by the segments' numbers; some were divided."""
    found: dict[int, int] = {}
    at, left = -1, ""
    for segment in segments:
        said = "".join(segment.text.split())
        if not left:
            at += 1
            left = "".join(talk.texts[min(at, len(talk.texts) - 1)].split())
        found[segment.id] = at
        left = left[len(said) :] if left.startswith(said) else ""
    return found


def measure(talk: Talk, workspace: Workspace, folder: Path, wrong: bool) -> Counter[str]:
    """Import a talk, summarise it, and count what is right."""
    recording = add(talk, workspace, folder)
    numbers = numbers_of(sorted(workspace.library.segments(recording.id), key=lambda each: each.start), talk)
    summary = workspace.summarize(recording.id)
    listed: dict[str, Sequence[Item]] = {
        "decisions": summary.decisions,
        "actions": summary.action_items,
        "open": summary.open_questions,
    }
    found: Counter[str] = Counter()
    for kind, items in listed.items():
        places = [{numbers[number] for number in item.segments} for item in items]
        near = [set(range(min(place) - NEAR, max(place) + NEAR + 1)) for place in places]
        for place, item in zip(near, items, strict=True):
            is_right = any(not place.isdisjoint(noted) for noted in talk.noted[kind])
            found[f"{kind} listed"] += 1
            found[f"{kind} right"] += is_right
            if wrong and not is_right:
                print(f"{talk.title}, {kind}, listed: {item.text}")
        for at, noted in enumerate(talk.noted[kind]):
            hits = [item for place, item in zip(near, items, strict=True) if not place.isdisjoint(noted)]
            found[f"{kind} noted"] += 1
            found[f"{kind} found"] += bool(hits)
            if wrong and not hits:
                print(f"{talk.title}, {kind}, missed: {' '.join(talk.texts[number] for number in noted)}")
            if kind == "actions" and hits:
                owner, due = talk.owners[at]
                tasks = [item for item in hits if isinstance(item, ActionItem)]
                found["owners right"] += any(item.owner == owner for item in tasks)
                found["due noted"] += due is not None
                found["due found"] += due is not None and any(item.due for item in tasks)
    return found


def main() -> None:
    """Print recall and precision of each kind."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("part", nargs="?", default="test", choices=("val", "test"))
    parser.add_argument("--wrong", action="store_true", help="print what was missed or is wrong")
    chosen = parser.parse_args()
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        workspace = open_workspace(Settings(home=Path(name) / "home"))
        for talk in talks_of(chosen.part):
            found += measure(talk, workspace, Path(name), chosen.wrong)
        workspace.close()
    rows: list[dict[str, object]] = [
        {
            "kind": shown,
            "noted": found[f"{kind} noted"],
            "recall": round(found[f"{kind} found"] / found[f"{kind} noted"], 2),
            "listed": found[f"{kind} listed"],
            "precision": round(found[f"{kind} right"] / max(1, found[f"{kind} listed"]), 2),
        }
        for kind, shown in KINDS.items()
    ]
    owners = round(found["owners right"] / found["actions found"], 2)
    due = round(found["due found"] / found["due noted"], 2)
    print(
        f"Of the action items that are found, {owners} have the right owner; of those with due words, "
        f"{due} have some."
    )
    show("Short talks", rows, {"rows": rows, "owners": owners, "due": due})


if __name__ == "__main__":
    main()
