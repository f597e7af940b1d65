"""How pointed questions about short talks are answered: who, when, how much, why.

Eight talks of 12 to 16 minutes (a doctor and a patient, a club's board, a lecture, a podcast, a wrong bill, a
council, an outage, a parents' evening) with 174 questions, some of which they do not answer, lie in
``pointed_questions.json``. Who wrote them had not seen the program. Each talk is imported and asked.

    python -m benchmarks.pointed [--wrong]
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from agent.privacy import switch_off_telemetry

switch_off_telemetry()

from agent.settings import Settings
from agent.workspace import Workspace, open_workspace
from benchmarks.common import show
from moss_audio.timestamps import clock

TALKS = Path(__file__).with_name("pointed_questions.json")
COUNTS = {
    "answerable": "answerable",
    "leads": "leads with the answer",
    "quotes": "quotes it",
    "unanswerable": "unanswerable",
    "refused": "refused",
    "named": "what nobody says is named",
}


def measure(talk: dict[str, Any], workspace: Workspace, folder: Path, wrong: bool) -> Counter[str]:
    """Import a talk and ask everything about it."""
    file = folder / f"{talk['title']}.txt"
    file.write_text("".join(f"[{clock(at)}] {who}: {text}\n" for at, who, text in talk["lines"]))
    recording = workspace.import_transcript(file, title=talk["title"])
    found: Counter[str] = Counter()
    for question, answers in talk["questions"]:
        answer = workspace.assistant.ask(question, recording.id)
        lead = plain(answer.text.partition("\n\nAlso:")[0])
        if answers is None:
            found["unanswerable"] += 1
            found["named"] += "not said here" in answer.text
            found["refused"] += not answer.citations or "nothing that answers" in answer.text
            continue
        leads = any(plain(words) in lead for words in answers)
        found["answerable"] += 1
        found["cited"] += len(answer.citations)
        found["leads"] += leads
        found["quotes"] += any(plain(words) in plain(answer.text) for words in answers)
        if wrong and not leads:
            print(f"{talk['title']}: {question} – {answers[0]} – {answer.text[:160]!r}")
    return found


def plain(text: str) -> str:
    """A text without marks, in lower case."""
    return " ".join(re.findall(r"[\w']+", text.lower().replace("’", "'")))


def main() -> None:
    """Print a row for each talk, and one for all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--wrong", action="store_true", help="print the questions whose answer does not lead")
    wrong = parser.parse_args().wrong
    found: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as name:
        workspace = open_workspace(Settings(home=Path(name) / "home"))
        for talk in json.loads(TALKS.read_text("utf-8")):
            found[talk["title"]] = measure(talk, workspace, Path(name), wrong)
        workspace.close()
    found["all"] = sum(found.values(), Counter())
    rows = [
        {
            "talk": title,
            **{shown: counts[key] for key, shown in COUNTS.items()},
            "quotes each": round(counts["cited"] / counts["answerable"], 1),
        }
        for title, counts in found.items()
    ]
    show("Pointed questions", rows, rows[-1])


if __name__ == "__main__":
    main()
