"""What is listed of talks, and how their questions are answered: beside what their authors noted.

``talks.jsonl.gz`` holds 162 talks of 110 to 170 sentences (work, clubs, families, offices, lectures), written
for this, with what a careful secretary would note and with questions. Their authors had not seen the program,
and wrote that things are settled in many ways, mostly without "we decided". Each line has the ``part``
(``train`` is learned from, ``val`` chosen on, ``test`` was written and looked at last), the ``title``,
``sentences`` as ``[speaker, text]``, and by the numbers of sentences ``decisions``, ``actions`` with their
``owner`` and ``due`` words, ``open`` questions, and ``questions``, each with the sentences that answer it,
the best first, and none where the talk does not; 14 talks of ``val`` have no questions.

    python -m benchmarks.talks [val|test] [--together 6] [--wrong]

With ``--together``, so many talks are one long recording.
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
from benchmarks.pointed import plain
from index.records import ActionItem, Item, Recording, Segment
from moss_audio.timestamps import clock

TALKS = Path(__file__).with_name("talks.jsonl.gz")
WORD_S = 0.38
"""Seconds that a spoken word takes."""
NEAR = 1
"""Sentences that may lie between what is listed and what was noted."""
QUOTED_AT_LEAST = 40
"""Characters of a sentence, without marks, that are looked for in an answer: long sentences are cut there."""
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


def together(talks: Sequence[Talk]) -> Talk:
    """Several talks as one, without the numbered speakers of one being those of another."""
    sentences: list[tuple[str, str]] = []
    noted: dict[str, list[list[int]]] = {kind: [] for kind in KINDS}
    owners: list[tuple[str, str | None]] = []
    questions: list[tuple[str, list[int]]] = []
    heard = 0
    for talk in talks:
        numbers = {name: int(name.split()[1]) for name in talk.speakers if name.startswith("Speaker ")}
        names = {name: f"Speaker {number + heard}" for name, number in numbers.items()}
        heard += max(numbers.values(), default=0)
        first = len(sentences)
        sentences += [(names.get(speaker, speaker), text) for speaker, text in talk.sentences]
        owners += [(names.get(owner, owner), due) for owner, due in talk.owners]
        for kind, items in talk.noted.items():
            noted[kind] += [[first + at for at in item] for item in items]
        questions += [(question, [first + at for at in answers]) for question, answers in talk.questions]
    return Talk(" and ".join(talk.title for talk in talks[:2]), sentences, noted, owners, questions)


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


def listed(talk: Talk, recording: Recording, workspace: Workspace, wrong: bool) -> Counter[str]:
    """Summarise a talk, and count what is listed rightly."""
    numbers = numbers_of(sorted(workspace.library.segments(recording.id), key=lambda each: each.start), talk)
    summary = workspace.summarize(recording.id)
    items_of: dict[str, Sequence[Item]] = {
        "decisions": summary.decisions,
        "actions": summary.action_items,
        "open": summary.open_questions,
    }
    found: Counter[str] = Counter()
    for kind, items in items_of.items():
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


def answered(talk: Talk, recording: Recording, workspace: Workspace, wrong: bool) -> Counter[str]:
    """Ask a talk's questions, and count what is answered rightly."""
    found: Counter[str] = Counter()
    for question, answers in talk.questions:
        answer = workspace.assistant.ask(question, recording.id)
        if not answers:
            found["unanswerable"] += 1
            found["refused"] += not answer.citations or "nothing that answers" in answer.text
            continue
        said = [f" {plain(talk.texts[number])[:QUOTED_AT_LEAST]}" for number in answers]
        lead, whole = (f" {plain(text)}" for text in (answer.text.partition("\n\nAlso:")[0], answer.text))
        leads = any(words in lead for words in said)
        found["answerable"] += 1
        found["leads"] += leads
        found["quotes"] += any(words in whole for words in said)
        found["cited"] += len(answer.citations)
        if wrong and not leads:
            print(f"{talk.title}: {question} – {talk.texts[answers[0]]} – {answer.text[:160]!r}")
    return found


def main() -> None:
    """Print recall and precision of each kind, and how questions are answered."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("part", nargs="?", default="test", choices=("val", "test"))
    parser.add_argument(
        "--together",
        type=int,
        default=1,
        choices=range(1, 21),
        metavar="N",
        help="so many talks make one recording",
    )
    parser.add_argument("--wrong", action="store_true", help="print what was missed or is wrong")
    chosen = parser.parse_args()
    found: Counter[str] = Counter()
    talks = list(talks_of(chosen.part))
    with tempfile.TemporaryDirectory() as name:
        workspace = open_workspace(Settings(home=Path(name) / "home"))
        for first in range(0, len(talks), chosen.together):
            talk = together(talks[first : first + chosen.together]) if chosen.together > 1 else talks[first]
            recording = add(talk, workspace, Path(name))
            found += listed(talk, recording, workspace, chosen.wrong)
            found += answered(talk, recording, workspace, chosen.wrong)
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
    owners = round(found["owners right"] / max(1, found["actions found"]), 2)
    due = round(found["due found"] / max(1, found["due noted"]), 2)
    print(
        f"Of the action items that are found, {owners} have the right owner; of those with due words, "
        f"{due} have some."
    )
    asked = {
        "questions": found["answerable"],
        "leads with the answer": round(found["leads"] / found["answerable"], 2),
        "quotes it": round(found["quotes"] / found["answerable"], 2),
        "quotes each": round(found["cited"] / found["answerable"], 1),
        "not answered in the talk": found["unanswerable"],
        "refused": round(found["refused"] / found["unanswerable"], 2),
    }
    show("Talks", rows, {"rows": rows, "owners": owners, "due": due})
    show("Their questions", [asked], asked)


if __name__ == "__main__":
    main()
